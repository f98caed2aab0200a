"""What a check reports: a finding with its numbers, its witness, its price and, where there is one, its repair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from plaudit.core.reward import Reward
from plaudit.core.statistics import Interval

if TYPE_CHECKING:
    from plaudit.auditing.text.witness import TextWitness
    from plaudit.auditing.witness import Witness

Severity = Literal["low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
Number = float | int | str | bool | Interval
UNTESTED: Mapping[str, str] = {"detection": "untested", "false_alarm": "untested"}


def at_least(severity: Severity, threshold: str) -> bool:
    """Whether a severity reaches a threshold (`never` is reached by none)."""
    return threshold != "never" and SEVERITIES.index(severity) >= SEVERITIES.index(threshold)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Fix:
    """A mechanical repair: applied and audited again before it is shown."""

    description: str
    """What to change, in a sentence with the code to write."""
    reward: Reward
    """The repaired reward."""
    before: Mapping[str, Number] = field(default_factory=dict)
    after: Mapping[str, Number] = field(default_factory=dict)
    """The same numbers for the repaired reward; empty until it was audited."""


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """That somebody knows of a finding and lives with it."""

    reason: str
    expires: str | None = None
    """The last day (YYYY-MM-DD) on which it counts; None for good."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something wrong with a reward, with the evidence."""

    check: str
    severity: Severity
    title: str
    """One sentence with the numbers that matter."""
    kind: str = ""
    """Which of the check's claims it is, in words that no seed and no measured number changes: a baseline knows the
    finding again by them."""
    evidence: Mapping[str, Number] = field(default_factory=dict)
    witness: Witness | TextWitness | None = None
    """The behaviour or state that shows it; one command replays it."""
    advice: str = ""
    fix: Fix | None = None
    rates: Mapping[str, Any] = field(default_factory=lambda: dict(UNTESTED))
    cost: float = 0.0
    """The share of the intended goal that optimising this reward loses, in [0, 1]: findings are ranked by it."""
    accepted: Accepted | None = None
    """Set by a baseline: shown as such, and no reason to fail."""

    def with_fix(self, fix: Fix | None) -> Finding:
        return replace(self, fix=fix)


@dataclass(frozen=True)
class Passed:
    """A check that found nothing, and what it saw or could not have seen."""

    why: str


@dataclass(frozen=True)
class Skipped:
    """A check that could not be made, and why."""

    why: str


def rank(findings: list[Finding]) -> list[Finding]:
    """Worst first: by severity, then by what it costs the intended goal."""
    return sorted(findings, key=lambda f: (-SEVERITIES.index(f.severity), -f.cost))
