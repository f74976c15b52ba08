"""joblib: `Parallel` on its default backend, loky, kept open over calls as its documentation advises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from . import WORKERS, Function, Workers


@contextmanager
def workers() -> Iterator[Workers]:
    """Open one `Parallel` for each way of calling; they share their worker processes."""
    from joblib import Parallel, delayed

    def calls(parallel: Parallel) -> Callable:
        return lambda function, inputs: parallel(delayed(function)(argument) for argument in inputs)

    with ExitStack() as stack:
        one_by_one = calls(stack.enter_context(Parallel(WORKERS, batch_size=1)))
        yield Workers(
            map=one_by_one,
            spread=calls(stack.enter_context(Parallel(WORKERS))),
            imap_unordered=calls(stack.enter_context(Parallel(WORKERS, batch_size=1, return_as="generator_unordered"))),
            apply=apply_by(one_by_one),
        )


def apply_by(calls: Callable) -> Callable:
    """Return a way to do one task, which is a call with one input."""

    def apply(function: Function, argument):
        return calls(function, [argument])[0]

    return apply
