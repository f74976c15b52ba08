"""Shared memory with names: for any program, and without traces."""

import os
import signal
import subprocess
import sys
import uuid
from multiprocessing import resource_tracker
from multiprocessing import shared_memory as stdlib

import numpy
import pytest

from procession import shared_memory
from procession.managers import SharedMemoryManager
from procession.shared_memory import ShareableList, SharedMemory


@pytest.fixture
def name():
    name = f"procession-test-{uuid.uuid4().hex[:8]}"
    yield name
    if os.path.exists(f"/dev/shm/{name}"):
        os.unlink(f"/dev/shm/{name}")


def run(program, *arguments):
    """Run a program; what it printed, and its complaints."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout, done.stderr


def write_hello(memory):
    memory.buf[:5] = b"hello"
    memory.close()


def test_a_child_writes(ctx):
    memory = SharedMemory(create=True, size=10)
    child = ctx.Process(target=write_hello, args=(memory,))
    child.start()
    child.join()
    assert bytes(memory.buf[:5]) == b"hello"
    memory.close()
    memory.unlink()


def test_the_name_is_that_of_the_standard_library(name):
    ours = SharedMemory(name, create=True, size=100)
    theirs = stdlib.SharedMemory(name)
    theirs.buf[3] = 7
    assert ours.buf[3] == 7
    theirs.close()
    ours.close()
    ours.unlink()
    resource_tracker.register(f"/{name}", "shared_memory")
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)
    resource_tracker.unregister(f"/{name}", "shared_memory")


def test_bad_arguments(name):
    with pytest.raises(ValueError, match="'size' must be a positive integer"):
        SharedMemory(create=True, size=-1)
    with pytest.raises(ValueError, match="different from zero"):
        SharedMemory(create=True)
    with pytest.raises(ValueError, match="'name' can only be None if create=True"):
        SharedMemory()
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)
    memory = SharedMemory(name, create=True, size=1)
    with pytest.raises(FileExistsError):
        SharedMemory(name, create=True, size=1)
    memory.close()
    memory.unlink()
    with pytest.raises(FileNotFoundError):
        memory.unlink()


def test_who_only_opens_removes_nothing(name):
    memory = SharedMemory(name, create=True, size=10)
    _, complaints = run(
        "import sys; from procession.shared_memory import SharedMemory; SharedMemory(sys.argv[1]).close()", name
    )
    assert complaints == ""
    SharedMemory(name).close()
    memory.unlink()
    memory.close()


def test_who_opens_may_remove_without_complaints(name):
    program = """if True:
        import subprocess, sys
        from procession.shared_memory import SharedMemory
        memory = SharedMemory(sys.argv[1], create=True, size=10)
        remove = "import sys; from procession.shared_memory import SharedMemory; SharedMemory(sys.argv[1]).unlink()"
        subprocess.run([sys.executable, "-c", remove, sys.argv[1]], check=True)
        memory.close()
    """
    assert run(program, name) == ("", "")


def test_a_child_may_remove_without_complaints():
    program = """if True:
        import procession
        from procession.shared_memory import SharedMemory
        if __name__ == "__main__":
            for method in procession.get_all_start_methods():
                memory = SharedMemory(create=True, size=10)
                child = procession.get_context(method).Process(target=SharedMemory.unlink, args=(memory,))
                child.start()
                child.join()
                assert child.exitcode == 0
            SharedMemory(create=True, size=10).unlink()
    """
    assert run(program) == ("", "")


@pytest.mark.parametrize("module", ["procession", "multiprocessing"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_what_a_child_made_outlives_it(module, method, name):
    program = f"""if True:
        import sys
        import procession
        from {module}.shared_memory import SharedMemory

        def make(name):
            memory = SharedMemory(name, create=True, size=10)
            memory.buf[3] = 7
            memory.close()

        if __name__ == "__main__":
            child = procession.get_context(sys.argv[2]).Process(target=make, args=(sys.argv[1],))
            child.start()
            child.join()
            memory = SharedMemory(sys.argv[1])
            assert memory.buf[3] == 7
            memory.close()
            memory.unlink()
    """
    assert run(program, name, method) == ("", "")


def test_a_newer_tracker_is_told_whose_child_is_forked():
    program = """if True:
        import os, threading
        import procession
        from multiprocessing import resource_tracker

        if not hasattr(resource_tracker, "_fork_intent"):
            resource_tracker._fork_intent = threading.local()

        def say():
            print(getattr(resource_tracker._fork_intent, "preserve_fd", False), flush=True)

        os.register_at_fork(after_in_child=say)
        child = procession.get_context("fork").Process(target=say)
        child.start()
        child.join()
        say()
        if not os.fork():
            os._exit(0)
        os.wait()
    """
    assert run(program) == ("True\nFalse\nFalse\nFalse\n", "")


def test_what_was_forgotten_is_removed_with_a_warning(name):
    program = """if True:
        import sys
        from procession.shared_memory import SharedMemory
        SharedMemory(sys.argv[1], create=True, size=10)
    """
    _, complaints = run(program, name)
    assert "leaked shared_memory" in complaints
    assert not os.path.exists(f"/dev/shm/{name}")


def test_closing_leaves_views_alone():
    memory = SharedMemory(create=True, size=80)
    array = numpy.ndarray((10,), buffer=memory.buf)
    part = memory.buf[8:16]
    array[1] = 1.5
    memory.close()
    memory.close()
    assert memory.buf is None
    assert array[1] == 1.5
    array[2] = 2.5
    assert len(part) == 8
    memory.unlink()
    del memory
    assert array.sum() == 4.0


def test_no_descriptor_stays():
    SharedMemory(create=True, size=10).unlink()
    before = os.listdir("/proc/self/fd")
    for _ in range(50):
        memory = SharedMemory(create=True, size=4096)
        view = memoryview(memory.buf)
        memory.close()
        memory.unlink()
        del view, memory
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.fixture
def no_room(monkeypatch):
    """Have /dev/shm refuse everything."""

    def refuse(name, flags, mode=0o777):
        if flags & os.O_CREAT:
            raise OSError(30, "Read-only file system", name)
        raise FileNotFoundError(2, "No such file or directory", name)

    monkeypatch.setattr(shared_memory._posixshmem, "shm_open", refuse)


def open_by_name(name):
    memory = SharedMemory(name)
    memory.buf[0] += 1
    memory.close()


def test_unnamed_memory_needs_no_dev_shm(ctx, no_room):
    memory = SharedMemory(create=True, size=100)
    assert (memory.size, len(memory.buf)) == (100, 100)
    memory.buf[0] = 1
    open_by_name(memory.name)
    children = [ctx.Process(target=open_by_name, args=(memory.name,)), ctx.Process(target=write_hello, args=(memory,))]
    for child in children:
        child.start()
        child.join()
        assert child.exitcode == 0
    assert bytes(memory.buf[:5]) == b"hello"
    memory.close()
    open_by_name(memory.name)
    memory.unlink()
    with pytest.raises(FileNotFoundError):
        SharedMemory(memory.name)
    with pytest.raises(FileNotFoundError):
        memory.unlink()


def test_named_memory_does(no_room, name):
    with pytest.raises(OSError, match="Read-only"):
        SharedMemory(name, create=True, size=10)


def test_unnamed_memory_may_be_larger_than_dev_shm(monkeypatch):
    monkeypatch.setattr(shared_memory, "_room", lambda fd: 1 << 20)
    files = os.listdir("/dev/shm")
    memory = SharedMemory(create=True, size=2 << 20)
    assert os.listdir("/dev/shm") == files
    memory.buf[-1] = 1
    memory.unlink()


ITEMS = ["howdy", b"HoWdY", -273.154, 100, None, True, 42, "é" * 15]


def change_items(items):
    items[0] = "you"
    items[3] = -1
    items[4] = 7


def test_a_list_is_changed_by_a_child(ctx):
    items = ShareableList(ITEMS)
    child = ctx.Process(target=change_items, args=(items,))
    child.start()
    child.join()
    assert list(items) == ["you", b"HoWdY", -273.154, -1, 7, True, 42, "é" * 15]
    with pytest.raises(ValueError, match="exceeds available storage"):
        items[0] = "far too long a word"
    items.shm.close()
    items.shm.unlink()


def test_a_list_is_read_by_the_standard_library():
    items = ShareableList(ITEMS)
    theirs = stdlib.ShareableList(name=items.shm.name)
    assert list(theirs) == ITEMS
    assert theirs.format == items.format
    theirs.shm.close()
    items.shm.close()
    items.shm.unlink()


def test_a_manager_removes_what_it_made(ctx):
    with SharedMemoryManager(ctx=ctx) as manager:
        memory = manager.SharedMemory(100)
        items = manager.ShareableList([1, 2])
        change = ctx.Process(target=write_hello, args=(memory,))
        change.start()
        change.join()
        assert bytes(memory.buf[:5]) == b"hello"
        names = [memory.name, items.shm.name]
    for each in names:
        with pytest.raises(FileNotFoundError):
            SharedMemory(each)


def test_a_manager_removes_what_it_made_when_its_parent_is_killed():
    program = """if True:
        import sys, time
        from procession.managers import SharedMemoryManager
        manager = SharedMemoryManager()
        manager.start()
        print(manager.SharedMemory(100).name, flush=True)
        time.sleep(1000)
    """
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        name = process.stdout.readline().decode().strip()
        assert os.path.exists(f"/dev/shm/{name}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        # The server has the same output, and closes it when it ends.
        process.stdout.read()
    assert not os.path.exists(f"/dev/shm/{name}")
