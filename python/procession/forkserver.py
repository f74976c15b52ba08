"""The forkserver: a fresh interpreter that is kept warm, the *template*, and always one fork of it, the *spare*, that is ready for an order.

Each process that needs one has a template of its own, started like a spawned child, with one end of a socket pair. It imports what shall be preloaded and forks the spare, which says
that it is ready and sleeps on the socket. The spare is a child of *ours*, not the template's (`CLONE_PARENT`): we wait for it as for any other, nobody relays its exit code. A start
sends it one message, its pid, the name of a mail queue, and descriptors, and so waits for no fork unless the last start was just now. When the spare has its order it rings, and the template forks the next.

A process with several threads cannot be forked like that, and preloaded modules may start some. Then the template forks as usual and passes the exit code on.

When one of them dies:

- The template: we see it at the next start, kill the spare, and start a new template.
- The spare, before it has its order: the template tells us its pid, so that we reap it, and ends. An order that was sent meanwhile is a process that was killed before it came up:
  it names the pid that it is for, so nobody else takes it.
- Later it is a child that died. If it was relayed and the template has died, nobody knows its exit code: 255.
- We: the others find our end of the socket closed, or, if somebody has a copy of it, our pidfd readable, and end.
"""

import contextlib
import errno
import gc
import os
import select
import signal
import socket
import struct
import threading
import traceback
import warnings

from . import _procession, popen_fork, process, spawn, util

__all__ = ["connect_to_new_process", "ensure_running", "get_inherited_fds", "set_forkserver_preload"]

# The kernel passes at most 253 descriptors with a message.
MAXFDS_TO_SEND = 252
# Up the socket: the pid of a spare and 0; or 0, and why there is none.
_NEWS = struct.Struct("ii")
# Down the socket: for whom, and the name of the mail queue.
_ORDER = struct.Struct("i32s")
_EXIT_CODE = struct.Struct("i")
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
        self._mail = None
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
            mail: Name of the queue.

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
                        return spare
                except BaseException:
                    # Who knows what has been read and written.
                    self._bury()
                    raise
                self._bury()
        raise ChildProcessError("the forkserver dies whenever it is asked for a process")

    def _hand_over(self, mail, fds):
        spare = self._next_spare()
        if spare is None:
            return None
        pid, sentinel, exit_code_fd = spare
        try:
            socket.send_fds(self._socket, [_ORDER.pack(pid, mail)], fds)
        except ConnectionError:
            popen_fork.kill(sentinel)
            popen_fork.close_fds([sentinel] if exit_code_fd is None else [sentinel, exit_code_fd])
            return None
        return spare

    def _next_spare(self):
        while True:
            news, fds = _receive(self._socket, _NEWS.size, 2)
            if not news:
                return None
            pid, error = _NEWS.unpack(news)
            if error:
                raise OSError(error, os.strerror(error))
            sentinel, exit_code_fd = fds or (popen_fork.open_sentinel(pid), None)
            if not popen_fork.is_ready(sentinel, 0):
                return pid, sentinel, exit_code_fd
            popen_fork.reap(sentinel)
            popen_fork.close_fds(fds or [sentinel])

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
                pid = spawn.execute([theirs.fileno()], mail=mail.name, socket=theirs.fileno())
            self._sentinel = popen_fork.open_sentinel(pid)
        except BaseException:
            ours.close()
            raise
        self._socket, self._mail, self._forkserver_pid = ours, mail, pid

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
        """End and reap the template, and its spare."""
        popen_fork.kill(self._sentinel)
        self._socket.setblocking(False)
        try:
            while news := self._socket.recv(_NEWS.size):
                pid, _ = _NEWS.unpack(news)
                if pid:
                    sentinel = popen_fork.open_sentinel(pid)
                    popen_fork.kill(sentinel)
                    os.close(sentinel)
        except (BlockingIOError, ConnectionError):
            pass
        self._forget()

    def _forget(self):
        if self._forkserver_pid is not None:
            self._socket.close()
            os.close(self._sentinel)
        self._socket = self._sentinel = self._mail = self._forkserver_pid = None

    def _after_fork(self):
        # The template is our parent's, and so are the threads that may have held the lock.
        self._lock = threading.Lock()
        self._forget()


def main(mail, connection):
    """Be the template.

    Args:
        mail: Queue with what to preload.
        connection: Descriptor of our end of the socket pair.
    """
    handlers = {
        # For our parent and its children only.
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        # Or nobody would learn how relayed children end.
        signal.SIGCHLD: signal.signal(signal.SIGCHLD, signal.SIG_DFL),
    }
    # Whoever started us may have blocked all signals. The children have masks of their own.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _forkserver._preload_modules, data, by_main_thread = mail.get(False)
    _preload(_forkserver._preload_modules, data)
    del mail
    util._close_stdin()
    util._flush_std_streams()
    with socket.socket(fileno=connection) as connection:
        _Template(connection, handlers, by_main_thread).serve()


