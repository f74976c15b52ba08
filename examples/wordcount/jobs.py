"""The jobs of the demonstration. Each runs on a pool of whatever module it is given, and says how far it is."""

import re
import sysconfig
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WORD = re.compile(rb"[A-Za-z_]+")
SIDE = 2048


def count_words(path):
    """Count the words of a file."""
    return Counter(WORD.findall(Path(path).read_bytes()))


@dataclass
class WordCount:
    """Words of the Python files of the standard library, a task for each file."""

    title = "words of the stdlib, a task a file"
    unit = "file"
    files: list

    @property
    def total(self):
        """How many files there are."""
        return len(self.files)

    def run(self, module, advance):
        """Count them; the commonest words."""
        words = Counter()
        with module.Pool() as pool:
            for counts in pool.imap_unordered(count_words, self.files):
                words.update(counts)
                advance()
        return sorted(words.items(), key=lambda item: (-item[1], item[0]))[:3], sum(words.values())

    def describe(self, found):
        """What was found, in words."""
        commonest, total = found
        return f"{total:,} words, most of all " + ", ".join(word.decode() for word, _ in commonest)


def soften(image):
    """Blur an image with its neighbours, twice."""
    for _ in range(2):
        image = (image + np.roll(image, 1, 0) + np.roll(image, -1, 0) + np.roll(image, 1, 1)) / np.float32(4)
    return image


@dataclass
class Images:
    """Images of 16 MiB, there and back."""

    title = "NumPy images of 16 MiB, there and back"
    unit = "image"
    total: int

    def run(self, module, advance):
        """Blur them; the sum of all pixels."""
        image = np.random.default_rng(1).random((SIDE, SIDE), np.float32)
        pixels = 0.0
        with module.Pool() as pool:
            for blurred in pool.imap(soften, (image for _ in range(self.total))):
                pixels += float(blurred[0].sum())
                advance()
        return round(pixels, 3)

    def describe(self, found):
        """What was found, in words."""
        return f"{self.total} images"


def collatz(n):
    """Return how many steps `n` takes down to 1."""
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


@dataclass
class SmallTasks:
    """Many small tasks, each sent by itself."""

    title = "small tasks, each by itself"
    unit = "task"
    total: int

    def run(self, module, advance):
        """Run them; the longest."""
        longest = 0
        with module.Pool() as pool:
            for steps in pool.imap(collatz, range(1, self.total + 1)):
                longest = max(longest, steps)
                advance()
        return longest

    def describe(self, found):
        """What was found, in words."""
        return f"{self.total:,} tasks, the longest {found} steps"


def all_jobs(scale):
    """All jobs, at so much of their size."""
    files = sorted(str(path) for path in Path(sysconfig.get_paths()["stdlib"]).rglob("*.py") if path.is_file())
    files = [path for path in files if "site-packages" not in path]
    return [
        WordCount(files[: max(1, int(len(files) * scale))]),
        Images(max(2, int(48 * scale))),
        SmallTasks(int(200_000 * scale)),
    ]
