"""A counter with and without a lock: what processes that count in one shared number lose."""

import sys

import procession as mp

PROCESSES = 4


def count_carelessly(number, rounds, barrier):
    """Read, add, write: what others wrote in between is lost."""
    barrier.wait()
    for _ in range(rounds):
        number.value += 1


def count_with_a_lock(number, rounds, barrier):
    """The same, while nobody else does."""
    barrier.wait()
    for _ in range(rounds):
        with number.get_lock():
            number.value += 1


def total(count, number, rounds):
    """Have all processes count, beginning together; what the number is then."""
    barrier = mp.Barrier(PROCESSES)
    processes = [mp.Process(target=count, args=(number, rounds, barrier)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return number.value


def main():
    """Count both ways."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    print(f"{PROCESSES} processes count to {rounds} each, together to {PROCESSES * rounds}:")
    careless = total(count_carelessly, mp.RawValue("q", 0), rounds)
    careful = total(count_with_a_lock, mp.Value("q", 0), rounds)
    for how, found in (("without a lock", careless), ("with a lock", careful)):
        print(f"  {how:<16} {found:>9} {PROCESSES * rounds - found:>9} lost")


if __name__ == "__main__":
    main()
