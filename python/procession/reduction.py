"""How objects are reduced to what can be sent to another process.

The reducers are those of `multiprocessing.reduction.ForkingPickler`: what anybody registered there counts here. What plain pickle cannot name (lambdas, closures, what a notebook
defined) is sent by value, with cloudpickle.
"""

import copyreg
import os
import pickle
import sys
import types
from multiprocessing import reduction as _stdlib
from multiprocessing.reduction import (
    HAVE_SEND_HANDLE,
    AbstractReducer,
    DupFd,
    ForkingPickler,
    dump,
    recvfds,
    sendfds,
)

from . import process

# 3.14 has the name no more: there, a descriptor is always acknowledged.
ACKNOWLEDGE = getattr(_stdlib, "ACKNOWLEDGE", True)

__all__ = [
    "ACKNOWLEDGE",
    "HAVE_SEND_HANDLE",
    "AbstractReducer",
    "DupFd",
    "ForkingPickler",
    "dump",
    "recv_handle",
    "recvfds",
    "register",
    "send_handle",
    "sendfds",
]


def __getattr__(name):
    """Find what this module does not define in that of `multiprocessing`: dill imports its `_reduce_socket`."""
    return getattr(_stdlib, name)


def dumps(obj):
    """Pickle an object to bytes, as `ForkingPickler` does."""
    return bytes(ForkingPickler.dumps(obj))


class _NoHandle(RuntimeError, EOFError):
    """The connection came to its end, or brought something else, where a handle was expected."""


def send_handle(conn, handle, destination_pid):
    """Send a file descriptor over a connection."""
    if not hasattr(conn, "_send_fd"):
        _stdlib.send_handle(conn, handle, destination_pid)
        return
    conn._send_fd(handle)


def recv_handle(conn):
    """Receive a file descriptor over a connection."""
    if not hasattr(conn, "_recv_fd"):
        return _stdlib.recv_handle(conn)
    try:
        return conn._recv_fd()
    except EOFError:
        raise _NoHandle("the other side ended without sending a handle") from None


_table = {}
_sizes = None


def register(type, reduce):
    """Register how objects of a type are reduced, for all picklers of this kind."""
    global _sizes
    ForkingPickler.register(type, reduce)
    _sizes = None


def tables():
    """Return the dicts in which `copyreg` and `ForkingPickler` keep their reducers."""
    return [copyreg.dispatch_table, ForkingPickler._extra_reducers]


def dispatch_table():
    """Return the reducers of `copyreg` and `ForkingPickler` as one dict, which is another one whenever there are new ones."""
    global _table, _sizes
    sizes = len(copyreg.dispatch_table), len(ForkingPickler._extra_reducers)
    if sizes != _sizes:
        _table = {**copyreg.dispatch_table, **ForkingPickler._extra_reducers}
        _sizes = sizes
    return _table


def main_is_unreachable():
    """Say whether children cannot import what `__main__` defines: in a notebook, an interactive session, a package's `__main__.py`, or a program from standard input or the command line.

    Forked children need not import it. So it is reachable as long as nobody has asked for another start method.
    """
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    # Children do not run the `__main__.py` of a package, a folder or an archive.
    if spec is not None and spec.name.rpartition(".")[2] != "__main__":
        return False
    from . import context

    return (spec is not None or not is_file(getattr(main, "__file__", None))) and not context.only_forks()


def is_file(path):
    """Say whether a module's `__file__` names a file: `<stdin>` does not."""
    return path is not None and not os.path.basename(path).startswith("<")


def dump_by_value(obj, sink, error):
    """Pickle an object with its functions and classes by value.

    Args:
        obj: The object.
        sink: Where to write: file and buffer callback of a pickler.
        error: What plain pickle raised; raised again if this fails, too, with a note that says where in the object the fault lies. `None`: plain pickle works, but what it
            wrote may mean nothing elsewhere.
    """
    pickler = _pickler_by_value(sink, sink, needed=error is None)
    if pickler is None:
        raise _with_place(error, obj) from None
    try:
        pickler.dump(obj)
    except Exception:
        if error is None:
            raise
        raise _with_place(error, obj) from None


def _pickler_by_value(file, buffer_callback, needed=True):
    """Return a pickler by value; where there is none, a plain one, or `None` if it is not needed."""
    try:
        from cloudpickle import Pickler
    except ImportError:
        if not needed:
            return None
        Pickler = pickle.Pickler
    pickler = Pickler(file, 5, buffer_callback=buffer_callback)
    pickler.dispatch_table = {**getattr(pickler, "dispatch_table", {}), **dispatch_table()}
    return pickler


# So many parts of an object are tried in search of what cannot be pickled.
_MAX_TRIES = 2000


class _Nowhere:
    """Where a pickler writes what nobody wants."""

    def write(self, data):
        return len(data)

    def __call__(self, buffer):
        return False


def _with_place(error, obj):
    """Add a note to an error: which part of the object cannot be pickled."""
    place = _search(obj, "", [_MAX_TRIES])
    if place:
        root = "" if isinstance(obj, process.BaseProcess) else f"the {type(obj).__name__}"
        error.add_note(f"What cannot be pickled is {(root + place).lstrip('.')}")
    return error


def _search(obj, path, tries):
    """Return the path to the part that cannot be pickled: the part of a part of the object."""
    try:
        parts = list(_parts(obj))
    except Exception:
        return path
    for step, part in parts:
        tries[0] -= 1
        if tries[0] < 0:
            break
        if not _can_be_pickled(part):
            return _search(part, path + step, tries)
    return path


def _can_be_pickled(obj):
    nowhere = _Nowhere()
    try:
        _pickler_by_value(nowhere, nowhere).dump(obj)
    except Exception:
        return False
    return True


def _parts(obj):
    """Yield the parts of an object that are pickled with it, as pairs of a step (`[0]`, `.name`) and the part."""
    if isinstance(obj, dict):
        yield from ((f"[{key!r}]", value) for key, value in obj.items())
        yield from ((f" key {key!r}", key) for key in obj)
    elif isinstance(obj, (list, tuple)):
        yield from ((f"[{index}]", value) for index, value in enumerate(obj))
    elif isinstance(obj, (set, frozenset)):
        yield from ((f" member {value!r}", value) for value in obj)
    elif not isinstance(obj, (type, types.FunctionType)):
        yield from _parts_of_instance(obj)


def _parts_of_instance(obj):
    reduced = obj.__reduce_ex__(5)
    if isinstance(reduced, str):
        return
    state = reduced[2] if len(reduced) > 2 else None
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        state = {**(state[0] or {}), **state[1]}
    if isinstance(state, dict):
        # What a process calls `_args` is what its user called `args`.
        strip = isinstance(obj, process.BaseProcess)
        yield from ((f".{name.lstrip('_') if strip else name}", value) for name, value in state.items())
    yield from ((f" argument {index}", value) for index, value in enumerate(reduced[1]))
