"""A program as users write it, for the type checker: what the package promises about types. Never run, as it waits for itself; see `test_typing.py`."""

import asyncio
import concurrent.futures
import ctypes
import multiprocessing
import multiprocessing.context
from collections.abc import Iterator
from typing import Any, assert_type

import procession as mp
from procession import connection, context, futures, managers, pool, queues, shared_memory, sharedctypes, synchronize


def square(number: int) -> float:
    return number**2


def name_of(number: int, prefix: str = "") -> str:
    return f"{prefix}{number}"


def worker(tasks: mp.Queue[int], results: mp.SimpleQueue[float]) -> None:
    for number in iter(tasks.get, 0):
        results.put(square(number))
    results.put("end")  # type: ignore[arg-type]


def processes() -> None:
    tasks: mp.Queue[int] = mp.Queue()
    results: mp.SimpleQueue[float] = mp.SimpleQueue()
    process = mp.Process(target=worker, args=(tasks, results), name="squares", daemon=True)
    process.start()
    assert_type(process.pid, int | None)
    assert_type(process.exitcode, int | None)
    process.interrupt()
    process.join(timeout=1.5)
    assert_type(mp.active_children(), list[multiprocessing.process.BaseProcess])
    assert_type(mp.cpu_count(), int)
    assert_type(mp.__version__, str)


def contexts() -> None:
    assert_type(mp.get_context("fork"), context.ForkContext)
    assert_type(mp.get_context("spawn").Process(target=print), context.SpawnProcess)
    mp.get_context().Process(target=print).start()
    # Code that takes a context of `multiprocessing` takes ours.
    theirs: multiprocessing.context.BaseContext = mp.get_context("forkserver")
    assert_type(theirs.cpu_count(), int)
    assert_type(mp.get_context("spawn").Queue(3), queues.Queue[Any])
    assert_type(mp.get_all_start_methods(), list[str])
    assert_type(mp.get_start_method(), str)
    mp.set_start_method("spawn", force=True)


def all_queues() -> None:
    queue: queues.Queue[int] = mp.Queue(maxsize=3)
    queue.put(1, timeout=0.5)
    queue.put("one")  # type: ignore[arg-type]
    assert_type(queue.get(block=False), int)
    assert_type(queue.get_nowait(), int)
    joinable: mp.JoinableQueue[str] = mp.JoinableQueue()
    joinable.task_done()
    joinable.join()
    assert_type(joinable.get(), str)


def pipes() -> None:
    left: connection.Connection[int, str]
    right: connection.Connection[str, int]
    left, right = mp.Pipe()
    left.send(1)
    left.send("1")  # type: ignore[arg-type]
    assert_type(left.recv(), str)
    assert_type(right.recv(), int)
    assert_type(connection.wait([left], timeout=0), list[connection.Connection[int, str]])
    process = mp.Process(target=print)
    queue: queues.Queue[int] = mp.Queue()
    ready = connection.wait([left, queue, process.sentinel])
    assert left in ready
    with connection.Listener("address", authkey=b"key") as listener, listener.accept() as accepted:
        accepted.send_bytes(b"")


def locks() -> None:
    lock = mp.Lock()
    assert_type(lock, synchronize.Lock)
    with lock:
        assert_type(lock.recovered, bool)
    assert_type(lock.acquire(timeout=1), bool)
    assert_type(lock.locked(), bool)
    lock.strict = True
    condition = mp.Condition(lock)
    with condition:
        assert_type(condition.wait_for(lambda: 3), int)
        condition.notify(2)
    assert_type(condition.acquire(block=False), bool)
    assert_type(mp.Semaphore(2).get_value(), int)
    assert_type(mp.BoundedSemaphore(), synchronize.BoundedSemaphore)
    assert_type(mp.Event().wait(1), bool)
    assert_type(mp.Barrier(2, action=lambda: None).wait(), int)


def values() -> None:
    assert_type(mp.Value(ctypes.c_double, 1.5), sharedctypes.Synchronized[float])
    assert_type(mp.Value(ctypes.c_int, 1).value, int)
    assert_type(mp.Value(ctypes.c_int, 1, lock=False), ctypes.c_int)
    assert_type(mp.Value("i", 1), sharedctypes.Synchronized[Any])
    assert_type(mp.Array(ctypes.c_int, 3)[0], int)
    assert_type(mp.Array(ctypes.c_char, b"abc").value, bytes)
    assert_type(mp.RawArray(ctypes.c_int, 3), ctypes.Array[ctypes.c_int])
    with mp.Value("i", 0).get_lock():
        pass
    memory = shared_memory.SharedMemory(create=True, size=10, track=False)
    assert_type(memory.name, str)
    assert_type(shared_memory.ShareableList([1, 2])[0], int)


def pools() -> None:
    with mp.Pool(4, initializer=print, initargs=("hello",)) as workers:
        assert_type(workers, pool.Pool)
        assert_type(workers.map(square, range(10)), list[float])
        assert_type(workers.apply(name_of, (1,), {"prefix": "n"}), str)
        assert_type(workers.apply_async(square, (3,)).get(timeout=1), float)
        assert_type(workers.map_async(square, [1, 2]).get(), list[float])
        assert_type(workers.starmap(name_of, [(1, "n")]), list[str])
        assert_type(next(workers.imap(square, range(10), buffersize=4)), float)
        for result in workers.imap_unordered(square, range(10)):
            assert_type(result, float)
        careful = workers.with_options(timeout=5, retries=2)
        assert_type(careful.map(square, [1]), list[float])
        try:
            workers.map(square, ["one"])  # type: ignore[arg-type]
        except pool.WorkerDied as died:
            assert_type(died.signal, int | None)


def serve() -> None:
    with mp.Manager() as manager:
        assert_type(manager, managers.SyncManager)
        assert_type(manager.dict({"a": 1}), managers.DictProxy[str, int])
        assert_type(manager.dict({"a": 1}) | {"b": 2}, dict[str, int])
        assert_type(manager.list([1])[0], int)
        assert_type(manager.set([1]).union({2}), set[int])
        assert_type(manager.Value("i", 1).value, int)
        shared: multiprocessing.managers.ListProxy[int] = manager.list([1])
        shared.append(1)


async def executors() -> None:
    with futures.ProcessPoolExecutor(
        2, mp_context=mp.get_context("spawn"), initializer=print, initargs=("a",)
    ) as executor:
        future = executor.submit(name_of, 1, prefix="n")
        assert_type(future, futures.Future[str])
        assert_type(future.result(timeout=1), str)
        executor.submit(name_of, "one")  # type: ignore[arg-type]
        assert_type(executor.map(square, [1, 2], buffersize=3), Iterator[float])
        assert_type(await asyncio.get_running_loop().run_in_executor(executor, square, 3), float)
        assert_type(next(concurrent.futures.as_completed([future])).result(), str)
        executor.with_options(timeout=3).submit(square, 3)
        executor.terminate_workers()
    standard: concurrent.futures.Executor = executor
    standard.shutdown(cancel_futures=True)
