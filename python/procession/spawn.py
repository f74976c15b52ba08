"""Starting fresh interpreters that become children; what they do then is in `_spawned`."""

import _signal
import os
import sys
from multiprocessing import spawn as _stdlib
from multiprocessing import util
from multiprocessing.spawn import get_executable, import_main_path, is_forking, set_executable

from . import _procession, context, reduction
from ._spawned import main as _main
from ._spawned import prepare, spawn_main

__all__ = [
    "_main",
    "freeze_support",
    "get_command_line",
    "get_executable",
    "get_preparation_data",
    "import_main_path",
    "set_executable",
]


_ = prepare


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
    program = f"from procession._spawned import spawn_main; spawn_main({', '.join(arguments)})"
    options = util._args_from_interpreter_flags()
    return [get_executable(), *options, "-c", program, "--multiprocessing-fork"]


def execute(fds, mail, **arguments):
    """Start an interpreter that becomes a child with these arguments (see `_spawned.spawn_main`), inherits these descriptors, and holds its mail from now on; its pid."""
    place = _procession.Place()
    place.hold(mail)
    # Until it knows its mask, and can say so in a few words, Ctrl-C is not for the child: a half started interpreter has only a traceback to show.
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGINT})
    try:
        arguments |= {"invitation": place.invitation, "mail": mail.name, "parent_pid": os.getpid()}
        command = get_command_line(**arguments)
        pid = util.spawnv_passfds(get_executable(), command, [place.fd, *fds])
        place.taken_by(pid)
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    return pid


def get_preparation_data(name):
    """Return what the child must know before it unpickles its process object."""
    data = _stdlib.get_preparation_data(name)
    # What travels without pickle.
    data["authkey"] = bytes(data["authkey"])
    data["start_method"] = context._default_context.get_start_method(allow_none=True)
    if not reduction.is_file(data.get("init_main_from_path")):
        data.pop("init_main_from_path", None)
    return data
