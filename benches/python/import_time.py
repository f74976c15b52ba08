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
    return median([float(output_of(code)) for _ in range(TRIES)])


def output_of(code: str) -> str:
    """Run code in a fresh interpreter that minds no environment, and return what it prints."""
    ended = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        lines = ended.stderr.splitlines()
        raise ImportError(lines[-1] if lines else f"exit status {ended.returncode}")
    return ended.stdout
