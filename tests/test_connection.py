"""Connections: pipes of the family, and the stdlib's own on sockets, together."""

import array
import contextlib
import os
import pickle
import select
import selectors
import signal
import socket
import threading
import time
from multiprocessing import connection as stdlib

import numpy as np
import pytest

import procession as mp
from procession import reduction
from procession.connection import Client, Connection, Listener, Pipe, wait

PATIENCE = 60


def _echo(conn, *others):
    for other in others:
        other.close()
    with conn:
        try:
            while True:
                conn.send(conn.recv())
        except EOFError:
            pass


@pytest.mark.parametrize("duplex", [1, 0, None, "yes", ""])
def test_duplex_is_anything_true_or_false(duplex):
    here, there = Pipe(duplex)
    assert here.writable == there.readable == bool(duplex)


def test_objects_come_back(ctx):
    here, there = ctx.Pipe()
    process = ctx.Process(target=_echo, args=(there, here) if ctx._name == "fork" else (there,))
    process.start()
    there.close()
    for obj in (None, 1, "two", b"three", [4.0], {"five": "\ud800"}, b"x" * 3_000_000, "y" * 200_000):
        here.send(obj)
        assert here.recv() == obj
    here.send(np.arange(100_000))
    received = here.recv()
    received += 1
    assert received[-1] == 100_000
    here.close()
    process.join()
    assert process.exitcode == 0


def test_bytes_and_objects_are_the_same_messages():
    left, right = Pipe()
    for obj in (None, 1, "two", b"three", [4.0], b"x" * 100_000, np.arange(50_000).tolist(), {"a": bytearray(100_000)}):
        left.send_bytes(pickle.dumps(obj))
        assert right.recv() == obj
        left.send(obj)
        assert pickle.loads(right.recv_bytes()) == obj


def test_a_buffer_out_of_band_received_as_bytes():
    left, right = Pipe()
    left.send(np.arange(100_000))
    assert pickle.loads(right.recv_bytes()).sum() == sum(range(100_000))


def test_more_than_the_pipe_holds_arrives_in_order():
    left, right = Pipe()
    payloads = [bytes([number]) * 20_000 for number in range(50)]
    for payload in payloads:
        left.send(payload)
    assert [right.recv() for _ in payloads] == payloads


def test_parts_of_bytes():
    left, right = Pipe()
    left.send_bytes(b"abcdef", 1, 3)
    assert right.recv_bytes() == b"bcd"
    left.send_bytes(bytearray(b"abcdef"), 4)
    assert right.recv_bytes() == b"ef"
    left.send_bytes(memoryview(b"abcdef")[::2])
    assert right.recv_bytes() == b"ace"
    left.send_bytes(array.array("i", [1, 2]), 4)
    assert right.recv_bytes() == array.array("i", [2]).tobytes()
    left.send_bytes(b"")
    assert right.poll(PATIENCE)
    assert right.recv_bytes() == b""
    for arguments, text in [
        ((b"abc", -1), "offset is negative"),
        ((b"abc", 4), "buffer length < offset"),
        ((b"abc", 0, -1), "size is negative"),
        ((b"abc", 1, 3), r"buffer length < offset \+ size"),
    ]:
        with pytest.raises(ValueError, match=text):
            left.send_bytes(*arguments)
    with pytest.raises(TypeError):
        left.send_bytes("text")


def test_into_a_buffer():
    left, right = Pipe()
    target = bytearray(10)
    left.send_bytes(b"hello")
    assert right.recv_bytes_into(target, 3) == 5
    assert target == b"\0\0\0hello\0\0"
    numbers = array.array("i", [0, 0, 0])
    left.send_bytes(array.array("i", [7]))
    assert right.recv_bytes_into(numbers, 4) == 4
    assert numbers.tolist() == [0, 7, 0]
    left.send_bytes(b"much too long")
    with pytest.raises(mp.BufferTooShort) as error:
        right.recv_bytes_into(target, 3)
    assert error.value.args == (b"much too long",)
    with pytest.raises(ValueError, match="negative offset"):
        right.recv_bytes_into(target, -1)
    with pytest.raises(ValueError, match="offset too large"):
        right.recv_bytes_into(target, 11)