def _preload(names, data):
    process.current_process()._inheriting = True
    try:
        spawn.prepare(data)
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

    def __init__(self, connection, handlers, by_main_thread):
        self.connection = connection
        self.handlers = handlers
        self.by_main_thread = by_main_thread
        self.parent = popen_fork.open_sentinel(os.getppid())
        self.taken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Of our own children: sentinel -> descriptor to write the exit code to.
        self.relayed = {}

    def serve(self):
        """Keep a spare until the parent is gone. The spares end in here."""
        poll = select.poll()
        poll.register(self.parent, select.POLLIN)
        poll.register(self.taken, select.POLLIN)
        # Only whether it is closed: what comes in is for the spare.
        poll.register(self.connection, select.POLLRDHUP)
        gc.collect()
        gc.freeze()
        running = True
        while running:
            try:
                spare, pid = self.fork()
            except OSError as error:
                self.tell(0, error.errno or errno.EAGAIN)
                return
            poll.register(spare, select.POLLIN)
            running = self.wait_until_taken(poll, spare, pid)
            if spare not in self.relayed:
                poll.unregister(spare)
                os.close(spare)

    def wait_until_taken(self, poll, spare, pid):
        """Return whether another spare is needed."""
        while True:
            ready = {fd for fd, _ in poll.poll()}
            for sentinel in ready & self.relayed.keys() - {spare}:
                poll.unregister(sentinel)
                self.tell_exit_code(sentinel)
            # First: it may have taken its order and have ended since.
            if self.is_taken():
                return True
            if spare in ready:
                self.tell(pid, 0)
                return False
            if self.parent in ready or self.connection.fileno() in ready:
                return False

    def is_taken(self):
        try:
            return os.eventfd_read(self.taken) > 0
        except BlockingIOError:
            return False

    def fork(self):
        """Fork a spare; its sentinel and pid."""
        try:
            pid = _procession.fork_sibling()
        except OSError:
            return self.fork_relayed()
        if pid == 0:
            popen_fork.run_child(self.stand_by)
        return popen_fork.open_sentinel(pid), pid

    def fork_relayed(self):
        result, to_write = os.pipe()
        try:
            with warnings.catch_warnings():
                # That there are threads is known.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                os.close(to_write)
                popen_fork.run_child(lambda: self.stand_by([os.pidfd_open(os.getpid()), result]))
        except BaseException:
            os.close(to_write)
            raise
        finally:
            os.close(result)
        sentinel = popen_fork.open_sentinel(pid)
        self.relayed[sentinel] = to_write
        return sentinel, pid

    def tell_exit_code(self, sentinel):
        to_write = self.relayed.pop(sentinel)
        code = popen_fork.reap(sentinel)
        # Unless nobody wants to know.
        with contextlib.suppress(BrokenPipeError):
            os.write(to_write, _EXIT_CODE.pack(code))
        popen_fork.close_fds([sentinel, to_write])

    def tell(self, pid, error, fds=()):
        # Unless the parent is gone.
        with contextlib.suppress(ConnectionError):
            socket.send_fds(self.connection, [_NEWS.pack(pid, error)], fds)

    def stand_by(self, relay=()):
        """In the spare: do what is ordered; the exit code."""
        self.tell(os.getpid(), 0, relay)
        popen_fork.close_fds(relay)
        for fds in self.relayed.items():
            popen_fork.close_fds(fds)
        order = self.wait_for_order()
        if order is None:
            return 0
        os.eventfd_write(self.taken, 1)
        os.close(self.taken)
        self.connection.close()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        mail, _forkserver._inherited_fds = order
        return spawn._main(_procession.Queue.by_name(mail), self.parent, self.by_main_thread)

    def wait_for_order(self):
        """Return the name of the mail queue and descriptors; `None`: the parent is gone."""
        poll = select.poll()
        poll.register(self.parent, select.POLLIN)
        poll.register(self.connection, select.POLLIN)
        while True:
            if self.connection.fileno() not in {fd for fd, _ in poll.poll()}:
                return None
            order, fds = _receive(self.connection, _ORDER.size, MAXFDS_TO_SEND)
            if not order:
                return None
            pid, mail = _ORDER.unpack(order)
            if pid == os.getpid():
                return mail.decode(), fds
            popen_fork.close_fds(fds)


def _receive(connection, size, max_fds):
    """Receive a message and descriptors; an empty one: the other side is gone."""
    try:
        message, fds, _, _ = socket.recv_fds(connection, size, max_fds, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        # It has left something unread.
        return b"", []
    return message, fds


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
