"""`multiprocessing.util`: finalizers, logging, fork handlers.

This *is* the standard library's module: there is one list of finalizers and one logger in a process.
"""

import sys
from multiprocessing import util

sys.modules[__name__] = util
