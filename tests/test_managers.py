"""Managers: proxies anywhere in the family, and what happens when somebody dies."""

import contextlib
import gc
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import managers as stdlib

import pytest

import procession
from procession import connection, managers
from procession.managers import BaseManager, RemoteError, ServerDied, SyncManager


def until(condition):
    """Wait for a condition."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


@pytest.fixture
def manager(ctx):
    with ctx.Manager() as manager:
        yield manager
    # The test is still held by its runner, and it has the process.
    manager.join()


def use_all(d, items, namespace, box, lock, value, array, words):
    with lock:
        d["child"] = items[0]
    items.append({"nested": True})
    namespace.x = 7
    box.put("hello")
    value.value += 1
    array[1] = 5
    words.add("child")


def test_all_types_are_shared(ctx, manager):
    d, items, namespace, box = manager.dict(a=1), manager.list([3]), manager.Namespace(x=1), manager.Queue()
    lock, value, array, words = manager.RLock(), manager.Value("i", 1), manager.Array("i", [1, 2]), manager.set()
    child = ctx.Process(target=use_all, args=(d, items, namespace, box, lock, value, array, words))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert d.copy() == {"a": 1, "child": 3}
    assert list(items) == [3, {"nested": True}]
    assert (namespace.x, box.get(), value.value, list(array)) == (7, "hello", 2, [1, 5])
    assert "child" in words and sorted(words) == ["child"]


def test_methods_of_dictionaries_and_sets(manager):
    d = manager.dict({1: 2})
    d |= {3: 4}
    assert d | {5: 6} == {1: 2, 3: 4, 5: 6}
    assert {0: 0} | d == {0: 0, 1: 2, 3: 4}
    assert list(d) == [1, 3] and list(reversed(list(d))) == [3, 1]
    assert d.setdefault(7, 8) == 8 and d.pop(7) == 8 and d.get(7) is None
    words = manager.set({1, 2})
    words &= {2, 3}
    words |= {4}
    assert words == {2, 4} and words > {2} and words - {4} == {2}


def answer(inbox, outbox):
    inner = inbox.get()
    inner["answered"] = os.getpid()
    inner["inner"].append(1)
    # A method that returns a proxy, of a proxy that came by mail.
    outbox.put(list(iter(inner)))


def test_a_proxy_in_a_queue_keeps_its_object(ctx, manager):
    there, back = ctx.SimpleQueue(), ctx.SimpleQueue()
    there.put(manager.dict(inner=manager.list()))
    gc.collect()
    # Long enough for a server that does not know of the message.
    assert manager._number_of_objects() == 2
    child = ctx.Process(target=answer, args=(there, back))
    child.start()
    assert back.get() == ["inner", "answered"]
    child.join()
    until(lambda: manager._number_of_objects() == 0)


def test_nested_objects_go_with_what_they_are_in(manager):
    outer = manager.list([manager.dict(x=manager.list())])
    assert manager._number_of_objects() == 3
    inner = outer.pop()["x"]
    inner.append(1)
    assert list(inner) == [1]
    until(lambda: manager._number_of_objects() == 2)
    del outer, inner
    gc.collect()
    until(lambda: manager._number_of_objects() == 0)


def test_a_proxy_made_by_a_killed_client_goes(ctx, manager):
    names = manager.Queue()

    child = ctx.Process(target=make_and_wait, args=(manager._address, manager._authkey, names))
    child.start()
    assert names.get() == "made"
    assert manager._number_of_objects() == 3
    child.kill()
    child.join()
    until(lambda: manager._number_of_objects() == 1)


def make_and_wait(address, authkey, names):
    mine = SyncManager(address, authkey)
    mine.connect()
    kept = mine.dict(), mine.list()
    names.put("made")
    threading.Event().wait()
    del kept


def test_a_killed_server_fails_every_call(ctx):
    manager = ctx.Manager()
    d, box = manager.dict(), manager.Queue()
    caught = []

    def wait():
        try:
            box.get()
        except ServerDied as error:
            caught.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    os.kill(manager._process.pid, signal.SIGKILL)
    waiting.join(60)
    assert not waiting.is_alive()
    manager._process.join()
    for call in (lambda: d["a"], manager.dict, lambda: len(d)):
        with pytest.raises(ServerDied, match=r"killed by signal 9 \(SIGKILL\)|has ended"):
            call()
    assert issubclass(ServerDied, EOFError) and issubclass(ServerDied, ConnectionError)
    manager.shutdown()
    assert len(caught) == 1


def fork_and_wait(sleepers):
    # The child has copies of all that the server has.
    pid = os.fork()
    if pid == 0:
        time.sleep(1000)
        os._exit(0)
    sleepers.append(pid)
    return pid


class Forker:
    def __init__(self):
        self.sleepers = []

    def fork(self):
        return fork_and_wait(self.sleepers)


class ForkManager(BaseManager):
    pass


ForkManager.register("Forker", Forker)


def test_a_child_of_the_server_keeps_nobody_waiting(ctx):
    manager = ForkManager(ctx=ctx)
    manager.start()
    forker = manager.Forker()
    sleeper = forker.fork()
    try:
        os.kill(manager._process.pid, signal.SIGKILL)
        with pytest.raises(ServerDied):
            forker.fork()
    finally:
        os.kill(sleeper, signal.SIGKILL)
    manager.shutdown()


def test_a_stopped_server_is_ended(ctx):
    manager = SyncManager(ctx=ctx, shutdown_timeout=0.1)
    manager.start()
    os.kill(manager._process.pid, signal.SIGSTOP)
    manager.shutdown()
    assert manager._process.exitcode == -signal.SIGKILL


def test_a_process_forked_by_hand_has_lines_of_its_own(manager):
    d = manager.dict(a=1)
    assert d["a"] == 1
    pid = os.fork()
    if pid == 0:
        d["child"] = d["a"]
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert d["child"] == 1


def test_the_server_ends_with_its_parent():
    program = """if True:
        import time
        import procession
        manager = procession.Manager()
        box = manager.list()
        print(manager._process.pid, flush=True)
        time.sleep(1000)
    """
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        server = os.pidfd_open(int(process.stdout.readline()))
        process.kill()
        process.wait()
        assert process.stdout.read() == b""
    until(lambda: connection.wait([server], 0))
    os.close(server)


def test_a_manager_leaves_no_files(ctx):
    def files():
        return set(os.listdir(tempfile.gettempdir())), set(os.listdir("/dev/shm"))

    ours = f"procession-{os.getpid()}"
    os.environ["TMPDIR"], before = tempfile.mkdtemp(prefix=ours), os.environ.get("TMPDIR")
    tempfile.tempdir = None
    try:
        manager = ctx.Manager()
        manager.list().append(1)
        assert files()[0] == set()
        manager.shutdown()
        assert files()[0] == set()
    finally:
        os.rmdir(os.environ.pop("TMPDIR"))
        if before is not None:
            os.environ["TMPDIR"] = before
        tempfile.tempdir = None


def test_an_interrupted_call_does_not_disturb_the_next(manager):
    box, d = manager.Queue(), manager.dict(a=1)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            box.get()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert d["a"] == 1
    # Whoever waited in the server gets this one, and nobody wants it.
    box.put("lost")
    until(box.empty)
    box.put("found")
    assert box.get() == "found"


def test_a_signal_handler_may_call_in_the_middle_of_a_call(manager):
    box, d = manager.Queue(), manager.dict(a=1)
    seen = []

    def look(number, frame):
        seen.append(d["a"])
        box.put("from the handler")

    before = signal.signal(signal.SIGALRM, look)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        assert box.get() == "from the handler"
    finally:
        signal.signal(signal.SIGALRM, before)
    assert seen == [1]


def test_errors_tell_where_they_happened(manager):
    d = manager.dict()
    with pytest.raises(KeyError) as caught:
        d["nothing"]
    assert "Traceback" in str(caught.value.__cause__)
    with pytest.raises(RemoteError, match="exposed"):
        d._callmethod("no_such_method")
    with pytest.raises(TypeError, match="cannot pickle"):
        manager.Queue().put(threading.Lock())
    assert len(d) == 0


def test_an_error_goes_with_its_last_reference(manager):
    gc.disable()
    try:
        with contextlib.suppress(queue.Empty):
            manager.Queue().get_nowait()
        assert not [each for each in gc.get_objects() if isinstance(each, queue.Empty)]
    finally:
        gc.enable()


def fail():
    raise OSError("no")


def test_an_initializer_that_raises(ctx):
    manager = SyncManager(ctx=ctx)
    with pytest.raises(ServerDied, match="exit code 1") as caught:
        manager.start(fail)
    assert str(caught.value.__cause__) == "no"
    assert "in fail" in str(caught.value.__cause__.__cause__)
    with pytest.raises(TypeError, match="callable"):
        SyncManager(ctx=ctx).start(1)


def use_many(d, number):
    for step in range(100):
        d[number, step] = step


def test_many_threads_and_processes_at_once(ctx, manager):
    d = manager.dict()
    workers = [ctx.Process(target=use_many, args=(d, number)) for number in range(3)]
    workers += [threading.Thread(target=use_many, args=(d, number)) for number in range(3, 8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(d) == 800


def test_threads_that_end_leave_nothing_in_the_server(manager):
    d = manager.dict()
    status = f"/proc/{manager._process.pid}/status"

    def threads():
        with open(status) as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("Threads:"))

    len(d)
    before = threads()
    for _ in range(50):
        thread = threading.Thread(target=len, args=(d,))
        thread.start()
        thread.join()
    until(lambda: threads() <= before)


#
# By socket
#

KEY = b"a key of its own"


def add(d, box):
    d["child"] = list(box.get())


@pytest.mark.parametrize("address", [("localhost", 0), None])
def test_the_key_comes_with_the_proxy(ctx, address):
    manager = SyncManager(address, KEY, ctx=ctx)
    manager.start()
    d, box = manager.dict(), ctx.SimpleQueue()
    nested = manager.list([manager.list([1])])
    box.put(nested[0])
    child = ctx.Process(target=add, args=(d, box))
    child.start()
    child.join()
    assert d["child"] == [1]
    manager.shutdown()


def test_clients_of_the_standard_library():
    class Ours(SyncManager):
        pass

    class Theirs(stdlib.SyncManager):
        pass

    server = Ours(("localhost", 0), KEY)
    server.start()
    client = Theirs(server.address, KEY)
    client.connect()
    d = client.dict(a=1)
    d["b"] = [2]
    assert (dict(d), sorted(iter(d))) == ({"a": 1, "b": [2]}, ["a", "b"])
    with pytest.raises(KeyError):
        d["nothing"]
    server.shutdown()


def test_servers_of_the_standard_library():
    class Theirs(stdlib.SyncManager):
        pass

    # 3.14 does not fork unless it is told to, and nobody else finds the class.
    server = Theirs(("localhost", 0), KEY, ctx=multiprocessing.get_context("fork"))
    server.start()
    client = SyncManager(server.address, KEY)
    client.connect()
    d = client.dict(a=1)
    d["b"] = [2]
    assert (dict(d), sorted(iter(d))) == ({"a": 1, "b": [2]}, ["a", "b"])
    del d
    gc.collect()
    assert client._number_of_objects() == 0
    server.shutdown()


def test_a_wrong_key_is_refused():
    server = SyncManager(("localhost", 0), KEY)
    server.start()
    with pytest.raises(procession.AuthenticationError):
        SyncManager(server.address, b"wrong").connect()
    server.shutdown()


def test_plain_pickles_have_no_key():
    server = SyncManager(("localhost", 0), KEY)
    server.start()
    assert KEY not in pickle.dumps(server.dict())
    server.shutdown()


class Counter:
    def __init__(self):
        self.n = 0

    def up(self, by=1):
        self.n += by
        return self.n

    def _private(self):
        return "private"

    def twin(self):
        return Counter()


class CounterManager(BaseManager):
    pass


CounterManager.register("Counter", Counter, method_to_typeid={"twin": "Twin"})
CounterManager.register("Twin", create_method=False)
CounterManager.register("Private", Counter, exposed=("_private",))
CounterManager.register("get_queue", queue.Queue)


def count_twins(counter):
    twin = counter.twin()
    twin.up(5)
    counter.up(twin.up())


def test_types_of_ones_own(ctx):
    with CounterManager(ctx=ctx) as manager:
        counter = manager.Counter()
        assert counter.up() == 1 and counter.up(by=2) == 3
        with pytest.raises(AttributeError):
            counter._private()
        private = manager.Private()
        assert private._private() == "private" and not hasattr(private, "up")
        child = ctx.Process(target=count_twins, args=(counter,))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert counter.up() == 10
        assert isinstance(counter, managers.BaseProxy) and isinstance(counter, stdlib.BaseProxy)


def test_states_of_a_manager():
    manager = SyncManager()
    with pytest.raises(AssertionError, match="not yet started"):
        manager.dict()
    with manager, pytest.raises(procession.ProcessError, match="Already started"):
        manager.start()
    with pytest.raises(procession.ProcessError, match="has shut down"):
        manager.start()


def test_a_killed_group_leaves_no_files():
    program = """if True:
        import threading
        import procession
        manager = procession.Manager()
        kept = manager.dict(a=1), procession.RawArray("d", 100_000), procession.Value("i"), procession.Array("c", 10)
        print("made", flush=True)
        threading.Event().wait()
    """
    before = set(os.listdir("/dev/shm"))
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TMPDIR": folder}
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment, start_new_session=True
        ) as process:
            assert process.stdout.readline() == b"made\n"
            os.killpg(process.pid, signal.SIGKILL)
            process.stdout.read()
        assert os.listdir(folder) == []
    assert set(os.listdir("/dev/shm")) <= before
