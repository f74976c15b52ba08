"""How many CPUs other programs kept busy meanwhile.

Rounds beside a compiler are not worth much, and a reader of the record should be able to tell.
"""

from __future__ import annotations

import os
import time
from pathlib import Path


class Load:
    """An observation that begins when it is made."""

    def __init__(self) -> None:
        self._others = other_seconds()
        self._started = time.monotonic()

    def other_cpus(self) -> float:
        """Return how many CPUs others kept busy on average since the beginning."""
        elapsed = time.monotonic() - self._started
        return max(0.0, (other_seconds() - self._others) / elapsed)


def other_seconds() -> float:
    """Return the seconds that all CPUs were busy, less those of this process and of what it has reaped."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    own = os.times()
    return busy - own.user - own.system - own.children_user - own.children_system
