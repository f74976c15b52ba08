"""Builds the package for the Pythons whose tests are run: each needs an extension of its own."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from .interpreters import Interpreter

ROOT = Path(__file__).parents[2]


def wheel(interpreter: Interpreter, folder: Path, profile: str = "wheel") -> Path:
    """Build the wheel for `interpreter` into `folder`, which has no wheel for it yet.

    Returns:
        The wheel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.glob("*.whl"))
    maturin = Path(sys.executable).with_name("maturin")
    command = [maturin, "build", "--quiet", "--profile", profile, "--out", folder, "--interpreter", interpreter.path]
    subprocess.run(command, cwd=ROOT, check=True)
    (made,) = set(folder.glob("*.whl")) - before
    return made


def in_place(interpreter: Interpreter, profile: str) -> None:
    """Build the extension for `interpreter` into `python/`, beside those for other Pythons."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel(interpreter, Path(folder), profile)) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                # A new file: who has the old one loaded keeps it.
                (ROOT / "python" / name).unlink(missing_ok=True)
                archive.extract(name, ROOT / "python")
