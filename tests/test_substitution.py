"""Substitution in the wild: what others built on `multiprocessing` and `concurrent.futures`, handed our contexts, pools, processes and queues."""

import contextlib
import logging
import logging.handlers
import multiprocessing
import multiprocessing.pool
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent import futures
from multiprocessing.connection import wait
from multiprocessing.reduction import ForkingPickler

import dask
import dask.bag
import joblib
import numpy as np
import pytest
from substitution.backend import PoolBackend
from substitution.loader import Loader

import procession
from procession import queues

PATIENCE = 60
TESTS = pathlib.Path(__file__).parent

pytestmark = pytest.mark.leaves("joblib: a resource tracker of its own, for good")


def square(x):
    return x * x


def fail(x):
    raise KeyError(x)


def die(x):
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, condition
        time.sleep(0.01)
    return found


# PyTorch's DataLoader.


class Squares:
    """A dataset, with an item that kills and one that fails."""

    def __init__(self, length, deadly=None, failing=None):
        self.length, self.deadly, self.failing = length, deadly, failing

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if index == self.failing:
            raise LookupError(f"no {index}")
        return np.full(100, index * index)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_data_loader(ctx, workers):
    loader = Loader(Squares(103), 10, workers, multiprocessing_context=ctx)
    for _ in range(2):
        batches = list(loader)
        assert [len(batch) for batch in batches] == [10] * 10 + [3]
        assert [int(item[99]) for batch in batches for item in batch] == [x * x for x in range(103)]


def test_a_data_loader_that_is_left_early(ctx):
    batches = iter(Loader(Squares(1000), 10, 2, multiprocessing_context=ctx))
    assert len(next(batches)) == 10
    batches.close()


def test_a_data_loader_whose_dataset_fails(ctx):
    with pytest.raises(LookupError, match="in a worker: no 55"):
        list(Loader(Squares(100, failing=55), 10, 2, multiprocessing_context=ctx))


def test_a_data_loader_whose_worker_is_killed(ctx):
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        list(Loader(Squares(100, deadly=55), 10, 2, multiprocessing_context=ctx))


# joblib.


@pytest.fixture
def arrays():
    generator = np.random.default_rng(7)
    x = generator.normal(size=(600, 8))
    return x, x @ np.arange(8.0) + generator.normal(size=600) * 0.1


def score(x, y, train, test):
    """Fit a line to one part and score it on the other, as a step of cross validation."""
    coefficients = np.linalg.lstsq(x[train], y[train], rcond=None)[0]
    residual = y[test] - x[test] @ coefficients
    return 1 - residual.var() / y[test].var()


def folds(length, number):
    for part in np.array_split(np.arange(length), number):
        yield np.setdiff1d(np.arange(length), part), part


def cross_validate(arrays, **how):
    x, y = arrays
    parallel = joblib.Parallel(**how)
    return parallel(joblib.delayed(score)(x, y, train, test) for train, test in folds(len(x), 5))


def test_joblib_with_our_context(ctx, arrays):
    """The stdlib's pool under joblib's memory-mapping one, with our processes, pipes and locks."""
    parallel = joblib.Parallel(n_jobs=2, backend=ctx)
    assert parallel(joblib.delayed(square)(x) for x in range(50)) == [x * x for x in range(50)]
    assert cross_validate(arrays, n_jobs=2, backend=ctx) == cross_validate(arrays, n_jobs=1)
    assert min(cross_validate(arrays, n_jobs=2, backend=ctx, max_nbytes=100)) > 0.99
    with pytest.raises(KeyError):
        parallel(joblib.delayed(fail)(x) for x in range(3))


