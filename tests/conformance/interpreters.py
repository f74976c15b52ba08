"""Finds the Pythons whose tests are run, and says what their installs lack."""

import contextlib
import glob
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_DESCRIBE = """
import importlib.machinery, json, os, sys
print(json.dumps({
    "base": sys.base_prefix,
    "executable": os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
    "minor": "%d.%d" % sys.version_info[:2],
    "version": "%d.%d.%d" % sys.version_info[:3],
    "library": os.path.dirname(os.__file__),
    "suffix": importlib.machinery.EXTENSION_SUFFIXES[0],
}))
"""


_TOO_OLD = ("2.", *(f"3.{minor}." for minor in range(11)))


class NotRunnable(Exception):
    """This Python cannot be used here; the message says why."""


@dataclass(frozen=True)
class Interpreter:
    """An installed Python that has CPython's test package."""

    path: str
    base: Path
    executable: Path
    minor: str
    version: str
    library: Path
    suffix: str
    """What the file names of extensions for this very Python end with."""

    @property
    def tests(self) -> Path:
        """The directory of the `test` package."""
        return self.library / "test"


def find(name: str) -> Interpreter:
    """Find the best Python called `name`: a version (`3.12`, `3.12.1`) or a path.

    Raises:
        NotRunnable: There is none, or none of them has the test package.
    """
    if f"{name}.".startswith(_TOO_OLD):
        raise NotRunnable(f"python {name} is older than the oldest supported, 3.11")
    found = [described for path in _candidates(name) if (described := _describe(path, name))]
    for interpreter in found:
        if (interpreter.tests / "_test_multiprocessing.py").exists():
            return interpreter
    if found:
        raise NotRunnable(f"python {name} has no test package here ({found[0].path})")
    raise NotRunnable(f"python {name} is not installed here (looked in ~/.pyenv/versions and PATH)")


def _candidates(name: str) -> list[str]:
    if os.sep in name:
        return [name]
    root = os.path.expanduser("~/.pyenv/versions")
    installed = glob.glob(f"{root}/{name}/bin/python3") + glob.glob(f"{root}/{name}.*/bin/python3")
    newest_first = sorted(installed, key=_version_of_install, reverse=True)
    on_path = shutil.which(f"python{name}")
    return newest_first + ([on_path] if on_path else [])


def _version_of_install(path: str) -> list[int]:
    return [int(part) for part in Path(path).parts[-3].split(".") if part.isdigit()]


def _describe(path: str, name: str) -> Interpreter | None:
    try:
        answer = subprocess.run([path, "-I", "-c", _DESCRIBE], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    facts = json.loads(answer.stdout)
    is_version = os.sep not in name
    # A shim on PATH may stand for another version than its name says.
    if is_version and not f"{facts['version']}.".startswith(f"{name}."):
        return None
    return Interpreter(
        path=path,
        base=Path(facts["base"]),
        executable=Path(facts["executable"]),
        minor=facts["minor"],
        version=facts["version"],
        library=Path(facts["library"]),
        suffix=facts["suffix"],
    )


def futures_tests(interpreter: Interpreter, cache: Path) -> Path | None:
    """Return the `test_concurrent_futures` file or package of this version, or None.

    Some installs leave it out; for those, Debian's test-suite package of the same
    minor version is fetched into `cache` where apt has it (nothing of it is kept in the
    repository), or else those of the next installed Python are taken.
    """
    package = f"libpython{interpreter.minor}-testsuite"
    fetched = cache / package
    return (
        _futures_in(interpreter.tests)
        or _futures_in(_fetch_debian_package(package, fetched) / f"usr/lib/python{interpreter.minor}/test")
        or _futures_of_newer(interpreter)
    )


def _futures_in(tests: Path) -> Path | None:
    return next(iter(sorted(tests.glob("test_concurrent_futures*"))), None)


def _futures_of_newer(interpreter: Interpreter) -> Path | None:
    minor = int(interpreter.minor.partition(".")[2])
    try:
        return _futures_in(find(f"3.{minor + 1}").tests)
    except NotRunnable:
        return None


def _fetch_debian_package(package: str, folder: Path) -> Path:
    """Unpack a Debian package into `folder`, which is made even if there is none: asked once."""
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        _run_quietly(["apt-get", "download", package], folder)
        for archive in folder.glob("*.deb"):
            _run_quietly(["dpkg", "-x", str(archive), "."], folder)
    return folder


def _run_quietly(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=120)
