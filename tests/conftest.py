"""What all tests share: the start methods, and a look for what a test left behind."""

import collections
import contextlib
import gc
import os
import pathlib
import signal
import threading
import time
from multiprocessing import resource_sharer, resource_tracker

import pytest

import procession
from procession import connection, forkserver

METHODS = ("fork", "spawn", "forkserver")
PATIENCE = 20


@pytest.fixture(params=METHODS)
def method(request):
    """The name of each start method in turn."""
    return request.param


@pytest.fixture
def ctx(method):
    """The context of each start method in turn."""
    return procession.get_context(method)


@pytest.fixture(scope="session", autouse=True)
def warm():
    """Start what a program keeps for good: the family's memory, the forkserver, the sockets for ringing and being rung."""
    left, right = procession.Pipe()
    before = descriptors()["socket"]
    # A thread that has waited for channels keeps a bell for the next time; one whose time was over before it could sleep has none yet.
    while descriptors()["socket"] == before:
        connection.wait([right], 0.001)
    for method in METHODS:
        process = procession.get_context(method).Process(target=int)
        process.start()
        process.join()
    right.fileno()
    left.send(None)


def pytest_configure(config):
    # A shell without job control has what it starts in the background ignore Ctrl-C; the programs of the tests would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "leaves: a module whose tests may leave something behind; the argument says what"
    )


def pytest_ignore_collect(collection_path, config):
    """Leave out `wild`, which wants libraries of its own, unless it is asked for."""
    if collection_path.name == "wild" and not any("wild" in argument for argument in config.args):
        return True
    return None


@pytest.fixture(autouse=True, scope="module")
def leaks(request, warm):
    """Fail tests that leave more processes, descriptors or threads than they found: those of a module, which may share a pool."""
    # A module before may have killed it.
    forkserver.ensure_running()
    before = [look() for look in (processes, descriptors, threads)]
    yield
    if request.node.get_closest_marker("leaves"):
        return
    resource_sharer.stop()
    deadline = time.monotonic() + PATIENCE
    while left := list_left(before):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.02)


def list_left(before):
    """Return what there is now and was not before."""
    gc.collect()
    # A template that has ended is noticed, and reaped, when a process is to be started.
    forkserver.ensure_running()
    now = [look() for look in (processes, descriptors, threads)]
    return [sorted((new - old).elements()) for new, old in zip(now, before, strict=True) if new - old]


def processes():
    """Return our children, but for those that live as long as we do: the forkserver with the two spares that it keeps, the resource tracker."""
    found, of_forkserver = collections.Counter(), 0
    for command in children():
        if "resource_tracker" in command:
            continue
        of_forkserver += "socket=" in command
        if "socket=" not in command or of_forkserver > 3:
            found[command] += 1
    return found


def children():
    """Return pids and commands of our children."""
    for thread in pathlib.Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            for pid in (thread / "children").read_text().split():
                command = pathlib.Path(f"/proc/{pid}/cmdline").read_text()
                yield f"{pid} {command}".replace("\0", " ")


def descriptors():
    """Return what our descriptors are, without the numbers of pipes and sockets."""
    found = collections.Counter()
    for fd in os.listdir("/proc/self/fd"):
        if int(fd) == resource_tracker._resource_tracker._fd:
            continue
        with contextlib.suppress(OSError):
            found[os.readlink(f"/proc/self/fd/{fd}").split(":[")[0]] += 1
    # The heap of the standard library's `multiprocessing`, which some tests use beside ours.
    return collections.Counter({what: count for what, count in found.items() if "/pym-" not in what})


def threads():
    """Return the threads of this interpreter."""
    return collections.Counter(repr(thread) for thread in threading.enumerate())
