"""ctypes objects in shared memory, with and without a lock.

They can be sent anywhere in the family, at any time: as an argument, through a queue, inside other objects. Without a lock, several processes may write at the same time; then
items of up to 8 bytes are never torn, and nothing else is promised. A process that is killed while it holds the lock of a `Value` does not take it along: the next one gets it, and
sees the data as the dead process left it.
"""

import ctypes
import weakref
from multiprocessing import sharedctypes as _stdlib
from multiprocessing.sharedctypes import make_property, typecode_to_type

from . import get_context, heap, reduction

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]


def RawValue(typecode_or_type, *args):
    """Return a ctypes object in shared memory.

    Args:
        typecode_or_type: A type of ctypes, or the code of one as in the module `array`.
        args: What the type is called with.
    """
    obj = _new_object(typecode_to_type.get(typecode_or_type, typecode_or_type))
    obj.__init__(*args)
    return obj


def RawArray(typecode_or_type, size_or_initializer):
    """Return a ctypes array in shared memory.

    Args:
        typecode_or_type: The type of the items: one of ctypes, or the code of one.
        size_or_initializer: How many items, all zero; or the items.
    """
    item_type = typecode_to_type.get(typecode_or_type, typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new_object(item_type * size_or_initializer)
    array = _new_object(item_type * len(size_or_initializer))
    array.__init__(*size_or_initializer)
    return array


def Value(typecode_or_type, *args, lock=True, ctx=None):
    """Return a ctypes object in shared memory, in a wrapper that has a lock.

    Args:
        typecode_or_type: A type of ctypes, or the code of one.
        args: What the type is called with.
        lock: A lock to use, `True` for a new recursive one, `False` for the bare object.
        ctx: The context that makes the lock.
    """
    return _with_lock(RawValue(typecode_or_type, *args), lock, ctx)


def Array(typecode_or_type, size_or_initializer, *, lock=True, ctx=None):
    """Return a ctypes array in shared memory, in a wrapper that has a lock.

    Args:
        typecode_or_type: The type of the items.
        size_or_initializer: How many items, or the items.
        lock: A lock to use, `True` for a new recursive one, `False` for the bare array.
        ctx: The context that makes the lock.
    """
    return _with_lock(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def copy(obj):
    """Return a copy of a ctypes object, in shared memory."""
    new = _new_object(type(obj))
    ctypes.pointer(new)[0] = obj
    return new


def synchronized(obj, lock=None, ctx=None):
    """Return a wrapper of a ctypes object whose accesses take a lock.

    Args:
        obj: A ctypes object in shared memory.
        lock: The lock; a new recursive one if there is none.
        ctx: The context that makes the lock.
    """
    assert not isinstance(obj, _stdlib.SynchronizedBase), "object already synchronized"
    return _wrapper_class(type(obj))(obj, lock, ctx)


def _new_object(type_):
    return rebuild_ctype(type_, heap.BufferWrapper(ctypes.sizeof(type_)), None)


def _with_lock(obj, lock, ctx):
    if lock is False:
        return obj
    if lock in (True, None):
        lock = (ctx or get_context()).RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, lock, ctx=ctx)


def reduce_ctype(obj):
    """Reduce a ctypes object: one of ours to its memory, any other as ctypes does."""
    wrapper = getattr(obj, "_wrapper", None)
    if wrapper is None:
        return obj.__reduce__()
    if isinstance(obj, ctypes.Array):
        return rebuild_ctype, (obj._type_, wrapper, obj._length_)
    return rebuild_ctype, (type(obj), wrapper, None)


def rebuild_ctype(type_, wrapper, length):
    """Make the ctypes object of a type, or the array of so many of them, that lies in a block of memory."""
    if length is not None:
        type_ = type_ * length
    reduction.register(type_, reduce_ctype)
    obj = type_.from_buffer(wrapper)
    obj._wrapper = wrapper
    return obj


class SynchronizedBase(_stdlib.SynchronizedBase):
    """A ctypes object with a lock."""

    def __init__(self, obj, lock=None, ctx=None):
        super().__init__(obj, lock or (ctx or get_context()).RLock())

    def __reduce__(self):
        return synchronized, (self._obj, self._lock)


class Synchronized(SynchronizedBase, _stdlib.Synchronized):
    """A simple value with a lock."""


class SynchronizedArray(SynchronizedBase, _stdlib.SynchronizedArray):
    """An array with a lock; it is taken for each access."""


class SynchronizedString(SynchronizedArray, _stdlib.SynchronizedString):
    """An array of characters with a lock."""


_wrapper_classes = weakref.WeakKeyDictionary()


def _wrapper_class(type_):
    """Return the class that wraps objects of a type."""
    if issubclass(type_, ctypes._SimpleCData):
        return Synchronized
    if issubclass(type_, ctypes.Array):
        return SynchronizedString if type_._type_ is ctypes.c_char else SynchronizedArray
    if type_ not in _wrapper_classes:
        fields = {name: make_property(name) for base in type_.__mro__ for name, *_ in getattr(base, "_fields_", ())}
        _wrapper_classes[type_] = type("Synchronized" + type_.__name__, (SynchronizedBase,), fields)
    return _wrapper_classes[type_]
