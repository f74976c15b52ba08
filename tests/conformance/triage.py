"""Runs a few tests at once, with everything they print: the developer's loop.

The overlay is kept between calls and links the package file by file, and the tests are found by
the baseline's list: so the cost above the test itself is little more than starting Python.
"""

import sys

from . import runs, session, suites
from .interpreters import Interpreter, NotRunnable
from .overlay import Overlay, cached
from .record import Record, TestClass
from .session import Outcome


def run(interpreter: Interpreter, methods: list[str], options: runs.Options, repeat: int) -> int:
    """Run the tests that match; return 1 if one does not pass (or skip), 2 if none matches."""
    package = options.package(interpreter)
    overlay = cached(interpreter, options.module, package, runs.STATE, options.borrow)
    if overlay.package:
        runs.print_lacking(overlay)
    bad = total = 0
    for method in methods:
        known = runs.baseline(interpreter, method)
        plan = runs.select(known, options.patterns)
        suites.leave_out_absent(overlay, plan)
        limits = suites.Limits(options.per_test, options.total, known.tests)
        for _ in range(repeat):
            for class_id, cls in plan.classes.items():
                outcomes = _run_class(overlay, class_id, cls, limits, method)
                total += len(outcomes)
                bad += sum(end.outcome not in ("pass", "skip") for end in outcomes.values())
        _print_privates(plan)
    if not total:
        print(f"no test of python {interpreter.version} matches {' '.join(options.patterns)}")
        return 2
    print(f"{total} run, {bad} bad")
    return 1 if bad else 0


def _print_privates(plan: Record) -> None:
    """Name the stdlib's private names that the chosen tests touch, if they are few."""
    touched = [test for test in plan.tests if test in plan.private]
    for test in touched if len(plan.tests) <= 10 else []:
        print(f"{test} touches private names: {', '.join(plan.private[test])}")


def _run_class(
    overlay: Overlay, class_id: str, cls: TestClass, limits: suites.Limits, method: str
) -> dict[str, Outcome]:
    """Run one class and show each outcome with its traceback."""
    outcomes: dict[str, Outcome] = {}

    def limit(test: str | None) -> float:
        return limits.of(f"{class_id}.{test}" if test else None)

    while remaining := [test for test in cls.tests if test not in outcomes]:
        name = class_id.partition(":")[2]
        output = sys.stdout.fileno()
        done = session.run_tests(overlay, cls.module, name, remaining, limit, output, traces=True)
        for note in suites.left_behind(done):
            print(f"note: {class_id}: {_with_real_paths(overlay, note)}")
        new = dict(done.outcomes)
        if done.running:
            new[done.running] = suites.interrupted(done, limit(done.running))
        elif not new and done.exit_status:
            raise NotRunnable(f"the worker died before its first test, see above ({class_id})")
        elif not new:
            new = dict.fromkeys(remaining, Outcome("error"))
        for test, end in new.items():
            _show(overlay, f"{class_id}.{test}", method, cls.tests.get(test), end)
        if done.exit_status and not done.running:
            print(f"note: {class_id}: the worker ended with exit status {done.exit_status}")
        outcomes |= new
    return outcomes


def _show(overlay: Overlay, test: str, method: str, standard: Outcome | None, end: Outcome) -> None:
    if end.detail and end.outcome != "pass":
        print(_with_real_paths(overlay, end.detail))
    beside = ""
    if standard and standard.outcome != end.outcome:
        beside = f"  (stdlib: {standard.outcome})"
    print(f"{end.outcome:<8} {end.seconds:6.2f} s  {method} {test}{beside}")
    sys.stdout.flush()


def _with_real_paths(overlay: Overlay, text: str) -> str:
    """Let tracebacks name the package's own files, not the overlay's links."""
    if overlay.package is None:
        return text
    return text.replace(str(overlay.library / overlay.module), str(overlay.package))
