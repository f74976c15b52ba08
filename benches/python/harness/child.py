"""One measurement in a process of its own, with a deadline.

Whatever a peer leaves behind (workers that ignore their parent's death, trackers, Ray's daemons) becomes a child of
this process, which is why it makes itself the *subreaper*, and is killed before the next one is measured. Nothing that
this run has not started is ever touched.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[3]
"""Of the repository; measured processes find `benches` there."""

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SETTLE = 0.5
"""Seconds for what a measurement has started to end by itself."""


class Failed(Exception):
    """A subject could not be measured, and why."""


class Hung(Failed):
    """It did not end in time."""


class Job(NamedTuple):
    """What a measured process is told, in the order of its arguments."""

    budget: float
    ours: str
    concept: str
    title: str
    subject: str


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies."""
    if LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become the subreaper")


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies: without a parent nobody minds its deadline."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def measure(job: Job, deadline: float) -> float:
    """Run the job in a fresh process and return its figure.

    Args:
        job: What to measure.
        deadline: Longest time it may take, in seconds, from start to end.

    Raises:
        Failed: It raised or died.
        Hung: It did not end in time.
    """
    with TemporaryDirectory(prefix="bench-") as scratch:
        try:
            return run(job, deadline, Path(scratch))
        finally:
            end_descendants()


def run(job: Job, deadline: float, scratch: Path) -> float:
    """As `measure`, in a scratch folder, and without ending what is left."""
    result, output = scratch / "result", scratch / "output"
    command = [sys.executable, "-m", "benches.python.harness.measure", str(result), *map(str, job)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(scratch)}
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            preexec_fn=die_with_parent,
        )
        try:
            status = process.wait(deadline)
        except subprocess.TimeoutExpired:
            moment = "at its end" if result.exists() else "before it had a figure"
            raise Hung(f"for {deadline:g} s, {moment}") from None
        finally:
            process.kill()
            process.wait()
    if status != 0 or not result.exists():
        raise Failed(f"{ending(status)}: {last_line(output)}")
    return json.loads(result.read_text())["figure"]


def ending(status: int) -> str:
    """Say how a process ended."""
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def last_line(output: Path) -> str:
    """Return the last line somebody wrote: of a traceback, the exception."""
    lines = [line.strip() for line in output.read_text(errors="replace").splitlines()]
    return next((line[:200] for line in reversed(lines) if line), "no message")


def end_descendants() -> None:
    """Let what is left of a measurement end by itself for a moment, then kill it, and reap it all."""
    patience = time.monotonic() + SETTLE
    while reap_children() and time.monotonic() < patience:
        time.sleep(0.005)
    while reap_children():
        for pid in descendants(os.getpid()):
            # It may have ended by itself meanwhile; as it is not reaped yet, the pid cannot be anybody else's.
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def reap_children() -> bool:
    """Reap those who have ended and say whether others are left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        return False
    return True


def descendants(ancestor: int) -> list[int]:
    """Return the pids of a process's children, their children, and so on."""
    found: list[int] = []
    waiting = [ancestor]
    while waiting:
        children = children_of(waiting.pop())
        found += children
        waiting += children
    return found


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's children, whichever of its threads started them; none once it is gone."""
    children: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (thread / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return children
