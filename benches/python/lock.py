"""Lock: acquire and release, alone and against one other process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module

from .harness.case import MILLIONS, Case, Run, Times, both

METHOD = "fork"
PROCESSES = 2
HEAD_START = 0.02
"""Seconds from the moment that all are ready to the common start."""


def cases(ours: str) -> list[Case]:
    """Return the cases: uncontended and contended."""
    return [
        Case("lock: pair, uncontended", MILLIONS, both(ours, uncontended), Times(0.9, "multiprocessing")),
        Case("lock: pair, 2 processes contend", MILLIONS, both(ours, contended), Times(1.5, "multiprocessing")),
    ]


@contextmanager
def uncontended(module: str) -> Iterator[Run]:
    """Lock alone."""
    yield partial(pairs, import_module(module).get_context(METHOD).Lock())


def pairs(lock, operations: int) -> float:
    """Acquire and release so many times; return the seconds."""
    acquire, release = lock.acquire, lock.release
    started = time.perf_counter()
    for _ in range(operations):
        acquire()
        release()
    return time.perf_counter() - started


@contextmanager
def contended(module: str) -> Iterator[Run]:
    """Lock beside another process that does the same."""
    yield partial(race, import_module(module).get_context(METHOD))


def race(context, operations: int) -> float:
    """Share the operations out, and return the seconds from the common start to the last one's end."""
    lock = context.Lock()
    links = [context.Pipe() for _ in range(PROCESSES)]
    children = [context.Process(target=compete, args=(lock, theirs, operations // PROCESSES)) for _, theirs in links]
    for child in children:
        child.start()
    for ours, _ in links:
        ours.recv()
    start = time.perf_counter() + HEAD_START
    for ours, _ in links:
        ours.send(start)
    end = max(ours.recv() for ours, _ in links)
    for child in children:
        child.join()
    return end - start


def compete(lock, link, operations: int) -> None:
    """Wait for the common start, lock so many times, and tell when that was done."""
    link.send(None)
    start = link.recv()
    while time.perf_counter() < start:
        pass
    pairs(lock, operations)
    link.send(time.perf_counter())
