import os
import signal
import sys
import threading
import time

import pytest
from program import Program, is_alive, run, write

import procession as mp
from procession.forkserver import _forkserver


@pytest.fixture
def errors(capfd):
    """What is written to standard error, by the children, too: the forkserver keeps the one that it was started with."""
    _forkserver._stop()
    yield lambda: capfd.readouterr().err
    _forkserver._stop()
    _forkserver.ensure_running()


def nothing():
    pass


def end(how):
    if how == "raise":
        raise RuntimeError("no luck")
    if how == "signal":
        os.kill(os.getpid(), signal.SIGUSR1)
    if how == "os._exit":
        os._exit(9)
    sys.exit(how)


@pytest.mark.parametrize(
    ("how", "code", "text"),
    [
        (None, 0, ""),
        (7, 7, ""),
        (True, 1, ""),
        ("a message", 1, "a message\n"),
        ("raise", 1, "RuntimeError: no luck\n"),
        ("signal", -signal.SIGUSR1, ""),
        ("os._exit", 9, ""),
    ],
)
def test_exit_code(ctx, errors, how, code, text):
    process = ctx.Process(target=end, args=(how,))
    assert process.exitcode is None
    process.start()
    process.join()
    assert process.exitcode == code
    assert errors().endswith(text)


def report(queue, go, *args, **kwargs):
    go.get()
    me, parent = mp.current_process(), mp.parent_process()
    queue.put(
        (
            me.pid,
            me.ident,
            me.name,
            me.daemon,
            bytes(me.authkey),
            type(me).__name__,
            parent.pid,
            parent.name,
            args,
            kwargs,
        )
    )


def test_attributes(ctx):
    queue, go = ctx.SimpleQueue(), ctx.SimpleQueue()
    process = ctx.Process(target=report, name="Ada", args=(queue, go, 1), kwargs={"two": 2}, daemon=True)
    assert (process.name, process.daemon, process.pid, process.is_alive()) == ("Ada", True, None, False)
    with pytest.raises(ValueError, match="process not started"):
        _ = process.sentinel
    process.start()
    assert process in mp.active_children()
    go.put(None)
    here = mp.current_process()
    expected = (process.pid, process.pid, "Ada", True, bytes(here.authkey), type(process).__name__)
    assert queue.get() == (*expected, os.getpid(), here.name, (1,), {"two": 2})
    process.join()
    assert process not in mp.active_children()
    assert (process.is_alive(), process.exitcode) == (False, 0)
    process.close()
    with pytest.raises(ValueError, match="process object is closed"):
        process.join()


def test_misuse(ctx):
    process = ctx.Process(target=time.sleep, args=(1000,))
    with pytest.raises(AssertionError, match="can only join a started process"):
        process.join()
    process.start()
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        process.start()
    with pytest.raises(AssertionError, match="process has already started"):
        process.daemon = True
    with pytest.raises(ValueError, match="Cannot close a process while it is still running"):
        process.close()
    process.kill()
    process.join()


@pytest.mark.parametrize(("how", "code"), [("terminate", -signal.SIGTERM), ("kill", -signal.SIGKILL), ("interrupt", 1)])
def test_end_by_signal(ctx, errors, how, code):
    ready = ctx.SimpleQueue()
    process = ctx.Process(target=say_and_sleep, args=(ready,))
    process.start()
    ready.get()
    assert process.join(0.01) is None
    assert process.exitcode is None
    getattr(process, how)()
    process.join()
    assert process.exitcode == code
    # Nobody is there, nothing happens.
    getattr(process, how)()
    assert errors() == (f"Process {process.name}: KeyboardInterrupt\n" if how == "interrupt" else "")


def say_and_sleep(queue):
    queue.put(os.getpid())
    time.sleep(1000)


def keep_and_sleep(writer):
    time.sleep(1000)


def killed_at_birth(ctx, how, writer):
    if how == "os.fork":
        pid = os.fork()
        while pid == 0:
            time.sleep(1000)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return None
    process = ctx.Process(target=keep_and_sleep, args=(writer,))
    process.start()
    process.kill()
    return process


@pytest.mark.parametrize("how", ["Process", "os.fork"])
def test_killed_at_birth(ctx, how):
    reader, writer = ctx.Pipe(duplex=False)
    processes = [killed_at_birth(ctx, how, writer) for _ in range(20)]
    # They were to hold it, too, though they never came up: it was inherited, or on its way to them.
    writer.close()
    with pytest.raises(EOFError):
        reader.recv()
    for process in processes:
        if process is not None:
            process.join()
            assert process.exitcode == -signal.SIGKILL


def test_sentinel_is_ready_at_the_end(ctx):
    process = ctx.Process(target=say_and_sleep, args=(queue := ctx.SimpleQueue(),))
    process.start()
    queue.get()
    from procession.connection import wait

    assert wait([process.sentinel], 0) == []
    process.kill()
    assert wait([process.sentinel]) == [process.sentinel]
    process.join()


