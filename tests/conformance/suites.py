"""Which test classes belong to a start method, and running them one by one.

Three suites: `mp` is test_multiprocessing_METHOD, `main` is test_multiprocessing_main_handling,
`futures` are the process-pool classes of test_concurrent_futures. The last keep the stdlib's
executor and hand it our context: that is how users combine the two.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import session
from .overlay import PARTS, Overlay
from .record import Record, TestClass
from .session import Outcome

_STRIKES = 4
_DETAIL = 6000


@dataclass
class Limits:
    """How long things may take, in seconds."""

    per_test: float = 150
    total: float = float("inf")
    baseline: dict[str, Outcome] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    retries: int = 0

    def left(self) -> float:
        """Return what is left of the total."""
        return self.started + self.total - time.monotonic()

    def of(self, test: str | None) -> float:
        """Return the limit of a test: generous, but in proportion to its time with the stdlib."""
        known = self.baseline.get(test) if test else None
        scaled = max(20, 15 + 8 * known.seconds) if known else self.per_test
        return min(self.per_test, scaled, max(1, self.left()))


def collect(overlay: Overlay, method: str) -> Record:
    """Return a record, without outcomes yet, of all tests that belong to a start method."""
    record = Record(overlay.module, overlay.interpreter.version, method)
    for suite, module in _modules(overlay.tests, method):
        found = _listed(overlay, module)
        if found["error"]:
            record.notes.append(f"cannot import {module}: {found['error']}")
        for cls in found["classes"]:
            tests = _selected(suite, cls, method)
            if not tests:
                continue
            class_id = f"{suite}:{cls['name']}"
            record.classes[class_id] = TestClass(module, dict.fromkeys(tests, Outcome("notrun")))
            for test in tests:
                if names := _private(suite, cls["tests"][test]):
                    record.private[f"{class_id}.{test}"] = names
    return record


def _listed(overlay: Overlay, module: str) -> dict[str, Any]:
    try:
        found: list[dict[str, Any]] = session.ask(overlay, "list", module)
    except session.NO_ANSWER as error:
        return {"classes": [], "error": f"died or hung: {error!r}"}
    return found[0]


def _modules(tests: Path, method: str) -> list[tuple[str, str]]:
    package = f"test_multiprocessing_{method}"
    if (tests / package).is_dir():
        found = [("mp", f"test.{package}.test_{part}") for part in PARTS]
    else:
        found = [("mp", f"test.{package}")]
    found.append(("main", "test.test_multiprocessing_main_handling"))
    futures = tests / "test_concurrent_futures"
    if futures.is_dir():
        files = sorted(futures.glob("test_*.py"))
        found += [("futures", f"test.test_concurrent_futures.{file.stem}") for file in files]
    elif futures.with_suffix(".py").exists():
        found.append(("futures", "test.test_concurrent_futures"))
    return found


def leave_out_absent(overlay: Overlay, plan: Record) -> set[str]:
    """Take from a plan the classes whose modules this install lacks; return those modules."""
    absent = set()
    for class_id, cls in list(plan.classes.items()):
        path = overlay.library.joinpath(*cls.module.split("."))
        if not path.is_dir() and not path.with_suffix(".py").exists():
            absent.add(cls.module)
            del plan.classes[class_id]
    return absent


def _selected(suite: str, cls: dict[str, Any], method: str) -> list[str]:
    names = list(cls["tests"])
    if suite == "main":
        return names if cls["start_method"] == method else []
    if suite == "futures":
        if cls["name"] == "FailingInitializerResourcesTest":
            return [name for name in names if name == f"test_{method}"]
        return names if cls["context"] == method else []
    return names


def _private(suite: str, names: list[str]) -> list[str]:
    # The executor's own private names are the stdlib's here.
    return [name for name in names if suite != "futures" or "resource_tracker" in name]


def run(
    overlay: Overlay,
    plan: Record,
    limits: Limits,
    log: Path,
    progress: Callable[[str, TestClass], None],
) -> Record:
    """Run the tests named in `plan` with the overlay's package."""
    record = Record(overlay.module, plan.python, plan.method, time.strftime("%Y-%m-%d"))
    record.private, record.borrowed = plan.private, overlay.borrowed
    began = time.monotonic()
    for class_id, planned in plan.classes.items():
        tests = _run_class(overlay, class_id, planned, limits, log, record.notes)
        for _ in range(limits.retries):
            _run_again(overlay, class_id, TestClass(planned.module, tests), limits, log, record)
        record.classes[class_id] = TestClass(planned.module, tests)
        progress(class_id, record.classes[class_id])
    record.seconds = time.monotonic() - began
    return record


