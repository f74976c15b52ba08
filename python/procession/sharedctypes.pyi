import ctypes
from _ctypes import _CData
from collections.abc import Callable, Sequence
from multiprocessing import sharedctypes as _stdlib
from multiprocessing.context import BaseContext
from typing import Any, Generic, Literal, TypeVar, overload

from .heap import BufferWrapper
from .synchronize import _LockLike

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

_T = TypeVar("_T")
_CT = TypeVar("_CT", bound=_CData)

@overload
def RawValue(typecode_or_type: type[_CT], *args: Any) -> _CT: ...
@overload
def RawValue(typecode_or_type: str, *args: Any) -> Any: ...
@overload
def RawArray(typecode_or_type: type[_CT], size_or_initializer: int | Sequence[Any]) -> ctypes.Array[_CT]: ...
@overload
def RawArray(typecode_or_type: str, size_or_initializer: int | Sequence[Any]) -> Any: ...
@overload
def Value(typecode_or_type: type[_CT], *args: Any, lock: Literal[False], ctx: BaseContext | None = None) -> _CT: ...
@overload
def Value(
    typecode_or_type: type[ctypes._SimpleCData[_T]],
    *args: Any,
    lock: Literal[True] | _LockLike = True,
    ctx: BaseContext | None = None,
) -> Synchronized[_T]: ...
@overload
def Value(
    typecode_or_type: type[_CT],
    *args: Any,
    lock: Literal[True] | _LockLike = True,
    ctx: BaseContext | None = None,
) -> SynchronizedBase[_CT]: ...
@overload
def Value(
    typecode_or_type: str, *args: Any, lock: Literal[True] | _LockLike = True, ctx: BaseContext | None = None
) -> Synchronized[Any]: ...
@overload
def Value(
    typecode_or_type: str | type[_CData], *args: Any, lock: bool | _LockLike = True, ctx: BaseContext | None = None
) -> Any: ...
@overload
def Array(
    typecode_or_type: type[_CT],
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Literal[False],
    ctx: BaseContext | None = None,
) -> ctypes.Array[_CT]: ...
@overload
def Array(
    typecode_or_type: type[ctypes.c_char],
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Literal[True] | _LockLike = True,
    ctx: BaseContext | None = None,
) -> SynchronizedString: ...
@overload
def Array(
    typecode_or_type: type[ctypes._SimpleCData[_T]],
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Literal[True] | _LockLike = True,
    ctx: BaseContext | None = None,
) -> SynchronizedArray[_T]: ...
@overload
def Array(
    typecode_or_type: str,
    size_or_initializer: int | Sequence[Any],
    *,
    lock: Literal[True] | _LockLike = True,
    ctx: BaseContext | None = None,
) -> SynchronizedArray[Any]: ...
@overload
def Array(
    typecode_or_type: str | type[_CData],
    size_or_initializer: int | Sequence[Any],
    *,
    lock: bool | _LockLike = True,
    ctx: BaseContext | None = None,
) -> Any: ...
def copy(obj: _CT) -> _CT: ...
@overload
def synchronized(
    obj: ctypes._SimpleCData[_T], lock: _LockLike | None = None, ctx: BaseContext | None = None
) -> Synchronized[_T]: ...
@overload
def synchronized(
    obj: ctypes.Array[ctypes.c_char], lock: _LockLike | None = None, ctx: BaseContext | None = None
) -> SynchronizedString: ...
@overload
def synchronized(
    obj: ctypes.Array[ctypes._SimpleCData[_T]], lock: _LockLike | None = None, ctx: BaseContext | None = None
) -> SynchronizedArray[_T]: ...
@overload
def synchronized(obj: _CT, lock: _LockLike | None = None, ctx: BaseContext | None = None) -> SynchronizedBase[_CT]: ...
def reduce_ctype(obj: _CData) -> tuple[Callable[..., Any], tuple[Any, ...]]: ...
def rebuild_ctype(type_: type[_CData], wrapper: BufferWrapper, length: int | None) -> Any: ...

class SynchronizedBase(_stdlib.SynchronizedBase[_CT]):
    def __init__(self, obj: Any, lock: _LockLike | None = None, ctx: BaseContext | None = None) -> None: ...
    def get_lock(self) -> _LockLike: ...  # type: ignore[override]

class Synchronized(SynchronizedBase[ctypes._SimpleCData[_T]], _stdlib.Synchronized[_T], Generic[_T]): ...
class SynchronizedArray(
    SynchronizedBase[ctypes.Array[ctypes._SimpleCData[_T]]], _stdlib.SynchronizedArray[_T], Generic[_T]
): ...
class SynchronizedString(SynchronizedArray[bytes], _stdlib.SynchronizedString): ...
