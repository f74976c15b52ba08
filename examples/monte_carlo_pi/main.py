"""π from random points: the same work here, in threads and in processes."""

import sys
import time
from concurrent.futures import Executor, Future

import numpy as np
from tqdm import tqdm

from procession.futures import ProcessPoolExecutor, ThreadPoolExecutor

BATCH = 1_000_000


class Here(Executor):
    """An executor that runs everything at once, here."""

    def submit(self, fn, /, *args):
        """Call the function."""
        future = Future()
        future.set_result(fn(*args))
        return future


def hits(seed):
    """Return how many of a batch of points fall into the quarter of a circle."""
    x, y = np.random.default_rng(seed).random((2, BATCH), np.float32)
    return int(np.count_nonzero(x * x + y * y <= 1))


def main():
    """Estimate π in three ways, which must agree."""
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000_000
    batches = max(1, points // BATCH)
    print(f"{batches * BATCH} points, {batches} tasks")
    found = []
    for name, executor in (("here", Here()), ("threads", ThreadPoolExecutor(2)), ("processes", ProcessPoolExecutor(2))):
        start = time.perf_counter()
        with executor:
            inside = sum(tqdm(executor.map(hits, range(batches)), total=batches, desc=name, leave=False))
        seconds = time.perf_counter() - start
        found.append(4 * inside / (batches * BATCH))
        print(f"  {name:<10} π = {found[-1]:.6f} {seconds:>7.2f} s {batches * BATCH / seconds / 1e6:>7.0f} million/s")
    print(f"{'all three the same' if len(set(found)) == 1 else 'THEY DIFFER'}; off by {abs(found[0] - np.pi):.6f}")


if __name__ == "__main__":
    main()
