"""Pipes, connections between machines, and waiting for several things.

The two ends that `Pipe` returns are memory of the family: no descriptors, no system calls while the other side is awake. `Listener` and `Client` are those of `multiprocessing`, on
sockets.
"""

from multiprocessing import connection as _stdlib
from multiprocessing.connection import Client, Listener

from . import _procession
from .context import BufferTooShort

__all__ = ["Client", "Listener", "Pipe", "wait"]


def __getattr__(name):
    """Find what this module does not define in that of `multiprocessing`, whose names differ from version to version."""
    return getattr(_stdlib, name)


class _ConnectionBase:
    """What all connections have in common: the name by which code asks whether something is one."""

    __slots__ = ()


class Connection(_procession.Connection, _ConnectionBase):
    """One end of a pipe: sends and receives objects and bytes.

    Any process of the family may hold it, several at once share what it receives. The pipe is broken for the other side when the *last* holder of this end has closed
    it, ended or died.

    `Connection(fd)` is a connection on a descriptor, as in `multiprocessing`.
    """

    def __new__(cls, handle, readable=True, writable=True):
        """Make a connection on a descriptor."""
        if isinstance(handle, _procession.Parcel):
            return super().__new__(cls, handle)
        return _stdlib.Connection(handle, readable, writable)

    def __init__(self, handle, readable=True, writable=True):
        pass

    def recv_bytes_into(self, buf, offset=0):
        """Receive a message into a writable buffer, from byte `offset` on; return its length.

        Raises:
            BufferTooShort: The message does not fit; it is the exception's argument.
        """
        self._check_closed()
        self._check_readable()
        with memoryview(buf) as view, view.cast("B") as into:
            if offset < 0:
                raise ValueError("negative offset")
            if offset > len(into):
                raise ValueError("offset too large")
            message = self.recv_bytes()
            if len(into) < offset + len(message):
                raise BufferTooShort(message)
            into[offset : offset + len(message)] = message
            return len(message)

    def __repr__(self):
        state = "closed" if self.closed else f"readable={self.readable} writable={self.writable}"
        return f"<{type(self).__module__}.{type(self).__name__} {state}>"


def Pipe(duplex=True):
    """Return the two ends of a pipe, as a pair of connections.

    Args:
        duplex: Whether both ends send and receive; otherwise the first end receives, the second sends.
    """
    return _procession.pipe(Connection, bool(duplex))


def wait(object_list, timeout=None):
    """Wait until something in the list is ready; return the list of those that are.

    Args:
        object_list: Connections, queues or their `_reader`, sentinels of processes, sockets, anything with a descriptor.
        timeout: Longest wait in seconds; `None` waits for ever.
    """
    objects = list(object_list)
    sources = [getattr(source, "_waitable", source) for source in objects]
    return [objects[number] for number in _procession.wait_any(sources, timeout)]
