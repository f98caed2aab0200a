"""The collection by name, and the healthy set of text."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from typing import Any

from plaudit.auditing.text.flaws.flaw import TextFlaw
from plaudit.auditing.text.flaws.functions import function_flaws
from plaudit.auditing.text.flaws.models import model_flaws
from plaudit.auditing.text.flaws.policies import policy_flaws
from plaudit.auditing.text.flaws.programs import program_flaws
from plaudit.core.errors import BadInput


@dataclass(frozen=True)
class Planted:
    """A reward of the collection, ready to be audited."""

    name: str
    """`text/...`; that of a twin begins with `text/twin/`."""
    flaw: TextFlaw
    twin: bool

    def arguments(self) -> dict[str, Any]:
        """What `audit_text` is called with."""
        return {"reward": self.flaw.reward(twin=self.twin), "rows": self.flaw.data(),
                "format": self.flaw.declared(twin=self.twin), "mode": "model" if self.flaw.model else "verifier",
                "generator": self.flaw.generator, "intent": self.flaw.gold}


@cache
def text_flaws() -> tuple[TextFlaw, ...]:
    """The collection: functions, programs, models, and models that lead a policy astray.

    Example:
        >>> len(text_flaws()) >= 40
        True
    """
    return (*function_flaws(), *program_flaws(), *model_flaws(), *policy_flaws())


def text_healthy() -> tuple[Planted, ...]:
    """The twins: each different reward once.

    Example:
        >>> len(text_healthy()) >= 40
        True
    """
    same: dict[Any, TextFlaw] = {}
    for f in text_flaws():
        key = (f.healthy, f.suite, f.rows, f.declared(twin=True)) if not f.name.startswith("text/code_") else "code"
        same.setdefault(key, f)
    return tuple(Planted(f.name.replace("text/", "text/twin/", 1), f, True) for f in same.values())


def text_flaw(name: str) -> TextFlaw:
    """The flaw of that name.

    Raises:
        BadInput: when there is none, with close matches.
    """
    return planted(name, twin=False).flaw


def planted(name: str, *, twin: bool) -> Planted:
    """A flaw `text/NAME`, or a twin `text/twin/NAME`.

    Raises:
        BadInput: when there is none, with close matches.
    """
    known = {p.name: p for p in text_healthy()} if twin else {f.name: Planted(f.name, f, False) for f in text_flaws()}
    if name not in known:
        near = difflib.get_close_matches(name, known, 3)
        raise BadInput("healthy reward" if twin else "flaw", expected=f"one of {len(known)} of text", received=name,
                       fix=f"did you mean {', '.join(near)}?" if near else "")
    return known[name]
