"""What a fresh interpreter does to become the child that it was started as."""

import sys
from multiprocessing import resource_tracker, util
from multiprocessing import spawn as _stdlib
from multiprocessing.spawn import get_executable, import_main_path, is_forking, set_executable

from . import _procession, context, process

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
        arguments = (argument.split("=", 1) for argument in sys.argv[2:])
        spawn_main(**{name: value.strip("'") for name, value in arguments})
        sys.exit()


def get_command_line(**kwds):
    """Return the command that starts an interpreter as our child."""
    arguments = [f"{name}={value!r}" for name, value in kwds.items()]
    if getattr(sys, "frozen", False):
        return [sys.executable, "--multiprocessing-fork", *arguments]
    program = f"from procession.spawn import spawn_main; spawn_main({', '.join(arguments)})"
    options = util._args_from_interpreter_flags()
    return [get_executable(), *options, "-c", program, "--multiprocessing-fork"]


def tracker_to_share(fds):
    """Let the child share the resource tracker of `multiprocessing`, if one runs: for users of its shared memory. Our own objects need none."""
    fd = resource_tracker._resource_tracker._fd
    if fd is None:
        return {}
    fds.append(fd)
    return {"tracker_fd": fd}


def get_preparation_data(name):
    """Return what the child must know before it unpickles its process object."""
    data = _stdlib.get_preparation_data(name)
    data["start_method"] = context._default_context.get_start_method()
    return data


def prepare(data):
    """Make this interpreter resemble its parent's: path, arguments, directory, main module."""
    context._default_context.set_start_method(data.pop("start_method"), force=True)
    _stdlib.prepare(data)


def spawn_main(invitation, mail, tracker_fd=None):
    """Become the child that this interpreter was started as."""
    assert is_forking(sys.argv), "Not forking"
    if tracker_fd is not None:
        resource_tracker._resource_tracker._fd = int(tracker_fd)
    _procession.join_family(invitation)
    sys.exit(_main(mail))


def _main(mail):
    """Run what is in the mail; the exit code."""
    queue = _procession.Queue.by_name(mail)
    process.current_process()._inheriting = True
    try:
        prepare(queue.get())
        process_obj = queue.get()
    finally:
        del process.current_process()._inheriting
    del queue
    return process_obj._bootstrap(context.parent_sentinel(process_obj._parent_pid))
