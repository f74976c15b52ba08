"""Lists the test classes of modules, and the private names each test touches."""

import ast
import functools
import importlib
import inspect
import json
import os
import traceback
import unittest

# Private names of other modules than the one under test say nothing about it.
_FOREIGN = ("os._", "sys._", "test.", "threading._")


def write(answer: str, modules: list[str]) -> None:
    """Write what is in each of `modules` to the file `answer`."""
    with open(answer, "w") as file:
        json.dump([_describe(name) for name in modules], file)


def _describe(name: str) -> dict:
    found = {"module": name, "classes": [], "error": None}
    try:
        module = importlib.import_module(name)
    except unittest.SkipTest:
        return found
    except BaseException:
        found["error"] = traceback.format_exc()
        return found
    for class_name, cls in sorted(vars(module).items()):
        if _is_test_class(cls, module):
            found["classes"].append(_describe_class(class_name, cls))
    return found


def _is_test_class(cls: object, module: object) -> bool:
    is_case = isinstance(cls, type) and issubclass(cls, unittest.TestCase)
    return is_case and cls.__module__ == module.__name__


def _describe_class(name: str, cls: type) -> dict:
    names = unittest.TestLoader().getTestCaseNames(cls)
    return {
        "name": name,
        "context": getattr(cls, "ctx", None),
        "start_method": getattr(cls, "start_method", None),
        "tests": {test: private_names(cls, test) for test in names},
    }


def private_names(cls: type, test: str) -> list[str]:
    """Return names with a leading underscore that a test touches on other objects.

    A hint, found in the syntax alone, that the test looks at the stdlib's insides.
    """
    functions = _functions_of(cls)
    found, seen, waiting = set(), set(), [test]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in ast.walk(functions[name]):
            if isinstance(node, ast.Attribute) and _is_own(node):
                waiting.append(node.attr)
            else:
                found.update(_private_in(node))
    return sorted(name for name in found if not name.startswith(_FOREIGN))


def _is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def _private_in(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Attribute):
        is_private = node.attr.startswith("_") and not node.attr.startswith("__")
        return [ast.unparse(node)[-60:]] if is_private else []
    if isinstance(node, ast.ImportFrom) and not (node.module or "test").startswith("test"):
        return [f"{node.module}:{alias.name}" for alias in node.names if alias.name[0] == "_"]
    return []


def _functions_of(cls: type) -> dict:
    """Return the syntax of all methods of `cls`, inherited ones included."""
    functions = {}
    for base in reversed(cls.__mro__):
        if base.__module__.split(".")[0] != "test":
            continue
        classes = _classes_in(_source_of(base))
        # A class made by the suite's wrappers keeps its base's functions.
        for name in (base.__name__, base.__qualname__):
            functions.update(classes.get(name, {}))
    return functions


def _source_of(cls: type) -> str | None:
    for value in vars(cls).values():
        function = getattr(value, "__func__", value)
        code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
        if code is not None and os.path.exists(code.co_filename):
            return code.co_filename
    return None


@functools.cache
def _classes_in(path: str | None) -> dict:
    if path is None:
        return {}
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        cls.name: {function.name: function for function in cls.body if isinstance(function, kinds)}
        for cls in ast.walk(tree)
        if isinstance(cls, ast.ClassDef)
    }
