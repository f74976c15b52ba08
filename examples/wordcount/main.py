"""The same three jobs with `multiprocessing` and with `procession`, side by side: words of a source tree, NumPy images, and a million small tasks.

The only difference between the two columns is the module that `jobs` gets.
"""

import argparse
import multiprocessing
import sys
import time

import jobs
from tqdm import tqdm

import procession

MODULES = {"multiprocessing": multiprocessing, "procession": procession}


def timed(job, module, bar):
    """Run a job; its seconds and what it found."""
    bar.set_description(f"{job.title.split(',')[0]}, {module.__name__}")
    start = time.perf_counter()
    found = job.run(module, bar.update)
    return time.perf_counter() - start, found


def main():
    """Run all jobs, print the table; exit status 1 if the two modules disagree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    scale = 0.1 if parser.parse_args().quick else 1.0
    todo = jobs.all_jobs(scale)
    times = {}
    for job in todo:
        for name, module in MODULES.items():
            with tqdm(total=job.total, unit=job.unit, unit_scale=job.total > 9999, leave=False, file=sys.stderr) as bar:
                times[job.title, name] = timed(job, module, bar)
    print_table(todo, times)
    agreed = all(times[job.title, "multiprocessing"][1] == times[job.title, "procession"][1] for job in todo)
    print("both found the same." if agreed else "THE RESULTS DIFFER")
    return 0 if agreed else 1


def print_table(todo, times):
    """Print a line for each job, with both times and the ratio; below it, what the jobs found."""
    print(f"{'job':<38} {'multiprocessing':>15} {'procession':>12} {'faster':>8}")
    for job in todo:
        (theirs, _), (ours, _) = times[job.title, "multiprocessing"], times[job.title, "procession"]
        print(f"{job.title:<38} {theirs:>13.2f} s {ours:>10.2f} s {theirs / ours:>7.1f}x")
    print("\n" + "\n".join(job.describe(times[job.title, "procession"][1]) for job in todo))


if __name__ == "__main__":
    sys.exit(main())
