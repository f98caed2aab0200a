"""Reads a request's JSON: texts and conversations, each checked before anything is scored.

A parser knows one shape. It takes the decoded body and gives an `Ask`, which holds the rows to score and the function
that makes the answer of their scores.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plaudit.core.errors import BadInput
from plaudit.learn.text.scored import Scored
from plaudit.serve.limits import Limits, Refused

Body = Mapping[str, Any]
Answer = Callable[[str, Sequence[Scored]], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """The rows of one request."""

    prompts: Sequence[Any]
    completions: Sequence[Any]
    answer: Answer
    """Makes the response of the model's name and the scores."""
    model: str | None = None
    per_token: bool = False
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict[str, Sequence[Any]])
    """What the request says of each row beside its texts, by name."""
    raw: bool = False
    """The completions are whole texts, template included."""
    activated: bool = False
    """Where the model has an activation, the numbers go through it."""

    @property
    def tokens(self) -> int:
        """About how many tokens this is."""
        return sum(size(p) + size(c) for p, c in zip(self.prompts, self.completions, strict=True)) // 3 + 1


def decode(data: bytes) -> Body:
    """The JSON object of a body.

    Raises:
        Refused: 422 where it is no JSON object of valid text.
    """
    try:
        body = json.loads(data)
        if b"\\ud" in data.lower():  # half a surrogate pair is valid JSON and no text
            json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # UnicodeError is a ValueError
        raise Refused(422, "bad_input", f"body: expected a JSON object in UTF-8, received {type(error).__name__}: "
                      f"{str(error)[:200]}", argument="body", expected="a JSON object in UTF-8") from None
    if not isinstance(body, dict):
        raise BadInput("body", expected="a JSON object", received=type(body).__name__)
    return body


def check_size(ask: Ask, limits: Limits) -> None:
    """Whether the request is short enough.

    Raises:
        Refused: 413 where it is not.
    """
    if len(ask.completions) > limits.texts:
        raise Refused(413, "too_large", f"{len(ask.completions)} completions; at most {limits.texts} in one request",
                      expected=f"at most {limits.texts} completions", received=str(len(ask.completions)),
                      fix="send several requests")
    for name, texts in (("prompt", ask.prompts), ("completion", ask.completions)):
        for i, one in enumerate(texts):
            if (long := size(one)) > limits.text_chars:
                raise Refused(413, "too_large", f"{name} {i} has {long} characters; at most {limits.text_chars} in one "
                              "text", expected=f"at most {limits.text_chars} characters", received=str(long),
                              fix="cut it to what the model reads before you send it")


def text(body: Body, name: str) -> str:
    """A string of the body."""
    value = body.get(name)
    if not isinstance(value, str):
        raise BadInput(name, expected="a string", received=shown(value))
    return value


def flag(body: Body, name: str) -> bool:
    """A boolean of the body; absent is False."""
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise BadInput(name, expected="true or false", received=shown(value))
    return value


def optional_text(body: Body, name: str) -> str | None:
    """A string of the body, or None."""
    return None if body.get(name) is None else text(body, name)


def listed(body: Body, name: str) -> list[Any]:
    """A list of the body with at least one entry."""
    value = body.get(name)
    if not isinstance(value, list) or not value:
        raise BadInput(name, expected="a list with at least one entry", received=shown(value))
    return value


def spoken(value: Any, name: str) -> Any:
    """A text, or a conversation: a list of messages with a role and a content.

    Raises:
        BadInput: naming the message that is none.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise BadInput(name, expected="a string, or a list of messages", received=shown(value))
    for i, message in enumerate(value):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadInput(f"{name}[{i}]", expected='a message such as {"role": "user", "content": "..."}',
                           received=shown(message))
        if not isinstance(message.get("content", ""), str | list | None):
            raise BadInput(f"{name}[{i}].content", expected="a string, a list of parts or null",
                           received=shown(message["content"]))
    return value


def size(value: Any) -> int:
    """How many characters (or token ids) a text, a conversation or a list of ids has, about."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return 12 + sum(size(v) for v in value.values())
    if isinstance(value, list | tuple):
        return sum(3 if isinstance(v, int) else size(v) for v in value)
    return 1


def shown(value: Any) -> str:
    """A value for an error message, kept short."""
    return "nothing" if value is None else f"{value!r:.80}"