def _run_class(
    overlay: Overlay,
    class_id: str,
    planned: TestClass,
    limits: Limits,
    log: Path,
    notes: list[str],
) -> dict[str, Outcome]:
    """Run a class, with a new worker after each hang or crash."""
    outcomes: dict[str, Outcome] = {}
    strikes = 0

    def limit(test: str | None) -> float:
        return limits.of(f"{class_id}.{test}" if test else None)

    while remaining := [test for test in planned.tests if test not in outcomes]:
        if strikes >= _STRIKES or limits.left() <= 0:
            why = "class given up after hangs and crashes" if strikes else "out of time"
            return outcomes | dict.fromkeys(remaining, Outcome("notrun", 0.0, why))
        with log.open("ab") as output:
            start = output.tell()
            done = session.run_tests(
                overlay,
                planned.module,
                class_id.partition(":")[2],
                remaining,
                limit,
                output.fileno(),
            )
        printed = _tail(log, start)
        outcomes |= {test: done.outcomes[test] for test in remaining if test in done.outcomes}
        notes += [f"{class_id}: {note}" for note in left_behind(done)]
        if done.running:
            outcomes[done.running] = interrupted(done, limit(done.running), printed)
            strikes += 1
        elif not done.outcomes:
            setup = _failed_setup(done, printed)
            outcomes |= dict.fromkeys(remaining, setup)
        elif not done.ended or done.exit_status:
            how = "hung" if done.hung else f"exit status {done.exit_status}"
            notes.append(f"{class_id}: {how} between or after its tests: {printed[-1500:]}")
            strikes += 1
    return outcomes


def _run_again(
    overlay: Overlay,
    class_id: str,
    cls: TestClass,
    limits: Limits,
    log: Path,
    record: Record,
) -> None:
    """Run each test that failed once more, alone; what then passes counts, and is noted."""
    for test, first in cls.tests.items():
        if first.outcome in ("pass", "skip"):
            continue
        alone = TestClass(cls.module, {test: first})
        second = _run_class(overlay, class_id, alone, limits, log, record.notes)[test]
        if second.outcome == "pass":
            cls.tests[test] = second
            record.flaky[f"{class_id}.{test}"] = first


def left_behind(done: session.Session) -> list[str]:
    """Say what a worker left, and which of its fixtures failed."""
    notes = [f"left a process: {process}" for process in done.leftover]
    if done.shared_memory and not done.hung:
        notes.append(f"left in /dev/shm: {' '.join(done.shared_memory)}")
    return notes + [f"{fixture.outcome}: {fixture.detail}" for fixture in done.fixtures]


def interrupted(done: session.Session, limit: float, printed: str = "") -> Outcome:
    """Return the outcome of the test in which the worker hung or died."""
    if done.hung:
        lines = [printed, "processes when it hung:", *done.hung]
        return Outcome("timeout", limit, "\n".join(lines).strip())
    text = f"{printed}\nthe worker ended with exit status {done.exit_status}"
    return Outcome("crash", 0.0, text.strip())


def _failed_setup(done: session.Session, printed: str) -> Outcome:
    if done.hung:
        return Outcome("timeout", 0.0, f"before the first test: {printed}")
    if done.fixtures:
        return Outcome(done.fixtures[-1].outcome, 0.0, done.fixtures[-1].detail)
    return Outcome("error", 0.0, f"before the first test: {printed}")


def _tail(path: Path, start: int) -> str:
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(start, end - _DETAIL))
        return file.read().decode(errors="replace").strip()


def probe(overlay: Overlay) -> dict[str, Any]:
    """Return what the package under test offers (`worker/probe.py`)."""
    try:
        found: dict[str, Any] = session.ask(overlay, "probe", overlay.module)
    except session.NO_ANSWER as error:
        return {"error": f"importing {overlay.module} died or hung: {error!r}"}
    return found
