"""PyTorch, handed our contexts: its `DataLoader`, and its tensors through our queues and pools."""

import os
import subprocess
import sys

import numpy as np
import pytest
from program import write

pytestmark = pytest.mark.timeout(300)
# GNU OpenMP does not survive a fork once it has threads, of whatever maker the child is.
os.environ["OMP_NUM_THREADS"] = "1"
torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info  # noqa: E402

LENGTH = 103


class Squares(Dataset):
    """Tensors, one of which may fail."""

    def __init__(self, failing=None):
        self.failing = failing

    def __len__(self):
        return LENGTH

    def __getitem__(self, index):
        if index == self.failing:
            raise LookupError(f"no {index}")
        return torch.full((1000,), index * index), f"name {index}", np.float32(index)


class Stream(IterableDataset):
    def __iter__(self):
        me = get_worker_info()
        return iter(torch.arange(me.id, 40, me.num_workers))


@pytest.fixture(params=["file_descriptor", "file_system"])
def strategy(request):
    """How torch shares storages; only its own reducers know of it."""
    before = torch.multiprocessing.get_sharing_strategy()
    torch.multiprocessing.set_sharing_strategy(request.param)
    yield request.param
    torch.multiprocessing.set_sharing_strategy(before)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("order", [True, False])
def test_epochs(ctx, strategy, persistent, order):
    loader = DataLoader(
        Squares(), 10, num_workers=2, multiprocessing_context=ctx, persistent_workers=persistent, in_order=order
    )
    for _ in range(3):
        batches = list(loader)
        assert sorted(len(tensors) for tensors, _, _ in batches) == [3] + [10] * 10
        squares = [int(tensor[999]) for tensors, _, _ in batches for tensor in tensors]
        assert (squares if order else sorted(squares)) == [x * x for x in range(LENGTH)]
        assert {name for _, names, _ in batches for name in names} == {f"name {x}" for x in range(LENGTH)}
    assert batches[0][0].is_shared()


def test_prefetching_and_initializers(ctx):
    loader = DataLoader(
        Squares(),
        4,
        shuffle=True,
        num_workers=2,
        multiprocessing_context=ctx,
        prefetch_factor=8,
        timeout=200,
        worker_init_fn=torch.manual_seed,
        generator=torch.Generator().manual_seed(1),
    )
    assert sorted(int(x) for _, _, numbers in loader for x in numbers) == list(range(LENGTH))


def test_an_iterable_dataset(ctx):
    loader = DataLoader(Stream(), 3, num_workers=2, multiprocessing_context=ctx)
    assert sorted(int(x) for batch in loader for x in batch) == list(range(40))


def test_a_loader_that_is_left_early(ctx):
    for _ in range(3):
        batches = iter(DataLoader(Squares(), 2, num_workers=2, multiprocessing_context=ctx))
        assert len(next(batches)[0]) == 2
        del batches


def test_a_dataset_that_fails(ctx):
    with pytest.raises(LookupError, match="no 55"):
        list(DataLoader(Squares(failing=55), 10, num_workers=2, multiprocessing_context=ctx))


KILLED = """
    import os, signal, sys
    import torch
    from torch.utils.data import DataLoader
    import procession

    class Deadly:
        def __init__(self, last):
            self.last = last

        def __len__(self):
            return 100

        def __getitem__(self, index):
            if index == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
            return torch.tensor(index)

    if __name__ == "__main__":
        method, by = sys.argv[1:]
        dataset = Deadly(55 if by == "itself" else None)
        context = procession.get_context(method)
        loader = DataLoader(dataset, 1, num_workers=2, multiprocessing_context=context, persistent_workers=True)
        try:
            batches = iter(loader)
            next(batches)
            if by == "another":
                os.kill(batches._workers[1].pid, signal.SIGKILL)
            list(batches)
        except RuntimeError as error:
            print(error, flush=True)
            # Torch's handler of SIGCHLD raises it again whenever a worker ends.
            os._exit(3)
"""


@pytest.mark.parametrize("by", ["itself", "another"])
def test_a_worker_that_is_killed(method, by, tmp_path):
    command = [sys.executable, write(tmp_path, KILLED), method, by]
    # Importing torch three times takes a minute on a busy machine.
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert (done.returncode, done.stdout[:17]) == (3, "DataLoader worker"), done.stderr


# Tensors through what is ours.


def double(tensor):
    """Change a tensor that the caller shares."""
    tensor *= 2


def put_tensors(queue, done):
    for size in (1, 1000, 1_000_000):
        queue.put({"size": size, "tensor": torch.arange(size, dtype=torch.float32)})
    # Whoever sends a storage keeps it until it has arrived.
    done.wait()


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_tensors_of_a_process(ctx, strategy, kind):
    queue, done = getattr(ctx, kind)(), ctx.Event()
    process = ctx.Process(target=put_tensors, args=(queue, done))
    process.start()
    for _ in range(3):
        message = queue.get()
        assert torch.equal(message["tensor"], torch.arange(message["size"], dtype=torch.float32))
        assert message["tensor"].is_shared()
    done.set()
    process.join()
    assert process.exitcode == 0
    queue.close()


def test_a_shared_tensor_is_the_same_memory(ctx, strategy):
    tensor = torch.ones(1000).share_memory_()
    process = ctx.Process(target=double, args=(tensor,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert tensor.sum() == 2000
    queue = ctx.SimpleQueue()
    queue.put(tensor)
    process = ctx.Process(target=double_from, args=(queue,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert tensor.sum() == 4000
    queue.close()


def double_from(queue):
    double(queue.get())


def train(model, inputs, lock):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(20):
        with lock:
            optimizer.zero_grad()
            loss = ((model(inputs) - 1) ** 2).mean()
            loss.backward()
            optimizer.step()


def test_hogwild(ctx):
    """Two processes train one model, whose parameters are shared."""
    torch.manual_seed(0)
    model, inputs = torch.nn.Linear(4, 1), torch.randn(50, 4)
    model.share_memory()
    before = ((model(inputs) - 1) ** 2).mean().item()
    lock = ctx.Lock()
    processes = [ctx.Process(target=train, args=(model, inputs, lock)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert ((model(inputs) - 1) ** 2).mean().item() < before / 2


def scaled(tensor):
    return tensor * 2


def test_tensors_through_a_pool(ctx, strategy):
    with ctx.Pool(2) as pool:
        tensors = [torch.full((5000,), float(x)) for x in range(20)]
        for x, result in enumerate(pool.imap(scaled, tensors)):
            assert torch.equal(result, torch.full((5000,), 2.0 * x))
        assert int(pool.apply(scaled, (tensors[7],))[0]) == 14
    pool.join()
