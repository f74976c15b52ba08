"""Requests to the service while it is busy."""

import asyncio
import time
import urllib.request


def get(url):
    """Ask, and say how long the answer took."""
    start = time.perf_counter()
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode(), time.perf_counter() - start


async def try_out(server, hashes):
    """Ask for more hashes than there are workers, and for pings meanwhile."""
    while not server.started:
        await asyncio.sleep(0.01)
    url = "http://{}:{}".format(*server.servers[0].sockets[0].getsockname())
    busy = asyncio.gather(*(asyncio.to_thread(get, f"{url}/hash/{number}") for number in range(hashes)))
    pings = [await asyncio.to_thread(get, f"{url}/ping") for _ in range(20)]
    answers = [text.split() for text, _ in await busy]
    different, workers = (len(set(column)) for column in zip(*answers, strict=True))
    print(f"{different} different hashes from {workers} workers")
    print(f"{len(pings)} pings meanwhile, the slowest took {1000 * max(seconds for _, seconds in pings):.0f} ms")
    server.should_exit = True
