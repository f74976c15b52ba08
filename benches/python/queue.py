"""Queue: a child puts, this process gets. The clock runs from the producer's first `put` until the last item is out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module

from .harness.case import THOUSANDS, Case, Run, Subject, Times, both

METHOD = "fork"
SIZES = {"100 B": 100, "1 KB": 1_000, "10 KB": 10_000}


def cases(ours: str) -> list[Case]:
    """Return the cases: small integers, and bytes of several sizes."""
    ints = Case("queue: small ints, one way", THOUSANDS, subjects(ours, 0), Times(6, "multiprocessing"))
    payloads = [
        Case(f"queue: {label} of bytes, one way", THOUSANDS, subjects(ours, size)) for label, size in SIZES.items()
    ]
    return [ints, *payloads]


def subjects(ours: str, size: int) -> list[Subject]:
    """Return who can carry items of that size; 0 is for integers."""
    fifo = [
        Subject("faster-fifo", "faster_fifo", partial(through_fifo, size, False)),
        Subject("faster-fifo", "faster_fifo", partial(through_fifo, size, True), "get_many"),
    ]
    return both(ours, partial(through, size)) + fifo


@contextmanager
def through(size: int, module: str) -> Iterator[Run]:
    """Send through the `Queue` of a module."""
    context = import_module(module).get_context(METHOD)
    yield partial(one_way, context, context.Queue, size, get_each)


@contextmanager
def through_fifo(size: int, many: bool, /) -> Iterator[Run]:
    """Send through faster-fifo, which has its own queue only, of its default size."""
    import multiprocessing

    from faster_fifo import Queue

    context = multiprocessing.get_context(METHOD)
    yield partial(one_way, context, Queue, size, get_many if many else get_each)


def one_way(context, make: Callable, size: int, receive: Callable, operations: int) -> float:
    """Let a child send so many items, and check that all have come."""
    queue = make()
    producer = context.Process(target=produce, args=(queue, operations, size))
    producer.start()
    started = queue.get()
    total = receive(queue, operations, size)
    seconds = time.perf_counter() - started
    producer.join()
    if total != (size * operations if size else sum(range(operations))):
        raise AssertionError("items were lost or altered")
    return seconds


def produce(queue, operations: int, size: int) -> None:
    """Put the time, which all processes read from the same clock, then the items."""
    put = queue.put
    payload = bytes(size)
    put(time.perf_counter())
    for number in range(operations):
        put(payload if size else number)


def get_each(queue, operations: int, size: int) -> int:
    """Get the items one by one."""
    get = queue.get
    total = 0
    for _ in range(operations):
        item = get()
        total += len(item) if size else item
    return total


def get_many(queue, operations: int, size: int) -> int:
    """Get as many items at a time as there are."""
    total = 0
    while operations:
        items = queue.get_many()
        operations -= len(items)
        total += sum(map(len, items)) if size else sum(items)
    return total
