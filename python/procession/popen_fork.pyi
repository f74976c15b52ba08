from multiprocessing import popen_fork as _stdlib

__all__ = ["Popen"]

class Popen(_stdlib.Popen):
    def interrupt(self) -> None: ...
