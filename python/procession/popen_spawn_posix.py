"""Starting processes as fresh interpreters."""

from . import _procession, popen_fork, spawn, util
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

    What it needs is put into a queue of its own in shared memory, `_mail`, that lives as long as this object: nothing is written to a pipe that nobody may read.
    """

    method = "spawn"
    DupFd = _DupFd

    def __init__(self, process_obj):
        self._fds = []
        self._mail = _procession.Queue()
        super().__init__(process_obj)

    def duplicate_for_child(self, fd):
        """Have the child inherit a descriptor."""
        self._fds.append(fd)
        return fd

    def _launch(self, process_obj):
        set_spawning_popen(self)
        try:
            self._mail.put(spawn.get_preparation_data(process_obj._name))
            self._mail.put(process_obj)
        finally:
            set_spawning_popen(None)
        place = _procession.Place()
        command = spawn.get_command_line(
            invitation=place.invitation,
            mail=self._mail.name,
            **spawn.tracker_to_share(self._fds),
        )
        self.pid = util.spawnv_passfds(spawn.get_executable(), command, [place.fd, *self._fds])
        place.taken_by(self.pid)
        self._watch()
