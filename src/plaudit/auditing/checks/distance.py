"""Distance: how far can the reward lead from a reference, by STARC, and beside it EPIC and DARD?

STARC lies in [0, 2]: 0 where two rewards order all policies alike, 2 where they order them the other way
round, and about sqrt(2) where they have nothing to do with each other (standardised rewards at right angles).
So above 1 more is unlike than alike (the angle exceeds 60 degrees): high. Above 0.5 the angle exceeds 29
degrees, where the regret bound of Skalse et al. (2024, arXiv 2309.15257, theorem 1) begins to allow
noticeable losses: medium. A sampled distance counts from the lower end of its interval, less its floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from plaudit.auditing.finding import Finding, Number, Severity, Skipped
from plaudit.core.errors import PlauditError

if TYPE_CHECKING:
    from plaudit.auditing.context import AuditContext
    from plaudit.tasks.tabular import TabularMDP

HIGH, MEDIUM, LOW = 1.0, 0.5, 0.1
"""STARC distances (less the floor) from which a finding has that severity."""
SAMPLES = {"starc": 2000, "epic": 500, "dard": 500}
"""Random transitions for each kind: a second or two in all."""
_DENSE = 1500
_LOSS = 0.05


@dataclass(frozen=True)
class DistanceCheck:
    """Measures the distance to `context.reference`, exactly where both rewards can be written out."""

    name: str = "distance"
    question: str = "How far from the reference reward can this one lead?"

    def run(self, context: AuditContext) -> list[Finding] | Skipped:
        """A finding where the distance is large; the numbers stand in `context.memo["distances"]` in any case."""
        if context.reference is None:
            return Skipped("no reference reward was given: --reference TARGET or --reference env")
        try:
            exact = _tabulated(context)
            seen = _sampled(context) if exact is None else _exact(context, *exact)
        except PlauditError as error:
            return Skipped(f"the distance cannot be measured: {error}")
        context.memo["distances"] = seen.evidence
        severity = severity_of(seen.surely)
        if severity is None:
            return []
        if seen.loss is not None and seen.loss < _LOSS:
            severity = "low"  # far from it, and yet the best policy for the one is good for the other
        title = (f"STARC distance {seen.shown} to {context.reference.name} (0: the same order of policies, "
                 "2: the opposite)")
        if seen.loss is not None:
            title += f"; optimising it loses {seen.loss:.0%} of what the reference can pay"
        return [Finding(
            check=CHECK.name, severity=severity, title=title, evidence=seen.evidence, cost=seen.loss or 0.0,
            advice="Look where the two rewards differ most, or learn from the reference and use this one as a "
                   "potential (`reference.shaped_by(...)`), which leaves the distance at 0.")]


CHECK = DistanceCheck()


@dataclass(frozen=True)
class Seen:
    """The distances of one reward to the reference."""

    surely: float
    """The STARC distance that is beyond doubt: the interval's lower end less the floor."""
    shown: str
    evidence: dict[str, Number]
    loss: float | None = None
    """The share of the reference's range that optimising the reward loses; None where it is not exact."""


def severity_of(distance: float) -> Severity | None:
    """How bad a STARC distance is.

    Example:
        >>> [severity_of(d) for d in (0.05, 0.2, 0.7, 1.4)]
        [None, 'low', 'medium', 'high']
    """
    if not math.isfinite(distance):
        return None
    return "high" if distance > HIGH else "medium" if distance > MEDIUM else "low" if distance > LOW else None


# --- exact -------------------------------------------------------------------------------------------------


def _tabulated(context: AuditContext) -> tuple[TabularMDP, TabularMDP] | None:
    """Both rewards written out in the same world, where that is possible."""
    assert context.reference is not None
    mine = context.mdp
    theirs = None if mine is None else context.tabulate(context.reference)
    if mine is None or theirs is None or mine.sparse != theirs.sparse:
        return None
    return mine, theirs


def _exact(context: AuditContext, mine: TabularMDP, theirs: TabularMDP) -> Seen:
    from plaudit.auditing.distances.tabular import dard, epic, regret, starc

    pair, to = mine.reward.unsqueeze(0), theirs.reward.unsqueeze(0)
    value = float(starc(pair, mine, to=to, states="reachable"))
    evidence: dict[str, Number] = {"STARC": value, "exact": True, "states": mine.S}
    if not mine.sparse and mine.S <= _DENSE:
        evidence["EPIC"] = float(epic(pair, mine, to=to, states="reachable"))
        evidence["DARD"] = float(dard(pair, mine, to=to, states="reachable"))
    loss = float(regret(to, mine, to=pair))
    evidence["share of the reference lost"] = loss
    return Seen(value, f"{value:.2f} (exact)", evidence, loss)


# --- sampled -----------------------------------------------------------------------------------------------


def _sampled(context: AuditContext) -> Seen:
    from plaudit.auditing.distances.sampled import Distance, distance

    assert context.reference is not None

    def ask(kind: Literal["starc", "epic", "dard"]) -> Distance:
        assert context.reference is not None
        return distance(context.reward, context.reference, context.task, kind=kind, samples=SAMPLES[kind],
                        seed=context.seeds.child("distance").integer() % 2**31, discount=context.discount)

    starc = ask("starc")
    evidence: dict[str, Number] = {"STARC": starc.interval, "STARC floor": starc.floor, "exact": False,
                                   "transitions": starc.samples}
    kinds: tuple[Literal["epic", "dard"], ...] = ("epic", "dard")
    for kind in kinds:
        try:
            other = ask(kind)
        except PlauditError as error:
            evidence[kind.upper()] = f"not measured: {error}"
        else:
            evidence[kind.upper()], evidence[f"{kind.upper()} floor"] = other.interval, other.floor
    surely = starc.interval.low - starc.floor
    return Seen(surely, f"{starc.interval}, floor {starc.floor:.2f}", evidence)

