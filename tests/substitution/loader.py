"""A loader of batches, built the way PyTorch builds its `DataLoader`: what that does with a context of `multiprocessing`, this does.

A queue of indices for each worker, one queue of results for all, an event that ends the workers, a thread that "pins" the results, and four ways to learn that a worker died: SIGCHLD,
time-outs of `get`, `is_alive`, and in the workers a look at the parent's pid.
"""

import contextlib
import itertools
import multiprocessing
import os
import queue
import signal
import threading
from multiprocessing.context import BaseContext

CHECK_INTERVAL = 0.2
JOIN_TIMEOUT = 20
PREFETCH = 2


class FailedInWorker:
    """An exception on its way from a worker."""

    def __init__(self, error):
        self.kind, self.text = type(error), str(error)

    def reraise(self):
        raise self.kind(f"in a worker: {self.text}")


def work(dataset, indices, results, done):
    """Be a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    while os.getppid() == parent:
        try:
            order = indices.get(timeout=CHECK_INTERVAL)
        except queue.Empty:
            if done.is_set():
                break
            continue
        if order is None:
            assert done.is_set()
            break
        if done.is_set():
            continue
        number, batch = order
        try:
            results.put((number, [dataset[index] for index in batch]))
        except Exception as error:
            results.put((number, FailedInWorker(error)))
        del order
    if done.is_set():
        results.cancel_join_thread()
        results.close()


def pin(source, sink, done):
    """Be the thread between the workers' queue and the program."""
    while not done.is_set():
        with contextlib.suppress(queue.Empty):
            number, data = source.get(timeout=CHECK_INTERVAL)
            sink.put((number, data))


class Loader:
    """Batches of a dataset, loaded by workers of a context."""

    def __init__(self, dataset, batch_size, num_workers, multiprocessing_context):
        if isinstance(multiprocessing_context, str):
            multiprocessing_context = multiprocessing.get_context(multiprocessing_context)
        if not isinstance(multiprocessing_context, BaseContext):
            raise TypeError(
                f"multiprocessing_context should be a valid context object, but got {multiprocessing_context}"
            )
        self.context = multiprocessing_context
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_workers = num_workers

    def __iter__(self):
        with contextlib.closing(_Iteration(self)) as iteration:
            yield from iteration.batches()


class _Iteration:
    def __init__(self, loader):
        context = loader.context
        items = iter(range(len(loader.dataset)))
        self.orders = enumerate(iter(lambda: list(itertools.islice(items, loader.batch_size)), []))
        self.results = context.Queue()
        self.done = context.Event()
        self.outstanding = 0
        self.indices, self.workers = [], []
        for _ in range(loader.num_workers):
            indices = context.Queue()
            indices.cancel_join_thread()
            worker = context.Process(target=work, args=(loader.dataset, indices, self.results, self.done))
            worker.daemon = True
            worker.start()
            self.indices.append(indices)
            self.workers.append(worker)
        self.pinned = queue.Queue()
        self.pin_done = threading.Event()
        self.pinning = threading.Thread(target=pin, args=(self.results, self.pinned, self.pin_done), daemon=True)
        self.pinning.start()
        self.previous_handler = signal.signal(signal.SIGCHLD, self.on_sigchld)

    def on_sigchld(self, signum, frame):
        """Look at the workers without reaping them, as PyTorch does."""
        for worker in self.workers:
            with contextlib.suppress(ChildProcessError):
                state = os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if state is not None and state.si_status != 0:
                    raise RuntimeError(f"DataLoader worker (pid {worker.pid}) is killed by signal {state.si_status}")

    def batches(self):
        """Yield the batches in order."""
        for _ in range(PREFETCH):
            for indices in self.indices:
                self.order(indices)
        arrived, turns = {}, itertools.cycle(self.indices)
        for number in itertools.count():
            while number not in arrived:
                if not self.outstanding:
                    return
                got, data = self.get()
                self.outstanding -= 1
                self.order(next(turns))
                arrived[got] = data
            data = arrived.pop(number)
            if isinstance(data, FailedInWorker):
                data.reraise()
            yield data

    def order(self, indices):
        """Order the next batch, if there is one."""
        with contextlib.suppress(StopIteration):
            indices.put(next(self.orders))
            self.outstanding += 1

    def get(self):
        """Take a result, and look after the workers meanwhile."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self.pinned.get(timeout=CHECK_INTERVAL)
            if failed := [str(worker.pid) for worker in self.workers if not worker.is_alive()]:
                raise RuntimeError(f"DataLoader worker (pid(s) {', '.join(failed)}) exited unexpectedly")

    def close(self):
        """End the thread and the workers."""
        signal.signal(signal.SIGCHLD, self.previous_handler)
        self.pin_done.set()
        self.results.put((None, None))
        self.pinning.join()
        self.results.cancel_join_thread()
        self.results.close()
        self.done.set()
        for indices in self.indices:
            indices.put(None)
        try:
            for worker, indices in zip(self.workers, self.indices, strict=True):
                worker.join(timeout=JOIN_TIMEOUT)
                indices.cancel_join_thread()
                indices.close()
        finally:
            for worker in self.workers:
                if worker.is_alive():
                    worker.terminate()
