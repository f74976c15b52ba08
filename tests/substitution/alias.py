"""Ours in the place of the standard library's, for everybody who imports them from now on."""

import concurrent.futures
import importlib
import pkgutil
import sys

import procession
import procession.dummy
import procession.futures


def install():
    """Put our modules where `import multiprocessing` looks first."""
    for module in pkgutil.iter_modules(procession.__path__):
        if not module.name.startswith("_"):
            sys.modules[f"multiprocessing.{module.name}"] = importlib.import_module(f"procession.{module.name}")
    sys.modules["multiprocessing"] = procession
    concurrent.futures.ProcessPoolExecutor = procession.futures.ProcessPoolExecutor
