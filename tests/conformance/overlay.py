"""A throw-away interpreter prefix in which CPython's tests name our package.

The binary is copied, the standard library linked, and the rewritten tests and the
package under test sit *inside* the standard library directory. So no import hook and no
environment variable is needed: parent, spawned, forkserver and `python -E -S -I -c` children
all see the same, pickles name `procession.*`, and procession itself (like the rest of
the stdlib) still imports the real `multiprocessing`.

Two kinds are built: `fresh` holds a copy of the package, so that a rebuild during a
long run changes nothing; `cached` links it file by file, so that triage sees each edit at once.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import rewrite
from .interpreters import Interpreter, NotRunnable, futures_tests
from .processes import temporary_folder

METHODS = ("fork", "spawn", "forkserver")
PARTS = ("processes", "manager", "threads", "misc")
HERE = Path(__file__).parent
ROOT = HERE.parents[1]

# Names that `import multiprocessing` alone makes visible as attributes.
_VISIBLE = ("process", "context", "reduction")

# In triage each Python process, started in whatever way, dumps its threads when it is asked to.
_DUMP_ON_REQUEST = f"""\
import os
if os.environ.get("CONFORMANCE_TRACES"):
    import faulthandler
    faulthandler.register({int(signal.SIGUSR1)}, all_threads=True, chain=False)
"""


@dataclass
class Overlay:
    """Where one overlay lies and what is tested in it."""

    interpreter: Interpreter
    module: str
    root: Path
    package: Path | None = None
    borrowed: list[str] = field(default_factory=list)

    @property
    def python(self) -> Path:
        """The interpreter to start."""
        return self.root / "bin" / f"python{self.interpreter.minor}"

    @property
    def library(self) -> Path:
        """The overlay's standard library directory."""
        return self.root / "lib" / f"python{self.interpreter.minor}"

    @property
    def tests(self) -> Path:
        """The overlay's `test` package."""
        return self.library / "test"


@contextlib.contextmanager
def fresh(interpreter: Interpreter, module: str, package: Path | None, cache: Path) -> Iterator[Overlay]:
    """Build an overlay around a copy of `package`, and remove it afterwards."""
    with temporary_folder("conformance-") as root:
        overlay = Overlay(interpreter, module, root, package)
        _build_interpreter(overlay, cache)
        if package:
            target = overlay.library / module
            shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__"))
            for name, text in _stand_ins(overlay, package).items():
                (target / name).write_text(text)
        yield overlay


def cached(
    interpreter: Interpreter, module: str, package: Path | None, cache: Path, borrow: Sequence[str] = ()
) -> Overlay:
    """Return an overlay that is kept under `cache` and links the files of `package`.

    Of the submodules `borrow`, which may be half written, the stdlib's are taken.
    """
    root = cache / "overlay" / f"{interpreter.version}-{module}"
    overlay = Overlay(interpreter, module, root, package)
    stamp = root / "stamp"
    wanted = _fingerprint(interpreter)
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(root, ignore_errors=True)
        # Built aside and renamed: whoever is killed here leaves no half overlay.
        with tempfile.TemporaryDirectory(prefix="build-", dir=_made(cache / "overlay")) as aside:
            built = Overlay(interpreter, module, Path(aside) / "prefix", package)
            _build_interpreter(built, cache)
            (built.root / "stamp").write_text(wanted)
            with contextlib.suppress(OSError):  # another triage was first
                built.root.rename(root)
    if package:
        _link_package(package, overlay.library / module, _stand_ins(overlay, package, borrow))
    return overlay


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fingerprint(interpreter: Interpreter) -> str:
    sources = [*HERE.glob("*.py"), *HERE.glob("worker/*.py")]
    newest = max(source.stat().st_mtime_ns for source in sources)
    found = [_find_dependency(dependency) for dependency in dependencies()]
    return f"{interpreter.executable} {newest} {found}"


def _build_interpreter(overlay: Overlay, cache: Path) -> None:
    interpreter = overlay.interpreter
    overlay.python.parent.mkdir(parents=True)
    shutil.copy2(interpreter.executable, overlay.python)
    for name in ("python3", "python"):
        (overlay.python.parent / name).symlink_to(overlay.python.name)
    _link_entries(interpreter.library, overlay.library, skip={"test", "site-packages"})
    (overlay.library / "site-packages").mkdir()
    for shared in (interpreter.base / "lib").glob("libpython*"):
        (overlay.root / "lib" / shared.name).symlink_to(shared)
    _build_tests(overlay, cache)
    shutil.copytree(
        HERE / "worker",
        overlay.library / "_conformance",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (overlay.library / "sitecustomize.py").write_text(_DUMP_ON_REQUEST)
    for dependency in dependencies():
        if found := _find_dependency(dependency):
            (overlay.library / dependency).symlink_to(found)


def dependencies() -> list[str]:
    """Return the packages that the package under test needs (`pyproject.toml`); all are pure Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [re.split(r"[^\w-]", needed)[0] for needed in project.get("dependencies", [])]


def _find_dependency(name: str) -> Path | None:
    """Find a package that this Python or the project's .venv has."""
    spec = importlib.util.find_spec(name)
    if spec and spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0])
    return next(ROOT.glob(f".venv/lib/python*/site-packages/{name}"), None)


