"""Executors: what `concurrent.futures` does, and what it does not."""

import asyncio
import concurrent.futures
import gc
import itertools
import operator
import os
import signal
import sys
import threading
import time

import program
import pytest

import procession
from procession.futures import (
    BrokenProcessPool,
    CancelledError,
    Future,
    PoolTerminated,
    ProcessPoolExecutor,
    TaskTimeout,
    ThreadPoolExecutor,
    TransportError,
    WorkerDied,
    as_completed,
    wait,
)


def square(x):
    return x * x


def add(x, y=0):
    return x + y


def fail(x):
    raise KeyError(x)


def wait_for(condition):
    while not condition():
        time.sleep(0.001)


@pytest.fixture
def executor(ctx):
    with ProcessPoolExecutor(2, ctx) as executor:
        yield executor


CALLBACKS = """
    import sys, time, procession as mp
    from procession.futures import ProcessPoolExecutor

    def call(future):
        time.sleep(0.05)
        print(future.result(), flush=True)

    def call_pool(result):
        print("begun", flush=True)
        time.sleep(1000)

    if __name__ == "__main__":
        ctx = mp.get_context(sys.argv[1])
        with ProcessPoolExecutor(2, ctx) as executor:
            for x in range(-5, 0):
                executor.submit(abs, x).add_done_callback(call)
        print("shut down", flush=True)
        executor = ProcessPoolExecutor(2, ctx)
        for x in range(-5, 0):
            executor.submit(abs, x).add_done_callback(call)
        # Whoever ends the program in a callback of a pool is not waited for, and stopped without a word.
        pool = ctx.Pool(1)
        if sys.argv[2] == "pool":
            executor.shutdown()
            result = pool.apply_async(abs, (1,), callback=call_pool)
            result.wait_done()
            time.sleep(0.1)
    """


@pytest.mark.parametrize("last", ["executor", "pool"])
def test_callbacks_have_been_called_when_the_executor_is_shut_down(method, tmp_path, last):
    code, output, errors = program.run(tmp_path, CALLBACKS, method, last)
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert sorted(lines[:5]) == list("12345")
    assert lines[5] == "shut down"
    assert sorted(lines[6:11]) == list("12345")
    assert lines[11:] == (["begun"] if last == "pool" else [])


def test_calls(executor):
    assert executor.submit(square, 5).result() == 25
    assert executor.submit(add, 1, y=2).result() == 3
    futures = [executor.submit(square, x) for x in range(200)]
    assert [future.result() for future in futures] == [square(x) for x in range(200)]
    assert isinstance(executor, concurrent.futures.Executor)
    assert isinstance(futures[0], concurrent.futures.Future)


def test_a_future_says_how_it_is(executor):
    future = executor.submit(square, 3)
    assert future.result() == future.result(timeout=0) == 9
    assert future.done() and not future.cancelled() and not future.running() and not future.cancel()
    assert future.exception() is None
    assert repr(future).endswith("state=finished returned int>")
    future = executor.submit(fail, 1)
    assert isinstance(future.exception(), KeyError)
    with pytest.raises(KeyError):
        future.result()
    assert repr(future).endswith("state=finished raised KeyError>")
    with pytest.raises(TypeError):
        future.result("soon")


def test_tracebacks_arrive_whole(executor):
    cause = executor.submit(fail, 1).exception().__cause__
    assert type(cause) is concurrent.futures.process._RemoteTraceback
    assert "raise KeyError(x)" in str(cause)


def test_time_runs_out(executor):
    future = executor.submit(time.sleep, 1000)
    wait_for(future.running)
    for ask in (future.result, future.exception):
        with pytest.raises(TimeoutError):
            ask(timeout=0.01)
    assert repr(future).endswith("state=running>")
    assert not future.cancel()
    assert future.abort() and future.cancelled()
    for ask in (future.result, future.exception):
        with pytest.raises(CancelledError):
            ask()
    assert repr(future).endswith("state=cancelled>")


def test_what_waits_can_be_cancelled(ctx):
    with ProcessPoolExecutor(1, ctx) as executor:
        first = executor.submit(time.sleep, 1000)
        wait_for(first.running)
        second, third = executor.submit(square, 1), executor.submit(square, 2)
        called = []
        third.add_done_callback(called.append)
        assert second.cancel() and second.cancel() and third.cancel()
        assert called == [third] and third.cancelled()
        done, pending = wait([second, third])
        assert (done, pending) == ({second, third}, set())
        first.abort()
        assert executor.submit(square, 3).result() == 9


def test_callbacks(executor):
    called = []
    future = executor.submit(square, 4)
    future.add_done_callback(lambda future: called.append(future.result()))
    wait_for(lambda: called)
    future.add_done_callback(lambda future: called.append(future.result() + 1))
    assert called == [16, 17]


