"""The forkserver: a fresh interpreter that is kept warm, the *template*, and forks of it, the *spares*, that are ready for an order.

Each process that needs one has a template of its own, started like a spawned child, with one end of a socket pair, the *line*. It imports what shall be preloaded, and forks a spare for each
byte that comes down the line. Up goes news of it: its pid, and our end of the spare's own socket pair. The line keeps the news until we need a spare. The spare is a child of *ours*, not the template's (`CLONE_PARENT`): we wait for
it as for any other, nobody relays its exit code. A start takes the oldest spare, asks for another one, and sends its order: the name of a mail queue, and descriptors. So it waits for no
fork unless many were started just now, and forks, and what a fork does before it can take an order, go on while we and the process do something else.

A process with several threads cannot be forked like that, and preloaded modules may start some. Then the template forks as usual and passes the exit code on.

When one of them dies:

- The template: we see it at the next start, kill the spares, and start a new template. A spare of which it had not told us yet finds nobody at the other end, tells us its pid, and ends.
- A spare, before it has taken its order: its end of the socket pair is closed, with the order unread (the kernel says so: `ECONNRESET`), and another spare gets it. A start has an end
  only when a spare has read the order, has opened the mail, and has closed its socket to say so.
- Later it is a child that died. If it was relayed and the template has died, nobody knows its exit code: 255.
- We: the others find our end of their sockets closed, or, if somebody has a copy of it, our pidfd readable, and end.
"""

import _signal
import contextlib
import errno
import gc
import os
import select
import socket
import struct
import threading
import traceback
import warnings

from . import _child, _procession, _spawned, popen_fork, process, spawn

__all__ = ["connect_to_new_process", "ensure_running", "get_inherited_fds", "set_forkserver_preload"]

# The kernel passes at most 253 descriptors with a message.
MAXFDS_TO_SEND = 252
# Up the line: the pid of a spare and 0; or 0, and why there is none.
_NEWS = struct.Struct("ii")
# Its descriptors: our end of the spare's socket; its sentinel, and what its exit code is read from, unless it is our child.
_MAX_NEWS_FDS = 3
# Down the line.
_WANTED = b"+"
# To a spare: the name of the mail queue.
_MAX_ORDER = 64
_FD_SIZE = struct.calcsize("i")
_EXIT_CODE = struct.Struct("i")
# So many are ready: while one runs the next is made, by another processor.
_SPARES = 2
# So many templates in a row may die.
_ATTEMPTS = 3
# So many seconds a template may take to end in order.
_GRACE = 5


