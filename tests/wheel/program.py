"""What must work where the wheel was just installed, with nothing else there."""

import concurrent.futures
import sys

import procession as mp
import procession.futures


def square(x):
    return x * x


def serve(tasks, results):
    for number in iter(tasks.get, None):
        results.put(square(number))


def try_out(ctx):
    with ctx.Pool(2) as pool:
        assert pool.map(square, range(100)) == [x * x for x in range(100)]
        assert pool.apply(lambda x: x + 1, (1,)) == 2
    with procession.futures.ProcessPoolExecutor(2, mp_context=ctx) as executor:
        futures = [executor.submit(square, x) for x in range(10)]
        assert sum(future.result() for future in concurrent.futures.as_completed(futures)) == 285
    tasks, results = ctx.Queue(), ctx.SimpleQueue()
    process = ctx.Process(target=serve, args=(tasks, results))
    process.start()
    for number in (1, 2, 3, None):
        tasks.put(number)
    assert [results.get() for _ in range(3)] == [1, 4, 9]
    process.join()
    assert process.exitcode == 0
    with ctx.Manager() as manager:
        assert manager.dict({"a": 1}).copy() == {"a": 1}
    assert ctx.Value("i", 3).value == 3


if __name__ == "__main__":
    for method in mp.get_all_start_methods():
        try_out(mp.get_context(method))
    print(f"{sys.version.split()[0]}: procession {mp.__version__} works, {', '.join(mp.get_all_start_methods())}")
