"""A check is a plug-in: an object with a name that reads an `AuditContext` and returns findings."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from plaudit.auditing.checks import BUILT_IN
from plaudit.auditing.finding import Finding, Skipped
from plaudit.core.errors import BadInput

if TYPE_CHECKING:
    from plaudit.auditing.context import AuditContext


@runtime_checkable
class Check(Protocol):
    """What a check has to offer. Its findings carry its `name`."""

    @property
    def name(self) -> str:
        """One word, as in the report."""
        ...

    @property
    def question(self) -> str:
        """What it asks of the reward, in one line."""
        ...

    def run(self, context: AuditContext) -> Sequence[Finding] | Skipped:
        """Looks; returns what it found (nothing is a pass), or why it could not look."""
        ...


_third_party: list[Check] = []


def register(check: Check) -> None:
    """Adds a check of your own to every audit of this process, after the built-in ones.

    An audit survives a check that raises: the check is shown as skipped, with the error, and the others go on.

    Args:
        check: An object with `name`, `question` and `run(context)`, which returns findings of its own name (none is a
            pass), or `Skipped` with the reason.

    Raises:
        BadInput: when a part is missing, or a check of that name exists.

    Example:
        >>> from dataclasses import dataclass
        >>> from plaudit.auditing.finding import Finding
        >>> @dataclass(frozen=True)
        ... class NeverNegative:
        ...     name: str = "sign"
        ...     question: str = "Is the reward ever negative?"
        ...
        ...     def run(self, context):
        ...         lowest = float(context.reward.score(context.random).value.min())
        ...         if lowest >= 0:
        ...             return []
        ...         return [Finding(check=self.name, severity="low", title=f"the reward falls to {lowest:g}")]
        >>> register(NeverNegative())
        >>> checks()[-1].name
        'sign'
        >>> unregister("sign")
    """
    for part in ("name", "question", "run"):
        if not hasattr(check, part):
            raise BadInput("check", expected="an object with name, question and run", received=f"{check!r} without "
                           f"{part}")
    if check.name in {*BUILT_IN, *(c.name for c in _third_party)}:
        raise BadInput("check.name", expected="a new name", received=check.name)
    _third_party.append(check)


def unregister(name: str) -> None:
    """Takes a registered check out again.

    Raises:
        BadInput: when no check of that name was registered.
    """
    left = [c for c in _third_party if c.name != name]
    if len(left) == len(_third_party):
        raise BadInput("name", expected="that of a registered check", received=name)
    _third_party[:] = left


def checks() -> list[Check]:
    """The built-in checks in the order in which they run, then the registered ones."""
    return [*(importlib.import_module(f"plaudit.auditing.checks.{name}").CHECK for name in BUILT_IN), *_third_party]
