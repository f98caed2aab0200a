"""Fragility: does the ranking of behaviours survive another discount, other weights of its terms, a little noise?

A learner's discount is a technical choice, and so are the unit of a term and the precision of a sensor. If the
best-paid behaviour changes with them, and the new one does something else, then the reward does not say
what is wanted: the choice does. Discounts are those whose horizon 1 / (1 - discount) is half or twice the
audit's, so that nobody would call the change a change of the task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.auditing.checks.exploit import witness_of
from plaudit.auditing.checks.outcomes import Outcome, interval, lead, scaled, table, worth
from plaudit.auditing.checks.ranking import ranking, severity_of
from plaudit.auditing.finding import Finding, Number, Severity, Skipped
from plaudit.core.episodes import Episodes
from plaudit.core.statistics import Interval, difference_interval, spearman

if TYPE_CHECKING:
    from plaudit.auditing.context import AuditContext

NOISE = 0.01
"""Noise on observations, as a share of the standard deviation of each number."""
EFFECT = 0.05
"""A lead counts if it is at least this share of what the behaviours' pay spans."""
_FEWEST = 4
_DRAWS = 4


@dataclass(frozen=True)
class FragilityCheck:
    """Ranks the behaviours of the audit again under small changes that should not matter."""

    name: str = "fragility"
    question: str = "Does the ranking of behaviours survive another discount, unit or a little noise?"

    def run(self, context: AuditContext) -> list[Finding] | Skipped:
        """Finds changes under which another behaviour, with another intent, becomes the best-paid.

        Leaves the rank agreements in `context.memo["fragility"]`.
        """
        rows = [r for r in table(context).rows if r.known]
        if len(rows) < _FEWEST:
            return Skipped(f"only {len(rows)} behaviours with known pay; at least {_FEWEST} are needed to rank")
        changes = [*_discounts(context, rows), *_weights(rows), *_noise(context, rows)]
        context.memo["fragility"] = {c.name: c.agreement for c in changes}
        flips = [f for c in changes if (f := _flip(context, c, rows)) is not None]
        worst: dict[str, Finding] = {}
        for kind, finding in flips:
            if kind not in worst or finding.cost > worst[kind].cost:
                worst[kind] = finding
        return list(worst.values())


CHECK = FragilityCheck()


@dataclass(frozen=True, eq=False, kw_only=True)
class Change:
    """The pay of every behaviour before and after a change."""

    kind: str
    name: str
    before: list[Float[Tensor, "E"]]
    after: list[Float[Tensor, "E"]]
    worst: Severity
    """A flip under this change is at most as severe as this."""
    advice: str

    @property
    def agreement(self) -> Interval:
        """The rank correlation of the behaviours' pay before and after."""
        return spearman([float(x.mean()) for x in self.before], [float(x.mean()) for x in self.after])


# --- the changes -------------------------------------------------------------------------------------------


def plausible_discounts(discount: float) -> list[float]:
    """Those with half and with twice the horizon 1 / (1 - discount).

    Example:
        >>> plausible_discounts(0.99)
        [0.98, 0.995]
    """
    horizon = 1 / (1 - discount)
    return [round(max(0.0, 1 - 1 / (factor * horizon)), 6) for factor in (0.5, 2.0)]


def _discounts(context: AuditContext, rows: Sequence[Outcome]) -> Iterator[Change]:
    def paid(discount: float) -> list[Tensor]:
        return [worth(r.score.value, (r.behaviour.episodes.terminated & r.score.mask).any(-1), discount=discount,
                      mask_BT=r.score.mask) for r in rows]

    before = paid(context.discount)
    for other in plausible_discounts(context.discount):
        yield Change(kind="discount", name=f"discount {other:g} instead of {context.discount:g}", before=before,
                     after=paid(other), worst="high",
                     advice="Make what is wanted pay more than anything that comes sooner, at every discount that a "
                            "learner may use: lower the small prize, raise the large one, or pay progress towards it.")


def _weights(rows: Sequence[Outcome]) -> Iterator[Change]:
    names = [n for n in rows[0].score.terms if all(n in r.score.terms for r in rows)]
    if len(names) < 2:
        return
    parts = {n: [r.score.contribution(n).sum(1).double() for r in rows] for n in names}
    before = [r.paid_E for r in rows]
    for name in names:
        if max(float(x.abs().max()) for x in parts[name]) == 0:
            continue
        for factor in (0.5, 2.0):
            after = [x + (factor - 1) * part for x, part in zip(before, parts[name], strict=True)]
            yield Change(kind="weights", name=f"{name} {'halved' if factor < 1 else 'doubled'}", before=before,
                         after=after, worst="medium",
                         advice=f"The weight of {name!r} decides which behaviour wins: choose it on purpose, and audit "
                                "with the weight that will be used.")


