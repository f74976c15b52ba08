import threading
from collections.abc import Callable
from multiprocessing.context import BaseContext
from typing import Final, Protocol, TypeAlias, type_check_only

from . import _procession

__all__ = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event"]  # noqa: RUF022 (the order of multiprocessing)

RECURSIVE_MUTEX: Final = 0
SEMAPHORE: Final = 1
SEM_VALUE_MAX: Final[int]

_LockLike: TypeAlias = Lock | RLock

@type_check_only
class _Acquire(Protocol):
    def __call__(self, block: bool = True, timeout: float | None = None) -> bool: ...

class OwnerDied(RuntimeError): ...
class SemLock: ...

class Lock(_procession.Lock, SemLock):
    def __init__(self, *, ctx: BaseContext, strict: bool = False) -> None: ...

class RLock(_procession.RLock, SemLock):
    def __init__(self, *, ctx: BaseContext, strict: bool = False) -> None: ...

class Semaphore(_procession.Semaphore, SemLock):
    def __init__(self, value: int = 1, *, ctx: BaseContext) -> None: ...

class BoundedSemaphore(Semaphore): ...

class Condition(_procession.Condition):
    def __init__(self, lock: _LockLike | None = None, *, ctx: BaseContext) -> None: ...
    # Those of the lock.
    acquire: _Acquire
    release: Callable[[], None]

class Event(_procession.Event):
    def __init__(self, *, ctx: BaseContext) -> None: ...

class Barrier(_procession.Barrier, threading.Barrier):
    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: BaseContext,
    ) -> None: ...
