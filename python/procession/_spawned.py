"""What a fresh interpreter does to become the child that it was started as. Imports little, as `_child`."""

import _signal
import io
import os
import sys
import types
from multiprocessing import process

from . import _child, _lazy, _procession, context

__all__ = ()


def spawn_main(invitation, mail, parent_pid, socket=None):
    """Become the child that this interpreter was started as.

    Args:
        invitation: Into the family.
        mail: Name of the queue with what to do.
        parent_pid: Who invites.
        socket: Descriptor of the connection to serve, for a forkserver.
    """
    assert sys.argv[1:2] == ["--multiprocessing-fork"], "Not forking"
    try:
        code = _become(invitation, mail, socket)
    except (OSError, ValueError):
        # What the parent took with it cannot be found.
        if os.getppid() == parent_pid:
            raise
        code = 1
    except KeyboardInterrupt:
        _child.say_interrupted()
        code = 1
    _child.end_by_interrupt()
    sys.exit(code)


def _become(invitation, mail, socket):
    _procession.join_family(invitation)
    queue = _procession.Queue.by_name(mail)
    if socket is not None:
        from . import forkserver

        return forkserver.main(queue, socket)
    return main(queue)


def main(mail, parent=None, by_main_thread=None, fds=None):
    """Do what is in the mail; the exit code.

    Args:
        mail: The queue.
        parent: Sentinel of our parent, if we have one.
        by_main_thread: Whether the parent's main thread counts as our parent; `None`: the thread that wrote the mail does.
        fds: The descriptors that the mail means by their places; `None`: it means them by their numbers.
    """
    process.current_process()._inheriting = True
    try:
        parent_pid, daemon, written_by_main_thread, mask, tracker, data = mail.get(False)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        if daemon:
            thread_counts = written_by_main_thread if by_main_thread is None else by_main_thread
            _procession.die_with(parent_pid, by_main_thread=thread_counts)
        if tracker is not None:
            _share_tracker(tracker if fds is None else fds[tracker])
        prepare(data)
        process_obj = mail.get(False)
    finally:
        del process.current_process()._inheriting
    del mail
    return process_obj._bootstrap(_child.open_sentinel(parent_pid) if parent is None else parent)


def _share_tracker(fd):
    def share(resource_tracker):
        resource_tracker._resource_tracker._fd = fd

    _lazy.import_lazily("multiprocessing", "resource_tracker", share)


def prepare(data):
    """Make this interpreter resemble its parent's: path, arguments, directory, main module.

    Args:
        data: Some of what `spawn.get_preparation_data` returns.
    """
    current = process.current_process()
    if "name" in data:
        current.name = data["name"]
    if "authkey" in data:
        current.authkey = data["authkey"]
    _prepare_log(data)
    sys.path = data.get("sys_path", sys.path)
    sys.argv = data.get("sys_argv", sys.argv)
    if "dir" in data:
        os.chdir(data["dir"])
    if "orig_dir" in data:
        process.ORIGINAL_DIR = data["orig_dir"]
    if data.get("start_method") is not None:
        context._default_context.set_start_method(data["start_method"], force=True)
    if "init_main_from_name" in data or "init_main_from_path" in data:
        _prepare_main(data.get("init_main_from_name"), data.get("init_main_from_path"))


def _prepare_log(data):
    if not data.get("log_to_stderr") and "log_level" not in data:
        return
    from multiprocessing import util

    if data.get("log_to_stderr"):
        util.log_to_stderr()
    if "log_level" in data:
        util.get_logger().setLevel(data["log_level"])


# The main modules of before, which may be needed until the end.
_mains = []


def _prepare_main(name, path):
    """Import the main module again, as `__mp_main__`, unless it is what this interpreter has.

    What `runpy` does takes longer to import than most programs: it is left to it if there is more to do than to run a file.
    """
    main = sys.modules["__main__"]
    if name is None:
        there = getattr(main, "__file__", None) == path
        module = (
            None if there or not path.endswith(".py") or os.path.basename(path) == "ipython.py" else _of_script(path)
        )
    else:
        # Those that run, whatever they are called, are not for children.
        there = name == "__main__" or name.endswith(".__main__") or getattr(main.__spec__, "name", None) == name
        module = None if there else _of_module(name)
    if module is not None:
        _mains.append(main)
        _execute(*module)
        sys.modules["__main__"] = module[0]
    elif not there:
        from multiprocessing import spawn

        spawn.prepare({"init_main_from_name": name} if name is not None else {"init_main_from_path": path})


def _of_script(path):
    """Return a main module, its file, and its code."""
    module = types.ModuleType("__mp_main__")
    module.__dict__.update(__file__=path, __cached__=None, __package__="")
    with io.open_code(path) as file:
        return module, path, compile(file.read(), path, "exec")


def _of_module(name):
    """Return a main module, its file, and its code; `None`: it is no plain module."""
    from importlib.util import find_spec

    spec = find_spec(name)
    if spec is None or spec.submodule_search_locations is not None or not hasattr(spec.loader, "get_code"):
        return None
    code = spec.loader.get_code(name)
    if code is None:
        return None
    module = types.ModuleType("__mp_main__")
    place = {"__file__": spec.origin, "__cached__": spec.cached, "__package__": spec.parent}
    module.__dict__.update(place, __spec__=spec, __loader__=spec.loader)
    return module, spec.origin, code


def _execute(module, file, code):
    before, first = sys.modules.get("__mp_main__"), sys.argv[:1]
    sys.modules["__mp_main__"] = module
    sys.argv[:1] = [file]
    try:
        exec(code, module.__dict__)
    except BaseException:
        del sys.modules["__mp_main__"]
        if before is not None:
            sys.modules["__mp_main__"] = before
        raise
    finally:
        sys.argv[:1] = first
