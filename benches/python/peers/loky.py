"""loky: an executor whose workers start its own way, by fork and exec."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from . import WORKERS, Workers, results_of


@contextmanager
def workers() -> Iterator[Workers]:
    """Open a plain executor; the reusable one is the same inside."""
    from loky import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as executor:
        submit = executor.submit
        yield Workers(
            map=executor.map,
            apply=lambda function, argument: submit(function, argument).result(),
            submit=submit,
            results=results_of,
        )
