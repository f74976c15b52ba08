"""Substitution in the wild: what others built on executors, handed ours."""

import asyncio
import concurrent.futures
import functools
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading

import dask
import dask.bag
import joblib
import pytest
from substitution.backend import ExecutorBackend
from tqdm import tqdm
from tqdm.contrib.concurrent import process_map

from procession.futures import ProcessPoolExecutor, ThreadPoolExecutor, WorkerDied

PATIENCE = 60
# No thread that watches the bars, for good.
tqdm.monitor_interval = 0


def square(x):
    return x * x


def fail(x):
    raise KeyError(x)


def die(x):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def executor(ctx):
    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        yield executor


def test_it_is_what_others_ask_for(executor):
    assert isinstance(executor, concurrent.futures.Executor)
    assert isinstance(executor, concurrent.futures.ProcessPoolExecutor)
    assert isinstance(executor.submit(square, 2), concurrent.futures.Future)


def test_waiting_for_futures_of_all_kinds(executor):
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        mixed = [(executor, threads)[x % 2].submit(square, x) for x in range(20)]
        found = {future.result() for future in concurrent.futures.as_completed(mixed, timeout=PATIENCE)}
        assert found == {x * x for x in range(20)}
        assert concurrent.futures.wait(mixed, PATIENCE).done == set(mixed)
        failing = executor.submit(fail, 1)
        done, _ = concurrent.futures.wait([failing, *mixed], PATIENCE, concurrent.futures.FIRST_EXCEPTION)
        assert failing in done
        called = threading.Event()
        executor.submit(square, 3).add_done_callback(lambda future: future.result() == 9 and called.set())
        assert called.wait(PATIENCE)


def test_asyncio(executor):
    async def main():
        loop = asyncio.get_running_loop()
        run = functools.partial(loop.run_in_executor, executor)
        assert await asyncio.gather(*(run(square, x) for x in range(50))) == [x * x for x in range(50)]
        with pytest.raises(KeyError):
            await run(fail, 1)
        with pytest.raises(concurrent.futures.process.BrokenProcessPool):
            await run(die, 1)
        done, pending = await asyncio.wait([run(square, x) for x in range(10)], timeout=PATIENCE)
        assert (sorted(future.result() for future in done), pending) == ([x * x for x in range(10)], set())
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.wrap_future(executor.submit(square, 5)) == 25
        waiting = [run(square, x) for x in range(100)]
        waiting[-1].cancel()
        assert (await asyncio.gather(*waiting, return_exceptions=True))[:99] == [x * x for x in range(99)]

    asyncio.run(main())


def test_asyncio_does_not_stall_while_it_waits(executor, tmp_path):
    """A worker waits for a file that the loop writes: were the loop blocked, it would never come."""

    async def main():
        loop = asyncio.get_running_loop()
        answer = loop.run_in_executor(executor, read_when_there, tmp_path / "file")
        await asyncio.sleep(0)
        (tmp_path / "file.new").write_text("here")
        os.rename(tmp_path / "file.new", tmp_path / "file")
        assert await answer == "here"

    asyncio.run(main())


def read_when_there(path):
    while not path.exists():
        pass
    return path.read_text()


def test_process_map_of_tqdm(ctx, monkeypatch):
    ours = functools.partial(ProcessPoolExecutor, mp_context=ctx)
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", ours)
    bar = io.StringIO()
    found = process_map(square, range(100), max_workers=2, chunksize=1, file=bar, _lock=ctx.RLock())
    assert found == [x * x for x in range(100)]
    assert "100/100" in bar.getvalue()
    assert process_map(square, range(30), max_workers=2, chunksize=10, file=bar, _lock=ctx.RLock())[-1] == 841


def test_process_map_of_tqdm_with_our_context(ctx):
    bar = io.StringIO()
    found = process_map(square, range(50), max_workers=2, file=bar, mp_context=ctx, _lock=ctx.RLock())
    assert found == [x * x for x in range(50)]
    assert "50/50" in bar.getvalue()


def test_a_subclass_whose_submit_counts(ctx):
    class Counting(ProcessPoolExecutor):
        submitted = 0

        def submit(self, fn, /, *args, **kwargs):
            self.submitted += 1
            return super().submit(fn, *args, **kwargs)

    with Counting(1, mp_context=ctx) as executor:
        assert list(executor.map(square, range(10))) == [x * x for x in range(10)]
        assert list(executor.map(square, range(10), chunksize=5)) == [x * x for x in range(10)]
        assert executor.submitted == 12


def test_joblib_on_our_executor(executor):
    with joblib.parallel_config(backend=ExecutorBackend(executor=executor)):
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(square)(x) for x in range(500)) == [x * x for x in range(500)]
        generator = joblib.Parallel(n_jobs=2, return_as="generator_unordered")(
            joblib.delayed(square)(x) for x in range(50)
        )
        assert sorted(generator) == [x * x for x in range(50)]
        with pytest.raises(KeyError):
            joblib.Parallel(n_jobs=2)(joblib.delayed(fail)(x) for x in range(3))
        with pytest.raises(WorkerDied):
            joblib.Parallel(n_jobs=2)(joblib.delayed(die)(x) for x in range(1))


def test_dask_on_our_executor(executor):
    with dask.config.set(pool=executor):
        numbers = dask.bag.from_sequence(range(100), npartitions=10)
        assert numbers.map(lambda x: x % 3).frequencies().compute(scheduler="processes") == [(0, 34), (1, 33), (2, 33)]
        delayed = [dask.delayed(square)(x) for x in range(10)]
        assert dask.delayed(sum)(delayed).compute(scheduler="processes") == 285
        with pytest.raises(KeyError):
            numbers.map(fail).compute(scheduler="processes")


def test_thread_pools():
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(square, range(10))) == [x * x for x in range(10)]
    with multiprocessing.pool.ThreadPool(2) as pool:
        assert pool.map(square, range(10)) == [x * x for x in range(10)]
    pool.join()


ALIASED = """
    import sys
    from substitution import alias
    alias.install()

    import multiprocessing as mp
    from multiprocessing.pool import Pool, ThreadPool
    from multiprocessing import Process, Queue, get_context, current_process, freeze_support
    from multiprocessing.managers import BaseManager
    from multiprocessing.shared_memory import SharedMemory
    from concurrent.futures import ProcessPoolExecutor, as_completed

    def square(x):
        return x * x

    def main():
        assert Pool.__module__ == "procession.pool", Pool
        with ThreadPool(2) as pool:
            assert pool.map(lambda x: x + 1, range(3)) == [1, 2, 3]
        with Pool(2) as pool:
            assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        with ProcessPoolExecutor(2) as executor:
            assert sorted(future.result() for future in as_completed([executor.submit(square, x) for x in range(5)])) == [0, 1, 4, 9, 16]
        queue = Queue()
        process = Process(target=queue.put, args=("hello",))
        process.start()
        assert queue.get() == "hello"
        process.join()
        import joblib
        for backend in ("multiprocessing", "threading"):
            assert joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(square)(x) for x in range(5)) == [0, 1, 4, 9, 16]
        print("done")

    if __name__ == "__main__":
        mp.set_start_method(sys.argv[1])
        freeze_support()
        main()
"""


def test_a_program_that_knows_no_other(method, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(ALIASED))
    command = [sys.executable, "-W", "error", str(script), method]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
