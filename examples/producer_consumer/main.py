"""Producers and consumers at the ends of a queue that holds only eight items."""

import sys

import procession as mp

PRODUCERS, CONSUMERS = 3, 2


def produce(queue, producer, count):
    """Put numbers that nobody else puts."""
    for number in range(count):
        queue.put(producer * count + number)


def consume(queue, results):
    """Take numbers until there is a `None`; report how many there were, and their sum."""
    taken = total = 0
    while (number := queue.get()) is not None:
        taken += 1
        total += number
    results.put((mp.current_process().name, taken, total))


def main():
    """Start everybody; the `None`s go in when the last producer has ended."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    queue, results = mp.Queue(maxsize=8), mp.SimpleQueue()
    producers = [mp.Process(target=produce, args=(queue, number, count)) for number in range(PRODUCERS)]
    consumers = [
        mp.Process(target=consume, args=(queue, results), name=f"consumer {number + 1}") for number in range(CONSUMERS)
    ]
    for process in producers + consumers:
        process.start()
    for process in producers:
        process.join()
    for _ in consumers:
        queue.put(None)
    reports = sorted(results.get() for _ in consumers)
    for process in consumers:
        process.join()
    for name, taken, _ in reports:
        print(f"{name} took {taken} items")
    items, total = sum(taken for _, taken, _ in reports), sum(total for *_, total in reports)
    right = (items, total) == (PRODUCERS * count, sum(range(PRODUCERS * count)))
    print(
        f"{items} items from {PRODUCERS} producers, sum {total}: {'nothing lost, nothing twice' if right else 'WRONG'}"
    )


if __name__ == "__main__":
    main()
