"""Whatever can be named and called in `multiprocessing` and `concurrent.futures` can be in this package, in the same way."""

import concurrent.futures
import importlib
import inspect
import multiprocessing.managers
import pkgutil
import re
from collections.abc import MutableMapping, MutableSequence, MutableSet

import procession.managers

# Names that are not here, or are called in another way, and why.
EXCEPTIONS = {
    r"forkserver\.(main|read_signed|write_signed)": "how the standard library speaks to its forkserver",
    r"heap\.(rebuild_arena|reduce_arena)": "of `Arena`, which is the standard library's own",
    r"managers\.(HAS_SHMEM|ProcessLocalSet|rebuild_as_list|reduce_array)": "internal to the standard library's managers",
    r"pool\.(Apply|Async|Map)Result": "made by pools only, from other things",
    r"pool\.IMap(Unordered)?Iterator\.__next__": "`next(timeout)` takes a timeout; the language gives `__next__` none",
    r"pool\.worker": "what the standard library's workers run",
    r"sharedctypes\.(prop_cache|template)": "internal to the standard library's wrappers",
    r"spawn\.(WINEXE|WINSERVICE|old_main_modules)": "of Windows, and internal",
    r"spawn\.(_main|spawn_main)": "what a child's command line calls, which only its parent writes",
    r"synchronize\.SemLock.*": "only a name in common: the locks have the methods",
}


def modules(package):
    """The submodules of a package and the package itself, as pairs of names: full, and relative."""
    yield package.__name__, ""
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        yield module.name, module.name.removeprefix(package.__name__ + ".")


def is_public(name):
    return not name.startswith("_")


def defined_in(module):
    """What a module defines, or says that it offers."""
    for name, value in vars(module).items():
        if name in getattr(module, "__all__", ()):
            yield name, value
        elif is_public(name) and not inspect.ismodule(value):
            home = getattr(value, "__module__", module.__name__)
            if home == module.__name__:
                yield name, value


# Called by the language, not by name.
_SYNTAX = {
    "__enter__",
    "__exit__",
    "__iter__",
    "__next__",
    "__len__",
    "__getitem__",
    "__setitem__",
    "__delitem__",
    "__call__",
}


def methods_of(kind):
    for name in dir(kind):
        if is_public(name) or name in _SYNTAX:
            yield name, inspect.getattr_static(kind, name)


def differences(theirs, ours, name):
    """How what we offer under a name falls short of theirs, in words."""
    if inspect.isclass(theirs):
        yield from class_differences(theirs, ours, name)
    elif callable(theirs):
        yield from call_differences(theirs, ours, name)


def class_differences(theirs, ours, name):
    if not inspect.isclass(ours):
        yield name, "is no class"
        return
    yield from call_differences(theirs, ours, name)
    for method, _ in methods_of(theirs):
        full = f"{name}.{method}"
        if not hasattr(ours, method):
            yield full, "is missing"
        elif callable(getattr(theirs, method)):
            yield from call_differences(getattr(theirs, method), getattr(ours, method), full)


def call_differences(theirs, ours, name):
    try:
        expected = inspect.signature(theirs)
    except (TypeError, ValueError):
        # Written in C, and silent about it.
        return
    try:
        offered = inspect.signature(ours)
    except (TypeError, ValueError):
        yield name, "has no signature"
        return
    if problem := mismatch(list(expected.parameters.values()), list(offered.parameters.values())):
        yield name, f"{problem}: {expected} there, {offered} here"


def mismatch(expected, offered):
    """What keeps a call that fits the one list of parameters from fitting the other; `None`: nothing does."""
    kinds = {parameter.kind for parameter in offered}
    any_positional, any_keyword = inspect.Parameter.VAR_POSITIONAL in kinds, inspect.Parameter.VAR_KEYWORD in kinds
    named = {parameter.name: parameter for parameter in offered}
    places = [p.name for p in offered if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for place, parameter in enumerate(expected):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or not is_public(parameter.name):
            continue
        mine = named.pop(parameter.name, None)
        by_place = parameter.kind != parameter.KEYWORD_ONLY
        by_name = parameter.kind != parameter.POSITIONAL_ONLY
        if mine is None:
            # `self` is given by place, whatever it is called.
            if not (any_positional or not by_place or place < len(places)) or (by_name and place and not any_keyword):
                return f"no `{parameter.name}`"
            continue
        if by_place and mine.kind == mine.KEYWORD_ONLY:
            return f"`{parameter.name}` is by keyword only"
        if by_place and not any_positional and places.index(parameter.name) != place:
            return f"`{parameter.name}` is in another place"
        if by_name and place and mine.kind == mine.POSITIONAL_ONLY:
            return f"`{parameter.name}` is by position only"
        if parameter.default is not parameter.empty and mine.default is mine.empty:
            return f"`{parameter.name}` must be given"
    return None


def is_excepted(name):
    return any(re.fullmatch(pattern, name) for pattern in EXCEPTIONS)


def all_differences(package, ours):
    for full, relative in modules(package):
        try:
            theirs = importlib.import_module(full)
        except ImportError:
            continue
        prefix = f"{relative}." if relative else ""
        try:
            module = importlib.import_module(f"{ours}.{relative}".rstrip("."))
        except ImportError as error:
            yield f"{prefix}", str(error)
            continue
        for name, value in defined_in(theirs):
            if not hasattr(module, name):
                yield prefix + name, "is missing"
            elif getattr(module, name) is not value:
                yield from differences(value, getattr(module, name), prefix + name)


def test_what_is_in_multiprocessing_is_here():
    found = dict(all_differences(multiprocessing, "procession"))
    assert {name: what for name, what in found.items() if not is_excepted(name)} == {}


def test_what_is_in_concurrent_futures_is_here():
    found = {}
    for name in concurrent.futures.__all__:
        if not hasattr(procession.futures, name):
            found[name] = "is missing"
        else:
            found |= differences(getattr(concurrent.futures, name), getattr(procession.futures, name), name)
    assert found == {}


def test_the_list_of_exceptions_is_not_longer_than_it_must_be():
    found = dict(all_differences(multiprocessing, "procession"))
    assert [pattern for pattern in EXCEPTIONS if not any(re.fullmatch(pattern, name) for name in found)] == []


def parameters_of(function):
    return inspect.signature(function).parameters


def test_what_3_14_added_is_here_for_older_pythons():
    assert callable(procession.Process.interrupt)
    assert all(callable(kind().locked) for kind in (procession.Lock, procession.RLock, procession.Semaphore))
    assert callable(procession.managers.SyncManager.set)
    executor = procession.futures.ProcessPoolExecutor
    assert callable(executor.terminate_workers)
    assert callable(executor.kill_workers)
    assert "buffersize" in parameters_of(executor.map)


def test_managers_give_what_the_standard_library_knows_as_its_own():
    theirs, ours = multiprocessing.managers, procession.managers
    for name in (
        "BaseProxy",
        "DictProxy",
        "ListProxy",
        "ValueProxy",
        "BaseManager",
        "SyncManager",
        "SharedMemoryManager",
    ):
        assert issubclass(getattr(ours, name), getattr(theirs, name))
    assert issubclass(ours.DictProxy, MutableMapping)
    assert issubclass(ours.ListProxy, MutableSequence)
    assert issubclass(ours.SetProxy, MutableSet)
