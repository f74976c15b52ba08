"""Managers: a server process that holds objects, and proxies through which other processes use them.

A manager without an address serves its family: a call through a proxy is two messages in shared memory, and no socket or file stands for the server. One with an address serves anybody who has its
`authkey`, over sockets, as in `multiprocessing`, whose managers can talk to ours and the other way round.

What happens when somebody dies:

- The server: all calls, also those under way, raise `ServerDied`. Its objects are lost.
- The process that started the server: the server ends, too.
- A process with proxies: the server forgets them; what nobody else has a proxy of is let go. (With sockets, it cannot know.)
"""

import contextlib
import queue
import signal
import threading
from contextlib import closing
from multiprocessing import managers as _stdlib
from multiprocessing.managers import (
    Array,
    Namespace,
    RemoteError,
    State,
    Token,
    Value,
    all_methods,
    convert_to_error,
    dispatch,
    public_methods,
)
from multiprocessing.pool import ExceptionWithTraceback

from . import _procession, get_context, process, shared_memory, util
from ._manager_line import FAMILY, Reach, ServerDied, listener_client, server_died
from ._manager_proxy import (
    AcquirerProxy,
    ArrayProxy,
    AutoProxy,
    BarrierProxy,
    BaseDictProxy,
    BaseListProxy,
    BasePoolProxy,
    BaseProxy,
    BaseSetProxy,
    ConditionProxy,
    DictProxy,
    EventProxy,
    IteratorProxy,
    ListProxy,
    MakeProxyType,
    NamespaceProxy,
    PoolProxy,
    RebuildProxy,
    SetProxy,
    ValueProxy,
    counted,
    of_type,
)
from ._manager_server import Server, SharedMemoryServer
from .context import ProcessError

__all__ = ["BaseManager", "BaseProxy", "ServerDied", "SharedMemoryManager", "SyncManager", "Token"]

_ = (BaseDictProxy, BaseListProxy, BasePoolProxy, BaseSetProxy)
_ = (MakeProxyType, RebuildProxy, RemoteError, all_methods, convert_to_error, public_methods)


class BaseManager(_stdlib.BaseManager):
    """A manager, to be given types of objects by `register`.

    Args:
        address: Where the server listens, for clients outside the family; `None`: nowhere, it serves its family.
        authkey: What clients that come by socket must know; by default this process's.
        serializer: How requests travel by socket.
        ctx: The context that starts the server.
        shutdown_timeout: How long the server has to end in order, in seconds, before it is killed.
    """

    _registry = {}
    _Server = Server

    def __init__(self, address=None, authkey=None, serializer="pickle", ctx=None, *, shutdown_timeout=1.0):
        if authkey is None:
            authkey = process.current_process().authkey
        self._address = address
        self._authkey = process.AuthenticationString(authkey)
        self._state = State()
        self._state.value = State.INITIAL
        self._serializer = serializer
        self._Listener, self._Client = listener_client[serializer]
        self._ctx = ctx or get_context()
        self._shutdown_timeout = shutdown_timeout

    def get_server(self):
        """Return a server to be run in this process, with a method `serve_forever` and an `address`."""
        self._check_initial()
        return self._Server(self._registry, self._address, self._authkey, self._serializer)

    def _check_initial(self):
        if self._state.value == State.STARTED:
            raise ProcessError("Already started server")
        if self._state.value == State.SHUTDOWN:
            raise ProcessError("Manager has shut down")

    def connect(self):
        """Connect to the running server at the address."""
        with closing(self._Client(self._address, authkey=self._authkey)) as conn:
            dispatch(conn, None, "dummy")
        self._state.value = State.STARTED

    def start(self, initializer=None, initargs=()):
        """Start the server's process.

        Args:
            initializer: A function that the process calls first.
            initargs: Its arguments.

        Raises:
            ServerDied: The process ended before it served, for instance because the initializer raised.
        """
        self._check_initial()
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        mail = _Mail()
        address = FAMILY if self._address is None else self._address
        self._process = self._ctx.Process(
            target=type(self)._run_server,
            args=(self._registry, address, self._authkey, self._serializer, mail, initializer, initargs),
        )
        self._process.name = f"{type(self).__name__}-{':'.join(str(number) for number in self._process._identity)}"
        self._process.start()
        self._address = mail.recv(self)
        self._state.value = State.STARTED
        self.shutdown = util.Finalize(
            self,
            type(self)._finalize_manager,
            args=(
                self._process,
                self._address,
                self._authkey,
                self._state,
                self._Client,
                self._shutdown_timeout,
            ),
            exitpriority=0,
        )

    @classmethod
    def _run_server(cls, registry, address, authkey, serializer, writer, initializer=None, initargs=()):
        # Ctrl-C is for others: the server ends when its manager does.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            if initializer is not None:
                initializer(*initargs)
            server = cls._Server(registry, address, authkey, serializer)
        except Exception as error:
            writer.send(ExceptionWithTraceback(error, error.__traceback__))
            raise
        writer.send(server.address)
        writer.close()
        util.info("manager serving at %r", server.address)
        server.serve_forever()

    @staticmethod
    def _finalize_manager(process, address, authkey, state, client, shutdown_timeout):
        """Shut the server down; kill it if it does not end."""
        if process.is_alive():
            util.info("sending shutdown message to manager")
            with contextlib.ExitStack() as until_ended:
                try:
                    conn = until_ended.enter_context(closing(client(address, authkey=authkey)))
                    # A server that is stopped answers nothing; whether it ends, we see.
                    conn.send((None, "shutdown", (), {}))
                except Exception as error:
                    util.debug("... shutdown message failed %s", error)
                _end(process, shutdown_timeout)
        state.value = State.SHUTDOWN
        BaseProxy._address_to_local.pop(address, None)

    def _ask(self, method, *args, **kwds):
        """Have the server do something."""
        tls, _ = BaseProxy._local(self._address)
        return Reach(self._address, self._Client, self._authkey, tls).ask(method, *args, **kwds)

    def _create(self, typeid, /, *args, **kwds):
        """Make an object in the server; its token and the names of its methods. The server has counted one reference."""
        assert self._state.value == State.STARTED, "server not yet started"
        ident, exposed = self._ask("create", typeid, *args, **kwds)
        return Token(typeid, self._address, ident), exposed

    @classmethod
    def register(cls, typeid, callable=None, proxytype=None, exposed=None, method_to_typeid=None, create_method=True):
        """Register a type of objects.

        Args:
            typeid: Its name, and that of the method that makes such objects.
            callable: What makes an object, in the server.
            proxytype: The class of the proxies; by default one that has the exposed methods.
            exposed: The names of the methods that proxies may call; by default all public ones.
            method_to_typeid: Methods that return a proxy, and the type that it stands for.
            create_method: Whether there is to be a method.
        """
        if "_registry" not in cls.__dict__:
            cls._registry = cls._registry.copy()
        if proxytype is None:
            proxytype = AutoProxy
        exposed = exposed or getattr(proxytype, "_exposed_", None)
        method_to_typeid = method_to_typeid or getattr(proxytype, "_method_to_typeid_", None)
        for key, value in (method_to_typeid or {}).items():
            assert type(key) is str, f"{key!r} is not a string"
            assert type(value) is str, f"{value!r} is not a string"
        cls._registry[typeid] = (callable, exposed, method_to_typeid, proxytype)
        if not create_method:
            return

        def create(self, /, *args, **kwds):
            util.debug("requesting creation of a shared %r object", typeid)
            token, exposed = self._create(typeid, *args, **kwds)
            with counted(token, lambda: self._ask("decref", token.id)):
                proxy = proxytype(token, self._serializer, manager=self, authkey=self._authkey, exposed=exposed)
            return of_type(proxy, type(self))

        create.__name__ = typeid
        setattr(cls, typeid, create)


