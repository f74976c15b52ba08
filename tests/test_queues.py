"""Queues: what they promise to `multiprocessing`'s users, and what killed processes cannot do to them."""

import collections
import os
import pickle
import queue
import random
import signal
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import procession as mp
from procession import queues
from procession.connection import wait

PATIENCE = 60


def _put_all(target, items):
    for item in items:
        target.put(item)


def _echo(source, target):
    while (item := source.get()) is not None:
        target.put(item)


PLAIN = [
    None,
    True,
    False,
    0,
    -1,
    2**62,
    2**63,
    -(2**63),
    2**200,
    0.5,
    float("inf"),
    "",
    "\u00e9\U0001f600\0",
    "\ud800",
    b"",
    b"\0\x80",
    "x" * 70_000,
    b"y" * 70_000,
    b"z" * 9_000,
    [1, "two", b"three", {"four": (5.0,)}],
    list(range(20_000)),
    tuple(range(65)),
    [None, True, 1, 2**40, -0.5, "\u00e9", b"\0", ""] * 9,
    [2**63] * 65,
    ["\ud800"] * 65,
    [[1], *range(64)],
    [[None] * 65],
    [True] * 65_536,
    [1.5] * 65_537,
    ["x" * 1_000] * 2_000,
    {1, 2, 3},
    range(7),
    int,
    len,
]


def test_items_arrive_as_they_were_put(ctx):
    there, back = ctx.Queue(), ctx.Queue()
    process = ctx.Process(target=_echo, args=(there, back))
    process.start()
    for item in PLAIN[1:]:
        there.put(item)
        received = back.get(timeout=PATIENCE)
        assert type(received) is type(item)
        assert received == item
    there.put(None)
    process.join()
    assert process.exitcode == 0


class Int(int):
    """A subclass keeps its class."""


def test_subclasses_of_plain_types_keep_their_class():
    items = mp.Queue()
    items.put(Int(5))
    received = items.get()
    assert (type(received), received) == (Int, 5)


def test_sizes_do_not_matter_to_the_order():
    items = mp.Queue()
    sizes = [*range(300), 8_191, 8_192, 32_766, 32_767, 32_768, 65_536, 100_000]
    payloads = [kind(str(size % 10) * size) for size in sizes for kind in (str, str.encode)]
    for payload in payloads:
        items.put(payload)
    assert [items.get() for _ in payloads] == payloads
    assert items.empty()


def test_a_bound_counts_items_of_all_sizes():
    items = mp.Queue(3)
    for item in (b"x", 1, "y" * 20_000):
        items.put_nowait(item)
    for item in (b"x", 1, "y" * 20_000, None):
        with pytest.raises(queue.Full):
            items.put_nowait(item)
        with pytest.raises(queue.Full):
            items.put(item, timeout=0.01)
    assert [items.get_nowait() for _ in range(3)] == [b"x", 1, "y" * 20_000]
    with pytest.raises(queue.Empty):
        items.get_nowait()


@pytest.mark.parametrize("size", [0, 1, 8_000, 70_000, 5_000_000])
def test_arrays_arrive_writable(ctx, size):
    there, back = ctx.Queue(), ctx.Queue()
    process = ctx.Process(target=_echo, args=(there, back))
    process.start()
    array = np.arange(size)
    there.put({"array": array, "again": array})
    received = back.get(timeout=PATIENCE)
    there.put(None)
    process.join()
    assert (received["array"] == array).all()
    assert received["again"] is received["array"]
    received["array"] += 1
    assert size == 0 or received["array"][-1] == size


def test_an_array_waits_for_room_without_being_copied_again():
    items = mp.Queue(1)
    items.put(0)
    array = np.ones(1_000_000)
    with pytest.raises(queue.Full):
        items.put(array, timeout=0.01)
    putting = threading.Thread(target=items.put, args=(array,))
    putting.start()
    assert items.get(timeout=PATIENCE) == 0
    assert items.get(timeout=PATIENCE).sum() == 1_000_000
    putting.join()


def test_a_queue_travels_through_a_queue(ctx):
    outer, inner = ctx.Queue(), ctx.Queue()
    outer.put([inner, inner])
    first, second = outer.get()
    assert first is not inner
    assert second is first
    first.put("hello")
    assert inner.get() == "hello"


def test_bounds():
    items = mp.Queue(2)
    assert items._maxsize == 2
    assert not items.full()
    items.put(1)
    items.put(2, block=False)
    assert items.full()
    assert items.qsize() == 2
    with pytest.raises(queue.Full):
        items.put_nowait(3)
    with pytest.raises(queue.Full):
        items.put(3, True, 0.01)
    with pytest.raises(queue.Full):
        items.put(3, 1, -1)
    assert items.get_nowait() == 1
    items.put(3)
    assert [items.get(), items.get()] == [2, 3]
    with pytest.raises(queue.Empty):
        items.get_nowait()
    with pytest.raises(queue.Empty):
        items.get(timeout=0.01)
    assert items.empty()
    assert mp.Queue()._maxsize == mp.Queue(-5)._maxsize == 2**31 - 1


