"""Imports modules of `multiprocessing` that take long when somebody uses them.

`multiprocessing.reduction` brings sockets, selectors and all of `pickle`: half of what `import multiprocessing` takes, which a spawned child that only runs its target never needs.
"""

import importlib
import os
import sys
import threading
import types
from importlib.machinery import PathFinder

__all__ = ()

_loading = threading.RLock()
# What is being executed, and what is to be done after that.
_executing = {}


def _after_fork():
    """In a forked child: what another thread was executing has not begun."""
    _loading._at_fork_reinit()
    for module, then in _executing.items():
        module._then = then
        del module._begun
    _executing.clear()


os.register_at_fork(after_in_child=_after_fork)


class _Module(types.ModuleType):
    """A module that is executed when the first of its names is asked for."""

    _begun = False

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with _loading:
            # Whoever asks while it is executed is itself part of that.
            if not self._begun:
                self._execute()
        return types.ModuleType.__getattribute__(self, name)

    def _execute(self):
        self._begun = True
        then = _executing[self] = self.__dict__.pop("_then")
        try:
            self.__spec__.loader.exec_module(self)
        except BaseException:
            self._then = then
            raise
        finally:
            del self._begun, _executing[self]
        self.__class__ = types.ModuleType
        then(self)


def import_lazily(package, name, then=lambda module: None, **known):
    """Import a submodule when it is used.

    Args:
        package: Its package.
        name: Its name in there.
        then: Called with the module, after it was imported.
        known: What the module has, as far as that can be said before.
    """
    full_name = f"{package}.{name}"
    module = None if full_name in sys.modules else _make(package, full_name)
    if module is None:
        then(importlib.import_module(full_name))
        return
    module.__dict__.update(known, _then=then)
    sys.modules[full_name] = module
    setattr(importlib.import_module(package), name, module)


def _make(package, full_name):
    parent = PathFinder.find_spec(package)
    places = parent and parent.submodule_search_locations
    spec = places and PathFinder.find_spec(full_name, places)
    if not spec or not spec.has_location:
        return None
    module = _Module(full_name)
    module.__spec__, module.__loader__, module.__package__ = spec, spec.loader, package
    module.__file__, module.__cached__ = spec.origin, spec.cached
    return module


if "multiprocessing" not in sys.modules:
    # 3.14 asks for this to choose its start method; all of Linux has it.
    import_lazily("multiprocessing", "reduction", HAVE_SEND_HANDLE=True)
