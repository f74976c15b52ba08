"""Pool: tiny tasks, many at once and one at a time, and large NumPy arrays as argument and result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from . import tasks
from .harness.case import GIGABYTES, THOUSANDS, Case, Run, Times, Unit
from .peers import METHOD, WORKERS, Workers
from .peers.everyone import Open, others, pools

HOW = f"({METHOD}, {WORKERS} workers)"
ARRAYS = Unit(GIGABYTES.label, True, GIGABYTES.operations_per_unit / (tasks.FLOATS * 8))
LARGE_PEERS = ("loky", "joblib", "pebble", "mpire", "ray", "dask")


def cases(ours: str) -> list[Case]:
    """Return the cases: ways to map, to apply, and to move arrays."""

    def case(title: str, unit: Unit, loop: Callable, aim: float | None, *stems: str) -> Case:
        clock = partial(timed, loop)
        subjects = pools(ours, clock) + others(clock, *stems)
        return Case(f"pool: {title} {HOW}", unit, subjects, Times(aim, "multiprocessing") if aim else None)

    return [
        case("map, chunksize=1", THOUSANDS, map_each, 8, "joblib", "pebble", "mpire", "ray", "dask"),
        case("map, chunks as each thinks fit", THOUSANDS, map_spread, None, "joblib", "mpire"),
        case("imap_unordered", THOUSANDS, imap_unordered, 8, "joblib", "mpire", "dask"),
        case("apply, one at a time", THOUSANDS, apply, 15, "joblib", "pebble", "mpire", "ray", "dask"),
        case("64 MiB array as argument", ARRAYS, take_arrays, 15, *LARGE_PEERS),
        case("64 MiB array as result", ARRAYS, return_arrays, 15, *LARGE_PEERS),
    ]


@contextmanager
def timed(loop: Callable[[Workers, int], float], open_workers: Open) -> Iterator[Run]:
    """Keep workers open for runs of a loop."""
    with open_workers() as workers:
        yield partial(loop, workers)


def map_each(workers: Workers, operations: int) -> float:
    """Map with a message for each task."""
    return clocked(workers.map, operations)


def map_spread(workers: Workers, operations: int) -> float:
    """Map with as many tasks a message as they like."""
    return clocked(workers.spread, operations)


def imap_unordered(workers: Workers, operations: int) -> float:
    """Take results as they come."""
    return clocked(workers.imap_unordered, operations)


def clocked(mapping: Callable, operations: int) -> float:
    """Square the first numbers by a way to map, and check the sum."""
    started = time.perf_counter()
    total = sum(mapping(tasks.square, range(operations)))
    seconds = time.perf_counter() - started
    expect(sum(map(tasks.square, range(operations))), total)
    return seconds


def apply(workers: Workers, operations: int) -> float:
    """Square the first numbers, the next when the last is back."""
    call = workers.apply
    total = 0
    started = time.perf_counter()
    for number in range(operations):
        total += call(tasks.square, number)
    seconds = time.perf_counter() - started
    expect(sum(map(tasks.square, range(operations))), total)
    return seconds


def take_arrays(workers: Workers, operations: int) -> float:
    """Hand over an array, marked anew on every page, whose marks a worker reads.

    It is a new view each time, because joblib takes an array object that it has sent before for unchanged.
    """
    array = tasks.make_array()
    total = 0.0
    started = time.perf_counter()
    for mark in range(operations):
        total += workers.apply(tasks.sum_of_marks, tasks.marked(array[:], mark))
    seconds = time.perf_counter() - started
    expect(sum_of_marks(operations), total)
    return seconds


def return_arrays(workers: Workers, operations: int) -> float:
    """Get an array that a worker has marked anew on every page, and read the marks."""
    total = 0.0
    started = time.perf_counter()
    for mark in range(operations):
        total += tasks.sum_of_marks(workers.apply(tasks.produce, mark))
    seconds = time.perf_counter() - started
    expect(sum_of_marks(operations), total)
    return seconds


def sum_of_marks(operations: int) -> float:
    """Return what the marks of so many arrays come to."""
    return float(sum(range(operations)) * (tasks.FLOATS // tasks.FLOATS_A_PAGE))


def expect(right: float, total: float) -> None:
    """Refuse a wrong sum."""
    if total != right:
        raise AssertionError(f"results sum up to {total}, not {right}")
