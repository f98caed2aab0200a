"""Whether two answers are mathematically the same, by math-verify.

The worker processes of a `Pool` import this module when they start, outside the time limit of a call; so math-verify is
imported here at the top, and makes what it makes at its first call.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.core.extras import require
from plaudit.specify.text.answers import AnswerFormat

math_verify: Any = require("math_verify", extra="suites")


@dataclass(frozen=True)
class SameMathematics:
    """What `MathAnswer` asks of each completion."""

    format: AnswerFormat | None

    def __call__(self, completion_text: str, answer: Any) -> float | None:
        if answer is None:
            return None
        gold = self._bare(str(answer))
        if not gold:
            raise ValueError(f"the gold answer {str(answer)[:60]!r} cannot be parsed")
        found = self.format.find(completion_text) if self.format else [completion_text]
        if not found:
            return 0.0
        given = self._bare(found[-1]) if self.format else _parsed(found[-1])
        return float(bool(given) and math_verify.verify(gold, given, timeout_seconds=None))

    def _bare(self, text: str) -> Sequence[Any]:
        """What an answer without words around it means: as it is where it is marked as mathematics, else all of it."""
        marked = "$" in text or "\\boxed" in text or "\\(" in text or "\\[" in text
        return (marked and _parsed(text)) or _parsed(f"${text}$")


def _parsed(text: str) -> Sequence[Any]:
    """What a text means; nothing where it is only words to math-verify."""
    said = math_verify.parse(text, parsing_timeout=None)
    return said if any(not isinstance(part, str) for part in said) else []


def _begin() -> None:
    """The first call of a process, without math-verify's warning that nobody limits its time: the pool does."""
    loggers = [logging.getLogger(f"math_verify.{name}") for name in ("parser", "grader")]
    before = [one.disabled for one in loggers]
    for one in loggers:
        one.disabled = True
    try:
        SameMathematics(None)("$1$", "1")
    finally:
        for one, disabled in zip(loggers, before, strict=True):
            one.disabled = disabled


_begin()
