"""How a process reaches the server of a manager: in the family by a line in shared memory, else by socket."""

import os
import signal
import threading
from contextlib import closing
from multiprocessing.managers import convert_to_error, dispatch

from . import _procession, connection, process

# The address that a server is to have that only its family reaches. The one that it gets tells where it is.
FAMILY = "procession:"

NO_KEYWORDS = {}

leads_to_family = _procession.Line.leads_to

# The keys of servers that this process knows: a proxy that arrives without one finds its own here.
_authkeys = {}


class ServerDied(ConnectionRefusedError, ConnectionResetError, BrokenPipeError, EOFError):
    """The server of a manager has ended, and with it its objects.

    It is an exception of each kind that `multiprocessing` raises then.
    """


def server_died(address, manager=None):
    """Return the exception that says how a server ended."""
    server = getattr(manager, "_process", None)
    if leads_to_family(address):
        where = f"pid {address.rpartition(':')[2]}"
    else:
        where = f"at {address!r}" if address else f"pid {server.pid}"
    code = server.exitcode if server is not None else None
    if code is None:
        how = "has ended"
    elif code < 0:
        how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
    else:
        how = f"has ended with exit code {code}"
    return ServerDied(f"the server of the manager ({where}) {how}")


def Client(address, family=None, authkey=None):
    """Connect to the server at an address; in the family no key is needed."""
    if leads_to_family(address):
        return _procession.Line.connect(address)
    return connection.Client(address, family, authkey)


listener_client = {
    "pickle": (connection.Listener, Client),
    "xmlrpclib": (connection.XmlListener, connection.XmlClient),
}


def authkey_for(address, manager, authkey):
    """Return the key of the server at an address, and remember it."""
    if authkey is None and manager is not None:
        authkey = manager._authkey
    if authkey is None:
        authkey = _authkeys.get(address)
    if authkey is None:
        return process.current_process().authkey
    authkey = process.AuthenticationString(authkey)
    if not leads_to_family(address):
        _authkeys[address] = authkey
    return authkey


class Reach:
    """How a process reaches one server: a line for each thread, made when it is first needed.

    A thread whose call was broken off (Ctrl-C) gives up its line: the answer that still comes is not for the next request.
    """

    def __init__(self, address, client, authkey, tls):
        self._address = address
        self._client = client
        self._authkey = authkey
        self._tls = tls
        self._in_family = leads_to_family(address)

    def call(self, request, manager=None):
        """Send a request through this thread's line; the kind of the answer, and the answer."""
        tls = self._tls
        try:
            line = getattr(tls, "connection", None)
            if line is None or not line.is_ours:
                line = tls.connection = self._connect()
            answer = line.call(request)
            if answer is None:
                # This thread is in the middle of a call: a signal handler wants something, or the garbage collector.
                with self._connect() as other:
                    answer = other.call(request)
            return answer
        except BaseException as error:
            self.break_off(error, manager)
            raise

    def break_off(self, error, manager):
        """Give up this thread's line because of an exception; raise another if that says that the server is gone."""
        self._tls.__dict__.pop("connection", None)
        if isinstance(error, _procession.LineEnded):
            raise server_died(self._address, manager) from None

    def ask(self, method, *args, **kwds):
        """Have the server itself do something."""
        if self._in_family:
            kind, result = self.call((None, method, args, kwds))
            if kind == "#RETURN":
                return result
            try:
                raise convert_to_error(kind, result)
            finally:
                del result
        with closing(self._client(self._address, authkey=self._authkey)) as conn:
            return dispatch(conn, None, method, args, kwds)

    def close_thread(self):
        """Give up this thread's line, if it costs something to keep it."""
        if not self._in_family and hasattr(self._tls, "connection"):
            self._tls.connection.close()
            del self._tls.connection

    def _connect(self):
        if self._in_family:
            return _procession.Line.connect(self._address)
        conn = self._client(self._address, authkey=self._authkey)
        thread = threading.current_thread().name
        name = process.current_process().name + ("" if thread == "MainThread" else "|" + thread)
        dispatch(conn, None, "accept_connection", (name,))
        return _SocketLine(conn)


class _SocketLine:
    """A connection by socket, with the methods of a line."""

    def __init__(self, conn):
        self._conn = conn
        self._maker = os.getpid()
        self.close = conn.close

    @property
    def is_ours(self):
        """Whether this process made it: what a forked child finds in its memory is its parent's."""
        return self._maker == os.getpid()

    def call(self, request):
        if not self.is_ours:
            return None
        try:
            self._conn.send(request)
            return self._conn.recv()
        except (EOFError, ConnectionError) as error:
            raise _procession.LineEnded(str(error)) from None