def test_directions():
    receiver, sender = Pipe(duplex=False)
    assert (receiver.readable, receiver.writable, sender.readable, sender.writable) == (True, False, False, True)
    with pytest.raises(OSError, match="connection is read-only"):
        receiver.send(1)
    with pytest.raises(OSError, match="connection is read-only"):
        receiver.send_bytes(b"")
    for use in (sender.recv, sender.recv_bytes, sender.poll, lambda: sender.recv_bytes_into(bytearray(1))):
        with pytest.raises(OSError, match="connection is write-only"):
            use()


def test_closed():
    left, right = Pipe()
    with left as entered:
        assert entered is left
        assert not left.closed
    assert left.closed
    left.close()
    for use in (
        left.recv,
        left.recv_bytes,
        left.poll,
        left.fileno,
        lambda: left.send(1),
        lambda: left.send_bytes(b""),
        lambda: pickle.dumps(left),
        lambda: wait([left]),
    ):
        with pytest.raises(OSError, match="handle is closed"):
            use()
    with pytest.raises(BrokenPipeError):
        right.send(1)
    assert right.poll()
    for _ in range(2):
        with pytest.raises(EOFError):
            right.recv()


def test_a_message_that_is_too_long_ends_receiving():
    left, right = Pipe()
    receiver, sender = Pipe(False)
    with pytest.raises(ValueError, match="negative maxlength"):
        right.recv_bytes(-1)
    for one, other in ((left, right), (sender, receiver)):
        one.send_bytes(b"four")
        assert other.recv_bytes(4) == b"four"
        one.send_bytes(b"fives")
        with pytest.raises(OSError, match="bad message length"):
            other.recv_bytes(4)
    assert receiver.closed
    assert not right.readable
    right.send(1)
    assert left.recv() == 1
    with pytest.raises(OSError, match="connection is write-only"):
        right.recv()


def test_polling():
    left, right = Pipe()
    assert not right.poll()
    assert not right.poll(-1)
    assert not right.poll(0.01)
    left.send(None)
    assert right.poll()
    assert right.poll(None)
    assert right.recv() is None
    threading.Timer(0.05, left.send, [1]).start()
    assert right.poll(PATIENCE)


def test_the_descriptor_says_whether_there_is_something():
    left, right = Pipe()
    with selectors.DefaultSelector() as selector:
        selector.register(right, selectors.EVENT_READ)
        assert selector.select(0.5) == []
        for count in (1, 2, 3):
            for number in range(count):
                left.send(number)
            for number in range(count):
                assert selector.select(PATIENCE)
                assert right.recv() == number
            assert selector.select(0) == []
        left.close()
        assert selector.select(PATIENCE)
        with pytest.raises(EOFError):
            right.recv()


def _hold(conn, ready):
    ready.send(None)
    conn.recv()


def test_the_descriptor_notices_a_killed_peer(ctx):
    if ctx._name == "fork":
        pytest.skip("the child has a copy of this end, too")
    here, there = ctx.Pipe()
    ready, tell = ctx.Pipe(False)
    process = ctx.Process(target=_hold, args=(there, tell))
    process.start()
    ready.recv()
    there.close()
    poller = select.poll()
    poller.register(here, select.POLLIN)
    assert poller.poll(300) == []
    process.kill()
    assert poller.poll(PATIENCE * 1000)
    with pytest.raises(EOFError):
        here.recv()
    process.join()


def test_what_another_process_has_taken_is_not_announced(ctx):
    here, there = ctx.Pipe()
    poller = select.poll()
    poller.register(here, select.POLLIN)
    there.send("for the child")
    assert poller.poll(PATIENCE * 1000)
    child = ctx.Process(target=here.__class__.recv, args=(here,))
    child.start()
    child.join()
    assert child.exitcode == 0
    # Whoever polls anew asks for the descriptor.
    poller = select.poll()
    poller.register(here, select.POLLIN)
    assert poller.poll(0) == []
    there.send("for us")
    assert poller.poll(PATIENCE * 1000)
    assert here.recv() == "for us"


