"""Python programs as tests run them: from a file, in a session of their own, with a watchdog."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

# Longer than anything takes, however busy the machine is.
PATIENCE = 60


class Program:
    """A running program; at the end of the `with` block its whole session is killed."""

    def __init__(self, arguments, **options):
        self.process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=subprocess.DEVNULL if "stdin" not in options else options.pop("stdin"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def line(self):
        """Wait for a line of output."""
        line = self.process.stdout.readline()
        assert line, self.end()
        return line.rstrip("\n")

    def end(self):
        """Wait for the end: exit code, output, errors. The end of output is the end of all who could write it, children too."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output, errors


def write(folder, source, name="program.py"):
    """Write a program; its path."""
    path = Path(folder) / name
    path.write_text(textwrap.dedent(source))
    return path


def run(folder, source, *arguments, **options):
    """Run a program to its end: exit code, output, errors."""
    with Program([write(folder, source), *arguments], **options) as program:
        return program.end()


def is_alive(pid):
    """Say whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
