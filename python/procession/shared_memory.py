"""Shared memory that any process can open by its name, and lists in it.

A name is good outside the family, too: the memory is a file of /dev/shm, as with `multiprocessing`, whose own classes can open it. So a name cannot promise what the rest of this package
does: somebody has to `unlink` it. If nobody does, the resource tracker of `multiprocessing` does when the creator's program has ended, however it ended; but if the tracker is
killed, too (`kill -9` of the whole group), the file stays until it is removed by hand. And whoever can open it can shrink it, after which an access ends the process
with SIGBUS. Where a name is not needed, `RawArray` (or a NumPy array in it) has none of these troubles.

Memory that is made *without* a name of its own does not depend on /dev/shm: where that is missing, read-only or too small, the memory is in the family heap, and its name works in the
processes of the family only, as long as its creator runs.
"""

import _posixshmem
import errno
import functools
import mmap
import os
import re
import struct
import sys
from multiprocessing import shared_memory as _stdlib
from multiprocessing.shared_memory import _O_CREX, _SHM_NAME_PREFIX, _USE_POSIX, _make_filename

from . import _procession, resource_tracker, util

__all__ = ["ShareableList", "SharedMemory"]

_ = (_SHM_NAME_PREFIX, _USE_POSIX)

_heap_name = re.compile(f"{_SHM_NAME_PREFIX}([0-9a-f]{{32}})")

_TRACKED = "shared_memory"


class SharedMemory(_stdlib.SharedMemory):
    """A piece of shared memory with a name.

    Args:
        name: Its name; `None`: make one up.
        create: Make it, instead of opening one that exists.
        size: Bytes to make; no matter when it exists.
        track: Have the resource tracker remove the name when the program has ended. `None`: what this object creates, yes; what it only opens, no.

    Raises:
        FileExistsError: The name to create is taken.
        FileNotFoundError: There is nothing of the name to open.

    Differences from multiprocessing:
        Who opens memory never removes it, unless told to (`track=True`). `close` does not fail while others, such as NumPy arrays, use the memory: it goes with the last of them.
        Without a name of its own it works without /dev/shm. It keeps no descriptor (Python 3.13) or one.
    """

    # Memory in the family heap, instead of a file.
    _memory = None

    def __init__(self, name=None, create=False, size=0, *, track=None):
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create:
            self._flags = _O_CREX | os.O_RDWR
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
        if name is None and not self._flags & os.O_EXCL:
            raise ValueError("'name' can only be None if create=True")
        self._track = create if track is None else track
        if name is None:
            self._create_unnamed(size)
        else:
            self._name = "/" + name if self._prepend_leading_slash else name
            self._open(size if create else 0)

    def _create_unnamed(self, size):
        while True:
            self._name = _make_filename()
            try:
                return self._open(size, need_room=True)
            except FileExistsError:
                continue
            except OSError:
                return self._create_in_heap(size)

    def _open(self, size, need_room=False):
        """Open or create the file, which must get this size unless it is 0, and map it."""
        try:
            fd = _posixshmem.shm_open(self._name, self._flags, mode=self._mode)
        except FileNotFoundError:
            if not self._open_in_heap():
                raise
            return
        try:
            self._map(fd, size, need_room)
        except OSError:
            if self._flags & os.O_EXCL:
                _posixshmem.shm_unlink(self._name)
            raise
        finally:
            os.close(fd)

    def _map(self, fd, size, need_room):
        if size:
            if need_room and size > _room(fd):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._name)
            os.ftruncate(fd, size)
        status = os.fstat(fd)
        # From 3.13 on a mapping need not keep a descriptor.
        options = {"trackfd": False} if sys.version_info >= (3, 13) else {}
        self._mmap = mmap.mmap(fd, status.st_size, **options)
        if self._track:
            resource_tracker.register(self._name, _TRACKED)
            _note_tracked(self._name, status)
        self._size = status.st_size
        self._buf = memoryview(self._mmap)

    def _create_in_heap(self, size):
        # One byte more than asked for says whether the name was removed.
        memory = _procession.SharedMemory(size + 1)
        self._name = _SHM_NAME_PREFIX + memory.name
        self._use_heap(memory)
        # Until it is unlinked: whoever opens it may come when this object is closed.
        _keep(self._name, memory)

    def _open_in_heap(self):
        match = _heap_name.fullmatch(self._name)
        if match is None or self._flags & os.O_CREAT:
            return False
        try:
            memory = _procession.SharedMemory.by_name(match[1])
        except (ValueError, OSError):
            return False
        if memoryview(memory)[-1]:
            return False
        self._use_heap(memory)
        return True

    def _use_heap(self, memory):
        self._track = False
        self._memory = memory
        self._size = len(memory) - 1
        self._buf = memoryview(memory)[: self._size]

    def close(self):
        """Give up this object's access to the memory, which goes on existing."""
        buf, self._buf = self._buf, None
        self._mmap = None
        if buf is not None:
            # If somebody still uses a part of it, it stays, and with it the mapping.
            try:  # noqa: SIM105 - at the end of the interpreter `contextlib` may be gone before us
                buf.release()
            except BufferError:
                pass

    def unlink(self):
        """Remove the name; the memory goes when the last process has closed it. To be called once, by anybody.

        Raises:
            FileNotFoundError: The name was removed already.
        """
        if not self._name:
            return
        if self._memory is not None:
            self._unlink_in_heap()
            return
        _posixshmem.shm_unlink(self._name)
        _note_removed(self._name, self._track)

    def _unlink_in_heap(self):
        flag = memoryview(self._memory)[-1:]
        if flag[0]:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._name)
        flag[0] = 1
        _kept.pop(self._name, None)