def test_wrong_arguments():
    with pytest.raises(TypeError):
        mp.get_context("fork").Queue("two")
    items = mp.Queue()
    with pytest.raises(TypeError):
        items.put(1, timeout="soon")
    with pytest.raises(ValueError, match="NaN"):
        items.get(timeout=float("nan"))
    with pytest.raises(TypeError):
        items.put()


def test_closed_here_only():
    items = mp.Queue()
    items.put(1)
    items.close()
    items.close()
    items.join_thread()
    items.cancel_join_thread()
    for use in (lambda: items.put(1), items.get, items.get_nowait, lambda: items.put_nowait(1)):
        with pytest.raises(ValueError, match=r"Queue <procession\.queues\.Queue object at .*> is closed"):
            use()
    with pytest.raises(OSError, match="handle is closed"):
        items.empty()
    other = pickle.loads(pickle.dumps(items))
    assert other.get() == 1
    with pytest.raises(AssertionError):
        other.join_thread()
    other.close()
    assert other.empty()


class Stubborn:
    def __reduce__(self):
        raise LookupError("will not be pickled")


def _fail():
    raise LookupError("will not be unpickled")


class Poison:
    def __reduce__(self):
        return _fail, ()


def test_what_cannot_be_pickled_is_an_error_of_put():
    items = mp.Queue(1)
    for _ in range(3):
        with pytest.raises(LookupError, match="will not be pickled"):
            items.put(Stubborn())
    assert items.empty()
    items.put(1)
    assert items.get() == 1


def test_what_cannot_be_unpickled_is_an_error_of_get_and_the_queue_goes_on():
    items = mp.Queue()
    items.put(Poison())
    items.put(2)
    with pytest.raises(LookupError, match="will not be unpickled"):
        items.get()
    assert items.get() == 2


class Telling(queues.Queue):
    told = None

    def _on_queue_feeder_error(self, e, obj):
        self.told = type(e), type(obj)


def test_a_subclass_may_deal_with_what_cannot_be_pickled():
    items = Telling(ctx=mp.get_context())
    items.put(Stubborn())
    assert items.told == (LookupError, Stubborn)
    assert items.empty()


def test_subclasses_travel(ctx):
    items = Telling(3, ctx=ctx)
    there = ctx.Queue()
    there.put(items)
    received = there.get()
    assert type(received) is Telling
    received.put(1)
    assert items.get() == 1


def test_joinable(ctx):
    tasks, done = ctx.JoinableQueue(), ctx.Queue()
    assert isinstance(tasks, queues.Queue)
    process = ctx.Process(target=_work, args=(tasks, done))
    process.start()
    for number in range(100):
        tasks.put(number)
    tasks.join()
    assert sorted(done.get(timeout=PATIENCE) for _ in range(100)) == list(range(100))
    tasks.put(None)
    process.join()
    tasks.task_done()
    with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
        tasks.task_done()
    tasks.join()


def _work(tasks, done):
    while (task := tasks.get()) is not None:
        done.put(task)
        tasks.task_done()


def test_simple(ctx):
    items = ctx.SimpleQueue()
    process = ctx.Process(target=_put_all, args=(items, range(5)))
    process.start()
    assert [items.get() for _ in range(5)] == list(range(5))
    process.join()
    assert items.empty()
    reader, writer = items._reader, items._writer
    assert not reader.poll()
    writer.send("x")
    assert wait([reader], PATIENCE) == [reader]
    assert reader.recv() == "x"
    items.close()
    assert reader.closed
    assert writer.closed
    for use in (items.get, items.empty, lambda: items.put(1), reader.poll, lambda: writer.send(1)):
        with pytest.raises(OSError, match="handle is closed"):
            use()


def test_the_descriptor_of_a_reader_says_whether_there_is_an_item():
    import select

    for items in (mp.Queue(), mp.SimpleQueue()):
        reader = items._reader
        assert select.select([reader], [], [], 0.5)[0] == []
        for _ in range(3):
            items.put(1)
            items.put(2)
            assert select.select([reader], [], [], PATIENCE)[0] == [reader]
            assert reader.recv() == 1
            assert select.select([reader], [], [], PATIENCE)[0] == [reader]
            assert items.get() == 2
            assert select.select([reader], [], [], 0)[0] == []


def test_generic_aliases():
    assert queues.Queue[int].__origin__ is queues.Queue
    assert queues.SimpleQueue[int].__args__ == (int,)