def missing_dependencies(overlay: Overlay) -> list[str]:
    """Return what the overlay lacks because it is installed nowhere."""
    return [name for name in dependencies() if not (overlay.library / name).exists()]


def _link_entries(source: Path, target: Path, skip: set[str]) -> None:
    target.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.name not in skip:
            (target / entry.name).symlink_to(entry)


def _build_tests(overlay: Overlay, cache: Path) -> None:
    source = overlay.interpreter.tests
    rewritten = {entry.name for entry in source.iterdir() if rewrite.concerns(entry.name)}
    _link_entries(source, overlay.tests, skip=rewritten | {"__pycache__"})
    for name in rewritten:
        _rewrite_into(overlay, source / name, overlay.tests / name)
    for method in METHODS:
        _write_wrappers(overlay, method)
    futures = futures_tests(overlay.interpreter, cache)
    if futures and futures.name not in rewritten:
        _rewrite_into(overlay, futures, overlay.tests / futures.name, is_foreign=True)


def _rewrite_into(overlay: Overlay, source: Path, target: Path, *, is_foreign: bool = False) -> None:
    if source.is_dir():
        target.mkdir()
        for file in source.glob("*.py"):
            _rewrite_into(overlay, file, target / file.name, is_foreign=is_foreign)
        return
    is_futures = "test_concurrent_futures" in str(source)
    text = source.read_text(encoding="utf-8")
    if is_foreign:
        text = rewrite.for_older(text)
    target.write_text(rewrite.rewrite(text, overlay.module, is_futures=is_futures), encoding="utf-8")


def _write_wrappers(overlay: Overlay, method: str) -> None:
    package = overlay.tests / f"test_multiprocessing_{method}"
    if package.exists() or package.with_suffix(".py").exists():
        return
    package.mkdir()
    # The forkserver preloads it: not each child is to import the tests.
    (package / "__init__.py").write_text("import test._test_multiprocessing\n")
    for part in PARTS:
        (package / f"test_{part}.py").write_text(rewrite.wrapper(method, part))


def find_package(module: str, folder: Path, interpreter: Interpreter) -> Path:
    """Return the directory of the package under test.

    Raises:
        NotRunnable: It is not there, or its extension was not built.
    """
    package = folder / module
    if not (package / "__init__.py").exists():
        raise NotRunnable(f"no package {module} in {folder} for python {interpreter.version}")
    extension = package / f"_procession{interpreter.suffix}"
    if extension.with_name("_procession.pyi").exists() and not extension.exists():
        raise NotRunnable(
            f"{module} was not built for python {interpreter.version}: there is no {extension.name} in {package} "
            f"(python tests/conformance build --pythons {interpreter.minor})"
        )
    return package


def _link_package(source: Path, target: Path, texts: dict[str, str]) -> None:
    """Make `target` a tree of links to the files of `source`, and of files with these `texts`.

    Only what differs is changed: another triage may be running in it.
    """
    target.mkdir(exist_ok=True)
    files = {entry.name: entry for entry in source.iterdir() if entry.name != "__pycache__"}
    for entry in target.iterdir():
        if entry.name not in {*files, *texts, "__pycache__"}:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for name, file in files.items():
        if file.is_dir():
            _link_package(file, target / name, {})
        elif name not in texts:
            _replace_by_link(target / name, file)
    for name, text in texts.items():
        file = target / name
        if file.is_symlink() or not file.exists() or file.read_text() != text:
            file.unlink(missing_ok=True)
            file.write_text(text)


def _replace_by_link(path: Path, file: Path) -> None:
    if path.is_symlink() and os.readlink(path) == str(file):
        return
    path.unlink(missing_ok=True)
    path.symlink_to(file)


def _stand_ins(overlay: Overlay, package: Path, borrow: Sequence[str] = ()) -> dict[str, str]:
    """Let the stdlib stand in for submodules the package lacks, so that tests can be imported.

    Returns:
        The text of each file to be added or changed in the overlay's package.
    """
    lacking = [name for name in _stdlib_submodules(overlay) if name in borrow or not _has_submodule(package, name)]
    texts = {
        f"{name}.py": "import importlib, sys\n"
        f"sys.modules[__name__] = importlib.import_module('{rewrite.STDLIB}.{name}')\n"
        for name in lacking
    }
    visible = [name for name in _VISIBLE if name in lacking]
    if visible:
        text = (package / "__init__.py").read_text()
        statement = f"from . import {', '.join(visible)}  # conformance overlay"
        texts["__init__.py"] = f"{text}\n\n{statement}\n"
    overlay.borrowed = lacking
    return texts


def _stdlib_submodules(overlay: Overlay) -> list[str]:
    folder = overlay.interpreter.library / rewrite.STDLIB
    windows = {"popen_spawn_win32"}
    names = {entry.stem for entry in folder.iterdir() if entry.name[0] not in "_."}
    return sorted(names - windows)


def _has_submodule(package: Path, name: str) -> bool:
    kinds = (f"{name}.py", f"{name}.*.so", f"{name}/__init__.py")
    return any(any(package.glob(kind)) for kind in kinds)
