"""How objects are reduced to what can be sent to another process.

The reducers are those of `multiprocessing.reduction.ForkingPickler`: what anybody registered there counts here. What plain pickle cannot name (lambdas, closures, what a notebook
defined) is sent by value, with cloudpickle.
"""

import copyreg
import pickle
import sys
from multiprocessing import reduction as _stdlib
from multiprocessing.reduction import (
    ACKNOWLEDGE,
    HAVE_SEND_HANDLE,
    AbstractReducer,
    DupFd,
    ForkingPickler,
    dump,
    recvfds,
    sendfds,
)

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


def dispatch_table():
    """Return the reducers of `copyreg` and `ForkingPickler` as one dict, which is another one whenever there are new ones."""
    global _table, _sizes
    sizes = len(copyreg.dispatch_table), len(ForkingPickler._extra_reducers)
    if sizes != _sizes:
        _table = {**copyreg.dispatch_table, **ForkingPickler._extra_reducers}
        _sizes = sizes
    return _table


def main_is_unreachable():
    """Say whether no child could import what `__main__` defines: in a notebook, an interactive session, or a program from standard input."""
    main = sys.modules.get("__main__")
    return getattr(main, "__spec__", None) is None and getattr(main, "__file__", None) is None


def dump_by_value(obj, sink, error):
    """Pickle an object with its functions and classes by value.

    Args:
        obj: The object.
        sink: Where to write: file and buffer callback of a pickler.
        error: What plain pickle raised; raised again if this fails, too. `None`: plain pickle works, but what it wrote may mean nothing elsewhere.
    """
    try:
        from cloudpickle import Pickler
    except ImportError:
        if error is not None:
            raise error from None
        Pickler = pickle.Pickler
    pickler = Pickler(sink, 5, buffer_callback=sink)
    pickler.dispatch_table = {**getattr(pickler, "dispatch_table", {}), **dispatch_table()}
    try:
        pickler.dump(obj)
    except Exception:
        if error is None:
            raise
        raise error from None
