"""A child that is forked in the middle of everything: what other threads of its parent held at the fork keeps it from nothing, and what is its parent's it leaves alone."""

import contextlib
import os
import signal
import sys
import threading
import traceback

import pytest
from conftest import PATIENCE

import procession as mp
from procession import _lazy, futures, util
from procession.managers import SyncManager

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

PARENT = os.getpid()
reached, may_go_on = threading.Event(), threading.Event()


@pytest.fixture(autouse=True)
def unpaused():
    """Begin each test with nobody in `pause`."""
    reached.clear()
    may_go_on.clear()


def pause():
    """Stop the parent's thread here until the fork is over."""
    if os.getpid() == PARENT:
        reached.set()
        assert may_go_on.wait(PATIENCE)


class Slow:
    """Is unpickled slowly."""

    def __reduce__(self):
        return pause, ()


def forked(act, here=lambda: None):
    """Call `act` in a forked child, and `here` in the parent at the same time; the child's exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            # Ends it even where it waits for a lock.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE)
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    here()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextlib.contextmanager
def meanwhile(act):
    """Have another thread in the middle of `act`, where that calls `pause`."""
    found = []
    thread = threading.Thread(target=lambda: found.append(act()))
    thread.start()
    assert reached.wait(PATIENCE)
    try:
        yield found
    finally:
        may_go_on.set()
        thread.join()


def hold(lock):
    with lock:
        pause()


def executor():
    return futures.ProcessPoolExecutor(1, mp_context=mp.get_context("fork"))


def use_executor(workers):
    """Use an executor, with a callback."""
    called = threading.Event()
    future = workers.submit(abs, -1)
    future.add_done_callback(lambda _: called.set())
    assert future.result(PATIENCE) == 1
    assert called.wait(PATIENCE)
    workers.shutdown()


def test_children_of_the_parent_outlive_a_child():
    ctx = mp.get_context("fork")
    daemon = ctx.Process(target=signal.pause, daemon=True)
    daemon.start()
    try:

        def end():
            assert mp.active_children() == []
            util._exit_function()

        assert forked(end) == 0
        assert daemon in mp.active_children()
    finally:
        daemon.kill()
        daemon.join()
    assert daemon.exitcode == -signal.SIGKILL


def test_executor_that_another_thread_starts():
    workers = executor()
    with meanwhile(lambda: hold(workers._lock)):
        assert forked(lambda: use_executor(workers)) == 0
    workers.shutdown()


def test_future_that_another_thread_completes():
    with meanwhile(lambda: hold(futures._coming_up)):
        assert forked(lambda: use_executor(executor())) == 0


def test_result_that_another_thread_unpickles():
    with executor() as workers:
        future = workers.submit(Slow)

        def ask():
            with pytest.raises(futures.PoolTerminated):
                future.result()

        with meanwhile(future.result) as found:
            assert forked(ask) == 0
        assert found == [None]


def test_result_whose_callback_runs():
    with mp.get_context("fork").Pool(1) as pool:
        result = pool.apply_async(abs, (-1,), callback=lambda _: pause())
        assert reached.wait(PATIENCE)

        def ask():
            assert result.get() == 1
            assert result.ready()

        assert not result.ready()
        assert forked(ask) == 0
        may_go_on.set()
        assert result.get(PATIENCE) == 1


def test_map_whose_items_another_thread_reads():
    def items():
        yield -1
        pause()
        yield -2

    with executor() as workers:
        results = workers.map(abs, items(), buffersize=1)

        def ask():
            with pytest.raises(RuntimeError):
                next(results)
            results.close()

        with meanwhile(lambda: list(results)) as found:
            assert forked(ask) == 0
        assert found == [[1, 2]]


def test_map_of_the_parent_is_read_by_the_parent():
    read = []
    with executor() as workers:
        results = workers.map(abs, (read.append(x) or x for x in range(100)), buffersize=2)
        assert next(results) == 0
        before = len(read)

        def ask():
            with pytest.raises(RuntimeError):
                list(results)
            results.close()
            assert len(read) == before

        assert forked(ask) == 0
        assert list(results) == list(range(1, 100))


def test_a_child_leaves_the_block_of_an_executor():
    with executor() as workers:
        assert workers.submit(abs, -1).result() == 1
        watched = workers.submit(pause_in_worker, os.getpid())
        watched.add_done_callback(lambda _: None)

        def leave():
            with pytest.raises(TimeoutError):
                watched.result()
            workers.__exit__(None, None, None)

        assert forked(leave) == 0
        os.kill(next(iter(workers._processes)), signal.SIGKILL)
        assert watched.exception() is not None


def pause_in_worker(parent):
    while os.getppid() == parent:
        signal.pause()


def test_module_that_another_thread_loads(tmp_path, monkeypatch):
    package = tmp_path / "slowly"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text(f"import {__name__}\n{__name__}.pause()\nvalue = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    _lazy.import_lazily("slowly", "inner")
    module = sys.modules["slowly.inner"]

    def ask():
        assert module.value == 1

    with meanwhile(lambda: module.value) as found:
        assert forked(ask) == 0
    assert found == [1]
    assert not _lazy._executing


def test_side_of_a_queue_that_another_thread_has():
    queue = mp.Queue()
    queue.put("once")

    def take():
        with queue._rlock:
            assert queue._reader.poll(PATIENCE)
            pause()

    def ask():
        with queue._rlock:
            assert not queue._reader.poll()

    with meanwhile(take):
        assert forked(ask) == 0
    assert queue.get(timeout=PATIENCE) == "once"
    assert queue.empty()


def test_proxy_by_socket():
    with SyncManager(("127.0.0.1", 0)) as manager:
        shared = manager.list()
        shared.append(-1)

        def append():
            for number in range(100):
                shared.append(number)

        assert forked(append, append) == 0
        assert len(shared) == 201
