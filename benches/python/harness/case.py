"""Cases, subjects, units and aims.

Every measured process imports this module, so it imports next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

Run = Callable[[int], float]
"""Does so many operations and returns the seconds they took, by the clock of whoever did them."""

Prepare = Callable[[], AbstractContextManager[Run]]
"""Makes ready (a pool, a manager), yields the `Run`, and cleans up."""


class Unit(NamedTuple):
    """What the figures of a case are."""

    label: str
    higher_is_better: bool
    operations_per_unit: float = 1.0

    def figure(self, operations: int, seconds: float) -> float:
        """Return the rate of a timed run."""
        return operations / seconds / self.operations_per_unit

    def advantage(self, one: float, other: float) -> float:
        """Return how many times better one figure is than another."""
        return one / other if self.higher_is_better else other / one


PER_SECOND = Unit("/s", True)
THOUSANDS = Unit("k/s", True, 1e3)
MILLIONS = Unit("M/s", True, 1e6)
GIGABYTES = Unit("GB/s", True, 1e9)
MEBIBYTES = Unit("MiB", False)
MILLISECONDS = Unit("ms", False)


class Times(NamedTuple):
    """The aim to be so many times better than a peer: the rows of DESIGN.md, section 9."""

    factor: float
    peer: str

    def __str__(self) -> str:
        return f">= {self.factor:g}x"

    def met(self, unit: Unit, ours: list[float], theirs: list[float]) -> bool:
        """Say whether the readings reach it; rounds are paired."""
        pairs = zip(ours, theirs, strict=False)
        return median([unit.advantage(one, other) for one, other in pairs]) >= self.factor


class AtMostMore(NamedTuple):
    """The aim not to exceed a peer's figure by more than this."""

    extra: float
    peer: str

    def __str__(self) -> str:
        return f"<= +{self.extra:g}"

    def met(self, unit: Unit, ours: list[float], theirs: list[float]) -> bool:
        """Say whether the readings reach it; rounds are paired."""
        pairs = zip(ours, theirs, strict=False)
        return median([one - other for one, other in pairs]) <= self.extra


class Subject(NamedTuple):
    """Somebody who answers a case's question.

    Attributes:
        peer: Who answers: a name for `--without`.
        variant: Which of its ways, if there are several.
        needs: Module without which it cannot run.
        work: Makes it ready to run; for a case that is `counted`, returns the figure.
        slow_start: Whether it takes seconds to begin, so that it takes part in a few rounds only.
    """

    peer: str
    needs: str
    work: Prepare | Callable[[], float]
    variant: str = ""
    slow_start: bool = False

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.peer}, {self.variant}" if self.variant else self.peer


class Case(NamedTuple):
    """One question, and everybody who answers it.

    Attributes:
        title: `concept: what is measured`.
        counted: Whether subjects return a figure (bytes, milliseconds) instead of being run for a while.
    """

    title: str
    unit: Unit
    subjects: list[Subject]
    aim: Times | AtMostMore | None = None
    counted: bool = False


def median(figures: list[float]) -> float:
    """Return the middle figure; the mean of the two where there is no one middle."""
    ordered = sorted(figures)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def ours_name(ours: str) -> str:
    """Return what the table calls our subject; a stand-in must not be taken for the peer that it is."""
    return ours if ours == "procession" else f"{ours} as ours"


def both(ours: str, work: Callable[[str], AbstractContextManager[Run] | float]) -> list[Subject]:
    """Return ours and the standard library's `multiprocessing`, who do the same by the same code.

    Args:
        ours: Name of our module.
        work: As in `Subject`, but takes the name of the module to use.
    """
    return [
        Subject(ours_name(ours), ours, partial(work, ours)),
        Subject("multiprocessing", "multiprocessing", partial(work, "multiprocessing")),
    ]
