"""The web server of the standard library, in a thread of its own: what it answers is the test's."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from typing_extensions import override


class Answers(http.server.BaseHTTPRequestHandler):
    """What a test derives from: it says nothing to the terminal."""

    @override
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(answers: type[Answers]) -> Iterator[str]:
    """Serve on loopback until the block ends; gives the URL."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
