"""Executor: submit and result, in bulk and one at a time, and map."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from . import tasks
from .harness.case import THOUSANDS, Case, Times
from .peers import METHOD, WORKERS, Workers
from .peers.everyone import executors, others
from .pool import apply, expect, map_each, timed

HOW = f"({METHOD}, {WORKERS} workers)"
BULK = 1000
"""Submits before their results are asked for."""


def cases(ours: str) -> list[Case]:
    """Return the cases."""

    def case(title: str, loop: Callable, aim: float | None, *stems: str) -> Case:
        clock = partial(timed, loop)
        subjects = executors(ours, clock) + others(clock, *stems)
        return Case(f"executor: {title} {HOW}", THOUSANDS, subjects, Times(aim, "concurrent.futures") if aim else None)

    return [
        case(f"submit {BULK}, then results", submit, 20, "loky", "pebble", "mpire", "ray", "dask"),
        case("submit + result, one at a time", apply, None, "loky", "pebble", "mpire", "ray", "dask"),
        case("map, chunksize=1", map_each, None, "loky", "pebble", "ray", "dask"),
    ]


def submit(workers: Workers, operations: int) -> float:
    """Submit in bulk, then ask for the results, again and again."""
    submit = workers.submit
    total = 0
    started = time.perf_counter()
    for first in range(0, operations, BULK):
        pending = [submit(tasks.square, number) for number in range(first, min(first + BULK, operations))]
        total += sum(workers.results(pending))
    seconds = time.perf_counter() - started
    expect(sum(map(tasks.square, range(operations))), total)
    return seconds
