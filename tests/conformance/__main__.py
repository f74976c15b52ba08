"""Command line: `python tests/conformance {build,try,run,baseline} ...`; see README.md."""

import argparse
import io
import signal
import sys
from pathlib import Path

if not __package__:  # started by path: make the sibling modules a package
    __package__ = "conformance"
    sys.path[0] = str(Path(__file__).parents[1])

from conformance import build, record, runs, score, triage
from conformance.interpreters import NotRunnable, find
from conformance.overlay import METHODS

PYTHONS = ("3.11", "3.12", "3.13")
_QUICK_SECONDS = 600


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--methods", "-m", nargs="+", choices=METHODS, metavar="METHOD", help=f"of {METHODS}")
    common.add_argument("--timeout", type=float, default=150, help="longest seconds of one test")

    package = argparse.ArgumentParser(add_help=False)
    package.add_argument("-k", nargs="+", default=[], metavar="PATTERN", help="part of a test id, or a pattern")
    package.add_argument("--module", default="procession", help="the package under test")
    package.add_argument(
        "--package-dir",
        nargs="+",
        default=[],
        metavar="[VERSION=]DIR",
        help="directory that holds the package, for all pythons or for one (default: python/)",
    )

    made = commands.add_parser("build", help="the package for each python, in place")
    made.add_argument("--pythons", nargs="+", metavar="PYTHON", default=PYTHONS)
    made.add_argument("--profile", default="dev-python", help="of cargo")

    one = commands.add_parser("try", parents=[common, package], help="a few tests, all they print")
    one.add_argument("--python", "-p", default="3.13", help="version or path")
    one.add_argument("--stdlib", action="store_true", help="the same tests with the stdlib")
    one.add_argument(
        "--borrow", nargs="+", default=[], metavar="SUBMODULE", help="take the stdlib's, ours being half written"
    )
    one.add_argument("--repeat", "-n", type=int, default=1, help="times to run them")

    full = commands.add_parser("run", parents=[common, package], help="compare with the stdlib")
    full.add_argument("--pythons", nargs="+", metavar="PYTHON", help=f"default: {PYTHONS}")
    full.add_argument("--quick", action="store_true", help="a cross-section, with this python")
    full.add_argument("--retry", type=int, default=0, help="times to run a failed test again")
    full.add_argument("--total", type=float, help="longest seconds of everything")
    full.add_argument("--record", action="store_true", help="keep the outcomes in results/")
    full.add_argument("-v", "--verbose", action="store_true", help="a line per test")

    base = commands.add_parser("baseline", parents=[common], help="measure the stdlib anew")
    base.add_argument("--pythons", nargs="+", metavar="PYTHON", default=PYTHONS)
    return parser


def main() -> int:
    """Parse the command line and do it."""
    arguments = _parser().parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, _terminated)
    commands = {"build": _build, "try": _try, "run": _run, "baseline": _baseline}
    try:
        return commands[arguments.command](arguments)
    except NotRunnable as reason:
        print(reason)
        return 2
    except KeyboardInterrupt:
        return 130


def _terminated(*_: object) -> None:
    sys.exit(143)  # as an exception: what was made is removed on the way out


def _options(arguments: argparse.Namespace) -> runs.Options:
    options = runs.Options(module=arguments.module, patterns=arguments.k)
    options.per_test = arguments.timeout
    for given in arguments.package_dir:
        version, _, folder = given.rpartition("=")
        options.package_dirs[version] = Path(folder).resolve()
    return options


def _build(arguments: argparse.Namespace) -> int:
    missing = 0
    for name in arguments.pythons:
        try:
            interpreter = find(name)
        except NotRunnable as reason:
            # As when they are run: skipped, and named.
            print(reason)
            missing += 1
        else:
            build.in_place(interpreter, arguments.profile)
    return 2 if missing == len(arguments.pythons) else 0


def _try(arguments: argparse.Namespace) -> int:
    options = _options(arguments)
    options.borrow = arguments.borrow
    if arguments.stdlib:
        options.module = "multiprocessing"
    return triage.run(find(arguments.python), arguments.methods or ["fork"], options, arguments.repeat)


def _run(arguments: argparse.Namespace) -> int:
    options = _options(arguments)
    options.keep_results = arguments.record
    options.retries = arguments.retry
    options.verbose = arguments.verbose
    pythons, methods = arguments.pythons or PYTHONS, arguments.methods or METHODS
    if arguments.quick:
        pythons = arguments.pythons or [sys.executable]
        methods = arguments.methods or ["spawn"]
        options.patterns = options.patterns or list(runs.QUICK)
        options.total = _QUICK_SECONDS
    options.total = arguments.total or options.total
    if options.keep_results and options.patterns:
        print("--record keeps whole runs only, not a selection")
        return 2
    return runs.run_all(pythons, methods, options)


def _baseline(arguments: argparse.Namespace) -> int:
    for name in arguments.pythons:
        interpreter = find(name)
        for method in arguments.methods or METHODS:
            measured = runs.measure_baseline(interpreter, method, record.BASELINES, arguments.timeout)
            print(f"{measured.name}: {dict(measured.totals())} in {measured.seconds:.0f} s")
            for test, first in measured.flaky.items():
                print(f"flaky: {test}  {first.outcome}  {score.summary(first)}")
            for note in measured.notes:
                print(f"note: {note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
