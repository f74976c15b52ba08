"""Squares of a large list: each process gets parts of the list and returns the squares."""

import sys
import time

from tqdm import tqdm

import procession as mp

PART = 50_000


def squares(part):
    """Return the squares of a part of the list."""
    return [number * number for number in part]


def main():
    """Square a list in parts, and check the sum."""
    length = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    parts = [range(first, min(first + PART, length)) for first in range(0, length, PART)]
    start = time.perf_counter()
    found = []
    with mp.Pool() as pool:
        for part in tqdm(pool.imap(squares, parts), total=len(parts), unit="part", leave=False):
            found += part
    seconds = time.perf_counter() - start
    print(f"{len(found)} squares from {mp.cpu_count()} processes in {seconds:.2f} s")
    print(f"the first: {found[:6]}")
    right = sum(found) == (length - 1) * length * (2 * length - 1) // 6
    print(f"the sum:   {sum(found)}, {'as the formula says' if right else 'WHICH IS WRONG'}")


if __name__ == "__main__":
    main()
