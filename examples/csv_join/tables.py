"""The two tables: how they are made up, and cut into parts."""

import os
import random
from itertools import pairwise

COUNTRIES = ["AT", "BR", "DE", "FR", "IN", "JP", "KE", "US"]
PART = 1 << 20


def make_tables(directory, orders):
    """Write the two tables; their paths."""
    dice = random.Random(1)
    customers, sales = directory / "customers.csv", directory / "orders.csv"
    count = orders // 10
    customers.write_text("".join(f"{number},{dice.choice(COUNTRIES)}\n" for number in range(count)))
    with sales.open("w") as file:
        file.writelines(f"{number},{dice.randrange(count)},{dice.randrange(100, 20000)}\n" for number in range(orders))
    return customers, sales


def split(path):
    """Cut a file into parts of whole lines; from where to where they go."""
    ends = [0]
    with path.open("rb") as file:
        while ends[-1] < os.path.getsize(path):
            file.seek(PART, os.SEEK_CUR)
            file.readline()
            ends.append(min(file.tell(), os.path.getsize(path)))
    return list(pairwise(ends))
