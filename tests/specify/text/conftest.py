from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Answer = Callable[[Any, int], Any]


@pytest.fixture
def answering() -> Callable[..., AbstractContextManager[tuple[str, list[Any]]]]:
    """A server that says what it is told to: answer(body, number of the request) -> JSON, bytes, or (status, either).

    `get()` is the status and the JSON of plain requests; without it they are not found.
    As a context it gives its URL and the list of what was asked: path, body, Authorization.
    """
    return serve


@contextmanager
def serve(answer: Answer, get: Callable[[], tuple[int, Any]] | None = None) -> Iterator[tuple[str, list[Any]]]:
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body, self.headers.get("Authorization")))
            said = answer(body, len(asked))
            status, data = said if isinstance(said, tuple) else (200, said)
            data = data if isinstance(data, bytes) else json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            if get is None:
                self.send_error(404)
                return
            status, said = get()
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
