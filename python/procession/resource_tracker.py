"""`multiprocessing.resource_tracker`: of no use to this package, whose objects have no names to clean up. This *is* the standard library's module."""

import sys
from multiprocessing import resource_tracker

sys.modules[__name__] = resource_tracker