def test_joblib_on_our_pool(ctx, arrays):
    with ctx.Pool(2) as pool, joblib.parallel_config(backend=PoolBackend(executor=pool)):
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(square)(x) for x in range(500)) == [x * x for x in range(500)]
        assert cross_validate(arrays, n_jobs=2) == cross_validate(arrays, n_jobs=1, backend="sequential")
        generator = joblib.Parallel(n_jobs=2, return_as="generator")(joblib.delayed(square)(x) for x in range(50))
        assert list(generator) == [x * x for x in range(50)]
        with pytest.raises(KeyError):
            joblib.Parallel(n_jobs=2)(joblib.delayed(fail)(x) for x in range(3))
        with pytest.raises(futures.process.BrokenProcessPool):
            joblib.Parallel(n_jobs=2)(joblib.delayed(die)(x) for x in range(1))
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(square)(x) for x in range(5)) == [0, 1, 4, 9, 16]
    pool.join()


# The stdlib's own pool and executor.


def test_the_stdlibs_pool_with_our_context(ctx):
    with multiprocessing.pool.Pool(2, context=ctx) as pool:
        assert pool.map(square, range(1000), 3) == [x * x for x in range(1000)]
        assert sorted(pool.imap_unordered(square, range(50))) == [x * x for x in range(50)]
        with pytest.raises(KeyError):
            pool.apply(fail, (1,))
    pool.join()


def test_the_stdlibs_pool_with_our_context_ended_while_busy(ctx):
    """It then empties its queue, competing with its workers."""
    for _ in range(5):
        with multiprocessing.pool.Pool(2, context=ctx) as pool:
            pool.map_async(square, range(20000), 1)
        pool.join()


def test_the_stdlibs_executor_with_our_context(ctx):
    with futures.ProcessPoolExecutor(2, mp_context=ctx) as executor:
        assert list(executor.map(square, range(200), chunksize=7)) == [x * x for x in range(200)]
        with pytest.raises(KeyError):
            executor.submit(fail, 1).result(PATIENCE)
        with pytest.raises(futures.process.BrokenProcessPool):
            executor.submit(die, 1).result(PATIENCE)


def test_the_stdlibs_executor_whose_workers_are_killed(ctx):
    """Again and again, at any moment: every future has a result or is broken, and the executor ends."""
    for cycle in range(20 if ctx.get_start_method() == "fork" else 4):
        with futures.ProcessPoolExecutor(2, mp_context=ctx) as executor:
            pending = [executor.submit(square, x) for x in range(50)]
            if cycle % 2:
                pending[-1].result(PATIENCE)
            os.kill(list(executor._processes)[cycle % 2], signal.SIGKILL)
            assert not futures.wait(pending, PATIENCE).not_done
            for x, future in enumerate(pending):
                with contextlib.suppress(futures.process.BrokenProcessPool):
                    assert future.result() == x * x


def test_our_pool_is_one_of_the_stdlibs(ctx):
    with ctx.Pool(1) as pool:
        assert isinstance(pool, multiprocessing.pool.Pool)
    pool.join()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("make", ["Queue", "SimpleQueue", "Pipe", "Lock", "Condition", "Event", "Barrier", "Semaphore"])
def test_what_is_ours_is_refused_by_processes_that_the_stdlib_spawns(method, make):
    """They are not of the family. The parent is told, and does not wait for a child that dies of it: mpire would for ever."""
    shared = getattr(procession, make)(*[1] * (make == "Barrier"))
    process = multiprocessing.get_context(method).Process(target=square, args=(shared,))
    with pytest.raises(RuntimeError, match="cannot be given to a process that multiprocessing spawns"):
        process.start()


class Wrapped:
    """A side of a queue with other ways to send and receive, as PyTorch's queues have."""

    def __init__(self, side):
        self.side = side

    def send(self, obj):
        self.side.send_bytes(ForkingPickler.dumps(obj))

    def recv(self):
        return ForkingPickler.loads(self.side.recv_bytes())

    def __getattr__(self, name):
        if name == "side":
            raise AttributeError(name)
        return getattr(self.side, name)


def test_a_queue_whose_sides_are_wrapped(ctx):
    class Wrapping(queues.Queue):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._reader, self._writer = Wrapped(self._reader), Wrapped(self._writer)

    with contextlib.closing(Wrapping(ctx=ctx)) as queue:
        queue._writer.send([1, 2])
        queue.put({3})
        assert queue._reader.poll()
        assert queue._reader.recv() == [1, 2]
        with queue._rlock:
            assert queue._reader.recv() == {3}
        assert wait([queue._reader], 0) == []


