"""Dask: the distributed scheduler and worker processes on this machine, which start by spawn as they always do."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from . import WORKERS, Workers


@contextmanager
def workers() -> Iterator[Workers]:
    """Start a cluster without dashboard; `pure=False`, lest a result be remembered instead of computed."""
    from distributed import Client, LocalCluster, as_completed

    with (
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as cluster,
        Client(cluster) as client,
    ):

        def submit(function, argument):
            return client.submit(function, argument, pure=False)

        def map_all(function, inputs):
            return client.map(function, list(inputs), pure=False)

        yield Workers(
            map=lambda function, inputs: client.gather(map_all(function, inputs)),
            imap_unordered=lambda function, inputs: (
                result for _, result in as_completed(map_all(function, inputs), with_results=True)
            ),
            apply=lambda function, argument: submit(function, argument).result(),
            submit=submit,
            results=client.gather,
        )
