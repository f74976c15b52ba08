"""The main module of a program, in its children: however the program was started."""

import subprocess
import sys
import textwrap
import zipfile

import pytest
from program import PATIENCE, run, write

SOURCE = """
    import sys
    import procession as mp

    class Point:
        def __init__(self, x):
            self.x = x

    def double(queue, point):
        queue.put((Point(2 * point.x), __name__))

    if __name__ == "__main__":
        ctx = mp.get_context(sys.argv[-1])
        queue = ctx.SimpleQueue()
        process = ctx.Process(target=double, args=(queue, Point(21)))
        process.start()
        point, name = queue.get()
        process.join()
        print(point.x, name, type(point) is Point, process.exitcode)
    """
# Forked children have the main module that there is.
NAMES = {"fork": "__main__", "spawn": "__mp_main__", "forkserver": "__mp_main__"}


@pytest.fixture(params=NAMES)
def method(request):
    return request.param


def check(result, method, name=None):
    code, output, errors = result
    assert (code, errors) == (0, "")
    assert output == f"42 {name or NAMES[method]} True 0\n"


def python(*arguments, **options):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE, **options
    )
    return done.returncode, done.stdout, done.stderr


def test_script(tmp_path, method):
    check(run(tmp_path, SOURCE, method), method)


def test_script_without_suffix(tmp_path, method):
    check(python(write(tmp_path, SOURCE, "program"), method), method)


def test_script_by_relative_path(tmp_path, method):
    write(tmp_path, "import os\nos.chdir('/')\n" + textwrap.dedent(SOURCE))
    check(python("program.py", method, cwd=tmp_path), method)


def test_module(tmp_path, method):
    (tmp_path / "package").mkdir()
    write(tmp_path / "package", "", "__init__.py")
    write(tmp_path / "package", "from .module import *\n", "other.py")
    write(tmp_path / "package", SOURCE, "module.py")
    check(python("-m", "package.module", method, cwd=tmp_path), method)


def guarded(path):
    """A program of two files, whose main one children do not import."""
    write(path, SOURCE.replace('if __name__ == "__main__":', "def main():"), "work.py")
    return write(path, "from work import main\nmain()\n", "__main__.py")


def test_directory(tmp_path, method):
    guarded(tmp_path)
    check(python(tmp_path, method), method, "work")


def test_zip_file(tmp_path, method):
    main = guarded(tmp_path)
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as file:
        for path in (main, main.with_name("work.py")):
            file.write(path, path.name)
            path.unlink()
    check(python(tmp_path / "program.zip", method), method, "work")


def by_value(source):
    """The program without a guard: nobody imports it."""
    return textwrap.dedent(source)


def test_main_of_a_package(tmp_path, method):
    """Which no child imports, as that of a folder: what it defines travels by value."""
    (tmp_path / "package").mkdir()
    write(tmp_path / "package", "", "__init__.py")
    path = write(tmp_path / "package", SOURCE, "__main__.py")
    check(python("-m", "package", method, cwd=tmp_path), method, "__main__")
    check(python(path.parent, method), method, "__main__")


def test_command(method):
    """What no child could import travels by value, and is `__main__` here and there."""
    check(python("-c", by_value(SOURCE), method), method, "__main__")


def test_standard_input(method):
    check(python("-", method, input=by_value(SOURCE)), method, "__main__")


def test_interactive(method):
    session = "\n".join(
        [
            "import procession as mp",
            f"ctx = mp.get_context('{method}')",
            "queue = ctx.SimpleQueue()",
            "factor = 2",
            "def double(x):",
            "    queue.put(factor * x)",
            "",
            "process = ctx.Process(target=double, args=(21,))",
            "process.start()",
            "print(queue.get())",
            "process.join()",
            "",
        ]
    )
    code, output, _ = python("-i", "-q", input=session)
    assert (code, output) == (0, "42\n")


@pytest.mark.parametrize("flags", [["-I"], ["-E"], ["-s"], ["-W", "error"], ["-X", "utf8=0"], ["-O"]])
def test_flags_are_passed_on(tmp_path, method, flags):
    source = """
        import sys, procession as mp
        def report(): print(sys.flags, sys.warnoptions, flush=True)
        if __name__ == "__main__":
            report()
            process = mp.get_context(sys.argv[1]).Process(target=report)
            process.start()
            process.join()
        """
    code, output, errors = python(*flags, write(tmp_path, source), method)
    assert (code, errors) == (0, "")
    ours, childs = output.splitlines()
    # `-c` adds no path, and that is said in a flag of its own.
    assert childs.replace("safe_path=True", "") == ours.replace("safe_path=True", "") or flags == ["-I"]


def test_no_guard(tmp_path, method):
    source = """
        import sys, procession as mp
        def nothing(): pass
        process = mp.get_context(sys.argv[1]).Process(target=nothing)
        process.start()
        process.join()
        sys.exit(process.exitcode)
        """
    code, _, errors = run(tmp_path, source, method)
    if method == "fork":
        assert (code, errors) == (0, "")
    else:
        assert code == 1
        assert errors.count("before the\n        current process has finished its bootstrapping phase") == 1


def test_frozen(tmp_path, method):
    """An executable with everything in it becomes the child when it is told to."""
    source = """
        import sys, procession as mp
        sys.frozen = True
        sys.executable = __file__
        def double(queue, x): queue.put(2 * x)
        if __name__ == "__main__":
            mp.freeze_support()
            ctx = mp.get_context(sys.argv[1])
            ctx.set_executable(__file__)
            queue = ctx.SimpleQueue()
            process = ctx.Process(target=double, args=(queue, 21))
            process.start()
            print(queue.get())
            process.join()
        """
    program = write(tmp_path, f"#!{sys.executable}\n" + textwrap.dedent(source))
    program.chmod(0o755)
    assert python(program, method) == (0, "42\n", "")
