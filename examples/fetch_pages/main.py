"""Pages from a web server on this machine, and how often each word is in them. Waiting is for threads or asyncio, computing for processes."""

import asyncio
import re
import sys
import time
import urllib.request
from collections import Counter

import server
from tqdm import tqdm

from procession.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed

WORD = re.compile(r"[a-z]+")
AT_ONCE = 16


def fetch(url):
    """Return the text of a page."""
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()


def count_words(text):
    """Count the words of a text."""
    return Counter(WORD.findall(text))


def with_threads(urls, threads, processes, bar):
    """Fetch in threads; what has come goes to the processes."""
    fetching, counting = [threads.submit(fetch, url) for url in urls], []
    for future in as_completed(fetching):
        counting.append(processes.submit(count_words, future.result()))
        bar.update()
    return sum((future.result() for future in counting), Counter())


def with_asyncio(urls, threads, processes, bar):
    """Do the same with coroutines."""

    async def one(url):
        loop = asyncio.get_running_loop()
        counts = await loop.run_in_executor(processes, count_words, await loop.run_in_executor(threads, fetch, url))
        bar.update()
        return counts

    async def everything():
        return sum(await asyncio.gather(*map(one, urls)), Counter())

    return asyncio.run(everything())


def main():
    """Start the server, and count in both ways."""
    pages = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    pages_server = server.start()
    urls = [f"http://127.0.0.1:{pages_server.server_port}/{number}" for number in range(pages)]
    found = []
    with ThreadPoolExecutor(AT_ONCE) as threads, ProcessPoolExecutor(2) as processes:
        for way in (with_threads, with_asyncio):
            start = time.perf_counter()
            with tqdm(total=pages, desc=way.__name__, unit="page", leave=False) as bar:
                found.append(way(urls, threads, processes, bar))
            print(f"  {way.__name__:<13} {pages} pages in {time.perf_counter() - start:.2f} s")
    pages_server.shutdown()
    pages_server.server_close()
    same = "the same" if found[0] == found[1] else "THEY DIFFER"
    print(f"{same}: {found[0].total()} words, {len(found[0])} different ones")


if __name__ == "__main__":
    main()