class ForkServer:
    """The template of this process, from its parent's side."""

    def __init__(self):
        self._forkserver_pid = None
        self._inherited_fds = None
        self._preload_modules = ["__main__"]
        self._socket = None
        self._sentinel = None
        self._lock = threading.Lock()

    def set_forkserver_preload(self, modules_names):
        """Set the modules that the template tries to import before it forks."""
        if not all(type(name) is str for name in modules_names):
            raise TypeError("module_names must be a list of strings")
        self._preload_modules = modules_names

    def get_inherited_fds(self):
        """Return the descriptors that came with the request for this process; `None` if no forkserver made it."""
        return self._inherited_fds

    def ensure_running(self):
        """Start the template, unless it runs."""
        with self._lock:
            self._ensure_running()

    def connect_to_new_process(self, fds, mail):
        """Have a process do what is in a mail queue.

        Args:
            fds: Descriptors that it gets copies of; see `get_inherited_fds`.
            mail: Name of the queue, which the process holds from now on.

        Returns:
            Its pid; its sentinel; and, unless it is our child, a descriptor from which its exit code can be read, else `None`.
        """
        if len(fds) > MAXFDS_TO_SEND:
            raise ValueError("too many fds")
        with self._lock:
            for _ in range(_ATTEMPTS):
                self._ensure_running()
                try:
                    if spare := self._hand_over(mail.encode(), fds):
                        return spare.pid, spare.sentinel, spare.exit_code_fd
                except BaseException:
                    # Who knows what has been read and written.
                    self._bury()
                    raise
                self._bury()
        raise ChildProcessError("the forkserver dies whenever it is asked for a process")

    def _hand_over(self, mail, fds):
        """Find a spare that takes the order; `None`: the template is gone."""
        while spare := self._take_spare():
            try:
                if spare.takes(mail, fds):
                    return spare
            except BaseException:
                spare.discard()
                raise
            spare.discard()
        return None

    def _take_spare(self):
        """Return the oldest spare, and have the template make another one; `None`: the template is gone."""
        # The line holds the news of the others.
        with contextlib.suppress(ConnectionError):
            self._socket.send(_WANTED)
        poll = select.poll()
        poll.register(self._sentinel, select.POLLIN)
        poll.register(self._socket, select.POLLIN)
        if self._socket.fileno() not in {fd for fd, _ in poll.poll()}:
            return None
        return self._read_news()

    def _read_news(self):
        news, fds = _receive(self._socket, _NEWS.size, _MAX_NEWS_FDS)
        if not news:
            return None
        pid, error = _NEWS.unpack(news)
        if error:
            raise OSError(error, os.strerror(error))
        return _Spare(pid, *fds)

    def _ensure_running(self):
        if self._forkserver_pid is not None:
            if not popen_fork.is_ready(self._sentinel, 0):
                return
            self._bury()
        self._launch()

    def _launch(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Whatever default timeout the program has set for sockets.
        ours.settimeout(None)
        mail = _procession.Queue()
        try:
            with theirs:
                mail.put((self._preload_modules, self._preparation_data(), popen_fork.is_main_thread()))
                for _ in range(_SPARES):
                    ours.send(_WANTED)
                pid = spawn.execute([theirs.fileno()], mail, socket=theirs.fileno())
            self._sentinel = _child.open_sentinel(pid)
        except BaseException:
            ours.close()
            raise
        self._socket, self._forkserver_pid = ours, pid

    def _preparation_data(self):
        wanted = {"sys_path"}
        if "__main__" in self._preload_modules:
            wanted |= {"sys_argv", "init_main_from_name", "init_main_from_path"}
        data = spawn.get_preparation_data("forkserver")
        return {key: value for key, value in data.items() if key in wanted}

    def _stop(self):
        """End the template."""
        with self._lock:
            if self._forkserver_pid is not None:
                self._socket.shutdown(socket.SHUT_WR)
                popen_fork.is_ready(self._sentinel, _GRACE)
                self._bury()

    def _bury(self):
        """End and reap the template, and its spares."""
        popen_fork.kill(self._sentinel)
        # A spare of which it had not told us yet finds that out, and tells us itself. The line ends when there is none.
        self._socket.settimeout(_GRACE)
        with contextlib.suppress(OSError):
            while spare := self._read_news():
                spare.discard()
        self._forget()

    def _forget(self):
        if self._forkserver_pid is not None:
            self._socket.close()
            os.close(self._sentinel)
        self._socket = self._sentinel = self._forkserver_pid = None

    def _after_fork(self):
        # The template is our parent's, and so are the threads that may have held the lock.
        self._lock = threading.Lock()
        self._forget()


class _Spare:
    """A fork of the template that waits for its order, from our side."""

    def __init__(self, pid, connection=None, sentinel=None, exit_code_fd=None):
        self.pid = pid
        # One without a connection has told us itself that it ends.
        self.connection = connection and socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=connection)
        self.sentinel = _child.open_sentinel(pid) if sentinel is None else sentinel
        self.exit_code_fd = exit_code_fd

    def takes(self, mail, fds):
        """Give it an order; say whether it has read it, and not died before."""
        if self.connection is None:
            return False
        with self.connection:
            self.connection.settimeout(None)
            try:
                if fds:
                    socket.send_fds(self.connection, [mail], fds)
                else:
                    self.connection.send(mail)
                self.connection.recv(1)
            except ConnectionError:
                return False
        return True

    def discard(self):
        """End it; nobody wants it."""
        popen_fork.kill(self.sentinel)
        self.close()

    def close(self):
        """Close its descriptors."""
        if self.connection is not None:
            self.connection.close()
        popen_fork.close_fds([self.sentinel] if self.exit_code_fd is None else [self.sentinel, self.exit_code_fd])


def main(mail, connection):
    """Be the template.

    Args:
        mail: Queue with what to preload.
        connection: Descriptor of our end of the socket pair.
    """
    handlers = {
        # For our parent and its children only.
        _signal.SIGINT: _signal.signal(_signal.SIGINT, _signal.SIG_IGN),
        # Or nobody would learn how relayed children end.
        _signal.SIGCHLD: _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL),
    }
    # Whoever started us may have blocked all signals. The children have masks of their own.
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    _forkserver._preload_modules, data, by_main_thread = mail.get(False)
    _preload(_forkserver._preload_modules, data)
    del mail
    _child.reopen_stdin()
    _child.flush()
    with socket.socket(fileno=connection) as connection:
        _Template(connection, handlers, by_main_thread).serve()


def _preload(names, data):
    process.current_process()._inheriting = True
    try:
        _spawned.prepare(data)
    except (Exception, SystemExit):
        # The child that needs the main module will say so.
        pass
    finally:
        del process.current_process()._inheriting
    for name in names:
        try:
            __import__(name)
        except ImportError:
            pass
        except Exception:
            traceback.print_exc()


