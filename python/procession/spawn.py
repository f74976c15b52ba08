"""What a fresh interpreter does to become the child that it was started as."""

import os
import signal
import sys
from multiprocessing import resource_tracker, util
from multiprocessing import spawn as _stdlib
from multiprocessing.spawn import get_executable, import_main_path, is_forking, set_executable

from . import _procession, context, popen_fork, process, reduction

__all__ = [
    "_main",
    "freeze_support",
    "get_command_line",
    "get_executable",
    "get_preparation_data",
    "import_main_path",
    "set_executable",
]


def freeze_support():
    """Become the child that this frozen executable was started as, if it was."""
    if is_forking(sys.argv):
        import ast

        arguments = (argument.split("=", 1) for argument in sys.argv[2:])
        spawn_main(**{name: ast.literal_eval(value) for name, value in arguments})
        sys.exit()


def get_command_line(**kwds):
    """Return the command that starts an interpreter as our child."""
    arguments = [f"{name}={value!r}" for name, value in kwds.items()]
    if getattr(sys, "frozen", False):
        return [sys.executable, "--multiprocessing-fork", *arguments]
    program = f"from procession.spawn import spawn_main; spawn_main({', '.join(arguments)})"
    options = util._args_from_interpreter_flags()
    return [get_executable(), *options, "-c", program, "--multiprocessing-fork"]


def execute(fds, **arguments):
    """Start an interpreter that becomes a child with these arguments (see `spawn_main`) and inherits these descriptors; its pid."""
    place = _procession.Place()
    # Until it knows its mask, and can say so in a few words, Ctrl-C is not for the child: a half started interpreter has only a traceback to show.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        command = get_command_line(invitation=place.invitation, parent_pid=os.getpid(), **arguments)
        pid = util.spawnv_passfds(get_executable(), command, [place.fd, *fds])
        place.taken_by(pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def get_preparation_data(name):
    """Return what the child must know before it unpickles its process object."""
    data = _stdlib.get_preparation_data(name)
    data["start_method"] = context._default_context.get_start_method()
    if not reduction.is_file(data.get("init_main_from_path")):
        data.pop("init_main_from_path", None)
    return data


def prepare(data):
    """Make this interpreter resemble its parent's: path, arguments, directory, main module."""
    method = data.pop("start_method", None)
    if method is not None:
        context._default_context.set_start_method(method, force=True)
    _stdlib.prepare(data)


def spawn_main(invitation, mail, parent_pid, socket=None):
    """Become the child that this interpreter was started as.

    Args:
        invitation: Into the family.
        mail: Name of the queue with what to do.
        parent_pid: Who invites.
        socket: Descriptor of the connection to serve, for a forkserver.
    """
    assert is_forking(sys.argv), "Not forking"
    try:
        code = _become(invitation, mail, socket)
    except (OSError, ValueError):
        # What the parent took with it cannot be found.
        if os.getppid() == parent_pid:
            raise
        code = 1
    except KeyboardInterrupt:
        popen_fork.say_interrupted()
        code = 1
    popen_fork.end_by_interrupt()
    sys.exit(code)


def _become(invitation, mail, socket):
    _procession.join_family(invitation)
    queue = _procession.Queue.by_name(mail)
    if socket is not None:
        from . import forkserver

        return forkserver.main(queue, socket)
    return _main(queue)


def _main(mail, parent=None, by_main_thread=None):
    """Do what is in the mail; the exit code.

    Args:
        mail: The queue.
        parent: Sentinel of our parent, if we have one.
        by_main_thread: Whether the parent's main thread counts as our parent; `None`: the thread that wrote the mail does.
    """
    parent_pid, daemon, written_by_main_thread, mask, tracker = mail.get(False)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if daemon:
        popen_fork.die_with(parent_pid, written_by_main_thread if by_main_thread is None else by_main_thread)
    if tracker is not None:
        resource_tracker._resource_tracker._fd = tracker.detach()
    process.current_process()._inheriting = True
    try:
        prepare(mail.get(False))
        process_obj = mail.get(False)
    finally:
        del process.current_process()._inheriting
    del mail
    return process_obj._bootstrap(popen_fork.open_sentinel(parent_pid) if parent is None else parent)