def test_somebody_else_reaps(ctx):
    process = ctx.Process(target=nothing)
    process.start()
    try:
        os.waitpid(process.pid, 0)
    except ChildProcessError:
        pytest.fail("the process is no child of ours")
    process.join()
    assert not process.is_alive()
    assert process.exitcode == 255
    assert process not in mp.active_children()


def test_sigchld_ignored(tmp_path, ctx):
    source = """
        import signal, sys, procession as mp
        def nothing(): pass
        if __name__ == "__main__":
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            for _ in range(3):
                process = mp.get_context(sys.argv[1]).Process(target=nothing)
                process.start()
                process.join()
                print(process.is_alive(), process.exitcode in (0, 255))
        """
    assert run(tmp_path, source, ctx.get_context()._name) == (0, "False True\n" * 3, "")


def test_threads_start_processes(ctx):
    count = 3 if ctx._name == "spawn" else 25
    codes = []

    def work():
        for _ in range(count):
            process = ctx.Process(target=sys.exit, args=(3,))
            process.start()
            process.join()
            codes.append(process.exitcode)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [3] * 8 * count


def fork_and_put(queue):
    pid = os.fork()
    if pid == 0:
        queue.put("grandchild")
        os._exit(0)
    os.waitpid(pid, 0)
    queue.put("child")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork_by_third_parties(ctx):
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=fork_and_put, args=(queue,))
    process.start()
    process.join()
    assert [queue.get(), queue.get()] == ["grandchild", "child"]
    if (pid := os.fork()) == 0:
        # Only the template must not be shared: its children would be the parent's.
        process = ctx.Process(target=nothing)
        process.start()
        process.join()
        os._exit(process.exitcode)
    assert os.waitpid(pid, 0)[1] == 0


def recurse(queue, depth):
    queue.put(depth)
    if depth:
        process = mp.Process(target=recurse, args=(queue, depth - 1))
        process.start()
        process.join()


def test_children_of_children(ctx):
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=recurse, args=(queue, 2))
    process.start()
    process.join()
    assert [queue.get() for _ in range(3)] == [2, 1, 0]


def start_a_child(queue):
    try:
        mp.Process(target=nothing).start()
    except AssertionError as error:
        queue.put(str(error))


def test_daemons_have_no_children(ctx):
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=start_a_child, args=(queue,), daemon=True)
    process.start()
    assert queue.get() == "daemonic processes are not allowed to have children"
    process.join()


PARENT = """
    import os, sys, threading, time
    import procession as mp

    def child(daemon):
        # In one write: others write, too.
        print(f"{os.getpid()}\\n", end="", flush=True)
        if daemon:
            time.sleep(1000)
        mp.parent_process().join()
        print("alive" if mp.parent_process().is_alive() else "gone", flush=True)

    def start(method):
        for daemon in (True, False):
            mp.get_context(method).Process(target=child, args=(daemon,), daemon=daemon).start()

    if __name__ == "__main__":
        if sys.argv[2] == "thread":
            thread = threading.Thread(target=start, args=sys.argv[1:2])
            thread.start()
            thread.join()
        else:
            start(sys.argv[1])
        time.sleep(1000)
    """


@pytest.mark.parametrize("by", ["main", "thread"])
def test_parent_is_killed(tmp_path, ctx, by):
    with Program([write(tmp_path, PARENT), ctx._name, by]) as parent:
        children = [int(parent.line()) for _ in range(2)]
        parent.process.kill()
        assert parent.line() == "gone"
        # The end of all output is near the end of all who could write.
        assert parent.process.stdout.read() == ""
        while any(map(is_alive, children)):
            time.sleep(0.01)


class Model:
    def __init__(self):
        self.lock = threading.Lock()


class Slots:
    __slots__ = ("lock",)

    def __init__(self):
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("argument", "place"),
    [
        ({"model": Model()}, "args[0]['model'].lock"),
        ([1, (2, Slots())], "args[0][1][1].lock"),
        ((number for number in range(3)), "args[0]"),
    ],
)
def test_what_cannot_be_pickled(ctx, argument, place):
    if ctx._name == "fork":
        pytest.skip("nothing is pickled")
    process = ctx.Process(target=nothing, args=(argument,))
    with pytest.raises(TypeError, match="cannot pickle") as error:
        process.start()
    # Those of the pickler of 3.14 come first.
    assert error.value.__notes__[-1] == f"What cannot be pickled is {place}"
    assert process.pid is None


def test_what_cannot_be_put():
    with pytest.raises(TypeError, match=r"cannot pickle '_thread.lock' object") as error:
        mp.SimpleQueue().put([Model()])
    assert error.value.__notes__[-1] == "What cannot be pickled is the list[0].lock"


class Custom(mp.Process):
    def __init__(self, queue):
        super().__init__()
        self.queue = queue

    def run(self):
        self.queue.put(self.name)


def test_subclass():
    queue = mp.SimpleQueue()
    process = Custom(queue)
    process.start()
    assert queue.get() == process.name
    process.join()
