"""Starting processes by fork, and what all start methods do with a started process."""

import os
from multiprocessing import popen_fork as _stdlib

from . import context, util

__all__ = ["Popen"]


class Popen(_stdlib.Popen):
    """A process that was started.

    Its sentinel is a pidfd, which no other child can inherit by accident: it becomes readable when *this* process ends, whatever happens to others.
    """

    method = "fork"

    def _launch(self, process_obj):
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            context.run_child(process_obj, parent)
        self._watch()

    def _watch(self):
        """Open the sentinel."""
        self.sentinel = context.parent_sentinel(self.pid)
        self.finalizer = util.Finalize(self, util.close_fds, (self.sentinel,))
