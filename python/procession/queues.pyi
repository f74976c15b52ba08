from queue import Empty as Empty
from queue import Full as Full
from types import GenericAlias
from typing import Any, TypeVar

from . import _procession

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

_T = TypeVar("_T")

class Queue(_procession.Queue[_T]):
    def join_thread(self) -> None: ...
    def cancel_join_thread(self) -> None: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

class JoinableQueue(_procession.JoinableQueue[_T], Queue[_T]): ...

class SimpleQueue(_procession.SimpleQueue[_T]):
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
