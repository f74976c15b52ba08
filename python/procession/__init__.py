"""Processes, pools, queues and locks with the names of `multiprocessing`, on an engine that no killed process can wedge.

`import procession as mp` takes the place of `import multiprocessing as mp`. Each submodule has the name of its twin in the standard library; `procession.futures` has the
executors of `concurrent.futures`.
"""

import sys as _sys
from importlib import import_module as _import_module

# First: before `multiprocessing` itself.
from . import _lazy  # isort: split

from multiprocessing import SUBDEBUG as SUBDEBUG
from multiprocessing import SUBWARNING as SUBWARNING

from . import context, process
from ._procession import __version__ as __version__

#
# The methods of the default context are the functions of this module, as in `multiprocessing`.
#
_names = [name for name in dir(context._default_context) if not name.startswith("_")]
globals().update((name, getattr(context._default_context, name)) for name in _names if name != "reducer")
__all__ = [*_names, "reduction"]
_ = _lazy, process
del _names

# The main script is known to the children as `__mp_main__` (see `spawn`): what it defines pickles the same here and there.
if "__main__" in _sys.modules:
    _sys.modules.setdefault("__mp_main__", _sys.modules["__main__"])


def __getattr__(name):
    # What takes long to import, and not every program needs.
    if name in ("reduction", "util"):
        return _import_module(f"{__name__}.{name}")
    if name == "reducer":
        return context._default_context.reducer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
