"""Starts a worker in a session of its own, watches its limits, and ends all it started.

A hang or a crash costs the running test only: the caller starts another worker for the rest.
"""

import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .overlay import Overlay
from .processes import command_line, end_session, guard, members, temporary_folder

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS = 0x20000
_MS_REC_PRIVATE = 0x44000

# What `ask` raises if the worker died or hung.
NO_ANSWER = (OSError, ValueError, subprocess.TimeoutExpired)


@dataclass
class Outcome:
    """How one test ended: pass, fail, error, skip, timeout, crash or notrun."""

    outcome: str
    seconds: float = 0.0
    detail: str = ""


@dataclass
class Session:
    """What a worker did, and what it left behind."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    fixtures: list[Outcome] = field(default_factory=list)
    running: str | None = None
    ended: bool = False
    exit_status: int | None = None
    hung: list[str] = field(default_factory=list)
    leftover: list[str] = field(default_factory=list)
    shared_memory: list[str] = field(default_factory=list)


def run_tests(
    overlay: Overlay,
    module: str,
    class_name: str,
    names: list[str],
    limit: Callable[[str | None], float],
    output: int | None = None,
    traces: bool = False,
) -> Session:
    """Run tests of one class in a new worker.

    Args:
        overlay: Where it runs.
        module: The test module.
        class_name: The class in it.
        names: The tests of the class to run.
        limit: Seconds that a test (None: what is between tests) may take.
        output: Descriptor for what the tests print; None shows it.
        traces: Let every Python process of the session dump its threads if a test hangs.
    """
    arguments = [module, class_name, json.dumps(names)]
    with temporary_folder("conf-") as folder:
        events = folder / "events"
        events.touch()
        worker = _start(overlay, ["run", str(events), *arguments], folder, output, traces)
        try:
            shared_memory = _PrivateSharedMemory(worker.pid)
            session = _follow(worker, events, limit, traces)
            if not session.hung:
                session.leftover = [command_line(pid) for pid in _wait_for_children(worker.pid)]
        finally:
            end(worker)
    session.shared_memory = shared_memory.leaked()
    return session


def ask(overlay: Overlay, *arguments: str, timeout: float = 120) -> Any:
    """Return the answer of a worker command that writes one (`list`, `probe`).

    Raises:
        NO_ANSWER: The worker died or hung.
    """
    command, *rest = arguments
    with temporary_folder("conf-") as folder:
        answer = folder / "answer"
        worker = _start(overlay, [command, str(answer), *rest], folder, None, False)
        try:
            worker.wait(timeout)
        finally:
            end(worker)
        return json.loads(answer.read_text())


def _start(
    overlay: Overlay, arguments: list[str], folder: Path, output: int | None, traces: bool
) -> subprocess.Popen[bytes]:
    temporary, current = folder / "t", folder / "cwd"
    temporary.mkdir()
    current.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= {"TMPDIR": str(temporary), "LC_ALL": "C.UTF-8"}
    if traces:
        environment |= {"CONFORMANCE_TRACES": "1", "RUST_BACKTRACE": "1"}
    worker = subprocess.Popen(
        [overlay.python, "-m", "_conformance", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        cwd=current,
        start_new_session=True,
        preexec_fn=_in_child,
    )
    guard().watch(worker.pid)
    return worker


def _in_child() -> None:
    # A shell's `&` and nohup leave SIGINT ignored, which children keep; tests that
    # signal themselves would then hang.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # A private /dev/shm, where we may, shows what this session leaves there.
    is_alone = _LIBC.unshare(_CLONE_NEWNS) == 0
    if is_alone and _LIBC.mount(b"none", b"/", None, _MS_REC_PRIVATE, None) == 0:
        _LIBC.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, None)


class _PrivateSharedMemory:
    """The /dev/shm of a worker, if `_in_child` could give it one of its own."""

    def __init__(self, pid: int) -> None:
        self._descriptor = None
        try:
            opened = os.open(f"/proc/{pid}/root/dev/shm", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return
        if os.fstat(opened).st_dev == os.stat("/dev/shm").st_dev:
            os.close(opened)  # not private: others' files are in it
        else:
            self._descriptor = opened

    def leaked(self) -> list[str]:
        """Return the names left there."""
        if self._descriptor is None:
            return []
        names = sorted(os.listdir(self._descriptor))
        os.close(self._descriptor)
        return names


def _follow(
    worker: subprocess.Popen[bytes],
    events: Path,
    limit: Callable[[str | None], float],
    traces: bool,
) -> Session:
    """Read events until the worker ends or something takes longer than its limit."""
    session = Session()
    since, rest = time.monotonic(), ""
    with events.open() as file:
        while True:
            # Asked before reading: what is read after the end is all there is.
            status = worker.poll()
            *lines, rest = (rest + file.read()).split("\n")
            for line in lines:
                since = time.monotonic()
                _take(session, json.loads(line))
            if status is not None:
                session.exit_status = status
                return session
            if time.monotonic() - since > limit(session.running):
                alive = members(worker.pid)
                session.hung = [f"{pid} {command_line(pid)}" for pid in alive]
                _dump_threads(worker, alive if traces else [])
                return session
            if not lines:
                time.sleep(0.02)


def _take(session: Session, event: dict[str, Any]) -> None:
    kind = event["event"]
    if kind == "start":
        session.running = event["test"]
    elif kind == "stop":
        outcome = Outcome(event["outcome"], event["seconds"], event["detail"])
        session.outcomes[event["test"]] = outcome
        session.running = None
    elif kind == "fixture":
        detail = f"{event['what']}: {event['detail']}"
        session.fixtures.append(Outcome(event["outcome"], 0.0, detail))
    elif kind == "end":
        session.ended = True


def _dump_threads(worker: subprocess.Popen[bytes], others: list[int]) -> None:
    """Ask a hung worker, then the other processes, for a dump of their threads."""
    for pid in [worker.pid, *(other for other in others if other != worker.pid)]:
        print(f"--- threads of {pid} {command_line(pid)}", flush=True) if others else None
        try:
            os.kill(pid, signal.SIGUSR1)
        except OSError:
            continue
        time.sleep(0.3)  # nobody says when a dump is complete


def _wait_for_children(session: int, seconds: float = 3) -> list[int]:
    """Give what a worker started a moment to end; return what has not."""
    deadline = time.monotonic() + seconds
    while left := [pid for pid in members(session) if pid != session]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return left


def end(worker: subprocess.Popen[bytes]) -> None:
    """Kill a worker and all processes of its session."""
    end_session(worker.pid)
    worker.wait()
    guard().forget(worker.pid)
