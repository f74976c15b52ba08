import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time

import pytest
from program import PATIENCE, run

import procession as mp
from procession import forkserver

METHODS = ["fork", "spawn", "forkserver"]
template = forkserver._forkserver


@pytest.fixture
def server():
    """A context whose template starts, and ends, with the test."""
    template._stop()
    yield mp.get_context("forkserver")
    template._stop()
    mp.set_forkserver_preload(["__main__"])
    forkserver.ensure_running()


def start(ctx, target, *args):
    process = ctx.Process(target=target, args=args)
    process.start()
    return process


def test_contexts():
    assert mp.get_all_start_methods() == multiprocessing.get_all_start_methods()
    for method in METHODS:
        ctx = mp.get_context(method)
        assert ctx.get_start_method() == method
        assert isinstance(ctx, type(multiprocessing.get_context(method)).__mro__[1])
        assert ctx.get_context() is ctx
    with pytest.raises(ValueError, match="cannot find context for 'thread'"):
        mp.get_context("thread")


def test_default_method(tmp_path):
    source = """
        import sys, procession as mp
        def report(): print(mp.get_start_method(), mp.current_process().name)
        if __name__ == "__main__":
            assert mp.get_start_method(allow_none=True) is None
            mp.set_start_method(sys.argv[1])
            process = mp.Process(target=report)
            process.start()
            process.join()
            try:
                mp.set_start_method("fork")
            except RuntimeError as error:
                print(error)
        """
    for method in METHODS:
        expected = f"{method} Process-1\ncontext has already been set\n"
        assert run(tmp_path, source, method) == (0, expected, "")


def test_all_pids_are_children_of_ours(ctx):
    queue = ctx.SimpleQueue()
    process = start(ctx, report_parents, queue)
    assert queue.get() == (process.pid, os.getpid(), os.getpid())
    # No relay: the status is the kernel's.
    assert os.waitpid(process.pid, 0) == (process.pid, 0)
    process.join()


def report_parents(queue):
    queue.put((os.getpid(), os.getppid(), mp.parent_process().pid))


def report_state(queue):
    import gc
    import random

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGCHLD)]
    threads = [thread.name for thread in threading.enumerate()]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    queue.put((handlers == [signal.default_int_handler, signal.SIG_DFL], threads, sorted(mask), gc.isenabled()))
    queue.put((random.random(), sys.stdin.read(), signal.set_wakeup_fd(-1)))


def test_state_of_a_child(ctx):
    queue = ctx.SimpleQueue()
    numbers = set()
    for _ in range(2):
        process = start(ctx, report_state, queue)
        assert queue.get() == (True, ["MainThread"], [], True)
        number, *rest = queue.get()
        numbers.add(number)
        assert rest == ["", -1]
        process.join()
    assert len(numbers) == 2


