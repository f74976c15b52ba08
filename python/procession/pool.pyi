import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import TimeoutError
from multiprocessing.context import BaseContext
from multiprocessing.pool import CLOSE as CLOSE
from multiprocessing.pool import INIT as INIT
from multiprocessing.pool import RUN as RUN
from multiprocessing.pool import TERMINATE as TERMINATE
from multiprocessing.pool import ThreadPool as ThreadPool
from multiprocessing.process import BaseProcess
from types import GenericAlias, TracebackType
from typing import Any, Self, TypeVar

from . import _procession

__all__ = [
    "CLOSE",
    "INIT",
    "RUN",
    "TERMINATE",
    "ApplyResult",
    "AsyncResult",
    "ExceptionWithTraceback",
    "IMapIterator",
    "IMapUnorderedIterator",
    "MapResult",
    "MaybeEncodingError",
    "Pool",
    "PoolTerminated",
    "RemoteException",
    "RemoteTraceback",
    "TaskTimeout",
    "ThreadPool",
    "TransportError",
    "WorkerDied",
    "job_counter",
    "mapstar",
    "rebuild_exc",
    "starmapstar",
]

_S = TypeVar("_S")
_T = TypeVar("_T")

job_counter: Iterator[int]

# Private to `multiprocessing.pool`, and at hand here because there are those who use them.
class ExceptionWithTraceback:
    def __init__(self, exc: BaseException, tb: TracebackType) -> None: ...

class MaybeEncodingError(Exception):
    def __init__(self, exc: BaseException, value: object) -> None: ...

class RemoteTraceback(Exception):
    tb: str
    def __init__(self, tb: str) -> None: ...

def mapstar(args: Any) -> list[Any]: ...
def starmapstar(args: Any) -> list[Any]: ...
def rebuild_exc(exc: BaseException, tb: str) -> BaseException: ...

class WorkerDied(BrokenProcessPool):
    worker: str
    pid: int
    exitcode: int | None
    signal: int | None
    task: str
    tries: int
    peak_memory: int | None
    likely_out_of_memory: bool
    def __init__(self, message: str, details: Mapping[str, Any] | tuple[()] = ()) -> None: ...

class TaskTimeout(TimeoutError, builtins.TimeoutError):
    limit: float
    def __init__(self, message: str, limit: float) -> None: ...

class TransportError(BrokenProcessPool): ...
class PoolTerminated(BrokenProcessPool): ...

class RemoteException(Exception):
    type_name: str
    text: str
    def __init__(self, type_name: str, text: str) -> None: ...

class ApplyResult(_procession.Task[_T]):
    def ready(self) -> bool: ...
    def successful(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> None: ...
    def get(self, timeout: float | None = None) -> _T: ...
    def cancel(self) -> bool: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

AsyncResult = ApplyResult

class MapResult(_procession.MapTask[_T]):
    def ready(self) -> bool: ...
    def successful(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> None: ...
    def get(self, timeout: float | None = None) -> list[_T]: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

class IMapIterator(_procession.Stream[_T]): ...
class IMapUnorderedIterator(IMapIterator[_T]): ...

class _Calls:
    def with_options(
        self, *, timeout: float | None = None, retries: int = 0, priority: int = 0, name: str | None = None
    ) -> _WithOptions: ...
    def apply(self, func: Callable[..., _T], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> _T: ...
    def apply_async(
        self,
        func: Callable[..., _T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[_T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[_T]: ...
    def map(self, func: Callable[[_S], _T], iterable: Iterable[_S], chunksize: int | None = None) -> list[_T]: ...
    def map_async(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[_T]: ...
    def starmap(
        self, func: Callable[..., _T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[_T]: ...
    def starmap_async(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[_T]: ...
    def imap(
        self, func: Callable[[_S], _T], iterable: Iterable[_S], chunksize: int = 1, buffersize: int | None = None
    ) -> IMapIterator[_T]: ...
    def imap_unordered(
        self, func: Callable[[_S], _T], iterable: Iterable[_S], chunksize: int = 1, buffersize: int | None = None
    ) -> IMapUnorderedIterator[_T]: ...

class _WithOptions(_Calls):
    def __init__(self, pool: Pool, options: _procession._Options) -> None: ...

class Pool(_Calls):
    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
    ) -> None: ...
    @staticmethod
    def Process(ctx: BaseContext, *args: Any, **kwds: Any) -> BaseProcess: ...
    def close(self) -> None: ...
    def terminate(self) -> None: ...
    def join(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None: ...
    def __del__(self, _warn: Callable[..., object] = ..., RUN: str = "RUN") -> None: ...
