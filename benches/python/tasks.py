"""What workers do: functions that every process can import by name, and that import nothing they do not use."""

from __future__ import annotations

import os
import time
from functools import cache

FLOATS = 64 * 1024 * 1024 // 8
"""How many of them are 64 MiB."""
FLOATS_A_PAGE = 4096 // 8


def square(number: int) -> int:
    """Do next to nothing, but check that the argument has arrived."""
    return number * number


def nothing() -> None:
    """Be a process."""


def pid(_: int) -> int:
    """Say who has this task, slowly enough for every worker to get one."""
    time.sleep(0.005)
    return os.getpid()


def marked(array, mark: int):
    """Return the array with the mark on every page of it."""
    array[::FLOATS_A_PAGE] = mark
    return array


def sum_of_marks(array) -> float:
    """Read the mark on every page of an array."""
    return float(array[::FLOATS_A_PAGE].sum())


def produce(mark: int):
    """Return 64 MiB that lay there before, so that making them is not counted, with a new mark on every page."""
    return marked(_kept(), mark)


@cache
def _kept():
    return make_array()


def make_array():
    """Return 64 MiB of private memory, all of it touched."""
    import numpy

    return numpy.ones(FLOATS)
