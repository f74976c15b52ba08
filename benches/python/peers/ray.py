"""Ray: remote functions on a cluster of this machine alone, whose object store carries large arrays."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from . import WORKERS, Workers

STORE = 1 << 30


@contextmanager
def workers() -> Iterator[Workers]:
    """Start a cluster without dashboard and usage statistics."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init(
        num_cpus=WORKERS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=STORE,
        _temp_dir=tempfile.gettempdir(),
    )
    remote = cache(ray.remote)
    try:
        yield Workers(
            map=lambda function, inputs: ray.get([remote(function).remote(argument) for argument in inputs]),
            apply=lambda function, argument: ray.get(remote(function).remote(argument)),
            submit=lambda function, argument: remote(function).remote(argument),
            results=ray.get,
        )
    finally:
        ray.shutdown()
