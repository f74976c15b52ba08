"""Outcomes as data: what a suite gave with one package, one Python and one start method.

One line per test, so that a change is a readable difference:

    {"package": "multiprocessing", "python": "3.13.0", "method": "fork", ...
     "classes": {"mp:WithProcessesTestQueue": {
       "module": "test.test_multiprocessing_fork.test_processes",
       "tests": {"test_put": "pass 0.3", ...

A test's identity is `SUITE:CLASS.TEST`; behind its outcome stand the seconds it took, where
they matter for its limit (baselines only).
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .session import Outcome

BASELINES = Path(__file__).parent / "baselines"
RESULTS = Path(__file__).parent / "results"


@dataclass
class TestClass:
    """The tests of one class, and the module it lies in."""

    __test__ = False

    module: str
    tests: dict[str, Outcome] = field(default_factory=dict)


@dataclass
class Record:
    """The outcomes of one run."""

    package: str
    python: str
    method: str
    date: str = ""
    classes: dict[str, TestClass] = field(default_factory=dict)
    private: dict[str, list[str]] = field(default_factory=dict)
    borrowed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: How the tests ended at first that passed when they were run again.
    flaky: dict[str, Outcome] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The stem of its file."""
        return f"{self.python}-{self.method}"

    @property
    def tests(self) -> dict[str, Outcome]:
        """Outcomes by identity."""
        return {
            f"{class_id}.{test}": outcome
            for class_id, cls in self.classes.items()
            for test, outcome in cls.tests.items()
        }

    def totals(self) -> Counter[str]:
        """Count each outcome."""
        return Counter(outcome.outcome for outcome in self.tests.values())

    def passed(self) -> set[str]:
        """Return the tests that passed."""
        return {test for test, outcome in self.tests.items() if outcome.outcome == "pass"}

    def lacks_suite(self, suite: str) -> bool:
        """Whether there was nothing to run of a suite."""
        return not any(class_id.startswith(f"{suite}:") for class_id in self.classes)


def load(path: Path) -> Record | None:
    """Return the record kept in a file, or None if there is none."""
    if not path.exists():
        return None
    data = json.loads(path.read_text())
    record = Record(data["package"], data["python"], data["method"], data["date"])
    record.private = data.get("private", {})
    record.borrowed = data.get("borrowed", [])
    for class_id, cls in data["classes"].items():
        tests = {test: _outcome(text) for test, text in cls["tests"].items()}
        record.classes[class_id] = TestClass(cls["module"], tests)
    return record


def _outcome(text: str) -> Outcome:
    outcome, _, seconds = text.partition(" ")
    return Outcome(outcome, float(seconds or 0))


def save(record: Record, path: Path, *, times: bool) -> None:
    """Write a record; `times` keeps how long tests took."""
    data = {
        "package": record.package,
        "python": record.python,
        "method": record.method,
        "date": record.date,
        "totals": dict(sorted(record.totals().items())),
        "classes": {
            class_id: {
                "module": cls.module,
                "tests": {test: _text(cls.tests[test], times) for test in sorted(cls.tests)},
            }
            for class_id, cls in sorted(record.classes.items())
        },
    }
    if record.borrowed:
        data["borrowed"] = record.borrowed
    text = json.dumps(data, indent=1)
    if record.private:
        # One line per test here too.
        lines = (f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(record.private.items()))
        text = text[:-2] + ',\n "private": {\n' + ",\n".join(lines) + "\n }\n}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def _text(outcome: Outcome, times: bool) -> str:
    seconds = f" {outcome.seconds:.1f}" if times and outcome.seconds >= 0.05 else ""
    return outcome.outcome + seconds
