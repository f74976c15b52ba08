"""The record: one CSV per machine and day, one line per subject, each run added at the end.

Machine, kernel, commit and columns are as in the record of the Rust benches (`benches/src/harness/record.rs`), with the
versions of the interpreter and of the subject besides.
"""

from __future__ import annotations

import csv
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from .child import ROOT
from .rounds import Result, Row, Settings, Summary

HEADER = [
    "started",
    "commit",
    "machine",
    "kernel",
    "python",
    "mode",
    "case",
    "subject",
    "version",
    "role",
    "unit",
    "median",
    "min",
    "max",
    "ours_times_better",
    "ours_times_better_min",
    "ours_times_better_max",
    "target",
    "verdict",
    "other_cpus",
    "readings",
]


class Machine(NamedTuple):
    """Where and of what a run was taken."""

    name: str
    kernel: str
    python: str
    commit: str
    started: datetime

    @classmethod
    def read(cls) -> Machine:
        """Read the machine this runs on."""
        models = re.findall(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = models[0].strip() if models else platform.machine()
        name = f"{model} {len(os.sched_getaffinity(0))} cpu"
        return cls(name, platform.release(), platform.python_version(), commit(), datetime.now(UTC))

    def slug(self) -> str:
        """Return the name in lower-case letters, digits and single dashes."""
        return "-".join(re.findall("[a-z0-9]+", self.name.lower()))


def commit() -> str:
    """Return the git commit, with `+changes` where the tree has any."""

    def git(*arguments: str) -> str | None:
        output = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
        return output.stdout.strip() if output.returncode == 0 else None

    head = git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return "unknown"
    return head if git("status", "--porcelain", "--", ".", ":(exclude)benches/record") == "" else f"{head}+changes"


def write(folder: Path, machine: Machine, settings: Settings, results: list[Result]) -> Path:
    """Add the results to the day's file and return its path."""
    folder = folder / machine.slug()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{machine.started:%Y-%m-%d}-python.csv"
    run = [
        f"{machine.started:%Y-%m-%dT%H:%M:%SZ}",
        machine.commit,
        machine.name,
        machine.kernel,
        machine.python,
        "quick" if settings.quick else "full",
    ]
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if file.tell() == 0:
            writer.writerow(HEADER)
        writer.writerows([*run, *fields(result, row)] for result in results for row in result.rows)
    return path


def fields(result: Result, row: Row) -> list[str]:
    """Return what the record says of a subject."""
    case, ours = result.case, row.name == result.ours
    met = {True: "met", False: "missed", None: "-"}[result.met()]
    return [
        case.title,
        row.name,
        release(row.subject.needs),
        "ours" if ours else "peer",
        case.unit.label,
        *columns(Summary.of(row.readings)),
        *columns(result.advantage(row)),
        f"{case.aim} {case.aim.peer}" if ours and case.aim else "",
        met if ours else "",
        f"{result.other_cpus:.2f}",
        row.failure or " ".join(map(str, row.readings)),
    ]


def columns(summary: Summary | None) -> list[str]:
    """Return median, least and most."""
    return [str(figure) for figure in summary] if summary else ["", "", ""]


def release(module: str) -> str:
    """Return the version of whom a module belongs to; nothing for the standard library and what is not installed."""
    try:
        return version(module.replace("_", "-"))
    except PackageNotFoundError:
        return ""
