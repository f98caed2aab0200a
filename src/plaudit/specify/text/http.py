"""Questions to a server that may be slow, down, or answer nonsense: JSON in, JSON out, within a time that holds.

The limit is on the whole exchange: a server that sends a byte a second is cut off as one that sends none. Answers are
decoded as JSON and never executed; one that is too long is not read to its end.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from plaudit.core.errors import BadInput

_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}


class Failed(Exception):
    """No usable answer: the reason, and whether another try may help."""

    def __init__(self, reason: str, *, again: bool, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.again, self.after_s = reason, again, after_s


class Client:
    """Asks one server in JSON; one connection for each thread is kept open.

    Args:
        url: http:// or https://, host, port, and perhaps a path.
        token: Sent as a bearer token.
        timeout_s: The longest time one try may take, from connecting to the last byte.
        retries: How often a failed try is repeated (connection errors, and the statuses 408, 425, 429 and 5xx).
        backoff_s: The pause before the first repetition; it doubles with each, and a random part is left out, so
            that many clients do not come back together. A server's Retry-After is respected up to `timeout_s`.
        max_bytes: The longest answer.

    Raises:
        BadInput: when the URL is none.

    Example:
        >>> Client("http://127.0.0.1:8000/get_reward").path
        '/get_reward'
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 30.0, retries: int = 3,
                 backoff_s: float = 0.5, max_bytes: int = 64_000_000) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError as error:
            raise BadInput("url", expected="a port in [0, 65535]", received=f"{url} ({error})") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput("url", expected="http://host:port or https://host:port", received=url)
        for name, value, low in (("timeout_s", timeout_s, 1e-3), ("retries", retries, 0), ("backoff_s", backoff_s, 0)):
            if not low <= value < float("inf"):
                raise BadInput(name, expected=f"a finite number >= {low:g}", received=value)
        self.url, self.path = url, parts.path.rstrip("/")
        self.host, self.port, self.secure = parts.hostname, port, parts.scheme == "https"
        self.token, self.timeout_s, self.retries = token, timeout_s, int(retries)
        self.backoff_s, self.max_bytes = backoff_s, max_bytes
        self._open = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _open=threading.local())

    def post(self, path: str, body: Any) -> Any:
        """The decoded answer to a JSON body.

        Raises:
            Failed: after the last try.
        """
        return self._tried(path, json.dumps(body, ensure_ascii=True).encode())

    def get(self, path: str) -> Any:
        """The decoded answer to a plain request.

        Raises:
            Failed: after the last try.
        """
        return self._tried(path, None)

    def _tried(self, path: str, data: bytes | None) -> Any:
        for turn in range(self.retries + 1):
            try:
                return self._once(path, data)
            except Failed as failure:
                if not failure.again or turn == self.retries:
                    tries = f" ({turn + 1} tries)" if turn else ""
                    raise Failed(f"{failure.reason}{tries}", again=failure.again) from None
                pause = self.backoff_s * 2**turn * random.uniform(0.5, 1.0)
                time.sleep(min(self.timeout_s, max(pause, failure.after_s or 0.0)))
        raise AssertionError

    def _once(self, path: str, data: bytes | None) -> Any:
        deadline = _Deadline(self.timeout_s)
        connection: http.client.HTTPConnection | None = getattr(self._open, "connection", None)
        kept = connection is not None
        try:
            if connection is None:
                connection = self._connect()
            deadline.watch(connection.sock)
            status, text, after = self._exchange(connection, path, data)
            if deadline.passed:  # an answer without a length ends where its socket was shut
                raise TimeoutError
        except (OSError, http.client.HTTPException) as error:
            self._close(connection)
            if deadline.passed:
                raise Failed(f"{self._where}: no answer within {self.timeout_s:g} s", again=True) from None
            if kept:  # the server closed a connection that was idle: not a failure of this try
                return self._once(path, data)
            raise Failed(f"{self._where}: {_short(error)}", again=True) from None
        except Failed:
            self._close(connection)
            raise
        finally:
            deadline.stop()
        return self._decoded(status, text, after)

    def _connect(self) -> http.client.HTTPConnection:
        made = http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout_s,
                                           context=ssl.create_default_context()) if self.secure \
            else http.client.HTTPConnection(self.host, self.port, timeout=self.timeout_s)
        made.connect()
        made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.connection = made
        return made

    def _close(self, connection: http.client.HTTPConnection | None) -> None:
        self._open.connection = None
        if connection is not None:
            connection.close()

    def _exchange(self, connection: http.client.HTTPConnection, path: str,
                  data: bytes | None) -> tuple[int, bytes, str | None]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request("GET" if data is None else "POST", path or "/", body=data, headers=headers)
        except (BrokenPipeError, ConnectionResetError):
            pass  # a server may refuse a long body before it has read it; its answer says why
        response = connection.getresponse()
        text = response.read(self.max_bytes + 1)
        if len(text) > self.max_bytes:
            raise Failed(f"{self._where}: an answer of more than {self.max_bytes} bytes", again=False)
        if response.will_close:
            self._close(connection)
        return response.status, text, response.getheader("Retry-After")

    def _decoded(self, status: int, text: bytes, after: str | None) -> Any:
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            answer = None
        if status >= 300:
            pause = float(after) if after is not None and after.isdigit() else None
            raise Failed(f"{self._where}: status {status}{_message(answer, text)}", again=status in _TRY_AGAIN,
                         after_s=pause)
        if answer is None:
            raise Failed(f"{self._where}: the answer is no JSON: {text[:60]!r}", again=False)
        return answer

    @property
    def _where(self) -> str:
        return f"{self.host}:{self.port or (443 if self.secure else 80)}"


class _Deadline:
    """Shuts a socket down when its time is up, whatever it is doing."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._until = time.monotonic() + seconds
        self._timer: threading.Timer | None = None

    def watch(self, sock: socket.socket) -> None:
        """Begins to watch."""
        self._timer = threading.Timer(max(0.0, self._until - time.monotonic()), self._cut, (sock,))
        self._timer.daemon = True
        self._timer.start()

    def _cut(self, sock: socket.socket) -> None:
        self.passed = True
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def stop(self) -> None:
        """Ends the watch."""
        if self._timer is not None:
            self._timer.cancel()
        else:
            self.passed = time.monotonic() >= self._until


def _short(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _message(answer: Any, text: bytes) -> str:
    """What a server says of an error, in the forms that are usual."""
    if isinstance(answer, dict):
        inner = answer.get("error", answer.get("detail", answer.get("message", "")))
        said = inner.get("message", "") if isinstance(inner, dict) else inner
        return f": {' '.join(str(said).split())[:200]}" if said else ""
    return f": {text[:60]!r}" if text else ""
