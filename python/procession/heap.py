"""Where shared values and arrays keep their bytes: the family heap, which no file or descriptor stands for.

`Arena` and `Heap`, the allocator of `multiprocessing`, are here for those who use them by name; nothing of this package does.
"""

import sys
from multiprocessing.heap import Arena, Heap

from . import _procession

__all__ = ["Arena", "BufferWrapper", "Heap"]


class BufferWrapper(_procession.SharedMemory):
    """A block of shared memory, which can be sent to any process of the family. Freed with its last view, wherever that is."""

    # What those find who look for the allocator of `multiprocessing`. Nothing is in it.
    _heap = Heap()

    def __new__(cls, size):
        if isinstance(size, int):
            if size < 0:
                raise ValueError(f"Size {size} out of range")
            if sys.maxsize <= size:
                raise OverflowError(f"Size {size} too large")
        return super().__new__(cls, size)

    def create_memoryview(self):
        """Return the block as a memoryview of bytes."""
        return memoryview(self)
