from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from plaudit.learn.text.scored import Scored
from plaudit.serve.server import background

Post = Callable[..., tuple[int, Any]]


class Lengths:
    """Pays a point for each character; knows some words that go wrong."""

    activation = "sigmoid"

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[int] = []

    def rows(self, prompts: Sequence[Any], completions: Sequence[Any], *, per_token: bool = False,
             raw: bool = False) -> list[Scored]:
        self.batches.append(len(completions))
        time.sleep(self.seconds)
        if any(c == "raise" for c in completions):
            raise RuntimeError("planted")
        return [self.row(c, per_token) for c in completions]

    def row(self, completion: Any, per_token: bool) -> Scored:
        if completion == "unknown":
            return Scored(value=None, why="planted")
        n = len(completion) if isinstance(completion, str) else 1
        value = float("nan") if completion == "nan" else float(n)
        return Scored(value=value, members=(n - 1.0, n + 1.0), length=n, tokens=(1.0,) * n if per_token else None)


def _ask(url: str, path: str, body: Any = None, *, data: bytes | None = None, token: str | None = None,
        timeout: float = 20.0) -> tuple[int, Any]:
    """POST (GET without a body); the status, and the JSON or the text of the answer."""
    sent = data if data is not None else None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data=sent, headers=headers),
                                    timeout=timeout) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode()


@pytest.fixture(scope="session")
def ask() -> Post:
    """Sends a request."""
    return _ask


@pytest.fixture(scope="session")
def lengths() -> type[Lengths]:
    """A model whose answers are known."""
    return Lengths


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """The URL of a service with two models."""
    with background({"lengths": Lengths(), "other": Lengths()}) as url:
        yield url
