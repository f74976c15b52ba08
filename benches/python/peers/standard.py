"""`multiprocessing.Pool` and `concurrent.futures`, and procession, which has the same interface."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from . import METHOD, WORKERS, Workers, results_of


@contextmanager
def pool(module: str, method: str = METHOD) -> Iterator[Workers]:
    """Open a `Pool` of a module that is like `multiprocessing`."""
    with import_module(module).get_context(method).Pool(WORKERS) as pool:
        yield Workers(
            map=lambda function, inputs: pool.map(function, inputs, 1),
            spread=pool.map,
            imap_unordered=pool.imap_unordered,
            apply=lambda function, argument: pool.apply(function, (argument,)),
            submit=lambda function, argument: pool.apply_async(function, (argument,)),
            results=lambda pending: [result.get() for result in pending],
        )


@contextmanager
def executor(module: str, method: str = METHOD) -> Iterator[Workers]:
    """Open the executor of a module that is like `concurrent.futures`, with a context that belongs to it."""
    futures = import_module(module)
    contexts = import_module("multiprocessing" if module == "concurrent.futures" else module.removesuffix(".futures"))
    with futures.ProcessPoolExecutor(WORKERS, mp_context=contexts.get_context(method)) as executor:
        submit = executor.submit
        yield Workers(
            map=executor.map,
            apply=lambda function, argument: submit(function, argument).result(),
            submit=submit,
            results=results_of,
        )


def futures_of(module: str) -> str:
    """Return where a module's executors are."""
    return "concurrent.futures" if module == "multiprocessing" else f"{module}.futures"
