"""Turns CPython's test files into tests of another package: text in, text out."""

import fnmatch
import re

STDLIB = "multiprocessing"

# The whole word: imports, names, scripts given to `-c`, mock.patch targets; but neither
# `_multiprocessing` (the C extension) nor `test_multiprocessing_fork` (file names).
_WORD = re.compile(r"(?<!\w)multiprocessing(?!\w)")

# A warning's text, a pattern for re.match in the tests: either name will do.
_WARNING = "unclosed running multiprocessing pool"

# What 3.13's tests ask of `test.support` and 3.12's cannot answer: all of it is about builds that 3.12
# does not know of, or has not here (no lock of the interpreter, a thread sanitizer).
_NEWER_SUPPORT = {
    r"^from test.support import Py_GIL_DISABLED$": "Py_GIL_DISABLED = False",
    r"support\.check_sanitizer\(thread=True\)": "False",
    r"^ *@support\.(skip_if_sanitizer|requires_gil_enabled)\(.*\)\n": "",
}

_FILES = (
    "_test_multiprocessing.py",
    "mp_preload.py",
    "mp_fork_bomb.py",
    "test_multiprocessing_main_handling.py",
    "test_multiprocessing_fork*",
    "test_multiprocessing_spawn*",
    "test_multiprocessing_forkserver*",
    "test_concurrent_futures*",
)


def concerns(name: str) -> bool:
    """Whether a file or folder of `Lib/test` is rewritten (the others are linked)."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in _FILES)


def rewrite(text: str, module: str, *, is_futures: bool = False) -> str:
    """Return the test file `text` with `multiprocessing` replaced by `module`."""
    if module == STDLIB:
        return text
    text = text.replace(_WARNING, "\0")
    text = _WORD.sub(module, text)
    text = text.replace("\0", _WARNING.replace(STDLIB, f"({STDLIB}|{module})"))
    if is_futures:
        # These tests count on the executor having imported the submodule.
        text = re.sub(rf"^import {module}$", f"import {module}, {module}.util", text, flags=re.M)
    return text


def for_older(text: str) -> str:
    """Return a test file of a newer Python such that it can be imported by the one before it."""
    for pattern, replacement in _NEWER_SUPPORT.items():
        text = re.sub(pattern, replacement, text, flags=re.M)
    return text


def wrapper(method: str, part: str) -> str:
    """Return a module that installs one part of the suite, for installs that lack the wrappers."""
    selection = "exclude_types=True" if part == "misc" else f"only_type={part!r}"
    return (
        "from test._test_multiprocessing import install_tests_in_module_dict\n"
        f"install_tests_in_module_dict(globals(), {method!r}, {selection})\n"
    )
