"""Proxies: what stands for the objects of a manager's server."""

import contextlib
import threading
import types
from collections.abc import MutableMapping, MutableSequence, MutableSet
from contextlib import closing
from multiprocessing import managers as _stdlib
from multiprocessing.managers import ProcessLocalSet, State, convert_to_error, dispatch

from . import _procession, process, util
from ._manager_line import NO_KEYWORDS, Reach, authkey_for, leads_to_family, listener_client
from .context import get_spawning_popen

# Objects that the server has just counted for us, before there is a proxy: those that come now need not be counted again.
_adoptable = threading.local()


@contextlib.contextmanager
def counted(token, drop):
    """The server has counted a reference for a proxy that is made here; if none takes it, it is dropped."""
    key = token.address, token.id
    before = getattr(_adoptable, "key", None)
    _adoptable.key = key
    try:
        yield
    finally:
        taken = _adoptable.key != key
        _adoptable.key = before
        if not taken:
            drop()


class BaseProxy(_stdlib.BaseProxy):
    """What stands for an object of a server."""

    # The class of the manager, for the types of what methods return. Unlike the manager, it comes along when the proxy is sent.
    _manager_type = None
    _ticket = None

    def __init__(self, token, serializer, manager=None, authkey=None, exposed=None, incref=True, manager_owned=False):
        self._tls, self._idset = self._local(token.address)
        self._token = token
        self._id = token.id
        self._manager = manager
        if manager is not None:
            self._manager_type = type(manager)
        self._serializer = serializer
        self._Client = listener_client[serializer][1]
        self._owned_by_manager = manager_owned
        self._authkey = authkey_for(token.address, manager, authkey)
        self._reach = Reach(token.address, self._Client, self._authkey, self._tls)
        if manager_owned:
            self._be_owned()
        elif incref:
            self._incref()
        util.register_after_fork(self, BaseProxy._after_fork)

    @staticmethod
    def _local(address):
        """Return what this process has of a server: the threads' lines, and the objects that it has proxies of."""
        with BaseProxy._mutex:
            known = BaseProxy._address_to_local
            if address not in known:
                known[address] = util.ForkAwareLocal(), ProcessLocalSet()
            return known[address]

    def _callmethod(self, methodname, args=(), kwds=NO_KEYWORDS):
        """Call a method of the object; a copy of the result."""
        request = self._id, methodname, args, kwds
        try:
            # The usual way, at once; `Reach.call` knows the others.
            line = getattr(self._tls, "connection", None)
            answer = line and line.call(request)
        except BaseException as error:
            self._reach.break_off(error, self._manager)
            raise
        kind, result = answer or self._reach.call(request, self._manager)
        if kind == "#RETURN":
            return result
        if kind == "#PROXY":
            return self._proxy_of(*result)
        try:
            raise convert_to_error(kind, result)
        finally:
            del result

    def _proxy_of(self, exposed, token):
        """Return the proxy of an object that a method returned."""
        if self._manager_type is None:
            raise TypeError(f"what {token.typeid!r} is, knows only the manager that this proxy came from")
        proxytype = self._manager_type._registry[token.typeid][-1]
        token.address = self._token.address
        with counted(token, lambda: self._reach.ask("decref", token.id)):
            proxy = proxytype(token, self._serializer, manager=self._manager, authkey=self._authkey, exposed=exposed)
        return of_type(proxy, self._manager_type)

    def _incref(self):
        """Have the server count this proxy."""
        key = self._token.address, self._id
        if getattr(_adoptable, "key", None) == key:
            _adoptable.key = None
        else:
            self._reach.ask("incref", self._id)
            util.debug("INCREF %r", self._token.id)
        self._idset.add(self._id)
        state = self._manager and self._manager._state
        self._close = util.Finalize(
            self, BaseProxy._decref, args=(self._token, state, self._reach, self._idset), exitpriority=10
        )

    def _be_owned(self):
        """Count this proxy, which is in the server itself, inside another object."""
        server = process.current_process()._manager_server
        server.incref(None, self._id)
        self._close = util.Finalize(self, server._dropped.append, args=(self._id,))

    @staticmethod
    def _decref(token, state, reach, idset):
        idset.discard(token.id)
        if state is not None and state.value != State.STARTED:
            util.debug("DECREF %r -- manager already shutdown", token.id)
            return
        try:
            util.debug("DECREF %r", token.id)
            reach.ask("decref", token.id)
        except Exception as error:
            util.debug("... decref failed %s", error)
        if not idset:
            reach.close_thread()

    def _after_fork(self):
        self._manager = None
        self._ticket = None
        if self._owned_by_manager:
            return
        try:
            self._incref()
        except Exception as error:
            # The proxy may just be for a manager which has shut down.
            util.info("incref failed: %s", error)

    def __reduce__(self):
        kwds = {}
        if get_spawning_popen() is not None or _procession.in_message():
            # It stays in the family.
            kwds["authkey"] = bytes(self._authkey)
        if _procession.in_message() and leads_to_family(self._token.address):
            kwds["ticket"] = self._get_ticket()
        if self._manager_type is not None:
            kwds["manager_type"] = self._manager_type
        if getattr(self, "_isauto", False):
            kwds["exposed"] = self._exposed_
            return RebuildProxy, (AutoProxy, self._token, self._serializer, kwds)
        return RebuildProxy, (type(self), self._token, self._serializer, kwds)

    def _get_ticket(self):
        """Return what a message holds so that the object lives while no other proxy does."""
        if self._ticket is None:
            ticket = _procession.SharedMemory(0)
            if self._owned_by_manager:
                process.current_process()._manager_server.hold_for_ticket(None, self._id, ticket.name)
            else:
                self._reach.ask("hold_for_ticket", self._id, ticket.name)
            self._ticket = ticket
        return self._ticket


