from multiprocessing.process import BaseProcess as BaseProcess
from multiprocessing.process import active_children as active_children
from multiprocessing.process import current_process as current_process
from multiprocessing.process import parent_process as parent_process

__all__ = ["BaseProcess", "active_children", "current_process", "parent_process"]
