"""Whose turn it is, and what the readings say.

The subjects of a case go A B C, A B C, ...; a reading is compared with the reading of another subject in the *same*
round, so that a slow minute of the machine does not favour anybody.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from importlib.util import find_spec
from typing import NamedTuple

from .case import Case, Subject, median, ours_name
from .child import Failed, Hung, Job, measure
from .load import Load

SLOW_START_ROUNDS = 3
"""Rounds of those who take seconds to begin."""

LEAST_ROUNDS = 2
"""Rounds of a case that are begun however long they take."""

STRIKES = 2
"""Cases in which somebody may hang before the rest of the run goes on without them."""

MISSING = "not installed"


class Settings(NamedTuple):
    """How often and how long to measure, and whom.

    Attributes:
        rounds: Of each case, at most.
        budget: Seconds that one measurement is to fill.
        deadline: Seconds after which one is given up.
        patience: Seconds of a case after which no further round of it is begun.
        ours: Name of our module.
        without: Names of peers to leave out.
        quick: Whether to leave out those who start slowly.
    """

    rounds: int
    budget: float
    deadline: float
    patience: float
    ours: str
    without: Collection[str]
    quick: bool


class Summary(NamedTuple):
    """Middle, least and most of some figures."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: list[float]) -> Summary | None:
        """Sum up figures; `None` where there are none."""
        return cls(median(figures), min(figures), max(figures)) if figures else None


class Row:
    """A subject's readings, one a round, or why it has none."""

    def __init__(self, subject: Subject, failure: str) -> None:
        self.subject = subject
        self.readings: list[float] = []
        self.failure = failure

    def fail(self, failure: str) -> None:
        """Have no readings, for a reason."""
        self.failure, self.readings = failure, []

    @property
    def missing(self) -> bool:
        """Whether it is merely not installed."""
        return self.failure == MISSING

    @property
    def name(self) -> str:
        """What the table calls it."""
        return self.subject.name


class Result(NamedTuple):
    """A case with its readings, of so many rounds."""

    case: Case
    ours: str
    rounds: int
    rows: list[Row]
    other_cpus: float

    def row(self, name: str) -> Row | None:
        """Return the row of that name if it has readings."""
        return next((row for row in self.rows if row.name == name and row.readings), None)

    def advantage(self, row: Row) -> Summary | None:
        """Say how many times better ours is than that row, over the paired rounds."""
        ours = self.row(self.ours)
        if ours is None or ours is row:
            return None
        pairs = zip(ours.readings, row.readings, strict=False)
        return Summary.of([self.case.unit.advantage(one, other) for one, other in pairs])

    def met(self) -> bool | None:
        """Say whether ours meets the aim; `None` where there is none, or nothing to judge by."""
        if self.case.aim is None:
            return None
        ours, theirs = self.row(self.ours), self.row(self.case.aim.peer)
        if ours is None or theirs is None:
            return None
        return self.case.aim.met(self.case.unit, ours.readings, theirs.readings)


def run_case(
    concept: str, case: Case, settings: Settings, hung: Counter[str], progress: Callable[[str, int], None]
) -> Result:
    """Measure all subjects of a case in alternating rounds.

    Whoever fails once is not asked again, and the others go on.

    Args:
        concept: Where the case is from.
        case: The question.
        settings: How to measure.
        hung: In how many cases each peer has hung; counted on.
        progress: Is told whose turn it is, in which round.
    """
    load, started = Load(), time.monotonic()
    rows = [Row(subject, absence(subject, hung)) for subject in case.subjects if wanted(subject, settings)]
    rounds = 0
    while rounds < settings.rounds:
        if rounds >= LEAST_ROUNDS and time.monotonic() - started > settings.patience:
            break
        for row in rows:
            if row.failure or (row.subject.slow_start and rounds >= SLOW_START_ROUNDS):
                continue
            progress(row.name, rounds)
            job = Job(settings.budget, settings.ours, concept, case.title, row.name)
            try:
                row.readings.append(measure(job, settings.deadline))
            except Hung as failure:
                row.fail(f"hung {failure}")
                hung[row.subject.peer] += 1
            except Failed as failure:
                row.fail(f"failed: {failure}")
        rounds += 1
    return Result(case, ours_name(settings.ours), rounds, rows, load.other_cpus())


def wanted(subject: Subject, settings: Settings) -> bool:
    """Say whether the subject takes part at all."""
    return subject.peer.lower() not in settings.without and not (settings.quick and subject.slow_start)


def absence(subject: Subject, hung: Counter[str]) -> str:
    """Return why the subject cannot run here; nothing if it can."""
    if not installed(subject.needs):
        return MISSING
    return f"not asked: it has hung in {STRIKES} cases" if hung[subject.peer] >= STRIKES else ""


def installed(module: str) -> bool:
    """Say whether a module can be imported, without doing so."""
    package = module.partition(".")[0]
    return package in sys.modules or find_spec(package) is not None
