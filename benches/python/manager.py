"""Manager: operations on a dict that a server process keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module

from .harness.case import THOUSANDS, Case, Run, Times, both

METHOD = "fork"
AIM = Times(8, "multiprocessing")
KEYS = 64


def cases(ours: str) -> list[Case]:
    """Return the cases: get and set."""
    return [
        Case("manager: dict get", THOUSANDS, both(ours, partial(through, get)), AIM),
        Case("manager: dict set", THOUSANDS, both(ours, partial(through, put)), AIM),
    ]


@contextmanager
def through(loop: Callable, module: str) -> Iterator[Run]:
    """Use the dict of a module's manager."""
    with import_module(module).get_context(METHOD).Manager() as manager:
        shared = manager.dict({key: key for key in range(KEYS)})
        yield partial(loop, shared)


def get(shared, operations: int) -> float:
    """Look up so many times."""
    total = 0
    started = time.perf_counter()
    for number in range(operations):
        total += shared[number % KEYS]
    seconds = time.perf_counter() - started
    if total != sum(number % KEYS for number in range(operations)):
        raise AssertionError("a value is not what was stored")
    return seconds


def put(shared, operations: int) -> float:
    """Store so many times."""
    started = time.perf_counter()
    for number in range(operations):
        shared[number % KEYS] = number
    return time.perf_counter() - started
