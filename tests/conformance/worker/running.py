"""Runs tests of one class and reports each outcome as it is known."""

import faulthandler
import importlib
import json
import os
import signal
import sys
import time
import traceback
import unittest

from test import support

_SEVERITY = (None, "pass", "skip", "fail", "error")


def run(events: str, module: str, class_name: str, tests: str) -> None:
    """Run the tests (a JSON list of names) of a class; events are lines of the file `events`."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)
    emit = _emitter(events)
    support.record_original_stdout(sys.stdout)
    cls = getattr(importlib.import_module(module), class_name)
    suite = unittest.TestSuite(cls(name) for name in json.loads(tests))
    suite.run(_Result(emit))
    emit(event="end")


def _emitter(path: str):
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    owner = os.getpid()

    def emit(**event: object) -> None:
        if os.getpid() == owner:  # forked children must not report
            os.write(descriptor, (json.dumps(event) + "\n").encode())

    return emit


def _text(error: tuple) -> str:
    return "".join(traceback.format_exception(*error))


class _Result(unittest.TestResult):
    """Reports the start and the worst outcome of each test."""

    def __init__(self, emit) -> None:
        super().__init__()
        self._emit = emit
        self._running = None
        self._outcome = None
        self._details = []
        self._since = 0.0

    def startTest(self, test) -> None:
        super().startTest(test)
        self._running = test._testMethodName
        self._outcome, self._details, self._since = None, [], time.monotonic()
        self._emit(event="start", test=self._running)

    def stopTest(self, test) -> None:
        self._emit(
            event="stop",
            test=self._running,
            outcome=self._outcome or "error",
            detail="\n".join(self._details).strip(),
            seconds=time.monotonic() - self._since,
        )
        self._running = None
        super().stopTest(test)

    def _note(self, test, outcome: str, detail: str = "") -> None:
        if self._running is not None:
            self._outcome = max(outcome, self._outcome, key=_SEVERITY.index)
            self._details.append(detail)
        elif hasattr(test, "_testMethodName"):
            # A skipped class: since 3.12.1 its tests are not started.
            name = test._testMethodName
            self._emit(event="stop", test=name, outcome=outcome, detail=detail, seconds=0.0)
        else:
            self._emit(event="fixture", what=str(test), outcome=outcome, detail=detail)

    def addSuccess(self, test) -> None:
        self._note(test, "pass")

    def addFailure(self, test, err) -> None:
        self._note(test, "fail", _text(err))

    def addError(self, test, err) -> None:
        self._note(test, "error", _text(err))

    def addSkip(self, test, reason) -> None:
        self._note(test, "skip", reason)

    def addExpectedFailure(self, test, err) -> None:
        self._note(test, "pass", "expected failure")

    def addUnexpectedSuccess(self, test) -> None:
        self._note(test, "fail", "unexpected success")

    def addSubTest(self, test, subtest, err) -> None:
        if err is not None:
            failed = issubclass(err[0], test.failureException)
            self._note(test, "fail" if failed else "error", f"{subtest}\n{_text(err)}")