ITEMS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=10,
)
STEPS = st.lists(st.one_of(st.tuples(st.just("put"), ITEMS), st.just(("get", None))), max_size=60)


@settings(deadline=None)
@given(maxsize=st.integers(0, 5), steps=STEPS)
def test_behaves_as_a_deque(maxsize, steps):
    items, model = mp.Queue(maxsize), collections.deque()
    for step, item in steps:
        full = maxsize and len(model) == maxsize
        if step == "put" and full:
            with pytest.raises(queue.Full):
                items.put_nowait(item)
        elif step == "put":
            items.put_nowait(item)
            model.append(item)
        elif model:
            expected = model.popleft()
            received = items.get_nowait()
            assert received == expected
            assert type(received) is type(expected)
        else:
            with pytest.raises(queue.Empty):
                items.get_nowait()
        assert items.qsize() == len(model)
        assert items.empty() == (not model)
        assert items.full() == bool(maxsize and len(model) == maxsize)


def _count(target, start):
    number = start
    while True:
        target.put(number)
        number += 1


def _kill(process, after):
    time.sleep(after)
    os.kill(process.pid, signal.SIGKILL)
    process.join()


@pytest.mark.parametrize("bound", [0, 7])
def test_a_killed_producer_loses_at_most_what_it_was_putting(bound):
    """200 producers, killed at random moments."""
    ctx = mp.get_context("fork")
    items = ctx.Queue(bound)
    chance = random.Random(bound)
    for _ in range(100):
        producer = ctx.Process(target=_count, args=(items, 0))
        producer.start()
        killer = threading.Thread(target=_kill, args=(producer, chance.random() * 0.003))
        killer.start()
        expected = 0
        while killer.is_alive() or not items.empty():
            try:
                assert items.get(timeout=0.05) == expected
            except queue.Empty:
                continue
            expected += 1
        killer.join()
        items.put("still here")
        assert items.get(timeout=PATIENCE) == "still here"


def _take(source, taken):
    while True:
        taken.value = source.get()


def test_a_killed_consumer_takes_at_most_one_item_along():
    ctx = mp.get_context("fork")
    chance = random.Random(1)
    for _ in range(100):
        items, acknowledged = ctx.Queue(), ctx.Queue()
        consumer = ctx.Process(target=_echo, args=(items, acknowledged))
        consumer.start()
        killer = threading.Thread(target=_kill, args=(consumer, chance.random() * 0.003))
        killer.start()
        put = 0
        while killer.is_alive():
            items.put(put)
            put += 1
        killer.join()
        arrived = []
        for source in (acknowledged, items):
            while not source.empty():
                arrived.append(source.get(timeout=PATIENCE))
        lost = sorted(set(range(put)) - set(arrived))
        assert len(lost) <= 1
        assert arrived == [number for number in range(put) if number not in lost]


def test_producers_and_consumers_killed_in_all_start_methods(ctx):
    items, back = ctx.Queue(4), ctx.Queue()
    processes = [ctx.Process(target=_count, args=(items, 0)) for _ in range(2)]
    processes += [ctx.Process(target=_echo, args=(items, back)) for _ in range(2)]
    for process in processes:
        process.start()
    for _ in range(20):
        back.get(timeout=PATIENCE)
    for process in processes:
        process.kill()
        process.join()
    while not items.empty():
        items.get(timeout=PATIENCE)
    items.put("still here", timeout=PATIENCE)
    assert items.get(timeout=PATIENCE) == "still here"


def _interrupt(pid, after):
    time.sleep(after)
    os.kill(pid, signal.SIGINT)


def test_waits_can_be_interrupted():
    items, full = mp.Queue(), mp.Queue(1)
    full.put(1)
    tasks = mp.JoinableQueue()
    tasks.put(1)
    for waiting in (items.get, lambda: full.put(2), tasks.join, lambda: wait([items]), items._reader.poll):
        threading.Thread(target=_interrupt, args=(os.getpid(), 0.1)).start()
        with pytest.raises(KeyboardInterrupt):
            while True:
                waiting()
                time.sleep(0)


def test_many_queues_need_no_descriptors():
    before = len(os.listdir("/proc/self/fd"))
    items = [mp.Queue() for _ in range(2000)]
    for number, one in enumerate(items):
        one.put(number)
    assert [one.get() for one in items] == list(range(2000))
    assert len(os.listdir("/proc/self/fd")) <= before + 2


@pytest.mark.slow
def test_more_than_two_gibibytes():
    items = mp.Queue()
    size = 2**31 + 1
    items.put(np.full(size, 7, dtype=np.uint8))
    received = items.get()
    assert received.nbytes == size
    assert received[0] == received[-1] == 7
    del received
    items.put(bytes(size))
    assert len(items.get()) == size
