"""Whole runs: one Python, one start method, all tests of the baseline or those asked for."""

import fnmatch
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import record, score, suites
from .interpreters import Interpreter, NotRunnable, find
from .overlay import ROOT, Overlay, find_package, fresh, missing_dependencies
from .record import Record, TestClass
from .rewrite import STDLIB

STATE = ROOT / "target" / "conformance"

# A cross-section for continuous integration: all concepts, with processes, in a minute or so.
QUICK = (
    "mp:WithProcessesTestProcess.*",
    "mp:WithProcessesTestQueue.*",
    "mp:TestSimpleQueue.*",
    "mp:WithProcessesTest*Lock.*",
    "mp:WithProcessesTestSemaphore.*",
    "mp:WithProcessesTestCondition.*",
    "mp:WithProcessesTestEvent.*",
    "mp:WithProcessesTestValue.*",
    "mp:WithProcessesTestArray.*",
    "mp:WithProcessesTestSharedCTypes.*",
    "mp:WithProcessesTestSharedMemory.*",
    "mp:WithProcessesTestHeap.*",
    "mp:WithProcessesTestPool*",
    "mp:WithProcessesTestConnection.*",
    "mp:WithProcessesTestListener*",
    "mp:WithProcessesTestLogging.*",
    "mp:WithManagerTestQueue.*",
    "mp:WithManagerTestContainers.*",
    "mp:WithManagerTestRemoteManager.*",
    "mp:TestSyncManagerTypes.*",
    "mp:TestInitializers.*",
    "mp:TestFlags.*",
    "mp:TestStartMethod.*",
    "mp:MiscTestCase.*",
    "mp:_TestImportStar.*",
    "main:*.test_basic_script",
    "main:*.test_package",
)


@dataclass
class Options:
    """What is run."""

    module: str = "procession"
    borrow: list[str] = field(default_factory=list)
    package_dirs: dict[str, Path] = field(default_factory=dict)
    patterns: list[str] = field(default_factory=list)
    per_test: float = 150
    total: float = float("inf")
    retries: int = 0
    keep_results: bool = False
    verbose: bool = False

    def package(self, interpreter: Interpreter) -> Path | None:
        """Return the directory of the package under test; the stdlib needs none."""
        if self.module == STDLIB:
            return None
        keys = (interpreter.version, interpreter.minor, "")
        folder = next((self.package_dirs[key] for key in keys if key in self.package_dirs), None)
        return find_package(self.module, folder or ROOT / "python", interpreter)


def matches(test: str, patterns: Sequence[str]) -> bool:
    """Whether a test is asked for: by part of its identity, or by a shell pattern for all of it."""
    return not patterns or any(
        fnmatch.fnmatchcase(test, pattern) if set(pattern) & set("*?[") else pattern in test for pattern in patterns
    )


def select(plan: Record, patterns: Sequence[str]) -> Record:
    """Return the part of a plan that matches."""
    chosen = Record(plan.package, plan.python, plan.method, plan.date, private=plan.private)
    for class_id, cls in plan.classes.items():
        tests = {test: outcome for test, outcome in cls.tests.items() if matches(f"{class_id}.{test}", patterns)}
        if tests:
            chosen.classes[class_id] = TestClass(cls.module, tests)
    return chosen


def baseline(interpreter: Interpreter, method: str) -> Record:
    """Return the stdlib's outcomes: those kept, or measured here if this release has none."""
    name = f"{interpreter.version}-{method}.json"
    for folder in (record.BASELINES, STATE / "baselines"):
        if known := record.load(folder / name):
            return known
    print(f"no baseline for python {interpreter.version} {method}: measuring the stdlib first")
    return measure_baseline(interpreter, method, STATE / "baselines")


def measure_baseline(interpreter: Interpreter, method: str, folder: Path, per_test: float = 150) -> Record:
    """Run everything with the stdlib, and keep the outcomes in `folder`."""
    with fresh(interpreter, STDLIB, None, STATE) as overlay:
        plan = suites.collect(overlay, method)
        # A race that the stdlib loses now and then is no reason to excuse ours.
        limits = suites.Limits(per_test, retries=2)
        measured = suites.run(overlay, plan, limits, _log(plan), _progress(False))
    measured.notes = plan.notes + measured.notes
    record.save(measured, folder / f"{measured.name}.json", times=True)
    return measured


def _log(plan: Record) -> Path:
    folder = STATE / f"{plan.name}-{plan.package}"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "output.txt"
    log.write_bytes(b"")
    return log


