"""The Python in the documentation runs: each block as a program of its own, those after ```` ```python ignore ```` excepted."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks():
    for page in PAGES:
        text = page.read_text()
        for found in BLOCK.finditer(text):
            line = text.count("\n", 0, found.start(1)) + 1
            yield pytest.param(found[1], id=f"{page.relative_to(ROOT)}:{line}")


@pytest.mark.parametrize("program", list(blocks()))
def test_what_is_shown_runs(program, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(program)
    # Warnings are errors, in children, too.
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    ended = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    )
    assert (ended.returncode, ended.stderr) == (0, "")
