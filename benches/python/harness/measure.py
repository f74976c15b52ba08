"""The measured process: `python -m benches.python.harness.measure RESULT BUDGET OURS CONCEPT TITLE SUBJECT`.

It is the `__main__` that spawned children import again, so nothing is imported here before it is needed.
"""

import os
import sys

MAIN_IMPORTS = "BENCH_MAIN_IMPORTS"
"""Environment variable: a module that the main module imports, as users' main modules do."""

if MAIN_IMPORTS in os.environ:
    __import__(os.environ[MAIN_IMPORTS])


def main(arguments: list[str]) -> None:
    """Measure one subject of one case once, and leave the figure in the file named first."""
    import json
    from importlib import import_module

    result, budget, ours, concept, title, name = arguments
    cases = import_module(f"benches.python.{concept}").cases(ours)
    case = next(case for case in cases if case.title == title)
    subject = next(subject for subject in case.subjects if subject.name == name)
    figure = subject.work() if case.counted else timed(case, subject, float(budget))
    # Renamed into place, so that whoever finds the file finds all of it.
    with open(f"{result}.part", "w") as file:
        json.dump({"figure": figure}, file)
    os.rename(f"{result}.part", result)


def timed(case, subject, budget: float) -> float:
    """Run more and more operations until they fill the budget; the runs before only warm up.

    The very first is never counted, because some start their workers only then.
    """
    with subject.work() as run:
        run(2)
        operations = 4
        while True:
            seconds = max(run(operations), 1e-9)
            fit = operations * budget / seconds
            if seconds * 2 >= budget:
                return case.unit.figure(operations, seconds)
            # A first short run is mostly wake-up: grow by no more than a hundred at a time, and by two at least.
            operations = int(min(max(fit, operations * 2), operations * 100))


if __name__ == "__main__":
    main(sys.argv[1:])