def test_a_forked_child_polls_a_descriptor_of_its_own():
    ctx = mp.get_context("fork")
    here, there = ctx.Pipe()
    here.fileno()
    answers, tell = ctx.Pipe(False)
    child = ctx.Process(target=_poll_and_tell, args=(here, tell))
    child.start()
    assert answers.recv() == "polling"
    there.send("for the child")
    assert answers.recv() == "for the child"
    child.join()


def _poll_and_tell(conn, tell):
    poller = select.poll()
    poller.register(conn, select.POLLIN)
    tell.send("polling")
    assert poller.poll(PATIENCE * 1000)
    tell.send(conn.recv())


def _kill_soon(pid):
    time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)


def test_a_killed_peer_ends_every_wait(ctx):
    for waiting in ("recv", "poll", "send", "wait"):
        here, there = ctx.Pipe()
        ready, tell = ctx.Pipe(False)
        process = ctx.Process(target=_stuck, args=(there, tell))
        process.start()
        there.close()
        ready.recv()
        killer = threading.Thread(target=_kill_soon, args=(process.pid,))
        killer.start()
        if waiting == "recv":
            with pytest.raises(EOFError):
                here.recv()
        elif waiting == "poll":
            assert here.poll(None)
        elif waiting == "wait":
            assert wait([here], PATIENCE) == [here]
        else:
            with pytest.raises(BrokenPipeError):
                while True:
                    here.send(bytes(1000))
        killer.join()
        process.join()


def _stuck(conn, tell):
    tell.send(conn.closed)
    time.sleep(PATIENCE)


def test_connections_travel(ctx):
    carrier, cargo = ctx.Queue(), ctx.Pipe()
    carrier.put(cargo)
    left, right = carrier.get()
    assert type(left) is Connection
    cargo[0].close()
    cargo[1].close()
    left.send("through")
    assert right.recv() == "through"
    process = ctx.Process(target=_return, args=(carrier, right))
    process.start()
    right.close()
    back = carrier.get(timeout=PATIENCE)
    process.join()
    left.send("returned")
    assert back.recv() == "returned"
    back.close()
    with pytest.raises(EOFError):
        left.recv()


def _return(carrier, conn):
    carrier.put(conn)


def test_by_name_while_somebody_holds_it():
    left, right = Pipe()
    copy = pickle.loads(pickle.dumps(left))
    copy.send(1)
    assert right.recv() == 1
    left.close()
    right.send(2)
    assert copy.recv() == 2


def test_sockets_travel(ctx):
    ours, theirs = socket.socketpair()
    carrier = ctx.Queue()
    process = ctx.Process(target=_use_socket, args=(carrier,))
    process.start()
    with ours, theirs:
        carrier.put(theirs)
        assert ours.recv(5) == b"hello"
    process.join()
    assert process.exitcode == 0


def _use_socket(carrier):
    with carrier.get(timeout=PATIENCE) as received:
        received.sendall(b"hello")


@pytest.mark.parametrize("make", [Pipe, lambda: tuple(stdlib.Pipe())])
def test_handles_travel(make, tmp_path):
    left, right = make()
    path = tmp_path / "file"
    with open(path, "w") as file:
        # From 3.14 on a sender of the standard library waits until it was received.
        sender = threading.Thread(target=reduction.send_handle, args=(left, file.fileno(), os.getpid()))
        sender.start()
        handle = reduction.recv_handle(right)
        sender.join()
    os.write(handle, b"written")
    os.close(handle)
    # The sender's duplicate goes when somebody waits for a while.
    assert not left.poll(0.3)
    assert path.read_text() == "written"


def test_no_handle_came():
    left, right = Pipe()
    left.send(1)
    with pytest.raises(pickle.UnpicklingError):
        reduction.recv_handle(right)
    left.close()
    with pytest.raises(RuntimeError):
        reduction.recv_handle(right)