def _room(fd):
    """Return how many bytes the file system of a file has left."""
    status = os.fstatvfs(fd)
    return status.f_bavail * status.f_frsize


_kept = {}


def _keep(name, memory):
    """Hold memory of the heap until its name is removed, and let go what was removed by others meanwhile."""
    for other, held in list(_kept.items()):
        if memoryview(held)[-1]:
            _kept.pop(other, None)
    _kept[name] = memory


# What this process had tracked and, as far as it knows, nobody removed: name, and which file it was.
_tracked = {}
os.register_at_fork(after_in_child=_tracked.clear)


def _note_tracked(name, status):
    if not _tracked:
        util.Finalize(None, _forget_removed, exitpriority=-10)
    _tracked[name] = status.st_dev, status.st_ino


def _note_removed(name, was_tracked):
    """Tell the tracker that a name is gone, if there is one; it may be another's than the creator's, who then does it at exit (`_forget_removed`)."""
    _tracked.pop(name, None)
    if was_tracked:
        resource_tracker.unregister(name, _TRACKED)
    elif resource_tracker._resource_tracker._fd is not None:
        _untrack(name)


def _untrack(name):
    """Have the tracker forget a name. It would complain if it did not know it."""
    resource_tracker.register(name, _TRACKED)
    resource_tracker.unregister(name, _TRACKED)


def _forget_removed():
    """At exit: tell the tracker which names were removed by others, lest it call them leaked."""
    for name, identity in _tracked.items():
        try:
            fd = _posixshmem.shm_open(name, os.O_RDONLY, mode=0)
        except FileNotFoundError:
            _untrack(name)
            continue
        except OSError:
            continue
        status = os.fstat(fd)
        os.close(fd)
        if (status.st_dev, status.st_ino) != identity:
            _untrack(name)


class ShareableList(_stdlib.ShareableList):
    """A list of fixed length in shared memory: of numbers, `None`, and strings and bytes that may change as long as they fit where the first ones were.

    Args:
        sequence: The items.
        name: The name of the memory: of a new one if there is a sequence, of an existing list if not.
    """

    def __init__(self, sequence=None, *, name=None):
        if name is not None and sequence is None:
            self._attach(name)
        else:
            self._create(tuple(sequence or ()), name)

    def _attach(self, name):
        self.shm = SharedMemory(name)
        self._list_len = len(self)
        self._allocated_offsets = list(struct.unpack_from(self._format_size_metainfo, self.shm.buf, 8))

    def _create(self, items, name):
        stored = [item.encode() if isinstance(item, str) else item for item in items]
        formats = [self._format_of(*both) for both in zip(items, stored, strict=True)]
        offsets = [0]
        for form in formats:
            offsets.append(offsets[-1] + struct.calcsize(form))
        self._list_len = len(items)
        self._allocated_offsets = offsets
        layout = "".join(
            (
                "q",
                self._format_size_metainfo,
                *formats,
                self._format_packing_metainfo,
                self._format_back_transform_codes,
            )
        )
        codes = (self._extract_recreation_code(item) for item in items)
        names = (form.encode() for form in formats)
        self.shm = SharedMemory(name, create=True, size=struct.calcsize(layout))
        struct.pack_into(layout, self.shm.buf, 0, len(items), *offsets, *stored, *names, *codes)

    def _format_of(self, item, stored):
        form = self._types_mapping[type(item)]
        if not isinstance(stored, bytes):
            return form
        # As many bytes as the standard library takes, but room for all that a string is encoded to.
        step = self._alignment
        return form % max(len(item) // step * step + step, -(-len(stored) // step) * step)

    def __reduce__(self):
        return functools.partial(self.__class__, name=self.shm.name), ()
