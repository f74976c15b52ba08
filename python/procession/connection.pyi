from collections.abc import Iterable
from multiprocessing.connection import Client as Client
from multiprocessing.connection import Listener as Listener
from multiprocessing.connection import answer_challenge as answer_challenge
from multiprocessing.connection import deliver_challenge as deliver_challenge
from typing import Any, Self, SupportsIndex, TypeAlias, overload

from _typeshed import HasFileno, WriteableBuffer
from typing_extensions import TypeVar

from . import _procession

__all__ = ["Client", "Listener", "Pipe", "wait"]

_S_contra = TypeVar("_S_contra", contravariant=True, default=Any)
_R_co = TypeVar("_R_co", covariant=True, default=Any)
_Waitable: TypeAlias = int | HasFileno | _procession.Queue[Any]
_W = TypeVar("_W", bound=_Waitable)

class _ConnectionBase: ...

class Connection(_procession.Connection[_S_contra, _R_co], _ConnectionBase):
    # On a descriptor the result is a connection of the standard library.
    def __new__(cls, handle: SupportsIndex, readable: bool = True, writable: bool = True) -> Self: ...
    def __init__(self, handle: SupportsIndex, readable: bool = True, writable: bool = True) -> None: ...
    def recv_bytes_into(self, buf: WriteableBuffer, offset: int = 0) -> int: ...

def Pipe(duplex: bool = True) -> tuple[Connection[Any, Any], Connection[Any, Any]]: ...
@overload
def wait(object_list: Iterable[_W], timeout: float | None = None) -> list[_W]: ...

# A list of several kinds, of which the checker finds no better type in common than `object`.
@overload
def wait(  # type: ignore[overload-cannot-match]
    object_list: Iterable[_Waitable], timeout: float | None = None
) -> list[_Waitable]: ...