def send_mask(queue):
    queue.put(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


MASK = """
    import signal, sys, procession as mp
    from procession.futures import ProcessPoolExecutor

    def mask():
        return signal.pthread_sigmask(signal.SIG_BLOCK, ())

    if __name__ == "__main__":
        ctx = mp.get_context(sys.argv[1])
        with ProcessPoolExecutor(1, mp_context=ctx) as executor, ctx.Pool(1) as pool:
            print(executor.submit(mask).result(), pool.apply(mask))
            process = ctx.Process(target=signal.pause)
            process.start()
            process.terminate()
            process.join()
            print(process.exitcode)
    """


def test_signals_are_blocked_as_where_the_child_was_started(ctx):
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        queue = ctx.Queue()
        process = ctx.Process(target=send_mask, args=(queue,))
        process.start()
        assert queue.get(timeout=PATIENCE) == {*mask, signal.SIGUSR1}
        process.join()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_signals_reach_children_whoever_started_the_template(method, tmp_path):
    # Threads of pools block all signals.
    assert run(tmp_path, MASK, method) == (0, "set() set()\n-15\n", "")


def test_descriptors_are_passed(ctx):
    ours, theirs = socket.socketpair()
    with ours:
        process = start(ctx, talk, theirs)
        theirs.close()
        assert ours.recv(100) == b"hello"
        process.join()
        assert process.exitcode == 0
        assert ours.recv(100) == b""


def talk(connection):
    connection.sendall(b"hello")


def test_too_many_descriptors(server):
    with pytest.raises(ValueError, match="too many fds"):
        forkserver.connect_to_new_process([0] * 300, "")


def test_preload(server, tmp_path, monkeypatch):
    (tmp_path / "preloaded.py").write_text("import os\npid = os.getpid()\nprint('preloaded', flush=True)\n")
    (tmp_path / "broken.py").write_text("raise RuntimeError('no luck')\n")
    monkeypatch.syspath_prepend(tmp_path)
    mp.set_forkserver_preload(["preloaded", "there_is_no_such_module", "broken"])
    queue = mp.SimpleQueue()
    start(server, report_preloaded, queue).join()
    assert queue.get() == template._forkserver_pid
    with pytest.raises(TypeError, match="module_names must be a list of strings"):
        mp.set_forkserver_preload([1])


def report_preloaded(queue):
    queue.put(getattr(sys.modules.get("preloaded"), "pid", None))


def test_preloaded_main(tmp_path):
    source = """
        import os, sys, procession as mp
        print("imported by", __name__, flush=True)
        pid = os.getpid()
        def report(template): print(pid == template, mp.current_process().name, flush=True)
        if __name__ == "__main__":
            mp.set_start_method("forkserver")
            from procession.forkserver import _forkserver, ensure_running
            ensure_running()
            for name in "ab":
                process = mp.Process(target=report, args=(_forkserver._forkserver_pid,), name=name)
                process.start()
                process.join()
        """
    expected = "imported by __main__\nimported by __mp_main__\nTrue a\nTrue b\n"
    assert run(tmp_path, source) == (0, expected, "")


def test_threads_in_the_template(server, tmp_path, monkeypatch):
    source = "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
    (tmp_path / "threaded.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    mp.set_forkserver_preload(["threaded"])
    queue = mp.SimpleQueue()
    process = start(server, report_parents, queue)
    assert queue.get() == (process.pid, template._forkserver_pid, os.getpid())
    process.join()
    assert process.exitcode == 0
    # Its parent is the template; the exit code comes from there.
    with pytest.raises(ChildProcessError):
        os.waitpid(process.pid, 0)
    for code in (0, 5, -signal.SIGKILL):
        process = start(server, end, code)
        process.join()
        assert process.exitcode == code
    process = start(server, time.sleep, 1000)
    assert not process.join(0.01)
    os.kill(template._forkserver_pid, signal.SIGKILL)
    os.waitid(os.P_PID, template._forkserver_pid, os.WEXITED | os.WNOWAIT)
    assert process.is_alive()
    process.kill()
    process.join()
    assert process.exitcode == 255


def end(code):
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGCHLD])
def test_template_survives(server, number):
    forkserver.ensure_running()
    pid = template._forkserver_pid
    start(server, sys.exit).join()
    for _ in range(3):
        os.kill(pid, number)
        process = start(server, sys.exit, 4)
        process.join()
        assert process.exitcode == 4
    assert template._forkserver_pid == pid


def test_template_is_killed(server):
    queue = mp.SimpleQueue()
    sleeper = start(server, wait_for, queue)
    pid = template._forkserver_pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    process = start(server, sys.exit, 4)
    process.join()
    assert process.exitcode == 4
    assert template._forkserver_pid != pid
    queue.put(None)
    sleeper.join()
    assert sleeper.exitcode == 0


def wait_for(queue):
    queue.get()


