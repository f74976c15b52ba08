"""Flaky tasks: some raise, some hang, some kill their worker. Each has a time limit and three tries, and costs nobody else anything."""

import os
import random
import signal
import sys
import time

from tqdm import tqdm

import procession as mp
from procession.pool import TaskTimeout, WorkerDied

LIMIT, TRIES = 0.5, 3


def square(tries, number):
    """Return the square of a number, with luck. What happens in each try is the same in every run."""
    with tries.get_lock():
        tries[number] += 1
    fate = random.Random(f"{number} {tries[number]}").choice(["fine", "fine", "raises", "hangs", "dies"])
    if fate == "raises":
        raise ArithmeticError("no luck")
    if fate == "hangs":
        time.sleep(3600)
    if fate == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def outcome(result):
    """Say what became of a task."""
    try:
        return True, str(result.get())
    except (ArithmeticError, TaskTimeout, WorkerDied) as error:
        return False, f"{type(error).__name__}: {error}"


def main():
    """Run the tasks, and list what became of each."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    tries = mp.Array("i", count)
    start = time.perf_counter()
    with mp.Pool() as pool:
        careful = pool.with_options(timeout=LIMIT, retries=TRIES - 1)
        results = [careful.apply_async(square, (tries, number)) for number in range(count)]
        outcomes = [outcome(result) for result in tqdm(results, unit="task", leave=False)]
    print("task  tries  outcome")
    for number, (_, text) in enumerate(outcomes):
        print(f"{number:>4}  {tries[number]:>5}  {text}")
    done = sum(fine for fine, _ in outcomes)
    print(f"{done} of {count} tasks done in {time.perf_counter() - start:.1f} s: {sum(tries)} tries")


if __name__ == "__main__":
    main()
