"""The checks of text: each looks at a reward in one way and says what it found."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from plaudit.auditing.finding import Finding, Passed, Skipped
from plaudit.auditing.text.context import Mode, TextContext

MODULES = ("contract", "answers", "unearned", "code", "spread", "ranking", "calibration", "instruction", "biases",
           "position", "shift", "disagreement", "overoptimisation", "exploit")
"""The modules of this folder that hold checks (`CHECKS`), in the order in which they run."""


@runtime_checkable
class TextCheck(Protocol):
    """What a check of text has to offer."""

    @property
    def name(self) -> str:
        """One word, as in the report."""
        ...

    @property
    def question(self) -> str:
        """What it asks of the reward, in one line."""
        ...

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What it looks at: verifiers, models, or both."""
        ...

    def run(self, context: TextContext) -> Sequence[Finding] | Skipped | Passed:
        """Looks; returns what it found (nothing is a pass), what it saw, or why it could not look."""
        ...


def checks() -> list[TextCheck]:
    """All checks of text, in the order in which they run."""
    return [check for name in MODULES for check in importlib.import_module(f"{__name__}.{name}").CHECKS]


def names(mode: Mode | None = None) -> list[str]:
    """The names of all checks, or of those for one kind of reward.

    Example:
        >>> names("verifier")[:3]
        ['contract', 'wrong', 'forms']
    """
    return [c.name for c in checks() if mode is None or mode in c.modes]
