"""Who has workers, as the subjects of a case."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from typing import NamedTuple

from ..harness.case import Run, Subject, both, ours_name
from . import Workers
from .standard import executor, futures_of, pool

Open = Callable[[], AbstractContextManager[Workers]]
Clock = Callable[[Open], AbstractContextManager[Run] | float]
"""Opens somebody's workers and measures something with them."""


class Peer(NamedTuple):
    """Somebody else's library, under the name of its file here."""

    name: str
    module: str
    slow_start: bool = False


PEERS = {
    "loky": Peer("loky", "loky"),
    "joblib": Peer("joblib", "joblib"),
    "pebble": Peer("pebble", "pebble"),
    "mpire": Peer("mpire", "mpire"),
    "ray": Peer("Ray", "ray", slow_start=True),
    "dask": Peer("Dask", "distributed", slow_start=True),
}


def pools(ours: str, clock: Clock) -> list[Subject]:
    """Return our pool and `multiprocessing.Pool`."""
    return both(ours, lambda module: clock(partial(pool, module)))


def executors(ours: str, clock: Clock) -> list[Subject]:
    """Return our executor and that of `concurrent.futures`."""
    own, standard = futures_of(ours), "concurrent.futures"
    return [
        Subject(ours_name(ours), ours, partial(clock, partial(executor, own))),
        Subject(standard, "concurrent.futures", partial(clock, partial(executor, standard))),
    ]


def others(clock: Clock, *stems: str) -> list[Subject]:
    """Return peers, named by their files."""
    return [
        Subject(peer.name, peer.module, partial(clock, partial(open_peer, stem)), slow_start=peer.slow_start)
        for stem, peer in ((stem, PEERS[stem]) for stem in stems)
    ]


def open_peer(stem: str) -> AbstractContextManager[Workers]:
    """Import a peer's file and open its workers."""
    return import_module(f"{__package__}.{stem}").workers()