def test_wait_and_as_completed(executor):
    futures = [executor.submit(square, x) for x in range(50)]
    assert sorted(future.result() for future in as_completed(futures)) == [x * x for x in range(50)]
    done, pending = wait(futures)
    assert (done, pending) == (set(futures), set())
    slow = executor.submit(time.sleep, 1000)
    done, pending = wait([slow, executor.submit(square, 1)], return_when="FIRST_COMPLETED")
    assert pending == {slow}
    done, pending = wait([slow, executor.submit(fail, 1)], return_when="FIRST_EXCEPTION")
    assert pending == {slow}
    with pytest.raises(TimeoutError):
        list(as_completed([slow], timeout=0.01))
    slow.abort()
    wait([slow])


def test_asyncio(executor):
    async def main():
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(executor, square, 5) == 25
        results = await asyncio.gather(*(loop.run_in_executor(executor, square, x) for x in range(20)))
        assert results == [x * x for x in range(20)]
        with pytest.raises(KeyError):
            await asyncio.wrap_future(executor.submit(fail, 1))
        endless = loop.run_in_executor(executor, time.sleep, 1000)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(endless, 0.01)

    asyncio.run(main())
    for process in list(executor._processes.values()):
        process.kill()
    assert executor.submit(square, 2).result() == 4


def wait_until(event):
    if event is not None:
        event.wait()


def test_maps(executor):
    expected = list(map(pow, range(40), range(40)))
    for chunksize in (1, 6, 50):
        assert list(executor.map(pow, range(40), range(40), chunksize=chunksize)) == expected
        lazy = executor.map(pow, iter(range(40)), range(50), chunksize=chunksize, buffersize=3)
        assert list(lazy) == expected
        assert list(executor.map(pow, range(40), range(40), chunksize=chunksize, timeout=1000)) == expected
    go_on = procession.Event()
    with pytest.raises(TimeoutError):
        list(executor.map(wait_until, [None, go_on], timeout=0.01))
    go_on.set()
    results = executor.map(operator.truediv, [1, 1], [1, 0])
    assert next(results) == 1.0
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)
    for wrong, error in ((0, ValueError), (-1, ValueError)):
        with pytest.raises(error):
            executor.map(abs, [1], chunksize=wrong)
        with pytest.raises(error):
            executor.map(abs, [1], buffersize=wrong)
    with pytest.raises(TypeError):
        executor.map(abs, [1], buffersize="1")


def test_endless_maps_are_read_a_little_ahead(executor):
    read = []

    def items():
        for x in itertools.count():
            read.append(x)
            yield x

    results = executor.map(square, items(), buffersize=5)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(read) <= 12
    results.close()


def touch(path):
    with open(path, "w"):
        pass


def test_maps_that_nobody_takes_are_done(ctx, tmp_path):
    with ProcessPoolExecutor(2, ctx) as executor:
        executor.map(touch, [str(tmp_path / str(x)) for x in range(100)])
    assert len(os.listdir(tmp_path)) == 100


def test_a_dead_worker_costs_its_call_alone(executor):
    futures = [executor.submit(square, x) for x in range(20)]
    died = executor.submit(kill_me, signal.SIGKILL)
    futures += [executor.submit(square, x) for x in range(20)]
    error = died.exception()
    assert isinstance(error, WorkerDied) and isinstance(error, BrokenProcessPool)
    assert (error.signal, error.exitcode) == (9, -9)
    assert [future.result() for future in futures] == 2 * [x * x for x in range(20)]


def kill_me(number):
    os.kill(os.getpid(), number)


def leave(code):
    sys.exit(code)


def a_lambda():
    return lambda: 1


class Explosive:
    def __reduce__(self):
        return explode, ()


def explode():
    sys.exit(3)


def make_explosive():
    return Explosive()


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("not me")


def make_unpicklable():
    return Unpicklable()


def test_what_cannot_be_sent_is_an_error_of_its_call(executor):
    with pytest.raises(RuntimeError, match="not me"):
        executor.submit(id, Unpicklable()).result()
    with pytest.raises(RuntimeError, match="not me"):
        executor.submit(make_unpicklable).result()
    with pytest.raises(TransportError):
        executor.submit(id, Explosive()).result()
    with pytest.raises(TransportError):
        executor.submit(make_explosive).result()
    with pytest.raises((AttributeError, TypeError, Exception), match="lambda"):
        executor.submit(a_lambda).result()
    with pytest.raises(SystemExit):
        executor.submit(leave, 3).result()
    assert executor.submit(square, 2).result() == 4


def test_options(executor):
    with pytest.raises(TaskTimeout):
        executor.with_options(timeout=0.05).submit(time.sleep, 1000).result()
    assert executor.with_options(priority=1, retries=1).submit(square, 2).result() == 4
    assert list(executor.with_options(retries=1).map(square, [1, 2])) == [1, 4]


def test_functions_without_a_name(executor):
    base = 5
    assert executor.submit(lambda x: x + base, 1).result() == 6
    assert list(executor.map(lambda x: x + base, range(3))) == [5, 6, 7]


def set_level(level):
    global LEVEL
    LEVEL = level


def level():
    return LEVEL


def refuse(reason):
    raise OSError(reason)


