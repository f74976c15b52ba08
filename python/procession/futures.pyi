from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED as ALL_COMPLETED
from concurrent.futures import FIRST_COMPLETED as FIRST_COMPLETED
from concurrent.futures import FIRST_EXCEPTION as FIRST_EXCEPTION
from concurrent.futures import BrokenExecutor as BrokenExecutor
from concurrent.futures import CancelledError as CancelledError
from concurrent.futures import Executor as Executor
from concurrent.futures import Future as _Future
from concurrent.futures import InvalidStateError as InvalidStateError
from concurrent.futures import ThreadPoolExecutor as ThreadPoolExecutor
from concurrent.futures import TimeoutError as TimeoutError
from concurrent.futures import as_completed as as_completed
from concurrent.futures import wait as wait
from concurrent.futures.process import BrokenProcessPool as BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any, ParamSpec, TypeVar, overload

from typing_extensions import TypeVarTuple

from . import _procession
from .pool import PoolTerminated as PoolTerminated
from .pool import RemoteException as RemoteException
from .pool import TaskTimeout as TaskTimeout
from .pool import TransportError as TransportError
from .pool import WorkerDied as WorkerDied

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "BrokenExecutor",
    "BrokenProcessPool",
    "CancelledError",
    "Executor",
    "Future",
    "InvalidStateError",
    "PoolTerminated",
    "ProcessPoolExecutor",
    "RemoteException",
    "TaskTimeout",
    "ThreadPoolExecutor",
    "TimeoutError",
    "TransportError",
    "WorkerDied",
    "as_completed",
    "wait",
]

_T = TypeVar("_T")
_P = ParamSpec("_P")
_Ts = TypeVarTuple("_Ts")

class Future(_procession.Task[_T], _Future[_T]):
    def __init__(self, *args: Any) -> None: ...
    def abort(self) -> bool: ...

class _Submits(Executor):
    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]: ...
    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[_T]: ...

class _WithOptions(_Submits):
    def __init__(self, executor: ProcessPoolExecutor, options: _procession._Options) -> None: ...

class ProcessPoolExecutor(_Submits):
    @overload
    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[[], object] | None = None,
        initargs: tuple[()] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        *,
        initializer: Callable[[*_Ts], object],
        initargs: tuple[*_Ts],
        max_tasks_per_child: int | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        max_workers: int | None,
        mp_context: BaseContext | None,
        initializer: Callable[[*_Ts], object],
        initargs: tuple[*_Ts],
        *,
        max_tasks_per_child: int | None = None,
    ) -> None: ...
    def with_options(
        self, *, timeout: float | None = None, retries: int = 0, priority: int = 0, name: str | None = None
    ) -> _WithOptions: ...
    def terminate_workers(self) -> None: ...
    def kill_workers(self) -> None: ...
