"""Starting processes by fork, and what all start methods do with a started process."""

import _signal
import contextlib
import os
import select
import signal
import sys
import threading
from multiprocessing import popen_fork as _stdlib

from . import _child, _procession, process, util

__all__ = ["Popen"]

# Exit code of a process of which nobody knows how it ended.
UNKNOWN = 255


class Popen(_stdlib.Popen):
    """A process that was started.

    Its sentinel is a pidfd, which no other child can inherit by accident: it becomes readable when *this* process ends, whatever happens to others.
    """

    method = "fork"

    def _launch(self, process_obj):
        share_tracker()
        parent, by_main_thread = os.getpid(), is_main_thread()
        _child.prepare_stdin()
        # Until the child is a process of its own, Ctrl-C is not for it: it would do what its parent wanted done.
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGINT})
        try:
            self.pid = fork(os.fork)
            if self.pid == 0:
                _child.run(lambda: be(process_obj, _child.open_sentinel(parent), by_main_thread, mask))
            _procession.forked_as(self.pid)
            self._watch(_child.open_sentinel(self.pid))
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

    def _watch(self, sentinel, *others):
        """Take charge of the sentinel of the process, and other descriptors."""
        self.sentinel = sentinel
        self.finalizer = util.Finalize(self, util.close_fds, (sentinel, *others))

    def poll(self, flag=os.WNOHANG):
        """Return the exit code; `None` if the process runs."""
        return self.wait(0 if flag == os.WNOHANG else None)

    def wait(self, timeout=None):
        """Wait for the exit code; `None` if the process still runs after `timeout` seconds."""
        # Without a limit, finding out waits.
        if self.returncode is None and (timeout is None or is_ready(self.sentinel, timeout)):
            self._find_out()
        return self.returncode

    def _send_signal(self, sig):
        if self.returncode is None:
            try:
                signal.pidfd_send_signal(self.sentinel, sig)
            except ProcessLookupError:
                pass
            except OSError:
                if self.wait(0.1) is None:
                    raise

    def interrupt(self):
        """Send the process SIGINT, which becomes `KeyboardInterrupt` there."""
        self._send_signal(signal.SIGINT)

    def _find_out(self):
        """Wait for the end of the process and set its exit code."""
        # Other threads may do the same now: whoever reaps has set it before.
        code = look(self.sentinel)
        if code is not None:
            self.returncode = code
            _procession.bury(self.pid)
            forget(self.sentinel)
        elif self.returncode is None:
            is_ready(self.sentinel, None)
            self.returncode = UNKNOWN


def _forget_children():
    """In a forked child: what its parent has started is not its own, to be ended when it ends."""
    children = process._children
    children.difference_update([child for child in children if isinstance(child._popen, Popen)])


os.register_at_fork(after_in_child=_forget_children)

_starting_tracker = threading.Lock()
os.register_at_fork(after_in_child=_starting_tracker._at_fork_reinit)


def share_tracker():
    """Have the resource tracker run before a child is started, if this program may make shared memory that has a name.

    A tracker that the child would start for itself removes what the child has made when the child ends; one that it shares with us, when the last who shares it does.
    """
    if "multiprocessing.shared_memory" not in sys.modules:
        return
    from . import resource_tracker

    # Nobody forks while the tracker's own lock is held here: in the child it would be held for ever.
    with _starting_tracker:
        if resource_tracker._resource_tracker._fd is None:
            resource_tracker.ensure_running()


def fork(how):
    """Fork a child that shares the resource tracker, if one runs.

    Args:
        how: Forks, as `os.fork` does.

    Returns:
        What `how` does.
    """
    # One that is yet to be imported (`_lazy`) does nothing at a fork.
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    intent = tracker and vars(tracker).get("_fork_intent")
    # Trackers that have this close their descriptor in a forked child, unless the thread that forks says otherwise.
    if intent is None:
        return how()
    intent.preserve_fd = True
    try:
        return how()
    finally:
        # In the child, too: what that forks by itself is none of ours.
        intent.preserve_fd = False


def is_main_thread():
    """Say whether this is the thread that the process began with: to the kernel, threads are parents."""
    return threading.get_native_id() == os.getpid()


def is_ready(sentinel, timeout):
    """Wait for the end of a process at most `timeout` seconds, `None`: for ever; say whether it has ended."""
    poll = select.poll()
    poll.register(sentinel, select.POLLIN)
    return bool(poll.poll(None if timeout is None else max(timeout, 0) * 1000))


def look(sentinel):
    """Wait for the end of a child, which remains to be reaped, and return its exit code; `None` if it was reaped by somebody else, or is no child of ours."""
    try:
        end = os.waitid(os.P_PIDFD, sentinel, os.WEXITED | os.WNOWAIT)
    except OSError:
        return None
    return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status


def forget(sentinel):
    """Reap a child that has ended."""
    try:  # noqa: SIM105 - each start and join would make one more object
        os.waitid(os.P_PIDFD, sentinel, os.WEXITED)
    except OSError:
        pass


def reap(sentinel):
    """Wait for the end of a child and reap it; its exit code, `UNKNOWN` if somebody else has reaped it."""
    is_ready(sentinel, None)
    code = look(sentinel)
    forget(sentinel)
    return UNKNOWN if code is None else code


def kill(sentinel):
    """Kill and reap a child."""
    # Unless it was gone already.
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(sentinel, signal.SIGKILL)
    reap(sentinel)


def close_fds(fds):
    for fd in fds:
        os.close(fd)


def be(process_obj, parent, by_main_thread, mask):
    """Be a process object in a process that was forked from where it was made, with a signal mask; the exit code."""
    if process_obj.daemon:
        _procession.die_with(process_obj._parent_pid, by_main_thread=by_main_thread)
    for argument in (*process_obj._args, *process_obj._kwargs.values()):
        # Of all that was inherited, this is what the process is for.
        if isinstance(argument, _procession.Barrier):
            argument._take_part()
    return process_obj._bootstrap(parent, mask)
