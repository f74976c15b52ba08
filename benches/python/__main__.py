"""The command line: `python -m benches.python`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections import Counter
from functools import partial
from importlib import import_module
from pathlib import Path

from .harness import child, record, table
from .harness.rounds import Result, Settings, installed, run_case

CONCEPTS = (
    "queue",
    "pipe",
    "pool",
    "executor",
    "lock",
    "hand_over",
    "manager",
    "process",
    "memory",
    "import_time",
)
RECORD = child.ROOT / "benches" / "record"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m benches.python",
        description="Measure procession beside its peers, in alternating rounds of one run.",
        epilog="A peer that is missing, fails or hangs is reported and left out. The exit status is 1 if that happens"
        " to procession or the standard library, and 2 for wrong arguments.",
    )
    parser.add_argument(
        "--only", type=names(CONCEPTS), default=CONCEPTS, metavar="CONCEPT,...", help=", ".join(CONCEPTS)
    )
    parser.add_argument("--case", default="", metavar="TEXT", help="of those, only cases whose title contains this")
    parser.add_argument("--without", type=names(), default=(), metavar="NAME,...", help="leave these subjects out")
    parser.add_argument("--ours", default="procession", metavar="MODULE", help="what to compare, by its name")
    parser.add_argument("--quick", action="store_true", help="few and short rounds, without Ray and Dask")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each subject (5; 2 if quick)")
    parser.add_argument("--deadline", type=float, default=30, metavar="S", help="for one measurement (30 s)")
    parser.add_argument(
        "--patience", type=float, default=40, metavar="S", help="for one case: then no further round is begun (40 s)"
    )
    parser.add_argument(
        "--record", nargs="?", type=Path, const=RECORD, metavar="DIR", help=f"keep the figures ({RECORD})"
    )
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def names(known: tuple[str, ...] = ()):
    """Return a reader of names with commas between them."""

    def read(text: str) -> tuple[str, ...]:
        found = tuple(name.strip().lower() for name in text.split(","))
        unknown = [name for name in found if known and name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"no such concept: {', '.join(unknown)}")
        return found

    return read


def settings_of(options: argparse.Namespace) -> Settings:
    """Return how to measure."""
    rounds, budget = (2, 0.04) if options.quick else (5, 0.3)
    return Settings(
        rounds=options.rounds or rounds,
        budget=budget,
        deadline=options.deadline,
        patience=options.patience,
        ours=options.ours,
        without=options.without,
        quick=options.quick,
    )


def run(options: argparse.Namespace) -> list[Result]:
    """Measure and print all that is asked for."""
    settings = settings_of(options)
    machine = record.Machine.read()
    table.print_head(machine, settings)
    results, hung = [], Counter()
    for concept in options.only:
        for case in import_module(f"{__package__}.{concept}").cases(settings.ours):
            if options.case not in case.title:
                continue
            result = run_case(concept, case, settings, hung, partial(table.progress, case.title, settings.rounds))
            table.end_progress()
            table.print_case(result, settings)
            results.append(result)
    table.print_verdict(results)
    if options.record is not None:
        print(f"recorded in {record.write(options.record, machine, settings, results)}")
    return results


def essential_failures(results: list[Result]) -> list[str]:
    """Return what went wrong with our subject and the standard library; what is wrong with others is theirs."""
    essential = {"multiprocessing", "concurrent.futures"}
    return [
        f"{result.case.title}: {row.name} {row.failure}"
        for result in results
        for row in result.rows
        if row.failure and (row.name in essential or row.name == result.ours)
    ]


def main(arguments: list[str]) -> int:
    """Run what the arguments ask for and return the exit status."""
    options = parse(arguments)
    if options.ours not in options.without and not installed(options.ours):
        print(
            f"{options.ours} is not installed here; `--without {options.ours}` measures the peers alone",
            file=sys.stderr,
        )
        return 1
    # As with Ctrl-C, the measurement in progress is cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    child.adopt_orphans()
    failures = essential_failures(run(options))
    for failure in failures:
        print(f"bench: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
