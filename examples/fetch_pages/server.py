"""The web server that the example fetches from."""

import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Pages(BaseHTTPRequestHandler):
    """Answers `/N` with page N, after 10 ms."""

    def do_GET(self):
        """Make the page up."""
        time.sleep(0.01)
        dice = random.Random(int(self.path[1:]))
        body = " ".join("".join(dice.choices("aeinrst", k=dice.randint(1, 3))) for _ in range(5000)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Be quiet."""


def start():
    """Start the server in a thread; it has a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
