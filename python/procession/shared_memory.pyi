from collections.abc import Iterable
from multiprocessing import shared_memory as _stdlib
from typing import TypeVar, overload

__all__ = ["ShareableList", "SharedMemory"]

_SLT = TypeVar("_SLT", int, float, bool, str, bytes, None)

class SharedMemory(_stdlib.SharedMemory):
    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool | None = None
    ) -> None: ...

class ShareableList(_stdlib.ShareableList[_SLT]):
    shm: SharedMemory
    @overload
    def __init__(self, sequence: None = None, *, name: str | None = None) -> None: ...
    @overload
    def __init__(self, sequence: Iterable[_SLT], *, name: str | None = None) -> None: ...