def test_names_that_others_import():
    """dill does, and PyTorch imports dill."""
    from procession.reduction import _reduce_socket

    assert _reduce_socket is multiprocessing.reduction._reduce_socket


def test_the_stdlibs_wait_takes_our_sentinels_and_pipes(ctx):
    reader, writer = ctx.Pipe(duplex=False)
    with contextlib.closing(ctx.Queue()) as queue:
        process = ctx.Process(target=writer.send, args=("hello",))
        process.start()
        left, found = {reader, process.sentinel, queue._reader}, []
        while len(left) > 1:
            for ready in wait(left, PATIENCE):
                left.discard(ready)
                found.append(reader.recv() if ready is reader else ready)
        assert set(found) == {"hello", process.sentinel}
        process.join()
    reader.close()
    writer.close()


# Dask.


def word_lengths():
    words = dask.bag.from_sequence(["procession", "of", "many", "processes"] * 5, npartitions=4)
    return words.map(len).frequencies()


def test_dask_on_our_pool(ctx):
    with ctx.Pool(2) as pool, dask.config.set(pool=pool):
        assert dict(word_lengths().compute(scheduler="processes")) == {10: 5, 2: 5, 4: 5, 9: 5}
        with pytest.raises(KeyError):
            dask.bag.from_sequence([1], npartitions=1).map(fail).compute(scheduler="processes")
    pool.join()


# uvicorn, and Django's autoreloader.


def children(pid):
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        yield from (int(child) for child in (task / "children").read_text().split())


def test_uvicorn_with_two_workers(method, tmp_path):
    port_file = tmp_path / "port"
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "substitution.service", method, str(port_file)]
    with (tmp_path / "log").open("w+") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{wait_for(lambda: port_file.exists() and port_file.read_text())}"
            first, second = answering(url, 2, server)
            assert server.pid not in (first, second)
            # A killed worker is replaced.
            os.kill(first, signal.SIGKILL)
            assert first not in answering(url, 2, server, without={first})
            server.terminate()
            assert server.wait(PATIENCE) == 0
        finally:
            server.kill()
            server.wait()
            log.seek(0)
            print(log.read())


def answering(url, number, server, without=frozenset()):
    """Ask until so many workers have answered; their pids."""
    pids = set()

    def enough():
        assert server.poll() is None, "the server has ended"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            pids.add(int(answer.read()))
        return len(pids - without) >= number

    wait_for(enough)
    return pids - without


def serve_until_changed(path, seen):
    """Be a server that exits with 3 when its source changes, as Django's does."""
    before = path.read_text()
    seen.put(before)
    while path.read_text() == before:
        time.sleep(0.01)
    sys.exit(3)


def test_a_reloader(ctx, tmp_path):
    source = tmp_path / "views.py"
    source.write_text("0")
    seen = ctx.SimpleQueue()
    for version in range(3):
        process = ctx.Process(target=serve_until_changed, args=(source, seen))
        process.start()
        assert seen.get() == str(version)
        assert process.is_alive()
        source.write_text(str(version + 1))
        process.join(PATIENCE)
        assert process.exitcode == 3
    seen.close()


# logging.


def log_from_a_process(queue, number):
    logger = logging.getLogger("wild")
    logger.handlers[:] = [logging.handlers.QueueHandler(queue)]
    logger.setLevel(logging.INFO)
    logger.info("hello from %d", number)
    try:
        fail(number)
    except KeyError:
        logger.exception("failed")


class Collecting(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_logging_through_our_queue(ctx, kind):
    queue, handler = getattr(ctx, kind)(), Collecting()
    listener = logging.handlers.QueueListener(queue, handler)
    listener.start()
    processes = [ctx.Process(target=log_from_a_process, args=(queue, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    listener.stop()
    hello = [line for line in handler.lines if line.startswith("hello")]
    assert sorted(hello) == ["hello from 0", "hello from 1", "hello from 2"]
    assert sum("KeyError" in line for line in handler.lines) == 3
    queue.close()
