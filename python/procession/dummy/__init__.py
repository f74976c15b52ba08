"""`multiprocessing.dummy`: the same names, with threads in place of processes.

This *is* the standard library's module: threads share everything, so there is nothing here to be made faster or safer by shared memory, and its processes *are* `threading.Thread`.
"""

import sys
from multiprocessing import dummy
from multiprocessing.dummy import connection

sys.modules[f"{__name__}.connection"] = connection
sys.modules[__name__] = dummy
