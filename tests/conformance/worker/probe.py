"""Says what a package offers beside the stdlib's `multiprocessing`, and whose code it is."""

import importlib
import json
import multiprocessing
import pkgutil
import traceback
import types

_FACTORIES = {
    "Process": (),
    "Lock": (),
    "RLock": (),
    "Semaphore": (),
    "Condition": (),
    "Event": (),
    "Barrier": (1,),
    "Queue": (),
    "JoinableQueue": (),
    "SimpleQueue": (),
    "Pipe": (),
    "Value": ("i", 0),
    "Array": ("i", 1),
    "Pool": (1,),
    "Manager": (),
}


def write(answer: str, name: str) -> None:
    """Write to the file `answer` what package `name` lacks or breaks."""
    report = {"error": None, "broken": {}, "missing": {}, "stdlib": [], "built_on": []}
    try:
        package = importlib.import_module(name)
    except BaseException:
        report["error"] = traceback.format_exc()
    else:
        _compare_modules(report, name)
        _ask_factories(report, package)
    with open(answer, "w") as file:
        json.dump(report, file)


def _compare_modules(report: dict, name: str) -> None:
    """Note submodules that cannot be imported, and public names they lack."""
    for info in pkgutil.walk_packages(multiprocessing.__path__, "multiprocessing."):
        suffix = info.name.removeprefix("multiprocessing")
        try:
            standard = importlib.import_module(info.name)
        except ImportError:
            continue  # the Windows ones
        try:
            ours = importlib.import_module(name + suffix)
        except BaseException:
            report["broken"][name + suffix] = traceback.format_exc()
            continue
        lacking = [entry for entry in _public(standard) if not hasattr(ours, entry)]
        if lacking:
            report["missing"][name + suffix] = lacking


def _public(module: types.ModuleType) -> list[str]:
    names = getattr(module, "__all__", None)
    if names is None:
        names = [
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", None) == module.__name__ and name[0] != "_"
        ]
    return sorted(names)


def _ask_factories(report: dict, package: types.ModuleType) -> None:
    """Note whose classes the factories make: passes of the stdlib's own say nothing about ours."""
    for name, arguments in _FACTORIES.items():
        try:
            made = getattr(package, name)(*arguments)
        except BaseException:
            continue  # the tests will say so
        kinds = type(made[0] if name == "Pipe" else made).__mro__
        standard = [kind for kind in kinds if kind.__module__.split(".")[0] == "multiprocessing"]
        if standard:
            report["stdlib" if standard[0] is kinds[0] else "built_on"].append(name)
        if name == "Pool":
            made.terminate()
        elif name == "Manager":
            made.shutdown()