@pytest.mark.parametrize("wrong", [-1, object(), "x"])
def test_waiting_for_what_cannot_be_waited_for(wrong):
    with pytest.raises(ValueError, match="Invalid file"):
        wait([wrong], 0)


def test_waiting_for_everything(ctx):
    left, right = ctx.Pipe()
    items, simple = ctx.Queue(), ctx.SimpleQueue()
    one, other = socket.socketpair()
    theirs, near = stdlib.Pipe()
    reading, writing = os.pipe()
    process = ctx.Process(target=time.sleep, args=(PATIENCE,))
    process.start()
    things = [right, items, simple._reader, other, theirs, reading, process.sentinel]
    assert wait(things, 0) == wait(things, 0.01) == wait(things, -1) == []
    left.send(1)
    near.send(1)
    assert wait(things) == [right, theirs]
    items.put(1)
    simple.put(1)
    one.send(b"x")
    os.write(writing, b"x")
    process.kill()
    process.join()
    assert wait(iter(things), PATIENCE) == things
    assert wait([], 0.01) == []
    one.close()
    other.close()
    os.close(reading)
    os.close(writing)
    with pytest.raises(ValueError):
        wait([object()])


def test_waking_a_wait():
    left, right = Pipe()
    items = mp.Queue()
    for act, ready in ((lambda: left.send(1), right), (lambda: items.put(1), items)):
        threading.Timer(0.05, act).start()
        assert wait([right, items], PATIENCE) == [ready]
        ready.recv() if ready is right else ready.get()


def test_listener_and_client(ctx):
    with Listener(authkey=b"key") as listener:
        process = ctx.Process(target=_call, args=(listener.address,))
        process.start()
        with listener.accept() as conn:
            assert wait([conn], PATIENCE) == [conn]
            items = conn.recv()
            items.put("by name")
            conn.send(None)
            assert conn.recv() == "got it"
        process.join()
    assert process.exitcode == 0


def _call(address):
    items = mp.Queue()
    with Client(address, authkey=b"key") as conn:
        conn.send(items)
        conn.recv()
        assert items.get(timeout=PATIENCE) == "by name"
        conn.send("got it")


GARBAGE = [
    b"",
    b"\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff" * 4,
    b"\0\0\0\x04abcd",
    b"GET / HTTP/1.1\r\n\r\n",
    os.urandom(1000),
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_at_a_listener_is_an_exception(garbage):
    with Listener(family="AF_INET", authkey=b"key") as listener:
        caller = threading.Thread(target=_throw, args=(listener.address, garbage))
        caller.start()
        with pytest.raises((mp.AuthenticationError, OSError, EOFError, MemoryError, OverflowError)):
            listener.accept()
        caller.join()


def _throw(address, garbage):
    with contextlib.suppress(OSError), socket.create_connection(address, PATIENCE) as sock:
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1000):
            pass


@pytest.mark.parametrize(
    "garbage", [b"\x80", b"\x11", b"\x12", b"\x11" + b"\xff" * 8, b"\x10\x80", b"\xff", b"\x80\x05N.x", os.urandom(50)]
)
def test_garbage_in_a_message_is_an_exception(garbage):
    left, right = Pipe()
    left.send_bytes(garbage)
    with contextlib.suppress(Exception):
        right.recv()
    left.send(1)
    assert right.recv() == 1


def test_on_a_descriptor():
    one, other = socket.socketpair()
    left, right = Connection(one.detach()), Connection(other.detach())
    left.send([1])
    assert wait([right], PATIENCE) == [right]
    assert right.recv() == [1]
    left.close()
    right.close()
    with pytest.raises(ValueError):
        Connection(-1)


def test_names_of_the_module():
    assert mp.connection.address_type(("", 1)) == "AF_INET"
    assert mp.connection.families is stdlib.families
    with pytest.raises(AttributeError):
        _ = mp.connection.nothing


def test_threads_share_a_pipe():
    left, right = Pipe()
    results = []

    def receive():
        while (obj := right.recv()) is not None:
            results.append(obj)

    threads = [threading.Thread(target=receive) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(5000):
        left.send(number)
    for _ in threads:
        left.send(None)
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(5000))
