"""Barrier, Event and Condition: two processes that wait for each other, again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import NamedTuple

from .harness.case import THOUSANDS, Case, Run, Times, both

METHOD = "fork"
AIM = Times(15, "multiprocessing")


def cases(ours: str) -> list[Case]:
    """Return one case for each of the three."""
    return [
        Case("hand_over: Barrier, 2 parties", THOUSANDS, both(ours, partial(through, Meeting)), AIM),
        Case("hand_over: Event, there and back", THOUSANDS, both(ours, partial(through, Signals)), AIM),
        Case("hand_over: Condition, there and back", THOUSANDS, both(ours, partial(through, Turns)), AIM),
    ]


@contextmanager
def through(kind: Callable, module: str) -> Iterator[Run]:
    """Hand over by means of a module."""
    yield partial(hand_over, import_module(module).get_context(METHOD), kind)


def hand_over(context, kind: Callable, operations: int) -> float:
    """Do so many rounds with a child; one before, until which the clock does not run, says that it is there."""
    means = kind.make(context)
    child = context.Process(target=means.answer, args=(operations + 1,))
    child.start()
    means.ask(1)
    started = time.perf_counter()
    means.ask(operations)
    seconds = time.perf_counter() - started
    child.join()
    return seconds


class Meeting(NamedTuple):
    """Both wait at a barrier."""

    barrier: object

    @classmethod
    def make(cls, context) -> Meeting:
        """Share it."""
        return cls(context.Barrier(2))

    def ask(self, operations: int) -> None:
        """Meet so many times."""
        for _ in range(operations):
            self.barrier.wait()

    answer = ask


class Signals(NamedTuple):
    """An event there, another one back."""

    there: object
    back: object

    @classmethod
    def make(cls, context) -> Signals:
        """Share them."""
        return cls(context.Event(), context.Event())

    def ask(self, operations: int) -> None:
        """Signal and await the answer."""
        for _ in range(operations):
            self.there.set()
            self.back.wait()
            self.back.clear()

    def answer(self, operations: int) -> None:
        """Await the signal and answer."""
        for _ in range(operations):
            self.there.wait()
            self.there.clear()
            self.back.set()


class Turns(NamedTuple):
    """A number that both change in turn, under one condition."""

    condition: object
    turn: object

    @classmethod
    def make(cls, context) -> Turns:
        """Share them."""
        return cls(context.Condition(), context.RawValue("i", 0))

    def ask(self, operations: int) -> None:
        """Give the turn away and await it."""
        for _ in range(operations):
            with self.condition:
                self.turn.value = 1
                self.condition.notify()
                while self.turn.value != 0:
                    self.condition.wait()

    def answer(self, operations: int) -> None:
        """Await the turn and give it back."""
        for _ in range(operations):
            with self.condition:
                while self.turn.value != 1:
                    self.condition.wait()
                self.turn.value = 0
                self.condition.notify()
