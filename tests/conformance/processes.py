"""The processes of a session: naming them, ending them, even if the runner is killed.

A killed runner cannot clear up, and what its tests started would wait for ever. So a small guard
process is told of each session and folder; it sees the runner's death as the end of a pipe.
"""

import contextlib
import functools
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


def members(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{name}/stat").read_text()
        except OSError:
            continue
        state, _parent, _group, owner = stat.rpartition(")")[2].split()[:4]
        if int(owner) == session and state != "Z":
            found.append(int(name))
    return sorted(found)


def command_line(pid: int) -> str:
    """Return the start of a process's command line."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "?"
    return line.replace(b"\0", b" ").decode(errors="replace").strip()[:160]


def end_session(session: int) -> None:
    """Kill all processes of a session."""
    for _ in range(20):  # a process may start another while we look
        found = members(session)
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        time.sleep(0.05)


@functools.cache
def guard() -> "Guard":
    """Return the guard of this runner."""
    return Guard()


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Make a folder in /tmp (short: AF_UNIX paths are limited) and remove it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    guard().watch(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        guard().forget(folder)


class Guard:
    """A process that ends sessions and removes folders once the runner is gone."""

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        if os.fork() == 0:
            os.close(self._writing)
            try:
                _guard(reading)
            finally:
                os._exit(0)
        os.close(reading)

    def watch(self, thing: int | str | Path) -> None:
        """Clear this session (a number) or folder when the runner is gone."""
        os.write(self._writing, f"+{thing}\n".encode())

    def forget(self, thing: int | str | Path) -> None:
        """The runner has cleared it itself."""
        os.write(self._writing, f"-{thing}\n".encode())


def _guard(reading: int) -> None:
    os.setsid()  # Ctrl-C is for the runner
    for descriptor in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    watched = []
    with os.fdopen(reading) as lines:
        for line in lines:
            thing = line[1:-1]
            watched.append(thing) if line[0] == "+" else watched.remove(thing)
    # Newest first: a session writes into its folder.
    for thing in reversed(watched):
        if thing.isdigit():
            end_session(int(thing))
        else:
            shutil.rmtree(thing, ignore_errors=True)
