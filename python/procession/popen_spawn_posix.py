"""Starting processes as fresh interpreters."""

import _signal
import os
import sys

from . import _child, _procession, popen_fork, spawn
from .context import set_spawning_popen

__all__ = ["Popen"]


class _DupFd:
    """A descriptor that the child inherits under its own number."""

    def __init__(self, fd):
        self.fd = fd

    def detach(self):
        return self.fd


class Popen(popen_fork.Popen):
    """A process that was started by spawn.

    What it needs is put into a queue of its own in shared memory, its mail: nothing is written to a pipe that nobody may read. Once it is started it alone holds the mail, and what
    the mail holds: if it dies before it has read it, that goes with it.
    """

    method = "spawn"
    DupFd = _DupFd

    def __init__(self, process_obj):
        self._fds = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd):
        """Have the child inherit a descriptor."""
        self._fds.append(fd)
        return fd

    def _launch(self, process_obj):
        self.pid = spawn.execute(self._fds, self._write_mail(process_obj))
        self._watch(_child.open_sentinel(self.pid))

    def _write_mail(self, process_obj):
        mail = _procession.Queue()
        set_spawning_popen(self)
        try:
            data = spawn.get_preparation_data(process_obj._name)
            # Whatever the mask of the interpreter that it comes up in: the child's is that of the thread which starts it, as if it were forked.
            mask = tuple(_signal.pthread_sigmask(_signal.SIG_BLOCK, ()))
            by_main_thread = popen_fork.is_main_thread()
            mail.put((os.getpid(), process_obj.daemon, by_main_thread, mask, self._tracker(), data))
            mail.put(process_obj)
        finally:
            set_spawning_popen(None)
        return mail

    def _tracker(self):
        """Let the child share the resource tracker of `multiprocessing`, if one runs: for users of shared memory that has a name. Nothing else needs one."""
        popen_fork.share_tracker()
        tracker = sys.modules.get("multiprocessing.resource_tracker")
        fd = tracker and tracker._resource_tracker._fd
        return None if fd is None else self.duplicate_for_child(fd)
