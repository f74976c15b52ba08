"""A web service with CPU-heavy work behind it: `/hash/N` is answered by a pool of processes, and `/ping` at once, whatever those do.

`main.py serve` runs it with uvicorn until Ctrl-C; without arguments it runs, asks itself questions, and ends.
"""

import asyncio
import hashlib
import os
import sys

import load
import uvicorn

from procession.futures import ProcessPoolExecutor

WORKERS = 2


def hash_many_times(text, times=100_000):
    """Keep a processor busy; the hash, and who made it."""
    digest = text.encode()
    for _ in range(times):
        digest = hashlib.sha256(digest).digest()
    return digest.hex()[:12], os.getpid()


class Service:
    """The application: what uvicorn calls for each request."""

    def __init__(self, executor):
        self.executor = executor

    async def __call__(self, scope, receive, send):
        """Answer a request."""
        status, body = await self.answer(scope["path"].strip("/").split("/"))
        headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body.encode()})

    async def answer(self, path):
        """Return status and text for a path."""
        match path:
            case ["ping"]:
                return 200, "pong"
            case ["hash", text]:
                loop = asyncio.get_running_loop()
                digest, pid = await loop.run_in_executor(self.executor, hash_many_times, text)
                return 200, f"{digest} {pid}"
        return 404, "there are /ping and /hash/TEXT"


async def main():
    """Serve."""
    forever = sys.argv[1:] == ["serve"]
    with ProcessPoolExecutor(WORKERS) as executor:
        port = 8000 if forever else 0
        config = uvicorn.Config(
            Service(executor), port=port, lifespan="off", log_level="info" if forever else "warning"
        )
        server = uvicorn.Server(config)
        await asyncio.gather(server.serve(), *([] if forever else [load.try_out(server, 16)]))


if __name__ == "__main__":
    asyncio.run(main())
