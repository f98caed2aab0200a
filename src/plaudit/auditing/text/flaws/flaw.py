"""A planted flaw of text: a reward with a known fault, its healthy twin on the same prompts, and what was wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from plaudit.auditing.text.context import USUAL_ITEMS
from plaudit.auditing.text.flaws.made import Model, pays
from plaudit.auditing.text.items import TextData
from plaudit.auditing.text.sampling import Sampler
from plaudit.auditing.text.suites import make_suite
from plaudit.core.reward import Reward

Split = Literal["tuned", "fresh"]
PROMPTS = USUAL_ITEMS["model"]
"""Of a suite: as many as an audit of default effort looks at."""


@dataclass(frozen=True, kw_only=True)
class TextFlaw:
    """A text reward with a known fault. `text_flaws()` lists the collection.

    Example:
        >>> from plaudit.auditing.text.flaws import text_flaw
        >>> flaw = text_flaw("text/substring")
        >>> flaw.statement, flaw.caught_by
        ('the number behind the problem is given', ('wrong', 'echo', 'hedging'))
    """

    name: str
    """`text/...`."""
    kind: str
    """The family of mistakes that it belongs to."""
    statement: str
    """What is wanted, in words."""
    wrong: str
    """What is wrong with the reward, and how it shows."""
    caught_by: tuple[str, ...]
    """The checks that are right to find it."""
    flawed: Callable[..., Any]
    """The function, or for models `(prompt, completion) -> score`."""
    healthy: Callable[..., Any]
    """The same with the flaw repaired, and nothing else."""
    suite: str = "sums"
    format: str | None = None
    """The declared format of both."""
    healthy_format: str | None = None
    """That of the twin alone, where the repair is that the form is declared."""
    model: bool = False
    rows: Callable[[], TextData] | None = None
    """Prompts of its own, instead of the suite's."""
    across: Literal["row", "group", "batch"] = "row"
    limit_s: float | None = None
    """The time limit of a call, where the fault is that it does not end."""
    generator: Sampler | None = None
    """Writes what a policy would, where the fault shows in what is selected from it."""
    gold: Reward | None = None
    """Says how good such a text is."""
    source: str = ""
    """Where the mistake was seen or described."""

    @property
    def split(self) -> Split:
        """`tuned`: thresholds were chosen while looking at it; a hash of the name decides, so nobody chose."""
        return "tuned" if hashlib.sha256(self.name.encode()).digest()[0] % 2 == 0 else "fresh"

    def data(self) -> TextData:
        """The prompts."""
        return self.rows() if self.rows is not None else make_suite(self.suite, seed=0, n=PROMPTS)

    def reward(self, *, twin: bool = False) -> Reward:
        """The flawed reward, or its healthy twin."""
        fn = self.healthy if twin else self.flawed
        name = f"{self.name}, {'healthy' if twin else 'flawed'}"
        return Model(fn, name=name) if self.model else pays(fn, name=name, limit_s=self.limit_s)

    def declared(self, *, twin: bool = False) -> str | None:
        """The format to audit it with."""
        return self.healthy_format or self.format if twin else self.format
