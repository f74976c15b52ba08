"""`multiprocessing.process`: who this process is, its children, and the base of all process classes.

This *is* the standard library's module, so that `current_process()` and `active_children()` mean the same whoever asks.
"""

import sys
from multiprocessing import process

sys.modules[__name__] = process