def of_type(proxy, manager_type):
    """Tell a proxy the class of its manager."""
    if isinstance(proxy, BaseProxy):
        proxy._manager_type = manager_type
    return proxy


def RebuildProxy(func, token, serializer, kwds):
    """Make the proxy that was pickled."""
    manager_type = kwds.pop("manager_type", None)
    # Held until the proxy is counted.
    ticket = kwds.pop("ticket", None)
    server = getattr(process.current_process(), "_manager_server", None)
    if server and server.address == token.address:
        util.debug("Rebuild a proxy owned by manager, token=%r", token)
        kwds["manager_owned"] = True
    proxy = func(token, serializer, incref=kwds.pop("incref", True), **kwds)
    del ticket
    return of_type(proxy, manager_type)


_proxy_types = {}


def MakeProxyType(name, exposed):
    """Return a class of proxies with these methods."""
    exposed = tuple(exposed)
    key = name, exposed
    if key not in _proxy_types:
        methods = {method: _forwarder(method) for method in exposed}
        _proxy_types[key] = type(name, (BaseProxy,), {**methods, "_exposed_": exposed})
    return _proxy_types[key]


def _forwarder(method):
    def forward(self, /, *args, **kwds):
        return self._callmethod(method, args, kwds)

    forward.__name__ = method
    return forward


def AutoProxy(token, serializer, manager=None, authkey=None, exposed=None, incref=True, manager_owned=False):
    """Return a proxy with the methods that the server exposes."""
    authkey = authkey_for(token.address, manager, authkey)
    if exposed is None:
        with closing(listener_client[serializer][1](token.address, authkey=authkey)) as conn:
            exposed = dispatch(conn, None, "get_methods", (token,))
    proxy_type = MakeProxyType(f"AutoProxy[{token.typeid}]", exposed)
    proxy = proxy_type(token, serializer, manager=manager, authkey=authkey, incref=incref, manager_owned=manager_owned)
    proxy._isauto = True
    return proxy


#
# The proxies of what every `SyncManager` makes
#


class IteratorProxy(BaseProxy, _stdlib.IteratorProxy):
    """A proxy of an iterator."""


class AcquirerProxy(BaseProxy, _stdlib.AcquirerProxy):
    """A proxy of a lock or semaphore of threads."""


class ConditionProxy(AcquirerProxy, _stdlib.ConditionProxy):
    """A proxy of a condition variable of threads."""


class EventProxy(BaseProxy, _stdlib.EventProxy):
    """A proxy of an event of threads."""


class BarrierProxy(BaseProxy, _stdlib.BarrierProxy):
    """A proxy of a barrier of threads."""