def _end(process, timeout):
    """Wait for a process that was asked to end; make it."""
    for end in (process.terminate, process.kill):
        process.join(timeout)
        if not process.is_alive():
            return
        util.info("manager still alive: trying to `%s()` it", end.__name__)
        end()
    process.join()


class _Mail:
    """What a server that starts tells its parent."""

    def __init__(self):
        self._queue = _procession.Queue()

    def send(self, address):
        self._queue.put(address)

    def close(self):
        """Do nothing: shared memory needs no closing."""

    def recv(self, manager):
        """Return the address that the manager's server has sent.

        Raises:
            ServerDied: It has ended before.
        """
        server = manager._process
        while True:
            alive = server.is_alive()
            try:
                address = self._queue.get(timeout=0.2 if alive else 0)
            except queue.Empty:
                if alive:
                    continue
                raise server_died(None, manager) from None
            if not isinstance(address, Exception):
                return address
            server.join()
            raise server_died(None, manager) from address


class SyncManager(BaseManager, _stdlib.SyncManager):
    """A manager of what threads synchronize with, of containers, and of pools.

    `procession.Manager()` returns one with a running server.
    """


def _Pool(*args, **kwds):
    from .pool import Pool

    return Pool(*args, **kwds)


SyncManager.register("Queue", queue.Queue)
SyncManager.register("JoinableQueue", queue.Queue)
SyncManager.register("Event", threading.Event, EventProxy)
SyncManager.register("Lock", threading.Lock, AcquirerProxy)
SyncManager.register("RLock", threading.RLock, AcquirerProxy)
SyncManager.register("Semaphore", threading.Semaphore, AcquirerProxy)
SyncManager.register("BoundedSemaphore", threading.BoundedSemaphore, AcquirerProxy)
SyncManager.register("Condition", threading.Condition, ConditionProxy)
SyncManager.register("Barrier", threading.Barrier, BarrierProxy)
SyncManager.register("Pool", _Pool, PoolProxy)
SyncManager.register("list", list, ListProxy)
SyncManager.register("dict", dict, DictProxy)
SyncManager.register("set", set, SetProxy)
SyncManager.register("Value", Value, ValueProxy)
SyncManager.register("Array", Array, ArrayProxy)
SyncManager.register("Namespace", Namespace, NamespaceProxy)
# What methods of the above return.
SyncManager.register("Iterator", proxytype=IteratorProxy, create_method=False)
SyncManager.register("AsyncResult", create_method=False)


class SharedMemoryManager(BaseManager, _stdlib.SharedMemoryManager):
    """A manager of shared memory: what it makes is removed when its server ends, in order or because its parent died."""

    _Server = SharedMemoryServer

    def SharedMemory(self, size):
        """Return shared memory of so many bytes."""
        return self._track(shared_memory.SharedMemory, create=True, size=size)

    def ShareableList(self, sequence):
        """Return a list in shared memory."""
        return self._track(shared_memory.ShareableList, sequence)

    def _track(self, make, *args, **kwds):
        with closing(self._Client(self._address, authkey=self._authkey)) as conn:
            made = make(*args, **kwds)
            memory = getattr(made, "shm", made)
            try:
                dispatch(conn, None, "track_segment", (memory.name,))
            except BaseException:
                memory.unlink()
                raise
        return made
