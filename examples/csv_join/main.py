"""What did the customers of each country spend? Two CSV files, joined and grouped in this process and in a pool, to which parts of the files go as ranges of bytes."""

import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from tables import COUNTRIES, make_tables, split
from tqdm import tqdm

import procession as mp


def group(path, countries, part):
    """Return cents by country, of a part of the orders."""
    begin, end = part
    with path.open("rb") as file:
        file.seek(begin)
        lines = file.read(end - begin).splitlines()
    spent = Counter()
    for line in lines:
        _, customer, cents = line.split(b",")
        spent[countries[int(customer)]] += int(cents)
    return spent


def index(customers):
    """Return the number of each customer's country, in memory that all processes share."""
    numbers = [COUNTRIES.index(line.split(",")[1]) for line in customers.read_text().splitlines()]
    return mp.RawArray("B", numbers)


def main():
    """Make the tables, and group them with one process and with several."""
    orders = int(sys.argv[1]) if len(sys.argv) > 1 else 600_000
    with tempfile.TemporaryDirectory() as directory:
        customers, sales = make_tables(Path(directory), orders)
        countries, parts, megabytes = index(customers), split(sales), sales.stat().st_size / 1e6
        print(f"{orders} orders of {len(countries)} customers, {megabytes:.1f} MB")
        found = []
        with mp.Pool() as pool:
            for name, go in (("1 process", map), (f"{mp.cpu_count()} processes", pool.imap_unordered)):
                start, spent = time.perf_counter(), Counter()
                for some in tqdm(go(partial(group, sales, countries), parts), total=len(parts), unit="MB", leave=False):
                    spent.update(some)
                found.append(spent)
                print(f"  {name:<12} {time.perf_counter() - start:>6.2f} s")
    print("the same" if found[0] == found[1] else "THEY DIFFER")
    for number, country in enumerate(COUNTRIES):
        print(f"{country}  {spent[number] / 100:>15,.2f}")


if __name__ == "__main__":
    main()
