"""The printed table."""

from __future__ import annotations

import sys

from .record import Machine
from .rounds import Result, Row, Settings, Summary

NAME_WIDTH = 24
WIDTH = 90
"""Of the table: fits a terminal of 100 columns."""
NOISY = 0.1
"""CPUs of other programs from which on a case is called noisy."""

BEHIND = 0.95
"""Ratio below which more than noise separates us from a peer."""


def print_head(machine: Machine, settings: Settings) -> None:
    """Say what is measured, where and how."""
    print(f"procession-bench-python  {machine.name}  Python {machine.python}  commit {machine.commit}")
    print(
        f"{settings.rounds} alternating rounds, each of about {settings.budget * 1e3:.0f} ms in a fresh process; median and min - max"
    )
    print(f"over the rounds. 'ours is' pairs the rounds: how many times better {settings.ours} is than that")
    print("row (above 1: better), with the aim of DESIGN.md, section 9, beside it", flush=True)


def print_case(result: Result, settings: Settings) -> None:
    """Print one case."""
    case = result.case
    direction = "higher" if case.unit.higher_is_better else "lower"
    print(f"\n{case.title}   [{case.unit.label}, {direction} is better]")
    print(f"  {'subject':<{NAME_WIDTH}} {'median':>8} {'min - max':>17} {'ours is':>9}   {'aim':<9} verdict")
    print(f"  {'-' * WIDTH}")
    for row in result.rows:
        print(f"  {line(result, row)}".rstrip())
    if result.rounds < settings.rounds:
        print(f"  {result.rounds} of {settings.rounds} rounds: they took more than {settings.patience:g} s")
    if result.other_cpus > NOISY:
        print(f"  noisy: other programs kept {result.other_cpus:.1f} CPUs busy meanwhile")
    sys.stdout.flush()


def line(result: Result, row: Row) -> str:
    """Return the line of a subject."""
    head = f"{row.name:<{NAME_WIDTH}}"
    if row.failure:
        return f"{head} {row.failure}"[:WIDTH]
    summary = Summary.of(row.readings)
    span = f"{figure(summary.least)} - {figure(summary.most)}"
    advantage = result.advantage(row)
    ratio = f"{figure(advantage.median)}x" if advantage else ""
    return f"{head} {figure(summary.median):>8} {span:>17} {ratio:>9}   {aim(result, row):<9} {verdict(result, row)}"


def aim(result: Result, row: Row) -> str:
    """Return the aim if it is this peer that it is measured by."""
    wanted = result.case.aim
    return str(wanted) if wanted is not None and wanted.peer == row.name else ""


def verdict(result: Result, row: Row) -> str:
    """Return `met` or `missed` beside an aim, and beside any other peer who is faster than we are, that it is ahead."""
    if aim(result, row):
        return {True: "met", False: "missed", None: "-"}[result.met()]
    advantage = result.advantage(row)
    return "ahead of us" if advantage and advantage.median < BEHIND else ""


def print_verdict(results: list[Result]) -> None:
    """Say how many aims were met."""
    verdicts = [result.met() for result in results if result.case.aim is not None]
    met, missed = verdicts.count(True), verdicts.count(False)
    print(f"\naims: {met} met, {missed} missed, {verdicts.count(None)} not judged")


def figure(value: float) -> str:
    """Return three significant digits, and whole numbers from a thousand up."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def progress(title: str, rounds: int, subject: str, turn: int) -> None:
    """Say on a terminal what is being measured just now."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{title} | round {turn + 1}/{rounds} | {subject}", end="", file=sys.stderr, flush=True)


def end_progress() -> None:
    """Remove the progress line."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
