"""Import time: in a fresh interpreter, which has all files in the page cache."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from .harness.case import MILLISECONDS, AtMostMore, Case, Subject, both, median

TRIES = 5
PEERS = {"loky": "loky", "joblib": "joblib", "pebble": "pebble", "mpire": "mpire", "Ray": "ray", "Dask": "distributed"}
PARTS = ("pool", "queues", "synchronize", "managers", "connection", "shared_memory")
"""What `multiprocessing` imports only when it is used."""


def cases(ours: str) -> list[Case]:
    """Return the cases: the package as it is imported, and all that a program may come to use of it."""
    alone = both(ours, package) + [
        Subject(name, module, partial(package, module), slow_start=name in ("Ray", "Dask"))
        for name, module in PEERS.items()
    ]
    return [
        Case("import_time: the package", MILLISECONDS, alone, AtMostMore(10, "multiprocessing"), counted=True),
        Case("import_time: the package and its parts", MILLISECONDS, both(ours, with_parts), counted=True),
    ]


def package(module: str) -> float:
    """Return the milliseconds that importing it takes."""
    return milliseconds(module)


def with_parts(module: str) -> float:
    """Return the milliseconds that importing it and its modules takes."""
    return milliseconds(", ".join([module, *(f"{module}.{part}" for part in PARTS)]))


def milliseconds(modules: str) -> float:
    """Return the middle of some tries, each in an interpreter of its own."""
    code = f"import time; t = time.perf_counter(); import {modules}; print((time.perf_counter() - t) * 1e3)"
    command = [sys.executable, "-I", "-c", code]
    tries = [subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout for _ in range(TRIES)]
    return median([float(output) for output in tries])