def test_initializers(ctx, capfd):
    with ProcessPoolExecutor(2, ctx, set_level, (7,)) as executor:
        assert executor.submit(level).result() == 7
    with ProcessPoolExecutor(2, ctx, refuse, ("no database",)) as executor:
        with pytest.raises(BrokenProcessPool, match="no database") as broken:
            executor.submit(level).result()
        assert isinstance(broken.value.__cause__, OSError)
        with pytest.raises(BrokenProcessPool):
            executor.submit(level)
    if ctx.get_start_method() == "spawn":  # elsewhere standard error, or logging, is what pytest made of it
        assert "Exception in initializer" in capfd.readouterr().err


def test_shutdown(ctx):
    executor = ProcessPoolExecutor(2, ctx)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 1)
    executor = ProcessPoolExecutor(2, ctx)
    futures = [executor.submit(square, x) for x in range(50)]
    wait_for(lambda: len(executor._processes) == 2)
    processes = list(executor._processes.values())
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 1)
    assert [future.result() for future in futures] == [x * x for x in range(50)]
    for process in processes:
        process.join()
    executor.shutdown()


def test_shutdown_can_cancel(ctx):
    executor = ProcessPoolExecutor(1, ctx)
    futures = [executor.submit(time.sleep, 0.05) for _ in range(20)]
    wait_for(futures[0].done)
    executor.shutdown(cancel_futures=True)
    assert all(future.done() for future in futures)
    cancelled = [future for future in futures if future.cancelled()]
    assert 10 < len(cancelled) < 20


def test_an_executor_that_is_dropped_does_what_it_was_given(ctx):
    executor = ProcessPoolExecutor(2, ctx)
    results = executor.map(abs, range(-5, 5))
    processes = list(executor._processes.values())
    future = executor.submit(square, 3)
    del executor
    gc.collect()
    for process in processes:
        process.join()
    assert list(results) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]
    assert future.result() == 9


@pytest.mark.parametrize("end", ["terminate_workers", "kill_workers"])
def test_workers_can_be_ended(ctx, end):
    executor = ProcessPoolExecutor(1, ctx)
    running, waiting = executor.submit(time.sleep, 1000), executor.submit(time.sleep, 1000)
    wait_for(running.running)
    getattr(executor, end)()
    assert waiting.cancelled()
    assert isinstance(running.exception(), (WorkerDied, PoolTerminated))
    executor.shutdown()


def test_workers_are_started_when_there_is_something_to_do(ctx):
    with ProcessPoolExecutor(20, ctx) as executor:
        assert not executor._processes
        for x in range(5):
            assert executor.submit(square, x).result() == x * x
        assert len(executor._processes) == (20 if ctx.get_start_method() == "fork" else 1)
        futures = [executor.submit(time.sleep, 1000) for _ in range(3)]
        wait_for(lambda: all(future.running() for future in futures))
        assert len(executor._processes) == (20 if ctx.get_start_method() == "fork" else 3)
        for future in futures:
            future.abort()


def test_workers_are_replaced(ctx):
    if ctx.get_start_method() == "fork":
        with pytest.raises(ValueError, match="incompatible"):
            ProcessPoolExecutor(1, ctx, max_tasks_per_child=3)
        return
    with ProcessPoolExecutor(1, ctx, max_tasks_per_child=3) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(7)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]


def test_bad_arguments():
    with pytest.raises(ValueError, match="greater than 0"):
        ProcessPoolExecutor(0)
    with pytest.raises(TypeError, match="callable"):
        ProcessPoolExecutor(1, initializer=5)
    with pytest.raises(TypeError, match="must be an integer"):
        ProcessPoolExecutor(1, max_tasks_per_child="2")
    with pytest.raises(ValueError, match=">= 1"):
        ProcessPoolExecutor(1, max_tasks_per_child=0)
    assert ProcessPoolExecutor(1, max_tasks_per_child=1)._mp_context.get_start_method() == "spawn"


def nested(method):
    with ProcessPoolExecutor(2, procession.get_context(method)) as executor:
        return list(executor.map(square, range(5)))


def test_executors_in_workers(executor, ctx):
    assert executor.submit(nested, ctx.get_start_method()).result() == [0, 1, 4, 9, 16]


def test_many_threads_submit_and_wait(executor):
    wrong = []

    def work(start):
        futures = [executor.submit(square, x) for x in range(start, start + 50)]
        if [future.result() for future in futures] != [x * x for x in range(start, start + 50)]:
            wrong.append(start)

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


LEFT_OPEN = """
    import procession, sys, time, warnings
    from procession.futures import ProcessPoolExecutor

    if __name__ == "__main__":
        method, end = sys.argv[1:]
        warnings.simplefilter("ignore")
        executor = ProcessPoolExecutor(1, procession.get_context(method))
        executor.submit(time.sleep, 0.05)
        executor.submit(print, "apple", flush=True)
        exec(end)
"""


@pytest.mark.parametrize("end", ["pass", "executor.shutdown(wait=False)", "del executor"])
def test_an_exit_waits_for_what_was_submitted(method, end, tmp_path):
    assert program.run(tmp_path, LEFT_OPEN, method, end) == (0, "apple\n", "")


def test_the_futures_of_threads_are_the_standard_librarys():
    assert ThreadPoolExecutor is concurrent.futures.ThreadPoolExecutor
    assert issubclass(Future, concurrent.futures.Future)
