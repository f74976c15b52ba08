"""Memory: what a worker that has answered and now idles costs.

*Private* are pages that it alone has. *PSS* counts a page that n processes map as an nth, and so has the interpreter
and, with us, the family heap in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from . import tasks
from .harness.case import MEBIBYTES, Case, both
from .peers import WORKERS, Workers
from .peers.everyone import Open, executors, others
from .peers.standard import pool

FIELDS = {"private": ("Private_Clean", "Private_Dirty"), "PSS": ("Pss",)}
METHODS = ("fork", "forkserver", "spawn")


def cases(ours: str) -> list[Case]:
    """Return the cases: private and PSS, for each start method of a pool, and for everybody's workers as they are."""
    return [*by_method(ours), *of_everyone(ours)]


def by_method(ours: str) -> Iterator[Case]:
    """Return the cases of `Pool`."""
    for label, fields in FIELDS.items():
        for method in METHODS:
            yield Case(
                f"memory: idle Pool worker, {label}, {method}",
                MEBIBYTES,
                both(ours, partial(of_pool, fields, method)),
                counted=True,
            )


def of_everyone(ours: str) -> Iterator[Case]:
    """Return the cases of executors and the like."""
    for label, fields in FIELDS.items():
        clock = partial(of_workers, fields)
        peers = others(clock, "loky", "pebble", "mpire", "ray", "dask")
        yield Case(f"memory: idle executor worker, {label}", MEBIBYTES, executors(ours, clock) + peers, counted=True)


def of_pool(fields: tuple[str, ...], method: str, module: str) -> float:
    """Measure a pool of that start method."""
    return of_workers(fields, partial(pool, module, method))


def of_workers(fields: tuple[str, ...], open_workers: Open) -> float:
    """Return what a worker has on average, in MiB."""
    with open_workers() as workers:
        pids = answering(workers)
        return sum(kibibytes(pid, fields) for pid in pids) / len(pids) / 1024


def answering(workers: Workers) -> set[int]:
    """Ask for pids until all workers have answered; some pools start the second only if the first is busy."""
    pids: set[int] = set()
    while len(pids) < WORKERS:
        pids.update(workers.map(tasks.pid, range(4 * WORKERS)))
    return pids


def kibibytes(pid: int, fields: tuple[str, ...]) -> int:
    """Sum up fields of a process's memory."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    return sum(sizes[field] for field in fields)
