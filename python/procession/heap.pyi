from multiprocessing.heap import Arena as Arena
from multiprocessing.heap import Heap as Heap

from . import _procession

__all__ = ["Arena", "BufferWrapper", "Heap"]

class BufferWrapper(_procession.SharedMemory):
    def create_memoryview(self) -> memoryview: ...
