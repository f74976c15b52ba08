"""Values and arrays in shared memory: the same bytes wherever they arrive."""

import copy
import ctypes
import os
import pickle
import signal

import numpy
import pytest

import procession
from procession import sharedctypes
from procession.heap import BufferWrapper


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


class Point3(Point):
    _fields_ = [("z", ctypes.c_double)]


def scale(number, array, point, text, large):
    number.value *= 2
    array[1:3] = [10.0, 20.0]
    point.x += 1
    text.value = b"there"
    numpy.frombuffer(large, dtype="d")[-1] = 0.5


def test_raw_objects_are_the_same_in_a_child(ctx):
    number = ctx.RawValue("q", 2**40)
    array = ctx.RawArray("d", range(4))
    point = ctx.RawValue(Point, 1, 2.5)
    text = ctx.RawArray("c", 10)
    large = ctx.RawArray("d", 1_000_000)
    child = ctx.Process(target=scale, args=(number, array, point, text, large))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert number.value == 2**41
    assert list(array) == [0.0, 10.0, 20.0, 3.0]
    assert (point.x, point.y) == (2, 2.5)
    assert text.value == b"there"
    assert large[-1] == 0.5


def change_what_comes(inbox, outbox):
    values = inbox.get()
    values["a"][0].value = 7
    values["b"][2] = 9
    outbox.put(values)


def test_objects_go_through_queues_inside_others(ctx):
    value, array = ctx.RawValue("i"), ctx.RawArray("i", 3)
    there, back = ctx.SimpleQueue(), ctx.SimpleQueue()
    child = ctx.Process(target=change_what_comes, args=(there, back))
    child.start()
    there.put({"a": [value], "b": array})
    returned = back.get()
    child.join()
    assert value.value == returned["a"][0].value == 7
    assert list(array) == list(returned["b"]) == [0, 0, 9]
    returned["b"][0] = 5
    assert array[0] == 5


def make_and_send(outbox):
    outbox.put(procession.RawArray("i", [1, 2, 3]))


def test_an_array_outlives_the_process_that_made_it(ctx):
    outbox = ctx.SimpleQueue()
    child = ctx.Process(target=make_and_send, args=(outbox,))
    child.start()
    child.join()
    assert list(outbox.get()) == [1, 2, 3]


def test_plain_pickle_finds_what_somebody_holds():
    wrapper = BufferWrapper(10)
    memoryview(wrapper)[3] = 8
    assert memoryview(pickle.loads(pickle.dumps(wrapper)))[3] == 8
    assert memoryview(copy.copy(wrapper))[3] == 8


def test_objects_that_are_not_shared_are_copied():
    queue = procession.SimpleQueue()
    procession.RawValue("i", 1)
    private = ctypes.c_int(4)
    queue.put(private)
    received = queue.get()
    received.value = 5
    assert private.value == 4


def test_memory_begins_as_zeros():
    for _ in range(20):
        array = procession.RawArray("B", 5000)
        assert not any(array)
        array[:] = [255] * 5000
        del array


def test_numpy_sees_the_array_of_a_wrapper():
    array = procession.Array("d", 100)
    view = numpy.frombuffer(array.get_obj())
    view[7] = 1.5
    assert array[7] == 1.5
    del array
    view[8] = 2.5
    assert view.sum() == 4.0


def test_wrappers_by_type():
    assert type(procession.Value("i")) is sharedctypes.Synchronized
    assert type(procession.Array("i", 2)) is sharedctypes.SynchronizedArray
    assert type(procession.Array("c", 2)) is sharedctypes.SynchronizedString
    point = procession.Value(Point3, 1, 2.0)
    assert type(point).__name__ == "SynchronizedPoint3"
    point.z, point.x = 3.0, 4
    assert (point.x, point.y, point.z) == (4, 2.0, 3.0)
    with pytest.raises(AssertionError):
        sharedctypes.synchronized(point)
    with pytest.raises(AttributeError, match="has no method 'acquire'"):
        procession.Value("i", lock="no lock")
    assert not hasattr(procession.Value("i", lock=False), "get_lock")


def test_a_copy_is_shared_and_another(ctx):
    original = ctx.RawValue(Point, 1, 2.0)
    duplicate = sharedctypes.copy(original)
    original.x = 5
    assert (duplicate.x, duplicate.y) == (1, 2.0)


@pytest.mark.parametrize("size", [-1, -(2**40)])
def test_negative_sizes_are_refused(size):
    with pytest.raises(ValueError, match="out of range"):
        BufferWrapper(size)
    with pytest.raises(ValueError):
        procession.RawArray("i", size)


def test_impossible_sizes_are_refused():
    with pytest.raises(OverflowError):
        BufferWrapper(2**63)
    with pytest.raises((MemoryError, OverflowError)):
        procession.RawArray("d", 2**58)


def count(value, rounds):
    for _ in range(rounds):
        with value.get_lock():
            value.value += 1


def test_a_value_is_counted_exactly(ctx):
    value = ctx.Value("i")
    children = [ctx.Process(target=count, args=(value, 500)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert value.value == 1500


def die_with_lock(value):
    value.acquire()
    value.value = 13
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_owner_does_not_keep_the_lock(ctx):
    value = ctx.Value("i")
    child = ctx.Process(target=die_with_lock, args=(value,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    with value:
        assert value.value == 13


def set_fields(wrappers):
    wrappers[0].value = 3
    wrappers[1][0] = 4
    wrappers[2].value = b"x"


def test_wrappers_go_through_queues(ctx):
    wrappers = [ctx.Value("i"), ctx.Array("i", 1), ctx.Array("c", 1)]
    queue = ctx.SimpleQueue()
    queue.put(wrappers)
    set_fields(queue.get())
    assert (wrappers[0].value, wrappers[1][0], wrappers[2].value) == (3, 4, b"x")
    queue.put(wrappers[0])
    received = queue.get()
    with wrappers[0]:
        assert received.get_lock().acquire(False), "the lock is recursive, and the same"
        received.get_lock().release()


def test_nothing_stays_when_all_is_let_go():
    before = os.listdir("/proc/self/fd")
    for _ in range(300):
        procession.RawArray("d", 100_000)
    assert len(os.listdir("/proc/self/fd")) == len(before)
