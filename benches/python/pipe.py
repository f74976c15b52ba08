"""Pipe: an object there and back, at once again. A child sends back what it gets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module

from .harness.case import THOUSANDS, Case, Run, Times, both

METHOD = "fork"
SIZES = {"100 B": 100, "1 KB": 1_000, "10 KB": 10_000}


def cases(ours: str) -> list[Case]:
    """Return the cases: small integers, and bytes of several sizes."""
    ints = Case(
        "pipe: ping-pong of small ints", THOUSANDS, both(ours, partial(through, 0)), Times(8, "multiprocessing")
    )
    payloads = [
        Case(f"pipe: ping-pong of {label} of bytes", THOUSANDS, both(ours, partial(through, size)))
        for label, size in SIZES.items()
    ]
    return [ints, *payloads]


@contextmanager
def through(size: int, module: str) -> Iterator[Run]:
    """Play through the `Pipe` of a module."""
    yield partial(ping_pong, import_module(module).get_context(METHOD), size)


def ping_pong(context, size: int, operations: int) -> float:
    """Send and await so many items; the first, before the clock starts, says that the child is there."""
    ours, theirs = context.Pipe()
    child = context.Process(target=echo, args=(theirs, operations + 1))
    child.start()
    theirs.close()
    send, receive = ours.send, ours.recv
    payload = bytes(size)
    total = 0
    send(None)
    receive()
    started = time.perf_counter()
    for number in range(operations):
        send(payload if size else number)
        item = receive()
        total += len(item) if size else item
    seconds = time.perf_counter() - started
    child.join()
    if total != (size * operations if size else sum(range(operations))):
        raise AssertionError("items were lost or altered")
    return seconds


def echo(connection, operations: int) -> None:
    """Send back what comes."""
    for _ in range(operations):
        connection.send(connection.recv())
