from collections.abc import Callable
from multiprocessing.reduction import HAVE_SEND_HANDLE as HAVE_SEND_HANDLE
from multiprocessing.reduction import AbstractReducer as AbstractReducer
from multiprocessing.reduction import DupFd as DupFd
from multiprocessing.reduction import ForkingPickler as ForkingPickler
from multiprocessing.reduction import dump as dump
from multiprocessing.reduction import recv_handle as recv_handle
from multiprocessing.reduction import recvfds as recvfds
from multiprocessing.reduction import send_handle as send_handle
from multiprocessing.reduction import sendfds as sendfds
from typing import Any

from . import _procession

ACKNOWLEDGE: bool

__all__ = [
    "ACKNOWLEDGE",
    "HAVE_SEND_HANDLE",
    "AbstractReducer",
    "DupFd",
    "ForkingPickler",
    "dump",
    "recv_handle",
    "recvfds",
    "register",
    "send_handle",
    "sendfds",
]

def dumps(obj: Any) -> bytes: ...
def register(type: type, reduce: Callable[[Any], str | tuple[Any, ...]]) -> None: ...
def dispatch_table() -> dict[type, Callable[[Any], str | tuple[Any, ...]]]: ...
def main_is_unreachable() -> bool: ...
def dump_by_value(obj: Any, sink: _procession.Sink, error: BaseException | None) -> None: ...
