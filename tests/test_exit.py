"""How programs end: in order, by Ctrl-C, by kill -9."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from program import PATIENCE, Program, is_alive, run, write

WORK = """
    import atexit, os, sys, time, procession as mp

    def at_exit(text):
        # In one write: others write, too.
        sys.stdout.write(text + "\\n")

    def work(queue):
        atexit.register(at_exit, "exit of the child")
        sys.stdout.write("work\\n")
        queue.put(1)

    if __name__ == "__main__":
        ctx = mp.get_context(sys.argv[1])
        queue, left = ctx.Queue(), ctx.Queue()
        left.put(b"x" * 1000000)
        processes = [ctx.Process(target=work, args=(queue,)) for _ in range(2)]
        for process in processes:
            process.start()
        if sys.argv[2] == "join":
            for process in processes:
                process.join()
    """


@pytest.mark.parametrize("how", ["join", "leave"])
def test_clean_exit(tmp_path, ctx, how):
    code, output, errors = run(tmp_path, WORK, ctx._name, how)
    assert (code, errors) == (0, "")
    assert sorted(output.splitlines()) == ["exit of the child"] * 2 + ["work"] * 2


SLEEPERS = """
    import os, sys, time, procession as mp

    def work(queue):
        queue.put(os.getpid())
        time.sleep(1000)

    if __name__ == "__main__":
        ctx = mp.get_context(sys.argv[1])
        queue = ctx.Queue()
        processes = [ctx.Process(target=work, args=(queue,), daemon=number % 2) for number in range(4)]
        for process in processes:
            process.start()
        pids = [queue.get() for _ in processes]
        print(*pids, flush=True)
        for process in processes:
            process.join()
    """


def test_ctrl_c(tmp_path, ctx):
    with Program([write(tmp_path, SLEEPERS), ctx._name]) as program:
        program.line()
        os.killpg(program.process.pid, signal.SIGINT)
        code, output, errors = program.end()
    assert (code, output) == (-signal.SIGINT, "")
    lines = errors.splitlines()
    # The parent's traceback, and a line from each child that is not a mere helper.
    assert lines.count("KeyboardInterrupt") == errors.count("Traceback") == 1
    assert sum(line.endswith(": KeyboardInterrupt") for line in lines) == 2


def test_ctrl_c_while_starting(tmp_path, ctx):
    """At whatever moment it comes: at most the parent's traceback, and nobody stays."""
    source = """
        import sys, procession as mp
        def nothing(): pass
        if __name__ == "__main__":
            print(flush=True)
            while True:
                process = mp.get_context(sys.argv[1]).Process(target=nothing)
                process.start()
                process.join()
        """
    path = write(tmp_path, source)
    for attempt in range(6):
        with Program([path, ctx._name]) as program:
            program.line()
            time.sleep(attempt * 0.02)
            os.killpg(program.process.pid, signal.SIGINT)
            _, _, errors = program.end()
        assert errors.count("Traceback") <= 1, errors
        assert "KeyboardInterrupt" in errors


def test_ctrl_c_at_a_fork(tmp_path):
    """When the child is there, and neither side has done anything about it."""
    source = """
        import os, signal, sys, time, procession as mp

        def nothing(): pass

        def interrupt():
            global forks
            forks += 1
            if forks == 3:
                os.killpg(0, signal.SIGINT)
                # The child has it, too, before we go on.
                time.sleep(0.05)

        if __name__ == "__main__":
            forks = 0
            os.register_at_fork(after_in_parent=interrupt)
            if sys.argv[1] == "pool":
                mp.get_context("fork").Pool(4)
            else:
                processes = [mp.get_context("fork").Process(target=nothing, daemon=True) for _ in range(3)]
                for process in processes:
                    process.start()
        """
    for what in ("pool", "process"):
        code, output, errors = run(tmp_path, source, what)
        assert (code, output) == (-signal.SIGINT, "")
        assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1, errors


def test_the_first_pool_of_a_thread_that_outlives_the_main_thread(tmp_path, method):
    source = """
        import sys, threading, procession as mp

        def work():
            threading.main_thread().join()
            with mp.get_context(sys.argv[1]).Pool(1) as pool:
                print(pool.map(abs, [-1, -2]), pool.apply_async(abs, (-3,)).get(), list(pool.imap(abs, iter([-4]))))

        if __name__ == "__main__":
            threading.Thread(target=work).start()
        """
    assert run(tmp_path, source, method) == (0, "[1, 2] 3 [4]\n", "")


ENDS = """
    import sys, procession as mp
    from procession.futures import ProcessPoolExecutor

    class Owner:
        def __init__(self, pool):
            self.pool = pool
            self.itself = self
        def __del__(self):
            print("end")

    def nothing(*args): pass

    if __name__ == "__main__":
        ctx = mp.get_context(sys.argv[1])
        initializer = nothing if sys.argv[2] == "initializer" else None
        pool = Owner(ctx.Pool(1, initializer))
        pool.pool.map(nothing, range(3))
        executor = Owner(ProcessPoolExecutor(1, ctx, initializer))
        executor.pool.submit(nothing).result()
    """


@pytest.mark.parametrize("what", ["plain", "initializer"])
def test_what_the_main_module_defines_comes_to_its_end(tmp_path, method, what):
    """Though its functions were sent to workers, and pools are among it."""
    code, output, errors = run(tmp_path, ENDS, method, what)
    assert (code, output, errors) == (0, "end\nend\n", "")


def shared_files():
    return set(os.listdir("/dev/shm"))


def test_kill_of_the_group(tmp_path, ctx):
    before = shared_files()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with Program([write(tmp_path, SLEEPERS), ctx._name], env=environment) as program:
        pids = [int(pid) for pid in program.line().split()]
        os.killpg(program.process.pid, signal.SIGKILL)
        assert program.end() == (-signal.SIGKILL, "", "")
        while any(map(is_alive, pids)):
            time.sleep(0.01)
    assert shared_files() <= before
    assert list(temporary.iterdir()) == []


LITTLE = """
    import sys, procession as mp
    def double(queue, x): queue.put(2 * x)
    if __name__ == "__main__":
        ctx = mp.get_context(sys.argv[1])
        queue = ctx.Queue()
        process = ctx.Process(target=double, args=(queue, 21))
        process.start()
        print(queue.get())
        process.join()
    """


def test_address_space_is_limited(tmp_path, ctx):
    command = [
        "bash",
        "-c",
        'ulimit -v 16777216; exec "$@"',
        "bash",
        sys.executable,
        write(tmp_path, LITTLE),
        ctx._name,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="mounts need root")
def test_shared_memory_folder_is_read_only(tmp_path, ctx):
    script = 'mount -t tmpfs -o ro none /dev/shm && exec "$@"'
    command = ["unshare", "-m", "bash", "-c", script, "bash", sys.executable, write(tmp_path, LITTLE), ctx._name]
    if subprocess.run([*command[:4], "mount -t tmpfs -o ro none /dev/shm"], check=False).returncode:
        pytest.skip("mounts are not allowed here")
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")
