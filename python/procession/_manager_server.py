"""The server of a manager: holds objects and calls their methods for whoever has a proxy."""

import contextlib
import os
import select
import sys
import threading
from collections import Counter, deque
from multiprocessing import managers as _stdlib
from multiprocessing.managers import Token, public_methods
from multiprocessing.pool import ExceptionWithTraceback
from traceback import format_exc

from . import _procession, process, shared_memory, util
from ._manager_line import FAMILY, listener_client


class Server(_stdlib.Server):
    """The server: one thread for each thread that uses its objects."""

    public = [*_stdlib.Server.public, "hold_for_ticket"]

    def __init__(self, registry, address, authkey, serializer):
        if not isinstance(authkey, bytes):
            raise TypeError(f"Authkey {authkey!r} is type {type(authkey)!s}, not bytes")
        self.registry = registry
        self.authkey = process.AuthenticationString(authkey)
        if address == FAMILY:
            self.listener = _procession.Door()
        else:
            self.listener = listener_client[serializer][0](address=address, backlog=128)
        self.address = self.listener.address
        self.id_to_obj = {"0": (None, ())}
        self.id_to_refcount = {}
        self.id_to_local_proxy_obj = {}
        self.mutex = threading.Lock()
        self.stop_event = threading.Event()
        # How many references each process of the family has: participant -> object -> number.
        self._held = {}
        # Proxies in messages on their way: the ticket that the message holds -> object.
        self._tickets = {}
        # Objects whose proxies inside other objects of ours are gone. The garbage collector appends; it can take no lock.
        self._dropped = deque()

    def serve_forever(self):
        """Serve until told to stop, or until the process that started this one is gone."""
        process.current_process()._manager_server = self
        try:
            # Before anybody is let in: whoever is served finds all threads there.
            parent = process.parent_process()
            if parent is not None:
                self._start(self._stop_with, parent.sentinel)
            self._start(self.accepter)
            with contextlib.suppress(KeyboardInterrupt, SystemExit):
                while not self.stop_event.wait(1):
                    self._let_go()
        finally:
            self._end()
            if sys.stdout != sys.__stdout__:
                util.debug("resetting stdout, stderr")
                sys.stdout = sys.__stdout__
                sys.stderr = sys.__stderr__
            sys.exit(0)

    def _end(self):
        """Do what is to be done last."""

    @staticmethod
    def _start(function, *args):
        threading.Thread(target=function, args=args, daemon=True).start()

    def _stop_with(self, sentinel):
        poll = select.poll()
        poll.register(sentinel, select.POLLIN)
        poll.poll()
        self.stop_event.set()

    def accepter(self):
        """Let clients in."""
        while True:
            try:
                conn = self.listener.accept()
            except OSError:
                continue
            except EOFError:
                return
            try:
                self._start(self.handle_request, conn)
            except RuntimeError:
                # No more threads. The client is told that the line is closed; others may leave and make room.
                conn.close()

    def handle_request(self, conn):
        """Serve a client."""
        if not isinstance(conn, _procession.Line):
            super().handle_request(conn)
            return
        try:
            self._serve(conn, _procession.LineEnded)
        finally:
            conn.close()

    def serve_client(self, conn):
        """Serve a thread that connected by socket, after its first request."""
        self._serve(conn, (EOFError, OSError))
        sys.exit(0)

    def _serve(self, conn, ended):
        """Answer the requests that come through a connection; `ended` is raised when no more do."""
        recv, send, answer_to = conn.recv, conn.send, self._answer
        stopped = self.stop_event.is_set
        # Messages in the family keep what they contain; of others it is kept until the next request was carried out: whoever got a proxy tells us by that.
        keep = ended is not _procession.LineEnded
        answer = None
        while not stopped():
            try:
                ident, method, args, kwds = recv()
                answer = answer_to(conn, ident, method, args, kwds)
            except ended:
                return
            except Exception:
                answer = "#TRACEBACK", format_exc()
            args = kwds = None
            try:
                send(answer)
            except ended:
                return
            except Exception:
                send(("#UNSERIALIZABLE", format_exc()))
            if not keep:
                answer = None

    def _answer(self, conn, ident, method, args, kwds):
        if ident is None:
            return self._answer_public(conn, method, args, kwds)
        try:
            obj, exposed, gettypeid = self.id_to_obj[ident]
        except KeyError:
            return (
                "#TRACEBACK",
                f"KeyError: {ident!r}\nThe server has no such object: it was let go when nobody had a proxy of it any more.\n",
            )
        if method not in exposed:
            return self._answer_fallback(conn, ident, obj, exposed, method, args, kwds)
        try:
            function = getattr(obj, method)
        except AttributeError:
            return "#TRACEBACK", format_exc()
        try:
            result = function(*args, **kwds)
        except Exception as error:
            return "#ERROR", ExceptionWithTraceback(error, error.__traceback__)
        typeid = gettypeid and gettypeid.get(method, None)
        if typeid:
            created, exposed = self.create(conn, typeid, result)
            return "#PROXY", (exposed, Token(typeid, self.address, created))
        return "#RETURN", result

    def _answer_public(self, conn, method, args, kwds):
        try:
            assert method in self.public, f"{method!r} unrecognized"
            return "#RETURN", getattr(self, method)(conn, *args, **kwds)
        except Exception:
            return "#TRACEBACK", format_exc()

    def _answer_fallback(self, conn, ident, obj, exposed, method, args, kwds):
        try:
            if method not in self.fallback_mapping:
                raise AttributeError(f"method {method!r} of {type(obj)!r} object is not in exposed={exposed!r}")
            return "#RETURN", self.fallback_mapping[method](self, conn, ident, obj, *args, **kwds)
        except Exception:
            return "#TRACEBACK", format_exc()

    def shutdown(self, c):
        """Stop serving."""
        if not isinstance(c, _procession.Line):
            super().shutdown(c)
            return
        with contextlib.suppress(_procession.LineEnded):
            c.send(("#RETURN", None))
        self.stop_event.set()

    def create(self, c, typeid, /, *args, **kwds):
        """Make an object; its identity, and the names of its methods. The client has a reference to it."""
        function, exposed, method_to_typeid, _ = self.registry[typeid]
        if function is not None:
            # Not under the lock: it may take its time, or use objects of this very server.
            obj = function(*args, **kwds)
        elif kwds or len(args) != 1:
            raise ValueError("Without callable, must have one non-keyword argument")
        else:
            (obj,) = args
        exposed = list(public_methods(obj) if exposed is None else exposed)
        if method_to_typeid is not None:
            if not isinstance(method_to_typeid, dict):
                raise TypeError(f"Method_to_typeid {method_to_typeid!r}: type {type(method_to_typeid)!s}, not dict")
            exposed += method_to_typeid
        ident = f"{id(obj):x}"
        util.debug("%r callable returned object with id %r", typeid, ident)
        with self.mutex:
            self.id_to_obj[ident] = (obj, set(exposed), method_to_typeid)
            self.id_to_refcount.setdefault(ident, 0)
            self._add(c, ident)
        return ident, tuple(exposed)

    def incref(self, c, ident):
        """Note that a client has one more proxy of an object."""
        with self.mutex:
            self._add(c, ident)

    def _add(self, c, ident):
        self.id_to_refcount[ident] += 1
        if isinstance(c, _procession.Line):
            self._held.setdefault(c.peer, Counter())[ident] += 1

    def decref(self, c, ident):
        """Note that a client has one proxy less of an object."""
        with self.mutex:
            if isinstance(c, _procession.Line) and c.peer in self._held:
                self._held[c.peer][ident] -= 1
            gone = self._subtract(ident)
        # What is in it goes here: it may contain proxies of other objects of ours.
        del gone

    def _subtract(self, ident, number=1):
        """Under the lock: drop references to an object; the object, if those were the last."""
        if ident not in self.id_to_refcount:
            raise AssertionError(f"Id {ident} has no references, and {number} shall be dropped")
        left = self.id_to_refcount[ident] = self.id_to_refcount[ident] - number
        if left > 0:
            return None
        del self.id_to_refcount[ident]
        util.debug("disposing of obj with id %r", ident)
        return self.id_to_obj.pop(ident)

    def hold_for_ticket(self, c, ident, ticket):
        """Keep an object while a message, or anybody else, holds the ticket."""
        with self.mutex:
            self._add(None, ident)
            self._tickets[ticket] = ident

    def _let_go(self):
        """Drop the references of processes that have ended, of messages that have arrived and of what itself is gone."""
        while gone := self._take_gone():
            # What was in it may be gone with it.
            gone.clear()

    def _take_gone(self):
        with self.mutex:
            ended = [peer for peer in self._held if not _procession.is_there(peer)]
            references = [item for peer in ended for item in self._held.pop(peer).items() if item[1] > 0]
            used = [ticket for ticket in self._tickets if not _is_held(ticket)]
            references += [(self._tickets.pop(ticket), 1) for ticket in used]
            while self._dropped:
                references.append((self._dropped.popleft(), 1))
            return [self._subtract(*reference) for reference in references]

    def number_of_objects(self, c):
        """Return how many objects there are."""
        self._let_go()
        return len(self.id_to_refcount)

    def debug_info(self, c):
        """Return a list of the objects, as text."""
        self._let_go()
        return super().debug_info(c)