def _noise(context: AuditContext, rows: Sequence[Outcome]) -> Iterator[Change]:
    """Noise on observations, where these are numbers that vary finely (not cells of a grid)."""
    obs = context.random.obs
    if not isinstance(obs, Tensor) or not obs.is_floating_point() or context.reward.needs.state != "none":
        return
    if not context.reward.needs.fields & {"obs", "next_obs"} or not _fine(obs[context.random.mask]):
        return
    std = obs[context.random.mask].double().flatten(1).std(0).reshape(obs.shape[2:]).to(obs.dtype)
    generator = context.seeds.child("fragility noise").torch()
    after: list[Tensor] = []
    for r in rows:
        draws = [context.reward.score(_jittered(r.behaviour.episodes, std, generator)).returns()[0].double()
                 for _ in range(_DRAWS if r.behaviour.episodes.mask.sum() < 2000 else 1)]
        after.append(torch.stack(draws).mean(0))
    if not any(bool(torch.isnan(x).any()) for x in after):
        yield Change(kind="noise", name=f"{NOISE:.0%} noise on observations", before=[r.paid_E for r in rows],
                     after=after, worst="medium",
                     advice="The reward has steps so sharp that a sensor's noise decides. Widen the thresholds.")


def _fine(obs_ND: Tensor) -> bool:
    flat = obs_ND.flatten(1)
    return len(flat) > 1 and max(len(torch.unique(column)) for column in flat.T) > 0.2 * len(flat)


def _jittered(episodes: Episodes, std: Tensor, generator: torch.Generator) -> Episodes:
    assert isinstance(episodes.obs, Tensor) and isinstance(episodes.next_obs, Tensor)
    draw = lambda x: x + NOISE * std * torch.randn(x.shape, generator=generator, dtype=x.dtype)  # noqa: E731
    return episodes.replace(obs=draw(episodes.obs), next_obs=draw(episodes.next_obs))


# --- what flips ----------------------------------------------------------------------------------------------


def _flip(context: AuditContext, change: Change, rows: Sequence[Outcome]) -> tuple[str, Finding] | None:
    """The finding that another behaviour wins after the change; None where it wins by chance or does the same."""
    old, new = (int(np.argmax([float(x.mean()) for x in side])) for side in (change.before, change.after))
    if old == new or not _leads(rows, change.before, old, new) or not _leads(rows, change.after, new, old):
        return None
    meant = [difference_interval(rows[a].meant_E, rows[b].meant_E) if context.intent is not None
             and not bool(torch.isnan(rows[a].meant_E).any() | torch.isnan(rows[b].meant_E).any()) else None
             for a, b in ((old, new), (new, old))]
    ranked = ranking(context)
    severity: Severity = "low"
    cost = 0.0
    if meant[0] is not None and meant[1] is not None and ranked.reached and ranked.scale > 0:
        lost = [scaled(m, 1 / ranked.scale) for m in meant if m is not None]
        larger = max(lost, key=lambda x: x.mean)
        severity = _at_most(severity_of(larger), change.worst)
        cost = min(max(larger.mean, 0.0), 1.0)
        if severity == "low":  # two behaviours of one search may differ by so much without any change
            return None
    title = (f"with {change.name} the best-paid behaviour changes from {rows[old].behaviour.name!r} (intent "
             f"{interval(rows[old].meant_E)}) to {rows[new].behaviour.name!r} (intent {interval(rows[new].meant_E)})")
    evidence: dict[str, Number] = {
        "rank agreement": change.agreement, "behaviours": len(rows), "best before": rows[old].behaviour.name,
        "best after": rows[new].behaviour.name, "intent before": interval(rows[old].meant_E),
        "intent after": interval(rows[new].meant_E),
        "lead before": _lead(rows, change.before, old, new), "lead after": _lead(rows, change.after, new, old)}
    worse = min((rows[old], rows[new]), key=lambda r: r.meant)
    return change.kind, Finding(check=CHECK.name, kind=change.kind, severity=severity, title=title,
                                evidence=evidence, cost=cost, advice=change.advice,
                                witness=witness_of(context, worse, title, check=CHECK.name))


def _at_most(severity: Severity | None, worst: Severity) -> Severity:
    order: tuple[Severity, ...] = ("low", "medium", "high")
    return order[min(order.index(severity or "low"), order.index(worst))]


def _lead(rows: Sequence[Outcome], paid: Sequence[Tensor], first: int, second: int) -> Interval:
    return lead(rows[first].behaviour, rows[second].behaviour, paid[first], paid[second])


def _leads(rows: Sequence[Outcome], paid: Sequence[Tensor], first: int, second: int) -> bool:
    """Whether one behaviour is surely paid more than another, by more than a trifle."""
    means = [float(x.mean()) for x in paid]
    more = _lead(rows, paid, first, second)
    return more.low > 0 and more.mean >= EFFECT * (max(means) - float(np.median(means)) or 1e-12)