def test_template_is_killed_while_it_forks(server):
    """A spare of which it could not tell us any more is neither left behind nor waited for."""
    for _ in range(20):
        # Has it make another spare.
        process = start(server, sys.exit, 4)
        os.kill(template._forkserver_pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == 4
    start(server, sys.exit).join()
    assert len(forks()) <= forkserver._SPARES


def forks():
    """The pids of our children that the template has forked."""
    pids = []
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/children") as file:
            pids += file.read().split()
    return [int(pid) for pid in pids if "socket=" in command(pid) and int(pid) != template._forkserver_pid]


def command(pid):
    with open(f"/proc/{pid}/cmdline") as file:
        return file.read()


def spares():
    """The pids of all spares, once they are there."""
    forkserver.ensure_running()
    while len(pids := forks()) < forkserver._SPARES:
        time.sleep(0.01)
    return pids


@pytest.mark.parametrize("how_many", range(1, forkserver._SPARES + 1))
def test_spares_are_killed(server, how_many):
    """A start finds another one, and the template goes on."""
    spares()
    pid = template._forkserver_pid
    for _ in range(5):
        for spare in spares()[:how_many]:
            os.kill(spare, signal.SIGKILL)
        process = start(server, sys.exit, 4)
        process.join()
        assert process.exitcode == 4
    assert template._forkserver_pid == pid


def test_killed_at_once(server):
    """A process that is killed before it has begun ends like any other, and the template goes on."""
    forkserver.ensure_running()
    pid = template._forkserver_pid
    for _ in range(5):
        process = start(server, time.sleep, 1000)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert template._forkserver_pid == pid


def test_interrupted_start(server, tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1000)\n")
    monkeypatch.syspath_prepend(tmp_path)
    mp.set_forkserver_preload(["slow"])
    main = threading.get_ident()

    def interrupt():
        while template._forkserver_pid is None:
            time.sleep(0.01)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        start(server, sys.exit)
    thread.join()
    mp.set_forkserver_preload([])
    process = start(server, sys.exit, 4)
    process.join()
    assert process.exitcode == 4


def test_template_ends_with_its_parent(tmp_path):
    source = """
        import os, signal, sys, time, procession as mp
        def nothing(): pass
        if __name__ == "__main__":
            process = mp.get_context("forkserver").Process(target=nothing)
            process.start()
            process.join()
            if os.fork() == 0:
                # Has copies of all descriptors.
                os.close(1); os.close(2)
                time.sleep(1000)
            if sys.argv[1] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        """
    # The end of output is the end of everybody who could write.
    assert run(tmp_path, source, "kill") == (-signal.SIGKILL, "", "")
    assert run(tmp_path, source, "exit") == (0, "", "")


def test_default_timeout_of_sockets(server):
    socket.setdefaulttimeout(0.001)
    try:
        process = start(server, sys.exit, 4)
        process.join()
    finally:
        socket.setdefaulttimeout(None)
    assert process.exitcode == 4


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_set_executable(tmp_path, method):
    source = """
        import sys, procession as mp
        def report(): print(sys.argv, flush=True)
        if __name__ == "__main__":
            ctx = mp.get_context(sys.argv[1])
            ctx.set_executable("/there/is/no/such/python")
            try:
                process = ctx.Process(target=report)
                process.start()
                process.join()
                print(process.exitcode)
            except OSError as error:
                print(type(error).__name__)
            ctx.set_executable(sys.executable)
            process = ctx.Process(target=report)
            process.start()
            process.join()
        """
    code, output, _ = run(tmp_path, source, method)
    assert code == 0
    assert output.splitlines()[-1].endswith(f"program.py', '{method}']")


def test_no_more_than_allowed(ctx):
    """Neither descriptors nor threads nor processes are left behind."""
    cycles = 300 if ctx._name != "spawn" else 20

    def left():
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(os.listdir("/proc/self/task"))

    for _ in range(5):
        start(ctx, sys.exit).join()
    before = left(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(cycles):
        start(ctx, sys.exit).join()
    assert left() == before[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before[1] < 4096


HEAVY = (
    "pickle",
    "runpy",
    "selectors",
    "socket",
    "subprocess",
    "multiprocessing.resource_tracker",
    "multiprocessing.util",
)


def test_imports_of_a_spawned_child(tmp_path):
    """It imports nothing that takes long unless its program does; `multiprocessing` and ours are whole all the same."""
    source = f"""
        import sys, procession as mp
        def report():
            print([name for name in {HEAVY} if name in sys.modules], flush=True)
            import multiprocessing.reduction, multiprocessing.util
            from multiprocessing import reduction, resource_tracker
            assert mp.reduction.ForkingPickler is reduction.ForkingPickler
            assert mp.util is multiprocessing.util and mp.reducer is mp.reduction
            assert resource_tracker.ensure_running
        if __name__ == "__main__":
            process = mp.get_context("spawn").Process(target=report)
            process.start()
            process.join()
            print(process.exitcode)
        """
    assert run(tmp_path, source) == (0, "[]\n0\n", "")
