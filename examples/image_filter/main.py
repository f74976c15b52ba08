"""Edges of many images: NumPy arrays go to a pool and come back, without being copied more than once."""

import sys
import time

import numpy as np
from tqdm import tqdm

import procession as mp

SIDE = 1024


def paint(number):
    """Make an image up: rings around a point, and noise."""
    dice = np.random.default_rng(number)
    (y, x), (top, left) = np.ogrid[:SIDE, :SIDE], dice.integers(0, SIDE, 2)
    rings = np.sin(np.hypot(x - left, y - top) / dice.uniform(5, 50))
    return (128 + 90 * rings + dice.normal(0, 5, (SIDE, SIDE))).clip(0, 255).astype(np.uint8)


def edges(image):
    """Return how steep an image is at each place (Sobel's filter)."""
    a = image.astype(np.int16)
    rows = a[:-2] + 2 * a[1:-1] + a[2:]
    columns = a[:, :-2] + 2 * a[:, 1:-1] + a[:, 2:]
    across, down = rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]
    return np.minimum(np.abs(across) + np.abs(down), 255).astype(np.uint8)


def main():
    """Filter the images here and in a pool, and compare every pixel."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    images = [paint(number) for number in tqdm(range(count), desc="painting", leave=False)]
    print(f"edges of {count} images of {SIDE} x {SIDE}")
    found = []
    with mp.Pool() as pool:
        for name, go in (("1 process", map), (f"{mp.cpu_count()} processes", pool.imap)):
            start = time.perf_counter()
            found.append(list(tqdm(go(edges, images), total=count, desc=name, unit="image", leave=False)))
            seconds = time.perf_counter() - start
            print(f"  {name:<12} {seconds:>6.2f} s {count * SIDE * SIDE / seconds / 1e6:>7.1f} megapixels/s")
    same = all(np.array_equal(here, there) for here, there in zip(*found, strict=True))
    print("all the same" if same else "THEY DIFFER")


if __name__ == "__main__":
    main()