def _is_held(ticket):
    try:
        _procession.SharedMemory.by_name(ticket)
    except (ValueError, OSError):
        return False
    return True


class _SegmentTracker(_stdlib._SharedMemoryTracker):
    def destroy_segment(self, segment_name):
        util.debug("Destroy segment %r in pid %d", segment_name, os.getpid())
        self.segment_names.remove(segment_name)
        segment = shared_memory.SharedMemory(segment_name)
        segment.close()
        segment.unlink()


class SharedMemoryServer(Server):
    """A server that also removes shared memory when it ends."""

    public = [*Server.public, "track_segment", "release_segment", "list_segments"]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # The address of an abstract socket can be bytes.
        address = os.fsdecode(self.address) if isinstance(self.address, bytes) else self.address
        self.shared_memory_context = _SegmentTracker(f"shm_{address}_{os.getpid()}", [])

    def create(self, c, typeid, /, *args, **kwargs):
        """Make an object; one whose proxies want that is given the tracker."""
        if hasattr(self.registry[typeid][-1], "_shared_memory_proxy"):
            kwargs["shared_memory_context"] = self.shared_memory_context
        return super().create(c, typeid, *args, **kwargs)

    def shutdown(self, c):
        """Remove all shared memory, and stop serving."""
        self.shared_memory_context.unlink()
        super().shutdown(c)

    def _end(self):
        self.shared_memory_context.unlink()

    def track_segment(self, c, segment_name):
        """Remove shared memory of that name at the end."""
        self.shared_memory_context.register_segment(segment_name)

    def release_segment(self, c, segment_name):
        """Remove shared memory now."""
        self.shared_memory_context.destroy_segment(segment_name)

    def list_segments(self, c):
        """Return the names of the shared memory that is to be removed."""
        return self.shared_memory_context.segment_names
