from collections.abc import Sequence
from typing import Any, Final

from . import _procession

__all__ = ["connect_to_new_process", "ensure_running", "get_inherited_fds", "set_forkserver_preload"]

MAXFDS_TO_SEND: Final = 252

class ForkServer:
    def set_forkserver_preload(self, modules_names: list[str]) -> None: ...
    def get_inherited_fds(self) -> list[int] | None: ...
    def ensure_running(self) -> None: ...
    def connect_to_new_process(self, fds: Sequence[int], mail: str) -> tuple[int, int, int | None]: ...

def main(mail: _procession.Queue[Any], connection: int) -> int | None: ...
def read_exit_code(fd: int) -> int: ...

_forkserver: ForkServer
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
connect_to_new_process = _forkserver.connect_to_new_process
set_forkserver_preload = _forkserver.set_forkserver_preload