class _Template:
    """The template, from its own side."""

    def __init__(self, line, handlers, by_main_thread):
        self.line = line
        self.handlers = handlers
        self.by_main_thread = by_main_thread
        self.parent = _child.open_sentinel(os.getppid())
        # Of our own children: sentinel -> descriptor to write the exit code to.
        self.relayed = {}

    def serve(self):
        """Fork spares until the parent is gone. The spares end in here."""
        poll = self.poll = select.poll()
        poll.register(self.parent, select.POLLIN)
        poll.register(self.line, select.POLLIN)
        gc.collect()
        gc.freeze()
        while True:
            ready = {fd for fd, _ in poll.poll()}
            for sentinel in ready & self.relayed.keys():
                self.tell_exit_code(sentinel)
            if self.parent in ready:
                return
            if self.line.fileno() in ready and not self.make_spare():
                return

    def make_spare(self):
        """Fork a spare, if the parent is there; say whether it is."""
        try:
            if not self.line.recv(1):
                return False
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, theirs:
                return self.fork(ours, theirs)
        except ConnectionError:
            return False
        except OSError as error:
            return self.tell(0, error.errno or errno.EAGAIN)

    def fork(self, ours, theirs):
        """Fork a spare, and tell the parent; say whether it is there."""
        try:
            pid = popen_fork.fork(_procession.fork_sibling)
        except OSError:
            return self.fork_relayed(ours, theirs)
        if pid == 0:
            _child.run(lambda: self.stand_by(ours, theirs))
        return self.tell(pid, 0, [theirs.fileno()])

    def fork_relayed(self, ours, theirs):
        result, to_write = os.pipe()
        try:
            with warnings.catch_warnings():
                # That there are threads is known.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = popen_fork.fork(os.fork)
            if pid == 0:
                _child.run(lambda: self.stand_by(ours, theirs, [result, to_write]))
            sentinel = _child.open_sentinel(pid)
        except BaseException:
            popen_fork.close_fds([result, to_write])
            raise
        self.relayed[sentinel] = to_write
        self.poll.register(sentinel, select.POLLIN)
        try:
            return self.tell(pid, 0, [theirs.fileno(), sentinel, result])
        finally:
            os.close(result)

    def tell_exit_code(self, sentinel):
        self.poll.unregister(sentinel)
        to_write = self.relayed.pop(sentinel)
        code = popen_fork.reap(sentinel)
        # Unless nobody wants to know.
        with contextlib.suppress(BrokenPipeError):
            os.write(to_write, _EXIT_CODE.pack(code))
        popen_fork.close_fds([sentinel, to_write])

    def tell(self, pid, error, fds=()):
        """Send news; say whether the parent is there."""
        try:
            socket.send_fds(self.line, [_NEWS.pack(pid, error)], fds)
        except ConnectionError:
            return False
        return True

    def stand_by(self, ours, theirs, others=()):
        """In the spare: do what is ordered; the exit code."""
        theirs.close()
        popen_fork.close_fds(others)
        for fds in self.relayed.items():
            popen_fork.close_fds(fds)
        order = self.wait_for_order(ours)
        if order is None:
            # If the template has died before it could tell who we are, this does.
            self.tell(os.getpid(), 0)
            return 0
        mail, _forkserver._inherited_fds = order
        mail = _procession.Queue.by_name(mail)
        # This says that we have it: nobody else holds the mail from now on.
        ours.close()
        self.line.close()
        for number, handler in self.handlers.items():
            _signal.signal(number, handler)
        return _spawned.main(mail, self.parent, self.by_main_thread, order[1])

    def wait_for_order(self, ours):
        """Return the name of the mail queue and descriptors; `None`: the parent is gone."""
        poll = select.poll()
        poll.register(self.parent, select.POLLIN)
        poll.register(ours, select.POLLIN)
        if ours.fileno() not in {fd for fd, _ in poll.poll()}:
            return None
        order, fds = _receive(ours, _MAX_ORDER, MAXFDS_TO_SEND)
        return (order.decode(), fds) if order else None


def _receive(connection, size, max_fds):
    """Receive a message and descriptors; an empty one: the other side is gone."""
    room = socket.CMSG_LEN(max_fds * _FD_SIZE)
    while True:
        try:
            message, ancillary, _, _ = connection.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            # It has left something unread, which we are told once, and before what it sent.
            continue
        return message, [fd for _, _, data in ancillary for fd in _unpack(data)]


def _unpack(data):
    return struct.unpack(f"{len(data) // _FD_SIZE}i", data[: len(data) // _FD_SIZE * _FD_SIZE])


def read_exit_code(fd):
    """Wait for the exit code of a relayed process that has ended."""
    data = os.read(fd, _EXIT_CODE.size)
    return _EXIT_CODE.unpack(data)[0] if data else popen_fork.UNKNOWN


_forkserver = ForkServer()
os.register_at_fork(after_in_child=_forkserver._after_fork)
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
connect_to_new_process = _forkserver.connect_to_new_process
set_forkserver_preload = _forkserver.set_forkserver_preload
