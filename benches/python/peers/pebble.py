"""pebble: a pool each of whose tasks can be timed out or cancelled, as ours can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context

from . import METHOD, WORKERS, Workers, results_of


@contextmanager
def workers() -> Iterator[Workers]:
    """Open a `ProcessPool`."""
    from pebble import ProcessPool

    with ProcessPool(WORKERS, context=get_context(METHOD)) as pool:
        yield Workers(
            map=lambda function, inputs: pool.map(function, inputs).result(),
            apply=lambda function, argument: pool.schedule(function, args=(argument,)).result(),
            submit=lambda function, argument: pool.schedule(function, args=(argument,)),
            results=results_of,
        )
