"""What a process that was started does at its beginning and at its end.

Imports little: a fresh interpreter waits for all of it.
"""

import _signal
import atexit
import os
import sys
from multiprocessing import process

from . import _procession

__all__ = ()


def open_sentinel(pid):
    """Return a descriptor that becomes readable when the process `pid` ends, or has ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        ended, end = os.pipe()
        os.close(end)
        return ended


def run(body):
    """Run `body` in a process that was forked for it, and end with the exit code that it returns; never returns."""
    code = 1
    try:
        # What the parent wants done at its exit is not ours to do.
        atexit._clear()
        if "multiprocessing.util" in sys.modules:
            atexit.register(finalize)
        code = body()
    except SystemExit as end:
        code = exit_code(end)
    except KeyboardInterrupt:
        say_interrupted()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            finish(code)
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
        reopen_stdin()
        return
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = _stdins[1]


def reopen_stdin():
    """Close standard input, and read nothing in its place."""
    if sys.stdin is None:
        return
    try:
        sys.stdin.close()
        sys.stdin = open(os.open(os.devnull, os.O_RDONLY), encoding="utf-8", closefd=False)  # noqa: SIM115
    except (OSError, ValueError):
        pass


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
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def finish(code):
    """End this process: what was registered for its exit, and no more."""
    end_by_interrupt()
    try:
        atexit._run_exitfuncs()
        flush()
    finally:
        _procession.leave_family()
        os._exit(code)


def flush():
    """Write out what was printed."""
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - `contextlib` takes long to import
            stream.flush()
        except (AttributeError, ValueError):
            pass


#
# `multiprocessing.util` is asked only if there is something for it to do: each function that runs in a forked child copies some pages of memory.
#


def log(text):
    """Log, if anybody has asked for a log."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None and util._logger is not None:
        util.info(text)


def forget_parents_affairs():
    """Drop the finalizers that a forked child has from its parent, and call what is registered for after a fork."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._finalizer_registry.clear()
        if util._afterfork_registry:
            util._run_after_forkers()


def finalize():
    """Run the finalizers, and wait for our children."""
    util = sys.modules["multiprocessing.util"]
    if util._finalizer_registry or process._children or util._logger is not None:
        util._exit_function()
