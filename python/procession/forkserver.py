"""The forkserver: a fresh interpreter that is kept warm, the *template*, and forks whenever a process is wanted.

Each process that needs one has a template of its own, started like a spawned child, with one end of a socket pair. It imports what shall be preloaded; then, for each request (the name
of a mail queue, descriptors) it forks. The new process is a child of *ours*, not the template's (`CLONE_PARENT`): we wait for it as for any other, nobody relays its exit code. It
answers the request itself, before it takes its mail.

A process with several threads cannot be forked like that, and preloaded modules may start some. Then the template forks as usual and passes the exit code on.

When one of them dies:

- The template: its end of the socket is closed when nobody is left who could answer. So the end of file without an answer says that nobody has taken or will take the mail, and a
  new template is asked.
- The child: before it answered, as above; later, it is a child that died. If it was relayed and the template has died, nobody knows its exit code: 255.
- We: the template finds our end of the socket closed, or, if somebody has a copy of it, our pidfd readable.
"""

import errno
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
# The name of a mail queue.
_REQUEST_SIZE = 32
# What a new process answers: its pid and 0; or the template: 0 and why it could not fork.
_ANSWER = struct.Struct("ii")
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
        """Have a process forked.

        Args:
            fds: Descriptors that it gets copies of; see `get_inherited_fds`.
            mail: Name of the queue with what it has to do.

        Returns:
            Its pid; and, unless it is our child, its sentinel and a descriptor from which its exit code can be read.
        """
        if len(fds) > MAXFDS_TO_SEND:
            raise ValueError("too many fds")
        with self._lock:
            for _ in range(_ATTEMPTS):
                self._ensure_running()
                answer, relay = self._ask(mail.encode(), fds)
                if answer:
                    break
                self._bury()
        if not answer:
            raise ChildProcessError("the forkserver dies whenever it is asked for a process")
        pid, error = _ANSWER.unpack(answer)
        if error:
            raise OSError(error, os.strerror(error))
        return pid, relay

    def _ask(self, request, fds):
        try:
            socket.send_fds(self._socket, [request], fds)
            answer, relay, _, _ = socket.recv_fds(self._socket, _ANSWER.size, 2, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return b"", []
        except BaseException:
            # The answer may still come, and nobody would know whose it is.
            self._bury()
            raise
        return answer, relay

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
        """End and reap the template, and whoever answers a request that was given up."""
        popen_fork.kill(self._forkserver_pid, self._sentinel)
        try:
            while answer := self._socket.recv(_ANSWER.size):
                pid, _ = _ANSWER.unpack(answer)
                if pid:
                    sentinel = popen_fork.open_sentinel(pid)
                    popen_fork.kill(pid, sentinel)
                    os.close(sentinel)
        except ConnectionError:
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


def main(mail, connection, unblock):
    """Be the template.

    Args:
        mail: Queue with what to preload.
        connection: Descriptor of our end of the socket pair.
        unblock: Whether Ctrl-C, blocked while the interpreter started, is for the children.
    """
    handlers = {
        # For our parent and its children only.
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        # Or nobody would learn how relayed children end.
        signal.SIGCHLD: signal.signal(signal.SIGCHLD, signal.SIG_DFL),
    }
    if unblock:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
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
        # Of our own children: sentinel -> pid, descriptor to write the exit code to.
        self.relayed = {}
        self.poll = select.poll()

    def serve(self):
        """Fork as often as it is asked for, until the parent is gone. The children end in here."""
        self.poll.register(self.connection, select.POLLIN)
        self.poll.register(self.parent, select.POLLIN)
        while True:
            for fd, _ in self.poll.poll():
                if fd in self.relayed:
                    self.tell_exit_code(fd)
                elif fd == self.parent or not self.take_request():
                    return

    def take_request(self):
        request, fds, _, _ = socket.recv_fds(
            self.connection, _REQUEST_SIZE, MAXFDS_TO_SEND, socket.MSG_CMSG_CLOEXEC
        )
        if not request:
            return False
        try:
            self.fork(request.decode(), fds)
        except OSError as error:
            self.answer(0, error.errno or errno.EAGAIN)
        popen_fork.close_fds(fds)
        return True

    def fork(self, mail, fds):
        # From here on the new process, too, holds its mail.
        mail = _procession.Queue.by_name(mail)
        try:
            pid = _procession.fork_sibling()
        except OSError:
            self.fork_relayed(mail, fds)
            return
        if pid == 0:
            popen_fork.run_child(lambda: self.be_child(mail, fds, []))

    def fork_relayed(self, mail, fds):
        result, to_write = os.pipe()
        try:
            with warnings.catch_warnings():
                # That there are threads is not the user's doing.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                os.close(to_write)
                popen_fork.run_child(lambda: self.be_child(mail, fds, [os.pidfd_open(os.getpid()), result]))
        except BaseException:
            os.close(to_write)
            raise
        finally:
            os.close(result)
        sentinel = popen_fork.open_sentinel(pid)
        self.relayed[sentinel] = pid, to_write
        self.poll.register(sentinel, select.POLLIN)

    def tell_exit_code(self, sentinel):
        pid, to_write = self.relayed.pop(sentinel)
        self.poll.unregister(sentinel)
        code = popen_fork.reap(pid, sentinel)
        try:
            os.write(to_write, _EXIT_CODE.pack(code))
        except BrokenPipeError:
            # Nobody wants to know.
            pass
        popen_fork.close_fds([sentinel, to_write])

    def be_child(self, mail, fds, relay):
        """In a forked process: do what is in the mail; the exit code."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.answer(os.getpid(), 0, relay)
        self.connection.close()
        popen_fork.close_fds(relay)
        for sentinel, (_, to_write) in self.relayed.items():
            popen_fork.close_fds([sentinel, to_write])
        _forkserver._inherited_fds = fds
        return spawn._main(mail, self.parent, self.by_main_thread)

    def answer(self, pid, error, fds=()):
        try:
            socket.send_fds(self.connection, [_ANSWER.pack(pid, error)], fds)
        except ConnectionError:
            # The parent is gone.
            pass


def read_exit_code(fd):
    """Read the exit code of a relayed process that has ended; 255 if it is not known."""
    data = os.read(fd, _EXIT_CODE.size)
    return _EXIT_CODE.unpack(data)[0] if data else 255


_forkserver = ForkServer()
os.register_at_fork(after_in_child=_forkserver._after_fork)
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
connect_to_new_process = _forkserver.connect_to_new_process
set_forkserver_preload = _forkserver.set_forkserver_preload