def _progress(verbose: bool) -> Callable[[str, TestClass], None]:
    def show(class_id: str, cls: TestClass) -> None:
        bad = [test for test, end in cls.tests.items() if end.outcome not in ("pass", "skip")]
        if verbose or bad:
            for test in cls.tests if verbose else bad:
                end = cls.tests[test]
                print(f"  {end.outcome:<8} {end.seconds:6.2f} s  {class_id}.{test}", flush=True)
        elif sys.stderr.isatty():
            print(f"\r\033[K{class_id}", end="\r", file=sys.stderr)

    return show


def run_one(
    interpreter: Interpreter,
    method: str,
    options: Options,
    exceptions: score.Exceptions,
    deadline: float,
) -> score.Comparison:
    """Run the package's tests and compare them with the stdlib's.

    Raises:
        NotRunnable: The package is not there or cannot be imported.
    """
    package = options.package(interpreter)
    known = baseline(interpreter, method)
    plan = select(known, options.patterns)
    plan.package = options.module
    print(f"\n== python {interpreter.version} {method}: {len(plan.tests)} tests", flush=True)
    if known.lacks_suite("futures"):
        print("this python has no test_concurrent_futures: left out")
    left = deadline - time.monotonic()
    limits = suites.Limits(options.per_test, left, known.tests, retries=options.retries)
    with fresh(interpreter, options.module, package, STATE) as overlay:
        for module in suites.leave_out_absent(overlay, plan):
            print(f"this python has no {module}: left out")
        if package:
            print_lacking(overlay)
            _print_probe(suites.probe(overlay))
        log = _log(plan)
        ours = suites.run(overlay, plan, limits, log, _progress(options.verbose))
    comparison = score.compare(known, ours, exceptions)
    score.print_comparison(comparison)
    _keep(ours, log, options)
    print(f"{ours.seconds:.0f} s; tracebacks and output in {log.parent}")
    return comparison


def print_lacking(overlay: Overlay) -> None:
    """Say what of the package is not there."""
    if overlay.borrowed:
        print(f"lacking, the stdlib's stand in: {', '.join(overlay.borrowed)}")
    if missing := missing_dependencies(overlay):
        print(f"CAUTION, not installed (`make python` does): {', '.join(missing)}")


def _print_probe(found: dict[str, Any]) -> None:
    if found["error"]:
        raise NotRunnable(f"cannot import the package:\n{found['error']}")
    for name, error in found["broken"].items():
        print(f"broken submodule {name}: {error.strip().splitlines()[-1]}")
    for module, names in found["missing"].items():
        print(f"{module} lacks: {', '.join(names)}")
    if found["stdlib"]:
        print(f"CAUTION, the stdlib's own classes, tests say nothing: {', '.join(found['stdlib'])}")
    if found["built_on"]:
        print(f"built on the stdlib's classes: {', '.join(found['built_on'])}")


def _keep(ours: Record, log: Path, options: Options) -> None:
    bad = {test: end for test, end in ours.tests.items() if end.outcome not in ("pass", "skip")}
    failures = [f"==== {end.outcome} {test}\n{end.detail}\n\n" for test, end in (bad | ours.flaky).items()]
    notes = [f"---- {note}\n" for note in ours.notes]
    (log.parent / "failures.txt").write_text("".join(failures + notes))
    folder = record.RESULTS if options.keep_results else log.parent
    record.save(ours, folder / f"{ours.name}.json", times=False)


def run_all(pythons: Sequence[str], methods: Sequence[str], options: Options) -> int:
    """Run every combination; return 1 if a test that may not fail does, 2 if nothing was run."""
    exceptions = score.Exceptions.load()
    deadline = time.monotonic() + options.total
    comparisons = []
    failed = False
    for name in pythons:
        try:
            interpreter = find(name)
        except NotRunnable as reason:
            print(f"{reason}: skipped")
            continue
        for method in methods:
            try:
                run = run_one(interpreter, method, options, exceptions, deadline)
            except NotRunnable as reason:
                print(reason)
                failed = True
                break
            comparisons.append(run)
    if not comparisons:
        return 1 if failed else 2
    score.print_table(comparisons)
    if not options.patterns and exceptions.unused():
        print(f"exceptions that excused nothing in these runs: {' '.join(exceptions.unused())}")
    return 1 if failed or any(run.worse for run in comparisons) else 0
