"""A check is a plug-in: an object with a name that reads an `AuditContext` and returns findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

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
    """Adds a check of your own to every audit of this process.

    Raises:
        BadInput: when a check of that name exists.

    Example:
        >>> from plaudit.auditing.check import checks
        >>> "incentives" in [c.name for c in checks()]
        True
    """
    if check.name in {c.name for c in checks()}:
        raise BadInput("check.name", expected="a new name", received=check.name)
    _third_party.append(check)


def unregister(name: str) -> None:
    """Takes a registered check out again."""
    _third_party[:] = [c for c in _third_party if c.name != name]


def checks() -> list[Check]:
    """The built-in checks in the order in which they run, then the registered ones."""
    from plaudit.auditing.checks import contract, distance, exploit, fragility, incentives, scale

    return [contract.CHECK, scale.CHECK, incentives.CHECK, exploit.CHECK, distance.CHECK, fragility.CHECK,
            *_third_party]
