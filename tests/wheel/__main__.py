"""`make wheel`: build the wheel for each Python, look into it, install it into a fresh environment, and run `program.py` there."""

import argparse
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = HERE.parent.parent / "python" / "procession"
sys.path.insert(0, str(HERE.parent))

from conformance import build, interpreters  # noqa: E402 (found on the path above)


def content_problem(wheel, interpreter):
    """What is wrong with the list of files in a wheel; `None`: nothing."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    sources = [
        path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".pyi", ".typed") or path.name == "py.typed"
    ]
    wanted = {str(path.relative_to(PACKAGE.parent)) for path in sources} | {
        f"procession/_procession{interpreter.suffix}"
    }
    if missing := wanted - inside:
        return f"is without {sorted(missing)}"
    info = re.compile(r"procession-[^/]+\.dist-info/(METADATA|WHEEL|RECORD|licenses/LICENSE-(APACHE|MIT)|sboms/.*)")
    described = {name for name in inside - wanted if info.fullmatch(name)}
    if others := inside - wanted - described:
        return f"has {sorted(others)} in it"
    if not all(any(name.endswith(licence) for name in described) for licence in ("LICENSE-MIT", "LICENSE-APACHE")):
        return "is without its licences"
    return None


def try_in(python, wheel):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        fresh = Path(folder) / "bin" / "python"
        subprocess.run([fresh, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel], check=True)
        # Elsewhere, so that nothing is found but what was installed.
        subprocess.run([fresh, HERE / "program.py"], check=True, cwd=folder, timeout=300)


def main():
    parser = argparse.ArgumentParser(prog="tests/wheel", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the wheels go")
    parser.add_argument("--pythons", nargs="+", default=["3.11", "3.12", "3.13"], help="versions or paths")
    options = parser.parse_args()
    for name in options.pythons:
        interpreter = interpreters.find(name)
        wheel = build.wheel(interpreter, options.folder.resolve())
        if problem := content_problem(wheel, interpreter):
            sys.exit(f"{wheel.name} {problem}")
        try_in(interpreter.path, wheel)


if __name__ == "__main__":
    main()
