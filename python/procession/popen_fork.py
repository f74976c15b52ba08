"""Starting processes by fork, and what all start methods do with a started process."""

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
from multiprocessing import popen_fork as _stdlib

from . import _procession, process, util

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
        prepare_stdin()
        # Until the child is a process of its own, Ctrl-C is not for it: it would do what its parent wanted done.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.pid = os.fork()
            if self.pid == 0:
                run_child(lambda: run(process_obj, open_sentinel(parent), by_main_thread, mask))
            self._watch(open_sentinel(self.pid))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _watch(self, sentinel, *others):
        """Take charge of the sentinel of the process, and other descriptors."""
        self.sentinel = sentinel
        self.finalizer = util.Finalize(self, util.close_fds, (sentinel, *others))

    def poll(self, flag=os.WNOHANG):
        """Return the exit code; `None` if the process runs."""
        return self.wait(0 if flag == os.WNOHANG else None)

    def wait(self, timeout=None):
        """Wait for the exit code; `None` if the process still runs after `timeout` seconds."""
        if self.returncode is None and is_ready(self.sentinel, timeout):
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
        """Set the exit code of the process, which has ended."""
        # Other threads may do the same now: whoever reaps has set it before.
        code = look(self.sentinel)
        if code is not None:
            self.returncode = code
            _procession.bury(self.pid)
            forget(self.sentinel)
        elif self.returncode is None:
            self.returncode = UNKNOWN


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


def is_main_thread():
    """Say whether this is the thread that the process began with: to the kernel, threads are parents."""
    return threading.get_native_id() == os.getpid()


def is_ready(sentinel, timeout):
    """Wait for the end of a process at most `timeout` seconds, `None`: for ever; say whether it has ended."""
    poll = select.poll()
    poll.register(sentinel, select.POLLIN)
    return bool(poll.poll(None if timeout is None else max(timeout, 0) * 1000))


def look(sentinel):
    """Return the exit code of a child that has ended, which remains to be reaped; `None` if it was reaped by somebody else, or is no child of ours."""
    try:
        end = os.waitid(os.P_PIDFD, sentinel, os.WEXITED | os.WNOWAIT)
    except OSError:
        return None
    return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status


def forget(sentinel):
    """Reap a child that has ended."""
    with contextlib.suppress(OSError):
        os.waitid(os.P_PIDFD, sentinel, os.WEXITED)


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


def open_sentinel(pid):
    """Return a descriptor that becomes readable when the process `pid` ends, or has ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        ended, end = os.pipe()
        os.close(end)
        return ended


def close_fds(fds):
    for fd in fds:
        os.close(fd)


def run_child(body):
    """Run `body` in a process that was forked for it, and end with the exit code that it returns; never returns."""
    code = 1
    try:
        # What the parent wants done at its exit is not ours to do.
        atexit._clear()
        atexit.register(util._exit_function)
        code = body()
    except SystemExit as end:
        code = exit_code(end)
    except KeyboardInterrupt:
        say_interrupted()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            end_child(code)
        finally:
            # Whatever comes in between: the rest of the program is the parent's.
            os._exit(code)


def exit_code(end):
    """Return what `SystemExit` means, which says it if it is a message."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    if sys.stderr is not None:
        sys.stderr.write(f"{end.code}\n")
    return 1


# Standard input, and what takes its place in a forked child.
_stdins = (None, None)


def prepare_stdin():
    """Make the standard input of forked children, which costs more there: each page of memory that it touches is copied."""
    global _stdins
    if sys.stdin is None or sys.stdin is _stdins[0]:
        return
    try:
        if sys.stdin.fileno() == 0:
            _stdins = sys.stdin, open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    except (OSError, ValueError, AttributeError):
        _stdins = None, None


def close_stdin():
    """Have this process read nothing from standard input."""
    if sys.stdin is None or sys.stdin is not _stdins[0]:
        util._close_stdin()
        return
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = _stdins[1]


def say_failed():
    """Print the traceback of the exception that ends this process."""
    import traceback

    if sys.stderr is not None:
        sys.stderr.write(f"Process {process.current_process().name}:\n")
        traceback.print_exc()


def say_interrupted():
    """Say in one line that Ctrl-C ended this process: it reaches a whole group at once, and one traceback, the parent's, is enough."""
    current = process.current_process()
    if not current.daemon and sys.stderr is not None:
        sys.stderr.write(f"Process {current.name}: KeyboardInterrupt\n")


def end_by_interrupt():
    """Have Ctrl-C end this process without a word, now that it ends anyway."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def end_child(code):
    end_by_interrupt()
    try:
        atexit._run_exitfuncs()
        util._flush_std_streams()
    finally:
        _procession.leave_family()
        os._exit(code)


def die_with(parent, by_main_thread):
    """Have this process killed when its parent ends, even by `kill -9`."""
    _procession.die_with(parent, by_main_thread=by_main_thread)


def run(process_obj, parent, by_main_thread, mask):
    """Run a process object in a process that was forked from where it was made, with a signal mask; the exit code."""
    if process_obj.daemon:
        die_with(process_obj._parent_pid, by_main_thread)
    for argument in (*process_obj._args, *process_obj._kwargs.values()):
        # Of all that was inherited, this is what the process is for.
        if isinstance(argument, _procession.Barrier):
            argument._take_part()
    return process_obj._bootstrap(parent, mask)
