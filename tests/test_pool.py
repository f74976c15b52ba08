"""Pools: what `multiprocessing.pool` does, and what it does not."""

import contextlib
import gc
import itertools
import operator
import os
import pathlib
import signal
import sys
import threading
import time
import warnings
import weakref

import program
import pytest

import procession
from procession import pool as pools
from procession.pool import (
    MaybeEncodingError,
    PoolTerminated,
    RemoteException,
    RemoteTraceback,
    TaskTimeout,
    TransportError,
    WorkerDied,
)


def square(x):
    return x * x


def add(x, y=0):
    return x + y


def fail(x):
    raise KeyError(x)


def die(x, number=signal.SIGKILL):
    if x == 3:
        os.kill(os.getpid(), number)
    return x


def leave(code):
    sys.exit(code)


def pid(_=None):
    return os.getpid()


def wait_for(condition):
    while not condition():
        time.sleep(0.001)


@pytest.fixture
def pool(ctx):
    with ctx.Pool(2) as pool:
        yield pool
    pool.join()


def test_calls_and_maps(pool):
    expected = [square(x) for x in range(100)]
    assert pool.apply(square, (5,)) == 25
    assert pool.apply(add, (1,), {"y": 2}) == 3
    assert pool.apply_async(square, (6,)).get() == 36
    for chunksize in (None, 1, 7, 1000):
        assert pool.map(square, range(100), chunksize) == expected
        assert pool.map_async(square, range(100), chunksize).get() == expected
        assert pool.starmap(add, zip(range(100), range(100), strict=True), chunksize) == [2 * x for x in range(100)]
    for chunksize in (1, 7, 1000):
        assert list(pool.imap(square, range(100), chunksize)) == expected
        assert sorted(pool.imap_unordered(square, (x for x in range(100)), chunksize)) == expected
    assert pool.map(square, []) == pool.map_async(square, []).get() == list(pool.imap(square, [])) == []
    assert pool.starmap_async(add, [(1, 2)]).get() == [3]


def test_chunks_of_any_items_and_results(pool):
    count = 20_000
    for items in (
        range(count),
        list(range(count)),
        tuple(range(5, count)),
        dict.fromkeys(range(count)),
        range(count, 0, -3),
    ):
        assert pool.map(square, items) == [x * x for x in items]
        assert pool.map_async(square, items).get() == [x * x for x in items]
    words = [str(x) for x in range(count)]
    assert pool.map(len, words) == [len(word) for word in words]
    assert pool.map(str.upper, words) == words
    assert pool.map(float, words[:300]) == [float(x) for x in range(300)]
    mixed = [None, True, 1, 2**70, 0.5, "a", b"b", (1, 2), [3]] * 50
    assert pool.map(repr, mixed) == [repr(item) for item in mixed]
    assert list(pool.imap(str, range(1_000), 300)) == words[:1_000]


def test_one_failing_item_of_a_chunk_fails_the_map_and_others_are_done(pool, tmp_path):
    items = [tmp_path / str(number) for number in range(40)]
    items[7] = tmp_path / "missing" / "7"
    with pytest.raises(FileNotFoundError):
        pool.map(pathlib.Path.touch, items, 10)
    done = {int(path.name) for path in tmp_path.iterdir()}
    assert done == {*range(7), *range(10, 40)}


