from . import popen_spawn_posix

__all__ = ["Popen"]

class _DupFd:
    index: int
    def __init__(self, index: int) -> None: ...
    def detach(self) -> int: ...

class Popen(popen_spawn_posix.Popen): ...
