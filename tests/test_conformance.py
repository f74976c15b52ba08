"""The conformance runner: what it rewrites, compares and keeps; one test of CPython end to end."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from conformance import interpreters, overlay, processes, record, rewrite, runs, score
from conformance.record import Record, TestClass
from conformance.session import Outcome

RUNNER = Path(__file__).parent / "conformance"

# A package that is the stdlib under another name, but for what a test adds.
STAND_IN = """\
from multiprocessing import *
from multiprocessing import context
"""


def make_record(outcomes: dict[str, str], method: str = "fork") -> Record:
    made = Record("procession", "3.13.0", method, "2026-01-01")
    tests = {test: Outcome(outcome) for test, outcome in outcomes.items()}
    made.classes["mp:TestThing"] = TestClass("test.test_thing", tests)
    return made


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import multiprocessing.pool as p", "import procession.pool as p"),
        ("'multiprocessing.util'", "'procession.util'"),
        ("import _multiprocessing", "import _multiprocessing"),
        ("test_multiprocessing_fork", "test_multiprocessing_fork"),
        (
            "'unclosed running multiprocessing pool'",
            "'unclosed running (multiprocessing|procession) pool'",
        ),
    ],
)
def test_rewrite_replaces_whole_words(before: str, after: str) -> None:
    assert rewrite.rewrite(before, "procession") == after
    assert rewrite.rewrite(before, "multiprocessing") == before


def test_comparison_tells_worse_excused_and_better_apart() -> None:
    baseline = make_record({"a": "pass", "b": "pass", "c": "pass", "d": "skip", "e": "fail"})
    ours = make_record({"a": "pass", "b": "fail", "c": "crash", "d": "fail", "e": "pass"})
    exceptions = score.Exceptions({"mp:TestThing.c": "why", "mp:Other.*": "unused"})

    found = score.compare(baseline, ours, exceptions)

    assert (found.expected, found.passed) == (3, 1)
    assert found.worse == ["mp:TestThing.b"]
    assert found.excused == {"mp:TestThing.c": "why"}
    assert found.better == ["mp:TestThing.e"]
    assert exceptions.unused() == ["mp:Other.*"]


def test_exception_may_hold_for_one_method_only() -> None:
    exceptions = score.Exceptions({"3.13-spawn/mp:TestThing.*": "why"})
    assert exceptions.reason(make_record({}, "spawn"), "mp:TestThing.b") == "why"
    assert exceptions.reason(make_record({}, "fork"), "mp:TestThing.b") is None


def test_exceptions_file_gives_each_a_reason() -> None:
    assert all(reason.strip() for reason in score.Exceptions.load().reasons.values())


def test_record_survives_its_file(tmp_path: Path) -> None:
    saved = make_record({"a": "pass", "b": "skip"})
    saved.classes["mp:TestThing"].tests["a"].seconds = 1.25
    saved.private = {"mp:TestThing.a": ["x._y"]}
    record.save(saved, tmp_path / "r.json", times=True)
    loaded = record.load(tmp_path / "r.json")
    assert loaded.totals() == {"pass": 1, "skip": 1}
    assert loaded.tests["mp:TestThing.a"].seconds == pytest.approx(1.2)
    assert loaded.private == saved.private


def test_tests_of_a_newer_python_are_cut_to_what_the_older_knows() -> None:
    newer = """\
from test.support import Py_GIL_DISABLED
class T:
    @support.skip_if_sanitizer("why", thread=True)
    @support.requires_gil_enabled("why")
    def test(self):
        if support.check_sanitizer(thread=True): pass
"""
    older = """\
Py_GIL_DISABLED = False
class T:
    def test(self):
        if False: pass
