"""Feedback in words: what somebody said of a response, as language models learn to say it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from plaudit.core.errors import BadInput
from plaudit.core.tokens import plain_text
from plaudit.feedback.text.sources import rows_of

NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "context", "instruction"), "response": ("response", "completion", "output"),
    "feedback": ("feedback", "critique")}
"""What the columns of a file may be called."""


@dataclass(frozen=True)
class SpokenFeedback:
    """A response under its prompt, and what was said of it.

    Raises:
        BadInput: when the response or the feedback is blank.

    Example:
        >>> SpokenFeedback("2 + 2?", "5", "No, that is wrong.").feedback
        'No, that is wrong.'
    """

    prompt: Any
    """A text, or the messages so far."""
    response: Any
    """A text, or messages of the assistant."""
    feedback: str
    """In words."""

    def __post_init__(self) -> None:
        for name in ("prompt", "response", "feedback"):
            value = getattr(self, name)
            said = isinstance(value, str) or (name != "feedback" and isinstance(value, Sequence)
                                              and all(isinstance(m, Mapping) for m in value))
            if not said or (name != "prompt" and not plain_text(value).strip()):
                raise BadInput(name, expected="a text" if name == "feedback" else "a text, or messages",
                               received=f"{value!r:.80}")


def read_feedback(source: Any, *, split: str | None = None) -> list[SpokenFeedback]:
    """Feedback from a file (JSONL, JSON, Parquet, a folder of datasets), a data set or rows.

    Args:
        source: Rows with a prompt (or context, instruction), a response (completion, output) and feedback (critique).
        split: Which split, where the source has several.

    Raises:
        BadInput: naming the row, when one lacks a column or is blank there; when there is no row.

    Example:
        >>> read_feedback([{"prompt": "2 + 2?", "completion": "4", "critique": "Right."}])[0].response
        '4'
    """
    out: list[SpokenFeedback] = []
    for place, row in rows_of(source, split=split):
        found = {name: next((row[k] for k in names if row.get(k) is not None), None) for name, names in NAMES.items()}
        lacking = [name for name, value in found.items() if value is None]
        if lacking:
            raise BadInput(place, expected="columns prompt, response and feedback",
                           received=f"{', '.join(map(str, row))}; {', '.join(lacking)} is missing")
        try:
            out.append(SpokenFeedback(**found))  # type: ignore[arg-type]
        except BadInput as error:
            raise BadInput(place, expected="prompt, response and feedback in words", received=str(error)) from error
    if not out:
        raise BadInput("source", expected="at least one row of feedback", received="none")
    return out


def feedback_hash(records: Sequence[SpokenFeedback]) -> str:
    """SHA-256 (16 hex digits) over the records in their order."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(asdict(record), sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()[:16]
