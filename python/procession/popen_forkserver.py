"""Starting processes by asking the forkserver."""

import os
import threading

from . import forkserver, popen_fork, popen_spawn_posix

__all__ = ["Popen"]


class _DupFd:
    """A descriptor that comes with the request, known by its place among them."""

    def __init__(self, index):
        self.index = index

    def detach(self):
        return forkserver.get_inherited_fds()[self.index]


class Popen(popen_spawn_posix.Popen):
    """A process that was forked from the template."""

    method = "forkserver"
    DupFd = _DupFd

    def duplicate_for_child(self, fd):
        """Have a copy of a descriptor sent to the child."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj):
        mail = self._write_mail(process_obj)
        self.pid, sentinel, self._exit_code_fd = forkserver.connect_to_new_process(self._fds, mail.name)
        if self._exit_code_fd is None:
            self._watch(sentinel)
        else:
            self._reading, self._reader = threading.Lock(), os.getpid()
            self._watch(sentinel, self._exit_code_fd)

    def _find_out(self):
        if self._exit_code_fd is None:
            super()._find_out()
            return
        if self._reader != os.getpid():
            # A forked child: its parent would not get what is read here.
            return
        popen_fork.is_ready(self.sentinel, None)
        with self._reading:
            if self.returncode is None:
                self.returncode = forkserver.read_exit_code(self._exit_code_fd)
