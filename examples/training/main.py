"""A classifier trained by several processes at once: each has a part of the data, all have the same weights, in shared memory."""

import os
import sys

# The processes divide the work; were NumPy's threads to divide it again, they would wait for each other.
os.environ.update(OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
from tqdm import tqdm

import procession as mp

FEATURES, EXAMPLES, RATE = 50, 20_000, 0.5


def make_data(seed):
    """Make examples up, of two classes that a plane separates but for some noise."""
    plane = np.random.default_rng(0).normal(size=FEATURES)
    dice = np.random.default_rng(seed)
    x = dice.normal(size=(EXAMPLES, FEATURES))
    return x, (x @ plane + dice.normal(size=EXAMPLES) > 0).astype(float)


def view(shared):
    """Return shared memory as a NumPy array."""
    return np.frombuffer(shared).reshape(-1, FEATURES)


def gradient(weights, x, y):
    """Return the gradient of the logistic loss."""
    return (1 / (1 + np.exp(-x @ weights)) - y) @ x / len(y)


def learn(number, weights, gradients, barrier, epochs, progress):
    """Be one of the processes: write the gradient of one's own data, wait for the others, take the mean of all."""
    x, y = make_data(number + 1)
    mine = view(weights)[0].copy()
    for epoch in range(epochs):
        view(gradients)[number] = gradient(mine, x, y)
        barrier.wait()
        mine -= RATE * view(gradients).mean(axis=0)
        barrier.wait()
        if number == 0:
            progress.put(epoch)
    if number == 0:
        view(weights)[0] = mine


def main():
    """Train, then try the weights on data that nobody has seen."""
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    workers = mp.cpu_count()
    weights, gradients = mp.RawArray("d", FEATURES), mp.RawArray("d", workers * FEATURES)
    barrier, progress = mp.Barrier(workers), mp.SimpleQueue()
    processes = [
        mp.Process(target=learn, args=(number, weights, gradients, barrier, epochs, progress))
        for number in range(workers)
    ]
    x, y = make_data(1234)
    accuracy = [np.mean((x @ view(weights)[0] > 0) == y)]
    for process in processes:
        process.start()
    for _ in tqdm(range(epochs), unit="epoch", leave=False):
        progress.get()
    for process in processes:
        process.join()
    accuracy.append(np.mean((x @ view(weights)[0] > 0) == y))
    print(f"{workers} processes, {workers * EXAMPLES} examples, {epochs} epochs")
    print(f"accuracy on unseen data: {accuracy[0]:.3f} before, {accuracy[1]:.3f} after")


if __name__ == "__main__":
    main()
