"""`multiprocessing.resource_sharer`: file descriptors on request. This *is* the standard library's module."""

import sys
from multiprocessing import resource_sharer

sys.modules[__name__] = resource_sharer
