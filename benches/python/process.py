"""Process: start one that does nothing, join it, start the next."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module

from . import tasks
from .harness.case import PER_SECOND, Case, Run, Times, both
from .harness.measure import MAIN_IMPORTS

METHODS = {"fork": 1, "forkserver": 8, "spawn": 1}
"""With the aims."""


def cases(ours: str) -> list[Case]:
    """Return one case for each start method, and for those that import the main module again, one with a heavy one."""

    def case(method: str, main: str) -> Case:
        title = f"process: start and join, {method}" + (f", main imports {main}" if main else "")
        subjects = both(ours, partial(by, method, main))
        return Case(title, PER_SECOND, subjects, Times(METHODS[method], "multiprocessing"))

    return [case(method, "") for method in METHODS] + [case(method, "numpy") for method in ("forkserver", "spawn")]


@contextmanager
def by(method: str, main: str, module: str) -> Iterator[Run]:
    """Start by that method of a module; the first, which may have to start a server, is not counted."""
    context = import_module(module).get_context(method)
    if main:
        os.environ[MAIN_IMPORTS] = main
    start_and_join(context, 1)
    yield partial(start_and_join, context)


def start_and_join(context, operations: int) -> float:
    """Start and join so many, one after the other."""
    started = time.perf_counter()
    for _ in range(operations):
        child = context.Process(target=tasks.nothing)
        child.start()
        child.join()
        if child.exitcode != 0:
            raise AssertionError(f"a child ended with {child.exitcode}")
    return time.perf_counter() - started
