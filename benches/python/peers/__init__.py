"""Everybody's workers under one interface, so that the loops that drive and clock them are written once.

One file for each peer; what it does is the peer's own documented way, with `WORKERS` processes. The peer is imported
when its workers are opened, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

WORKERS = 2
METHOD = "fork"
"""How workers start, with those who let one choose."""

Function = Callable[[Any], Any]


class Workers(NamedTuple):
    """Somebody's open pool; what it has no way to do is `None`.

    Attributes:
        map: One message a task, results in order.
        spread: As many tasks a message as the peer thinks fit.
        imap_unordered: One message a task, results as they come.
        apply: One task, awaited.
        submit: One task, not awaited.
        results: The results of a list of what `submit` returned.
    """

    map: Callable[[Function, Iterable], Iterable] | None = None
    spread: Callable[[Function, Iterable], Iterable] | None = None
    imap_unordered: Callable[[Function, Iterable], Iterable] | None = None
    apply: Callable[[Function, Any], Any] | None = None
    submit: Callable[[Function, Any], Any] | None = None
    results: Callable[[list], list] | None = None


def results_of(futures: list) -> list:
    """Return the results of futures, in order."""
    return [future.result() for future in futures]
