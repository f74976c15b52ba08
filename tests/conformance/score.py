"""Compares our outcomes with the stdlib's, under the listed exceptions; prints the difference."""

import fnmatch
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from .record import Record
from .session import Outcome

EXCEPTIONS = Path(__file__).parent / "exceptions.toml"


@dataclass
class Exceptions:
    """Tests that may fail: patterns, each with one line of reason (`exceptions.toml`)."""

    reasons: dict[str, str]
    used: set[str] = field(default_factory=set)

    @classmethod
    def load(cls, path: Path = EXCEPTIONS) -> "Exceptions":
        """Read the file."""
        return cls(tomllib.loads(path.read_text())["exceptions"])

    def reason(self, record: Record, test: str) -> str | None:
        """Return why a test of this run may fail, or None if it may not."""
        minor = record.python.rpartition(".")[0]
        scoped = f"{minor}-{record.method}/{test}"
        for pattern, reason in self.reasons.items():
            if fnmatch.fnmatchcase(scoped if "/" in pattern else test, pattern):
                self.used.add(pattern)
                return reason
        return None

    def unused(self) -> list[str]:
        """Return the patterns that excused no failure."""
        return [pattern for pattern in self.reasons if pattern not in self.used]


@dataclass
class Comparison:
    """One run beside the baseline."""

    baseline: Record
    ours: Record
    worse: list[str] = field(default_factory=list)
    excused: dict[str, str] = field(default_factory=dict)
    better: list[str] = field(default_factory=list)

    @property
    def expected(self) -> int:
        """How many of the tests that were run pass with the stdlib."""
        return len(self.baseline.passed() & self.ours.tests.keys())

    @property
    def passed(self) -> int:
        """How many of those pass with ours."""
        return len(self.baseline.passed() & self.ours.passed())


def compare(baseline: Record, ours: Record, exceptions: Exceptions) -> Comparison:
    """Find the tests whose outcome differs from the stdlib's."""
    comparison = Comparison(baseline, ours)
    expected = baseline.passed()
    for test, outcome in ours.tests.items():
        if outcome.outcome == "pass" and test not in expected:
            comparison.better.append(test)
        elif outcome.outcome != "pass" and test in expected:
            reason = exceptions.reason(ours, test)
            if reason:
                comparison.excused[test] = reason
            else:
                comparison.worse.append(test)
    return comparison


def print_comparison(comparison: Comparison) -> None:
    """Print both counts and every test that differs."""
    ours, expected, passed = comparison.ours, comparison.expected, comparison.passed
    share = 100 * passed / max(1, expected)
    print(f"passed: stdlib {expected}, {ours.package} {passed} of these ({share:.1f} %)")
    if comparison.worse:
        print(f"worse than the stdlib: {len(comparison.worse)}")
        for test in comparison.worse:
            outcome = ours.tests[test]
            hint = " [private]" if test in ours.private else ""
            print(f"  {outcome.outcome:<8} {test}{hint}  {summary(outcome)}")
    if ours.flaky:
        print(f"flaky, passed when run again: {len(ours.flaky)}")
        for test, outcome in ours.flaky.items():
            print(f"  {outcome.outcome:<8} {test}  {summary(outcome)}")
    if comparison.excused:
        print(f"exceptions: {len(comparison.excused)}")
        for test, reason in comparison.excused.items():
            print(f"  {ours.tests[test].outcome:<8} {test}  {reason}")
    if comparison.better:
        print(f"pass with {ours.package} only: {' '.join(comparison.better)}")
    for note in ours.notes:
        print(f"note: {_first_and_last(note)}")


def _first_and_last(text: str) -> str:
    lines = text.strip().splitlines() or [""]
    return lines[0][:160] if len(lines) == 1 else f"{lines[0][:160]} ... {lines[-1][:160]}"


def summary(outcome: Outcome) -> str:
    """Return one line that says why a test did not pass."""
    lines = [line for line in outcome.detail.splitlines() if line.strip(" ~^-")]
    if outcome.outcome == "timeout":
        # The innermost frame of the thread that faulthandler calls current.
        dump = outcome.detail.rpartition("most recent call first")[2]
        at = re.search(r'File "([^"]+)", line (\d+) in (\S+)', dump)
        where = f"{Path(at[1]).name}:{at[2]} {at[3]}" if at else "an unknown place"
        return f"after {outcome.seconds:.0f} s at {where}"
    if outcome.outcome == "crash":
        lines = [line for line in lines if line.startswith("Fatal Python error")] + lines[-1:]
    return lines[0 if outcome.outcome == "crash" else -1][:120] if lines else ""


def print_table(comparisons: list[Comparison]) -> None:
    """Print one line per run."""
    package = comparisons[0].ours.package
    print(f"\n{'python':<8} {'method':<11} {'stdlib':>7} {package:>11} {'worse':>6} {'flaky':>6} {'excused':>8}")
    for run in comparisons:
        print(
            f"{run.ours.python:<8} {run.ours.method:<11} {run.expected:>7} {run.passed:>11}"
            f" {len(run.worse):>6} {len(run.ours.flaky):>6} {len(run.excused):>8}"
        )
