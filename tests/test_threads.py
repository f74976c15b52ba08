"""Many threads share one object of ours: nothing is lost, nothing comes twice, nothing crashes. With the interpreter's lock, threads change hands often here; without it, they run at once."""

import collections
import concurrent.futures
import contextlib
import ctypes
import sys
import threading

import pytest
from conftest import PATIENCE

import procession as mp
import procession.futures

THREADS = 8
ROUNDS = 200


@pytest.fixture(autouse=True)
def restless():
    """Have threads change hands as often as the interpreter lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*jobs):
    """Run each of `jobs` in a thread of its own, all begun at once; return what they returned."""
    start = threading.Barrier(len(jobs))

    def begin(job):
        start.wait(PATIENCE)
        return job()

    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as threads:
        futures = [threads.submit(begin, job) for job in jobs]
        return [future.result(PATIENCE * 3) for future in futures]


def in_threads(job):
    """Run `job(number)` in many threads at once; return what they returned."""
    return together(*(lambda number=number: job(number) for number in range(THREADS)))


def numbered(number):
    return [(number, step) for step in range(ROUNDS)]


def everything():
    return collections.Counter(item for number in range(THREADS) for item in numbered(number))


def square(x):
    return x * x


@pytest.mark.parametrize("make", [mp.Queue, mp.SimpleQueue, lambda: mp.Queue(3)], ids=["queue", "simple", "bounded"])
def test_queue_loses_nothing(make):
    queue = make()

    def produce(number):
        for item in numbered(number):
            queue.put(item)

    def consume():
        return [queue.get() for _ in range(ROUNDS)]

    producers = [lambda number=number: produce(number) for number in range(THREADS)]
    taken = together(*producers, *[consume] * THREADS)
    assert collections.Counter(item for items in taken[THREADS:] for item in items) == everything()
    assert queue.empty()


def test_joinable_queue_counts_right():
    queue = mp.JoinableQueue()

    def work(number):
        for item in numbered(number):
            queue.put(item)
            queue.get()
            queue.task_done()

    in_threads(work)
    queue.join()
    with pytest.raises(ValueError, match="too many"):
        queue.task_done()


def test_containers_that_change_while_they_are_put():
    # In all forms: plain, and as a pickle, which may say that the dict changed.
    queue = mp.Queue()
    shared_dict, shared_list = {0: [0]}, [{0: 0}]
    stop = threading.Event()

    def change():
        while not stop.is_set():
            for size in (3, 20, 100):
                for number in range(size):
                    shared_dict[number] = [number] * (number % 5)
                    shared_list.append({number: number})
                shared_dict.clear()
                shared_list.clear()

    def put():
        arrived = 0
        for _ in range(ROUNDS):
            for value in (shared_dict, shared_list, (shared_dict, shared_list)):
                with contextlib.suppress(RuntimeError):
                    queue.put(value)
                    arrived += type(queue.get()) is type(value)
        return arrived

    def put_all():
        try:
            return put()
        finally:
            stop.set()

    _, arrived = together(change, put_all)
    assert 0 < arrived <= 3 * ROUNDS
    assert queue.empty()


def test_connection_keeps_messages_whole():
    left, right = mp.Pipe()

    def send(number):
        for item in numbered(number):
            size = item[1] * 7
            left.send((item, b"x" * size, size))

    def receive():
        received = []
        for _ in range(ROUNDS):
            item, filler, size = right.recv()
            assert len(filler) == size
            received.append(item)
        return received

    senders = [lambda number=number: send(number) for number in range(THREADS)]
    received = together(*senders, *[receive] * THREADS)
    assert collections.Counter(item for items in received[THREADS:] for item in items) == everything()
    left.close()
    right.close()


def test_descriptors_are_made_once():
    for _ in range(20):
        left, right = mp.Pipe()
        queue = mp.Queue()
        for fileno in (right.fileno, queue._fileno):
            assert len(set(in_threads(lambda _, fileno=fileno: fileno()))) == 1
        left.close()
        right.close()


def test_connection_closed_by_another_thread():
    for _ in range(10):
        left, right = mp.Pipe()

        def use(number, left=left):
            if number == 0:
                return left.close()
            with contextlib.suppress(OSError):
                for _ in range(ROUNDS):
                    left.poll()
                    left.fileno()
                    left.send(number)

        in_threads(use)
        assert left.closed
        right.close()


@pytest.mark.parametrize("make", [mp.Lock, mp.RLock, mp.Semaphore, mp.Condition], ids=lambda make: make.__name__)
def test_one_at_a_time(make):
    lock = make()
    inside = 0
    entered = 0

    def work(_):
        nonlocal inside, entered
        for _ in range(ROUNDS):
            with lock:
                inside += 1
                assert inside == 1
                entered += 1
                inside -= 1

    in_threads(work)
    assert entered == THREADS * ROUNDS


def test_condition_hands_over_every_item():
    condition, items = mp.Condition(), []

    def give():
        for number in range(ROUNDS):
            with condition:
                items.append(number)
                condition.notify()

    def take():
        taken = []
        for _ in range(ROUNDS):
            with condition:
                assert condition.wait_for(lambda: items, PATIENCE)
                taken.append(items.pop())
        return taken

    taken = together(*[give] * 4, *[take] * 4)
    everyone = collections.Counter(number for numbers in taken[4:] for number in numbers)
    assert everyone == dict.fromkeys(range(ROUNDS), 4)


def test_barrier_of_threads():
    barrier = mp.Barrier(THREADS)
    places = in_threads(lambda _: [barrier.wait(PATIENCE) for _ in range(50)])
    assert all(sorted(turn) == list(range(THREADS)) for turn in zip(*places, strict=True))


def test_event_wakes_all():
    event = mp.Event()
    waiters = [lambda: event.wait(PATIENCE)] * THREADS
    assert all(together(*waiters, lambda: event.set() or True))


def test_value_adds_up():
    value = mp.Value("q", 0)

    def add(_):
        for _ in range(ROUNDS):
            with value.get_lock():
                value.value += 1

    in_threads(add)
    assert value.value == THREADS * ROUNDS


def test_views_of_shared_memory():
    array = mp.RawArray(ctypes.c_byte, THREADS * ROUNDS)

    def fill(number):
        for step in range(ROUNDS):
            with memoryview(array) as view:
                view.cast("B")[number * ROUNDS + step] = number

    in_threads(fill)
    assert bytes(array) == b"".join(bytes([number]) * ROUNDS for number in range(THREADS))


def test_large_buffers_arrive_whole():
    queue = mp.Queue()
    size = 256 * 1024

    def work(number):
        for _ in range(10):
            queue.put(bytearray([number]) * size)
            arrived = queue.get()
            assert len(arrived) == size
            assert arrived.count(arrived[0]) == size

    in_threads(work)
    assert queue.empty()


def test_pool_answers_each_caller(ctx):
    with ctx.Pool(2) as pool:

        def call(number):
            base = number * 1000
            inputs = range(base, base + 30)
            squares = [x * x for x in inputs]
            assert pool.map(square, inputs, chunksize=4) == squares
            assert list(pool.imap(square, inputs)) == squares
            assert sorted(pool.imap_unordered(square, inputs)) == squares
            assert [pool.apply(square, (x,)) for x in inputs] == squares
            assert pool.apply(lambda x: x + number, (1,)) == number + 1
            return len(squares)

        assert in_threads(call) == [30] * THREADS


def test_functions_that_all_threads_send_first(method):
    # Each is new to the pool when all threads send it at once.
    with mp.get_context(method).Pool(2) as pool:
        for function in (abs, hex, bin, oct, len, repr, ascii, hash):
            argument = "text" if function is len else 3
            found = in_threads(lambda _, function=function, argument=argument: pool.apply(function, (argument,)))
            assert found[0] is not None
            assert len(set(found)) == 1 or function is hash


def test_one_stream_of_many_takers():
    with mp.get_context("fork").Pool(2) as pool:
        for chunksize in (1, 3):
            results = pool.imap_unordered(square, range(ROUNDS), chunksize)
            taken = in_threads(lambda _, results=results: list(results))
            assert sorted(x for part in taken for x in part) == [x * x for x in range(ROUNDS)]


def test_one_future_asked_by_all():
    with procession.futures.ProcessPoolExecutor(2, mp_context=mp.get_context("fork")) as executor:
        for _ in range(20):
            future = executor.submit(list, range(3))
            answers = in_threads(lambda _, future=future: future.result(PATIENCE))
            assert answers == [[0, 1, 2]] * THREADS
            assert len({id(answer) for answer in answers}) == 1
        called = collections.Counter()
        done = threading.Semaphore(0)

        def note(future):
            called[future.result()] += 1
            done.release()

        def submit(number):
            for step in range(ROUNDS // 4):
                executor.submit(square, number * ROUNDS + step).add_done_callback(note)

        in_threads(submit)
        for _ in range(THREADS * (ROUNDS // 4)):
            assert done.acquire(timeout=PATIENCE)
        assert set(called.values()) == {1}


def test_proxy_of_all_threads(ctx):
    with ctx.Manager() as manager:
        shared, counts = manager.list(), manager.dict()

        def work(number):
            for item in numbered(number)[:50]:
                shared.append(item)
                counts[item] = number

        in_threads(work)
        items = [item for number in range(THREADS) for item in numbered(number)[:50]]
        assert sorted(shared) == items
        assert dict(counts) == {item: item[0] for item in items}


def test_objects_come_and_go_in_all_threads():
    def work(number):
        for step in range(40):
            queue, lock, event = mp.Queue(), mp.Lock(), mp.Event()
            queue.put((lock, event, step))
            received, _, came = queue.get()
            with received:
                assert not lock.acquire(block=False)
            assert came == step
            memory = mp.Value("i", number)
            assert memory.value == number

    in_threads(work)
