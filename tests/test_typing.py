"""The types that the package tells are those it has."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TYPING = ROOT / "tests" / "typing"


def run(*arguments):
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_stubs_agree_with_what_is_there():
    options = ["--mypy-config-file", "pyproject.toml", "--allowlist", TYPING / "allowlist.txt"]
    if sys.version_info >= (3, 12):
        # What the list allows of older ones.
        options.append("--ignore-unused-allowlist")
    done = run("mypy.stubtest", "procession", *options)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_program_of_a_user_has_the_types_that_it_expects():
    done = run("mypy", "--strict", "tests/typing/usage.py")
    assert done.returncode == 0, done.stdout + done.stderr
