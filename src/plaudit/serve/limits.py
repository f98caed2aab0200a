"""What one request may cost, and how a refusal looks: a status and a body that says how to mend it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from plaudit.core.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes and times of the service.

    Raises:
        BadInput: when a limit is not above zero.

    Example:
        >>> Limits(body_bytes=1000).body_bytes
        1000
    """

    body_bytes: int = 8_000_000
    """The longest request body; a longer one is answered with 413."""
    texts: int = 1024
    """The most completions of one request; more are answered with 413."""
    text_chars: int = 1_000_000
    """The most characters of a prompt or a completion; a longer one is answered with 413, as all of it would be
    tokenised before it is cut to what the model reads, while others wait."""
    queue_texts: int = 32_768
    """How many completions may wait; while it is full, requests are answered with 503 and a time to come back."""
    receive_s: float = 10.0
    """How long a body may take to arrive; a later one is answered with 408."""
    answer_s: float = 300.0
    """How long a request may wait for its scores; then it is answered with 504."""
    drain_s: float = 60.0
    """How long a shutdown waits for the requests that were accepted."""
    batch_tokens: int = 16_384
    """About how many tokens are scored together (a text is taken to have a token for each three characters)."""
    wait_ms: float = 4.0
    """How long the first request of a batch waits for company."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            low = 0 if f.name == "wait_ms" else 1e-9
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < float("inf"):
                raise BadInput(f.name, expected="a finite number above zero", received=value)


class Refused(Exception):
    """A request that gets no scores: the status and the reason of the answer."""

    def __init__(self, status: int, kind: str, message: str, *, argument: str | None = None, expected: str = "",
                 received: str = "", fix: str = "", retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.retry_after_s = status, kind, message, retry_after_s
        self.argument, self.expected, self.received, self.fix = argument, expected, received, fix

    @staticmethod
    def bad_input(error: BadInput) -> Refused:
        """A 422 that names the argument, what was expected and how to mend it."""
        shown = error.received if isinstance(error.received, str) else repr(error.received)
        return Refused(422, "bad_input", str(error)[:1000], argument=error.name, expected=error.expected,
                       received=shown[:200], fix=error.fix)

    def body(self) -> dict[str, Any]:
        """The answer as JSON; `message`, `type`, `param` and `code` as OpenAI-compatible clients read them."""
        more = {"expected": self.expected, "received": self.received, "fix": self.fix}
        return {"error": {"message": self.message, "type": self.kind, "param": self.argument, "code": self.status,
                          **{name: text for name, text in more.items() if text}}}
