from collections.abc import Sequence
from multiprocessing.spawn import get_executable as get_executable
from multiprocessing.spawn import import_main_path as import_main_path
from multiprocessing.spawn import is_forking as is_forking
from multiprocessing.spawn import set_executable as set_executable
from typing import Any

from . import _procession

__all__ = [
    "_main",
    "freeze_support",
    "get_command_line",
    "get_executable",
    "get_preparation_data",
    "import_main_path",
    "set_executable",
]

def freeze_support() -> None: ...
def get_command_line(**kwds: Any) -> list[str]: ...
def get_preparation_data(name: str) -> dict[str, Any]: ...
def _main(
    mail: _procession.Queue[Any],
    parent: int | None = None,
    by_main_thread: bool | None = None,
    fds: Sequence[int] | None = None,
) -> int: ...