"""
    assert rewrite.for_older(newer) == older


# 3.12.1 is given the tests of 3.13 (`interpreters.futures_tests`); what these test was mended later.
MENDED_LATER = ("test_python_finalization_error", "FailingInitializerResourcesTest")


@pytest.mark.parametrize("path", sorted(record.BASELINES.glob("*.json")), ids=lambda path: path.stem)
def test_baseline_has_no_failure(path: Path) -> None:
    kept = record.load(path)
    assert kept.name == path.stem
    bad = [test for test, end in kept.tests.items() if end.outcome not in ("pass", "skip")]
    assert all(path.stem.startswith("3.12.1") and any(part in test for part in MENDED_LATER) for test in bad)


def test_the_table_in_the_readme_is_of_the_results() -> None:
    rows: dict[str, list[str]] = {}
    for path in sorted(record.RESULTS.glob("*.json")):
        ours, stdlib = record.load(path), record.load(record.BASELINES / path.name)
        compared = score.compare(stdlib, ours, score.Exceptions.load())
        assert not compared.worse
        rows.setdefault(ours.python, []).append(f"{ours.method}: {compared.passed} of {compared.expected}")
    readme = (RUNNER.parents[1] / "README.md").read_text()
    for python, cells in rows.items():
        by_method = dict(cell.split(": ") for cell in cells)
        assert f"| {python} | {' | '.join(by_method[method] for method in overlay.METHODS)} |" in readme


def test_patterns_are_parts_or_shell_patterns() -> None:
    assert runs.matches("mp:TestThing.test_a", ["Thing.test_a"])
    assert runs.matches("mp:TestThing.test_a", ["mp:*.test_a"])
    assert not runs.matches("mp:TestThing.test_ab", ["mp:*.test_a"])


def test_absent_python_is_named() -> None:
    with pytest.raises(interpreters.NotRunnable, match=r"python 3\.99 is not installed"):
        interpreters.find("3.99")


def test_link_package_follows_its_source(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    for name in ("kept.py", "gone.py", "sub/__init__.py"):
        (source / name).touch()
    overlay._link_package(source, target, {"added.py": "1"})
    unchanged = (target / "added.py").stat()

    (source / "gone.py").unlink()
    (source / "new.py").touch()
    overlay._link_package(source, target, {"added.py": "1"})

    assert {entry.name for entry in target.iterdir()} == {"added.py", "kept.py", "new.py", "sub"}
    assert (target / "kept.py").readlink() == source / "kept.py"
    assert (target / "sub/__init__.py").is_symlink()
    assert (target / "added.py").stat() == unchanged


# A runner that is killed while it watches a process and a folder.
KILLED_RUNNER = """
import os, signal, subprocess, tempfile
from conformance.processes import guard
sleeper = subprocess.Popen(["sleep", "3600"], start_new_session=True)
folder = tempfile.mkdtemp()
guard().watch(sleeper.pid)
guard().watch(folder)
print(sleeper.pid, folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_runner_leaves_nothing() -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_RUNNER], stdout=subprocess.PIPE, text=True, cwd=RUNNER.parent)
    pid, folder = killed.stdout.split()
    deadline = time.monotonic() + 60
    while processes.members(int(pid)) or Path(folder).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def python() -> str:
    """This interpreter, if it has CPython's tests and a kept baseline."""
    try:
        found = interpreters.find(sys.executable)
    except interpreters.NotRunnable as reason:
        pytest.skip(str(reason))
    if not (record.BASELINES / f"{found.version}-fork.json").exists():
        pytest.skip(f"no baseline for python {found.version}")
    return sys.executable


def run_conformance(python: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [python, RUNNER, *arguments, "--package-dir", folder]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    package = tmp_path / "procession"
    package.mkdir()
    (package / "__init__.py").write_text(STAND_IN)
    return tmp_path


def test_try_runs_a_test_of_cpython(python: str, stand_in: Path) -> None:
    answer = run_conformance(python, stand_in, "try", "-p", python, "-k", "WithProcessesTestEvent.test_repr")
    assert "1 run, 0 bad" in answer.stdout, answer
    assert "the stdlib's stand in" in answer.stdout
    assert answer.returncode == 0


def run_both(python: str, folder: Path, *options: str) -> subprocess.CompletedProcess:
    tests = ("-k", "WithProcessesTestEvent.test_event", "WithProcessesTestLock.test_lock")
    return run_conformance(
        python, folder, "run", "--pythons", python, "--methods", "fork", "--timeout", "5", *options, *tests
    )


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("raise ValueError('broken on purpose')", "error"),
        ("os.abort()", "crash"),
        ("time.sleep(3600)", "timeout"),
    ],
)
def test_run_reports_what_is_worse(python: str, stand_in: Path, fault: str, outcome: str) -> None:
    with (stand_in / "procession/__init__.py").open("a") as file:
        file.write(
            "import multiprocessing.synchronize, os, time\n"
            f"def _fault(self):\n    {fault}\n"
            "multiprocessing.synchronize.Event.is_set = _fault\n"
        )
    answer = run_both(python, stand_in)
    assert answer.returncode == 1, answer
    assert "worse than the stdlib: 1" in answer.stdout
    assert f"{outcome:<8} mp:WithProcessesTestEvent.test_event" in answer.stdout


def test_run_tells_what_passes_only_when_run_again(python: str, stand_in: Path, tmp_path: Path) -> None:
    with (stand_in / "procession/__init__.py").open("a") as file:
        file.write(
            "import multiprocessing.synchronize, os\n"
            "def _fault(self, is_set=multiprocessing.synchronize.Event.is_set):\n"
            "    try:\n"
            f"        os.mkdir({str(tmp_path / 'broken')!r})\n"
            "    except FileExistsError:\n"
            "        return is_set(self)\n"
            "    raise ValueError('broken once')\n"
            "multiprocessing.synchronize.Event.is_set = _fault\n"
        )
    answer = run_both(python, stand_in, "--retry", "1")
    assert answer.returncode == 0, answer
    assert "flaky, passed when run again: 1\n  error    mp:WithProcessesTestEvent.test_event" in answer.stdout