@pytest.mark.parametrize("chunksize", [1, 2])
def test_items_of_a_starmap_are_any_iterables(pool, chunksize):
    items = [[1, 2], (3, 4), range(5, 7), "ab", {7: 1, 8: 2}]
    expected = [3, 7, 11, "ab", 15]
    assert pool.starmap(add, items, chunksize) == expected
    assert pool.starmap_async(add, items, chunksize).get() == expected
    with pytest.raises(TypeError, match="not iterable"):
        pool.starmap(add, [1, 2, 3], chunksize)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_exception_survives_the_end_of_a_map(pool):
    # The map ends when the interpreter clears its stack, and is done all the same: its items are read and pickled then.
    with pytest.raises(ZeroDivisionError):
        _ = (pool.imap(lambda x: x, [object()] * 10000), 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _ = (procession.Pool(1), 1 / 0)
    assert pool.apply(square, (3,)) == 9


class Holder:
    def method(self, x):
        return x


def test_maps_and_functions_in_cycles_are_collected(pool):
    for start in (pool.imap, pool.imap_unordered, pool.map_async):
        holder = Holder()
        holder.results = start(holder.method, [1, 2, 3])
        gone = weakref.ref(holder)
        del holder
        gc.collect()
        assert gone() is None


class Acts:
    """Something that does something when it is pickled."""

    def __init__(self, action):
        self.action = action

    def __reduce__(self):
        self.action()
        return int, ()


def test_a_pool_may_be_used_while_an_item_is_pickled(ctx):
    pool = ctx.Pool(1)
    # As a handler of SIGTERM may, which comes just then.
    results = pool.imap(square, [1, Acts(pool.close), 3], buffersize=1)
    assert list(results) == [1, 0, 9]
    pool.join()
    taken = []

    def take():
        with contextlib.suppress(procession.TimeoutError, RuntimeError):
            taken.append(results.next(0))

    with ctx.Pool(1) as pool:
        results = pool.imap(square, [1, 2, Acts(take)], buffersize=1)
        assert sorted([*results, *taken]) == [0, 1, 4]


def test_results_say_how_they_are(pool):
    result = pool.apply_async(fail, (1,))
    result.wait()
    assert result.ready() and not result.successful()
    with pytest.raises(KeyError):
        result.get()
    result = pool.apply_async(time.sleep, (1000,))
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(procession.TimeoutError):
        result.get(timeout=0.01)
    assert result.cancel()
    assert result.ready()


def test_callbacks_are_called_before_the_result_is_ready(pool):
    called = []
    result = pool.apply_async(square, (2,), callback=called.append, error_callback=called.append)
    assert (result.get(), called) == (4, [4])
    pool.map_async(fail, [2], callback=called.append, error_callback=called.append).wait()
    assert isinstance(called[1], KeyError)
    assert pool.map_async(square, [], callback=called.append).get() == called[2] == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_join_waits_for_callbacks(ctx):
    called = []

    def call(result):
        time.sleep(0.01)
        called.append(result)

    pool = ctx.Pool(2)
    for x in range(20):
        pool.apply_async(square, (x,), callback=call)
    pool.map_async(square, range(3), callback=call)
    pool.apply_async(fail, (1,), error_callback=call)
    pool.close()
    pool.join()
    assert len(called) == 22
    # One that joins does not wait for itself.
    pool = ctx.Pool(1)
    pool.apply_async(square, (1,), callback=lambda _: (pool.close(), pool.join(), called.append("joined")))
    wait_for(lambda: "joined" in called)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_callback_that_raises_harms_nobody(pool):
    def complain(_):
        raise OSError("a callback")

    assert pool.apply_async(square, (2,), callback=complain).get() == 4
    called = []
    assert pool.apply_async(square, (3,), callback=called.append).get() == 9 == called[0]


def test_tracebacks_arrive_whole(pool):
    with pytest.raises(KeyError) as raised:
        pool.apply(fail, (1,))
    cause = raised.value.__cause__
    assert type(cause) is RemoteTraceback
    assert "raise KeyError(x)" in str(cause) and "test_pool.py" in str(cause)


class Fragile(Exception):
    def __init__(self, one, two):
        super().__init__("fragile")
        self.sum = one + two


def break_(x):
    raise Fragile(1, 2)


def test_an_exception_that_pickle_cannot_rebuild_arrives_all_the_same(pool):
    with pytest.raises(Fragile, match=r"^fragile$") as raised:
        pool.apply(break_, (1,))
    assert raised.value.args == ("fragile",) and raised.value.sum == 3
    assert "raise Fragile(1, 2)" in str(raised.value.__cause__)


class Stubborn(Exception):
    def __new__(cls, one, two):
        return super().__new__(cls)

    def __init__(self, one, two):
        super().__init__()

    def __str__(self):
        return "stubborn"


class Locked(Exception):
    def __str__(self):
        return f"holds {len(self.args)} lock"


def break_stubbornly(x):
    raise Stubborn(1, 2)


def break_with_a_lock(x):
    raise Locked(threading.Lock())


@pytest.mark.parametrize(
    "function, words", [(break_stubbornly, "Stubborn: stubborn"), (break_with_a_lock, "Locked: holds 1 lock")]
)
def test_an_exception_that_cannot_be_sent_is_told_in_words(pool, function, words):
    with pytest.raises(RemoteException, match=words) as raised:
        pool.apply(function, (1,))
    assert f"in {function.__name__}" in str(raised.value.__cause__)


def a_lambda():
    return lambda: 42


def a_lock():
    return threading.Lock()


@pytest.mark.parametrize("function", [a_lambda, a_lock])
def test_a_result_that_cannot_be_pickled_is_an_error(pool, function):
    with pytest.raises(MaybeEncodingError, match="Error sending result"):
        pool.apply(function)


class Explosive:
    def __reduce__(self):
        return explode, ()


def explode():
    raise OSError("bang")


def make_explosive():
    return Explosive()


def test_what_does_not_unpickle_is_an_error(pool):
    with pytest.raises(TransportError, match=r"arguments of the call .* bang"):
        pool.apply(id, (Explosive(),))
    with pytest.raises(TransportError, match=r"what the worker sent .* bang"):
        pool.apply(make_explosive)


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("not me")


def test_what_cannot_be_sent_is_an_error_of_its_call(pool):
    with pytest.raises(RuntimeError, match="not me"):
        pool.apply_async(id, (Unpicklable(),)).get()
    with pytest.raises(RuntimeError, match="not me"):
        pool.map(id, [1, Unpicklable(), 2])
    with pytest.raises(RuntimeError, match="not me"):
        pool.map_async(id, [1, Unpicklable(), 2]).get()
    results = pool.imap(square, [1, Unpicklable(), 2])
    assert next(results) == 1
    with pytest.raises(RuntimeError, match="not me"):
        next(results)
    assert list(results) == [4]


def broken_items():
    yield from range(3)
    raise OSError("no more")


def test_an_iterable_that_raises_is_an_error_after_its_items(pool):
    results = pool.imap(square, broken_items())
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(OSError, match="no more"):
        next(results)
    with pytest.raises(OSError, match="no more"):
        pool.map(square, broken_items())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_worker_costs_its_call_alone(pool, number):
    with pytest.raises(WorkerDied) as died:
        pool.apply(die, (3, number))
    assert died.value.exitcode == -number and died.value.signal == number
    assert "die" in died.value.task and died.value.pid != os.getpid()
    results = list(pool.map_async(add, range(5)).get())
    assert results == list(range(5))
    with pytest.raises(WorkerDied):
        pool.map(die, range(10), 1)
    with pytest.raises(WorkerDied):
        pool.starmap(die, zip(range(10)))
    arrived = []
    results = pool.imap(die, range(10))
    while True:
        try:
            arrived.append(next(results))
        except WorkerDied:
            arrived.append(None)
        except StopIteration:
            break
    assert arrived == [0, 1, 2, None, 4, 5, 6, 7, 8, 9]
    slow = pool.apply_async(time.sleep, (1000,))
    with pytest.raises(procession.TimeoutError):
        slow.get(timeout=0.001)
    assert slow.cancel()


def test_leaving_is_answered(pool):
    with pytest.raises(SystemExit) as left:
        pool.apply(leave, (5,))
    assert left.value.code == 5
    with pytest.raises(WorkerDied) as died:
        pool.apply(os._exit, (5,))
    assert died.value.exitcode == 5 and died.value.signal is None


def test_options(pool):
    with pytest.raises(TaskTimeout) as late:
        pool.with_options(timeout=0.05).apply(time.sleep, (1000,))
    assert late.value.limit == 0.05 and isinstance(late.value, TimeoutError)
    assert isinstance(late.value, procession.TimeoutError)
    assert pool.with_options(priority=2, name="n").map(square, [1, 2]) == [1, 4]
    with pytest.raises(ValueError, match="timeout"):
        pool.with_options(timeout=-1).apply(square, (1,))


def die_for_a_while(path):
    with open(path, "a") as tries:
        tries.write("x")
    if os.path.getsize(path) < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if os.path.getsize(path) < 5:
        raise OSError("not yet")
    return os.path.getsize(path)


def test_retries(pool, tmp_path):
    path = str(tmp_path / "tries")
    assert pool.with_options(retries=10).apply(die_for_a_while, (path,)) == 5
    path = str(tmp_path / "more")
    with pytest.raises(WorkerDied) as died:
        pool.with_options(retries=1).apply(die_for_a_while, (path,))
    assert died.value.tries == 2


def test_functions_without_a_name(pool):
    base = 10
    assert pool.map(lambda x: x + base, range(3)) == [10, 11, 12]
    assert pool.apply(lambda: base) == 10
    assert list(pool.imap(operator.itemgetter(1), ["ab", "cd"])) == ["b", "d"]
    assert pool.map("-".join, [["a", "b"]]) == ["a-b"]


def test_shared_objects_travel(pool, ctx):
    queue = ctx.Queue()
    pool.apply(queue.put, (1,))
    assert queue.get() == 1
    assert pool.apply(make_queue).get() == 7


def make_queue():
    queue = procession.Queue()
    queue.put(7)
    return queue


def test_arrays_travel(pool):
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(1 << 20)
    assert (pool.apply(numpy.negative, (array,)) == -array).all()
    result = pool.map(numpy.negative, [array, array + 1], chunksize=1)
    result[0][0] = 5
    assert (result[1] == -array - 1).all()


def test_endless_input_is_read_a_little_ahead(pool):
    read = []

    def items():
        for x in itertools.count():
            read.append(x)
            yield x

    results = pool.imap(square, items(), buffersize=10)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(read) <= 16
    del results
    with pytest.raises(ValueError, match="buffersize"):
        pool.imap(square, [], buffersize=0)


def test_a_generator_may_wait_for_results(pool):
    free = threading.Semaphore(3)

    def items():
        for x in range(50):
            free.acquire()
            yield x

    seen = 0
    for _ in pool.imap(square, items()):
        seen += 1
        free.release()
    assert seen == 50


def write(directory, number):
    with open(os.path.join(directory, str(number)), "w"):
        pass


@pytest.mark.parametrize("lazy", [False, True])
def test_maps_that_nobody_takes_are_done_all_the_same(ctx, tmp_path, lazy):
    numbers = range(500)
    for directory in ("kept", "dropped"):
        (tmp_path / directory).mkdir()
    pool = ctx.Pool(2)
    calls = [(str(tmp_path / "kept"), n) for n in numbers]
    kept = pool.imap(Writer(tmp_path / "kept"), iter(numbers) if lazy else numbers)
    pool.imap_unordered(Writer(tmp_path / "dropped"), iter(numbers) if lazy else numbers)
    pool.close()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(square, (1,))
    pool.join()
    assert len(calls) == len(os.listdir(tmp_path / "kept")) == len(os.listdir(tmp_path / "dropped"))
    assert sum(1 for _ in kept) == 500


class Writer:
    def __init__(self, directory):
        self.directory = str(directory)

    def __call__(self, number):
        write(self.directory, number)


def test_workers_are_listed_named_and_replaced(ctx):
    with ctx.Pool(2, maxtasksperchild=3) as pool:
        assert pool._processes == len(pool._pool) == 2
        assert all("PoolWorker-" in w.name and w.daemon for w in pool._pool)
        before = {w.pid for w in pool._pool}
        pids = pool.map(pid, range(20), chunksize=1)
        assert len(set(pids)) >= 6 and before & set(pids)
        wait_for(lambda: len(pool._pool) == 2)
        assert not before & {w.pid for w in pool._pool}


def set_level(level):
    global LEVEL
    LEVEL = level


def level(_=None):
    return LEVEL


def refuse(reason):
    raise OSError(reason)


def test_initializers(ctx):
    with ctx.Pool(2, set_level, (7,)) as pool:
        assert pool.map(level, range(10)) == [7] * 10
    with ctx.Pool(2, refuse, ("no database",)) as pool:
        for _ in range(2):
            with pytest.raises(OSError, match="no database") as refused:
                pool.apply(square, (1,))
            assert "raise OSError(reason)" in str(refused.value.__cause__)


def test_the_end_of_a_pool(ctx):
    pool = ctx.Pool(1)
    pool.apply(square, (1,))
    repr(pool)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    with pytest.raises(NotImplementedError):
        pool.__reduce__()
    late = pool.apply_async(time.sleep, (1000,))
    later = pool.imap(time.sleep, [1000])
    workers = list(pool._pool)
    pool.terminate()
    pool.terminate()
    pool.join()
    assert not any(w.is_alive() for w in workers)
    for ask in (late.get, later.next):
        with pytest.raises(PoolTerminated):
            ask()
    for start in (pool.__enter__, lambda: pool.map(square, [1])):
        with pytest.raises(ValueError, match="Pool not running"):
            start()
    with ctx.Pool(1) as pool:
        results = [pool.apply_async(square, (x,)) for x in range(100)]
        pool.close()
        pool.join()
        assert [result.get() for result in results] == [x * x for x in range(100)]


def test_a_pool_that_is_dropped_running_warns(ctx):
    pool = ctx.Pool(1)
    pool.apply(square, (1,))
    workers = list(pool._pool)
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        del pool
        gc.collect()
    assert not any(w.is_alive() for w in workers)


def test_bad_arguments(ctx):
    for processes in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            ctx.Pool(processes)
    with pytest.raises(ValueError, match="maxtasksperchild"):
        ctx.Pool(1, maxtasksperchild=0)
    with pytest.raises(TypeError, match="callable"):
        ctx.Pool(1, initializer=5)
    with ctx.Pool(1) as pool:
        # Up before it is ended: a forkserver whose child is killed on its way up ends, too, and is started anew.
        pool.apply(square, (1,))
        with pytest.raises(ValueError, match="Chunksize"):
            pool.imap(square, [], chunksize=0)
        with pytest.raises(TypeError):
            pool.map(square, 5)


def nested(method):
    with procession.get_context(method).Pool(2) as pool:
        return pool.map(square, range(5))


def test_pools_in_workers(pool, ctx):
    assert pool.apply(nested, (ctx.get_start_method(),)) == [0, 1, 4, 9, 16]


LEFT_OPEN = """
    import procession, sys, time, warnings

    if __name__ == "__main__":
        method, end = sys.argv[1:]
        warnings.simplefilter("ignore")
        pool = procession.get_context(method).Pool(2)
        results = pool.map_async(time.sleep, [1000] * 10)
        lazy = pool.imap(abs, iter(int, 1))
        assert pool.apply_async(abs, (-1,)) is not None
        exec(end)
"""


@pytest.mark.parametrize("end", ["pass", "pool.close()", "pool.terminate()", "del pool"])
def test_an_exit_with_a_pool_is_quiet(method, end, tmp_path):
    assert program.run(tmp_path, LEFT_OPEN, method, end) == (0, "", "")


INTERRUPTED = """
    import os, procession, signal, sys, threading, time

    def report(path):
        os.kill(os.getpid(), signal.SIGINT)  # as the terminal does, to everybody
        with open(path, "w"):
            pass
        time.sleep(1000)

    def interrupt_when(path):
        while not os.path.exists(path):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    if __name__ == "__main__":
        method, path = sys.argv[1:]
        with procession.get_context(method).Pool(1) as pool:
            result = pool.apply_async(report, (path,))
            try:
                threading.Thread(target=interrupt_when, args=(path,)).start()
                result.get()
            except KeyboardInterrupt:
                print("interrupted")
"""


def test_ctrl_c_is_for_the_program_not_for_workers(method, tmp_path):
    assert program.run(tmp_path, INTERRUPTED, method, tmp_path / "there") == (0, "interrupted\n", "")


def is_gone(pid):
    """Say whether a process has ended, even if nobody reaps it."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def have_a_pool(pids, method):
    pool = procession.get_context(method).Pool(2)
    inner = pool.map_async(have_a_pool_in_a_worker, [(pids, method)] * 2, chunksize=1)
    for worker in pool._pool:
        pids.put(worker.pid)
    inner.get()


def have_a_pool_in_a_worker(arguments):
    pids, method = arguments
    pool = procession.get_context(method).Pool(1)
    pids.put(pool._pool[0].pid)
    time.sleep(1000)


def test_workers_end_with_the_pools_process(ctx):
    pids = ctx.Queue()
    owner = ctx.Process(target=have_a_pool, args=(pids, ctx.get_start_method()))
    owner.start()
    workers = [pids.get(timeout=60) for _ in range(4)]
    owner.kill()
    owner.join()
    wait_for(lambda: all(map(is_gone, workers)))


def test_a_storm_of_kills(ctx):
    with ctx.Pool(2) as pool:
        results = pool.with_options(retries=100).imap_unordered(square, range(20_000))
        seen = []
        for number, result in enumerate(results):
            seen.append(result)
            if number % 2000 == 0:
                with contextlib.suppress(IndexError, ValueError):
                    pool._pool[0].kill()
        assert sorted(seen) == [x * x for x in range(20_000)]
    pool.join()


def test_no_warnings_are_about_us():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with procession.get_context("spawn").Pool(1) as pool:
            pool.apply(square, (1,))
    assert not caught


def test_the_module_has_the_names_of_its_twin():
    import multiprocessing.pool

    for name in multiprocessing.pool.__all__:
        assert hasattr(pools, name)


class ShortOfProcesses(pools.Pool):
    started = []

    @classmethod
    def Process(cls, ctx, *args, **kwds):
        if len(cls.started) == 2:
            raise OSError("no more processes")
        cls.started.append(ctx.Process(*args, **kwds))
        return cls.started[-1]


def test_a_pool_that_cannot_start_all_workers_leaves_none(ctx, monkeypatch):
    monkeypatch.setattr(ShortOfProcesses, "started", [])
    with pytest.raises(OSError, match="no more processes"):
        ShortOfProcesses(3, context=ctx)
    assert [worker.is_alive() for worker in ShortOfProcesses.started] == [False, False]
