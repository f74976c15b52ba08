import ctypes
from _ctypes import _CData
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import context as _stdlib
from multiprocessing import process as _process
from multiprocessing.context import AuthenticationError as AuthenticationError
from multiprocessing.context import BufferTooShort as BufferTooShort
from multiprocessing.context import ProcessError as ProcessError
from multiprocessing.context import TimeoutError as TimeoutError
from multiprocessing.context import assert_spawning as assert_spawning
from multiprocessing.context import get_spawning_popen as get_spawning_popen
from multiprocessing.context import set_spawning_popen as set_spawning_popen
from types import ModuleType
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar, overload

from . import connection, managers, pool, queues, sharedctypes, synchronize
from . import process as process
from . import reduction as reduction

__all__ = ()

_T = TypeVar("_T")
_CT = TypeVar("_CT", bound=_CData)
_LockLike: TypeAlias = synchronize.Lock | synchronize.RLock
_Concrete: TypeAlias = ForkContext | SpawnContext | ForkServerContext

# The standard library's context promises its own classes; ours have the same methods, but only some are subclasses.
class BaseContext(_stdlib.BaseContext):
    def Manager(self) -> managers.SyncManager: ...
    def Pipe(  # type: ignore[override]
        self, duplex: bool = True
    ) -> tuple[connection.Connection[Any, Any], connection.Connection[Any, Any]]: ...
    def Lock(self, *, strict: bool = False) -> synchronize.Lock: ...  # type: ignore[override]
    def RLock(self, *, strict: bool = False) -> synchronize.RLock: ...  # type: ignore[override]
    def Condition(self, lock: _LockLike | None = None) -> synchronize.Condition: ...  # type: ignore[override]
    def Semaphore(self, value: int = 1) -> synchronize.Semaphore: ...  # type: ignore[override]
    def BoundedSemaphore(self, value: int = 1) -> synchronize.BoundedSemaphore: ...  # type: ignore[override]
    def Event(self) -> synchronize.Event: ...  # type: ignore[override]
    def Barrier(  # type: ignore[override]
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> synchronize.Barrier: ...
    def Queue(self, maxsize: int = 0) -> queues.Queue[Any]: ...  # type: ignore[override]
    def JoinableQueue(self, maxsize: int = 0) -> queues.JoinableQueue[Any]: ...  # type: ignore[override]
    def SimpleQueue(self) -> queues.SimpleQueue[Any]: ...  # type: ignore[override]
    def Pool(  # type: ignore[override]
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> pool.Pool: ...
    @overload
    def RawValue(self, typecode_or_type: type[_CT], *args: Any) -> _CT: ...
    @overload
    def RawValue(self, typecode_or_type: str, *args: Any) -> Any: ...
    @overload
    def RawArray(self, typecode_or_type: type[_CT], size_or_initializer: int | Sequence[Any]) -> ctypes.Array[_CT]: ...
    @overload
    def RawArray(self, typecode_or_type: str, size_or_initializer: int | Sequence[Any]) -> Any: ...
    @overload  # type: ignore[override]
    def Value(self, typecode_or_type: type[_CT], *args: Any, lock: Literal[False]) -> _CT: ...
    @overload
    def Value(
        self, typecode_or_type: type[ctypes._SimpleCData[_T]], *args: Any, lock: Literal[True] | _LockLike = True
    ) -> sharedctypes.Synchronized[_T]: ...
    @overload
    def Value(
        self, typecode_or_type: type[_CT], *args: Any, lock: Literal[True] | _LockLike = True
    ) -> sharedctypes.SynchronizedBase[_CT]: ...
    @overload
    def Value(
        self, typecode_or_type: str, *args: Any, lock: Literal[True] | _LockLike = True
    ) -> sharedctypes.Synchronized[Any]: ...
    @overload
    def Value(self, typecode_or_type: str | type[_CData], *args: Any, lock: bool | _LockLike = True) -> Any: ...
    @overload  # type: ignore[override]
    def Array(
        self, typecode_or_type: type[_CT], size_or_initializer: int | Sequence[Any], *, lock: Literal[False]
    ) -> ctypes.Array[_CT]: ...
    @overload
    def Array(
        self,
        typecode_or_type: type[ctypes.c_char],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[True] | _LockLike = True,
    ) -> sharedctypes.SynchronizedString: ...
    @overload
    def Array(
        self,
        typecode_or_type: type[ctypes._SimpleCData[_T]],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[True] | _LockLike = True,
    ) -> sharedctypes.SynchronizedArray[_T]: ...
    @overload
    def Array(
        self,
        typecode_or_type: str,
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[True] | _LockLike = True,
    ) -> sharedctypes.SynchronizedArray[Any]: ...
    @overload
    def Array(
        self,
        typecode_or_type: str | type[_CData],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: bool | _LockLike = True,
    ) -> Any: ...
    @overload  # type: ignore[override]
    def get_context(self, method: None = None) -> Self: ...
    @overload
    def get_context(self, method: Literal["fork"]) -> ForkContext: ...
    @overload
    def get_context(self, method: Literal["spawn"]) -> SpawnContext: ...
    @overload
    def get_context(self, method: Literal["forkserver"]) -> ForkServerContext: ...
    @overload
    def get_context(self, method: str) -> _Concrete: ...
    @property  # type: ignore[override]
    def reducer(self) -> ModuleType: ...
    @reducer.setter
    def reducer(self, module: ModuleType) -> None: ...

class BaseProcess(_process.BaseProcess):
    def interrupt(self) -> None: ...

class Process(BaseProcess):
    _start_method: str | None

class DefaultContext(BaseContext):
    Process: ClassVar[type[Process]]
    def __init__(self, context: BaseContext) -> None: ...
    @overload  # type: ignore[override]
    def get_context(self, method: None = None) -> _Concrete: ...
    @overload
    def get_context(self, method: Literal["fork"]) -> ForkContext: ...
    @overload
    def get_context(self, method: Literal["spawn"]) -> SpawnContext: ...
    @overload
    def get_context(self, method: Literal["forkserver"]) -> ForkServerContext: ...
    @overload
    def get_context(self, method: str) -> _Concrete: ...
    def get_all_start_methods(self) -> list[str]: ...

class ForkProcess(BaseProcess):
    _start_method: str

class SpawnProcess(BaseProcess):
    _start_method: str

class ForkServerProcess(BaseProcess):
    _start_method: str

class ForkContext(BaseContext):
    _name: str
    Process: ClassVar[type[ForkProcess]]

class SpawnContext(BaseContext):
    _name: str
    Process: ClassVar[type[SpawnProcess]]

class ForkServerContext(BaseContext):
    _name: str
    Process: ClassVar[type[ForkServerProcess]]

_default_context: DefaultContext
