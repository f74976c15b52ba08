"""mpire: a pool with workers kept alive between calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from . import METHOD, WORKERS, Workers


@contextmanager
def workers() -> Iterator[Workers]:
    """Open a `WorkerPool`."""
    from mpire import WorkerPool

    with WorkerPool(WORKERS, start_method=METHOD, keep_alive=True) as pool:
        yield Workers(
            map=lambda function, inputs: pool.map(function, inputs, chunk_size=1),
            spread=pool.map,
            imap_unordered=lambda function, inputs: pool.imap_unordered(function, inputs, chunk_size=1),
            apply=lambda function, argument: pool.apply(function, (argument,)),
            submit=lambda function, argument: pool.apply_async(function, (argument,)),
            results=lambda pending: [result.get() for result in pending],
        )