class NamespaceProxy(BaseProxy, _stdlib.NamespaceProxy):
    """A proxy of a namespace; the public attributes are the namespace's."""


class ValueProxy(BaseProxy, _stdlib.ValueProxy):
    """A proxy of a value."""


BaseListProxy = MakeProxyType(
    "BaseListProxy",
    (
        "__add__",
        "__contains__",
        "__delitem__",
        "__getitem__",
        "__imul__",
        "__len__",
        "__mul__",
        "__reversed__",
        "__rmul__",
        "__setitem__",
        "append",
        "clear",
        "copy",
        "count",
        "extend",
        "index",
        "insert",
        "pop",
        "remove",
        "reverse",
        "sort",
    ),
)


MutableSequence.register(BaseListProxy)


class ListProxy(BaseListProxy, _stdlib.ListProxy):
    """A proxy of a list."""

    def __iadd__(self, value):
        self._callmethod("extend", (value,))
        return self

    def __imul__(self, value):
        self._callmethod("__imul__", (value,))
        return self

    __class_getitem__ = classmethod(types.GenericAlias)


BaseDictProxy = MakeProxyType(
    "BaseDictProxy",
    (
        "__contains__",
        "__delitem__",
        "__getitem__",
        "__ior__",
        "__iter__",
        "__len__",
        "__or__",
        "__reversed__",
        "__ror__",
        "__setitem__",
        "clear",
        "copy",
        "fromkeys",
        "get",
        "items",
        "keys",
        "pop",
        "popitem",
        "setdefault",
        "update",
        "values",
    ),
)
BaseDictProxy._method_to_typeid_ = {"__iter__": "Iterator"}
MutableMapping.register(BaseDictProxy)


class DictProxy(BaseDictProxy, _stdlib.DictProxy):
    """A proxy of a dictionary."""

    def __ior__(self, value):
        self._callmethod("__ior__", (value,))
        return self

    __class_getitem__ = classmethod(types.GenericAlias)


BaseSetProxy = MakeProxyType(
    "BaseSetProxy",
    (
        "__and__",
        "__class_getitem__",
        "__contains__",
        "__eq__",
        "__ge__",
        "__gt__",
        "__iand__",
        "__ior__",
        "__isub__",
        "__iter__",
        "__ixor__",
        "__le__",
        "__len__",
        "__lt__",
        "__ne__",
        "__or__",
        "__rand__",
        "__ror__",
        "__rsub__",
        "__rxor__",
        "__sub__",
        "__xor__",
        "add",
        "clear",
        "copy",
        "difference",
        "difference_update",
        "discard",
        "intersection",
        "intersection_update",
        "isdisjoint",
        "issubset",
        "issuperset",
        "pop",
        "remove",
        "symmetric_difference",
        "symmetric_difference_update",
        "union",
        "update",
    ),
)
BaseSetProxy._method_to_typeid_ = {"__iter__": "Iterator"}
MutableSet.register(BaseSetProxy)


class SetProxy(BaseSetProxy):
    """A proxy of a set."""

    __hash__ = None

    def __ior__(self, value):
        self._callmethod("__ior__", (value,))
        return self

    def __iand__(self, value):
        self._callmethod("__iand__", (value,))
        return self

    def __ixor__(self, value):
        self._callmethod("__ixor__", (value,))
        return self

    def __isub__(self, value):
        self._callmethod("__isub__", (value,))
        return self

    __class_getitem__ = classmethod(types.GenericAlias)


ArrayProxy = MakeProxyType("ArrayProxy", ("__len__", "__getitem__", "__setitem__"))


BasePoolProxy = MakeProxyType(
    "BasePoolProxy",
    (
        "apply",
        "apply_async",
        "close",
        "imap",
        "imap_unordered",
        "join",
        "map",
        "map_async",
        "starmap",
        "starmap_async",
        "terminate",
    ),
)
BasePoolProxy._method_to_typeid_ = {
    "apply_async": "AsyncResult",
    "map_async": "AsyncResult",
    "starmap_async": "AsyncResult",
    "imap": "Iterator",
    "imap_unordered": "Iterator",
}


class PoolProxy(BasePoolProxy):
    """A proxy of a pool."""

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_val, exc_tb):
        self.terminate()
