"""Mechanical repairs: proposed for a finding, applied, audited again, and shown only if they help."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from plaudit.auditing.checks.culprit import Culprit, culprit_of, fit_of
from plaudit.auditing.checks.outcomes import GOOD, Outcome, interval, late_rate, table
from plaudit.auditing.checks.potential import DENSE, Term, paid_by
from plaudit.auditing.checks.ranking import Exploit, Ranking, rank_table, ranking
from plaudit.auditing.finding import Finding, Fix, Number
from plaudit.auditing.mending import Absorbing, AsPotential, OncePerPlace, ScaledTerm
from plaudit.core.algebra import PotentialDifference
from plaudit.core.episodes import Episodes
from plaudit.core.errors import Unsupported
from plaudit.core.reward import Reward
from plaudit.core.statistics import spearman

if TYPE_CHECKING:
    from plaudit.auditing.context import AuditContext

MOST_SEARCHES = 2
"""At most so many repairs of an audit are searched again."""
_KEY = "_repairs searched"


@dataclass(frozen=True, kw_only=True)
class Repair:
    """A change that might help."""

    description: str
    reward: Reward


def propose(context: AuditContext, finding: Finding) -> Finding:
    """The finding with a repair that was audited again and helps, or as it was.

    All repairs that fit are tried on the behaviours that are known already; the first that leaves none of
    them as an exploit is optimised with the `fix` share of the budget (at most two an audit). It is shown
    if whoever optimises it does what is intended; if not, the evidence says that it was tried in vain.

    Args:
        context: the audit after its checks.
        finding: of the checks `exploit`, `incentives` or another whose evidence names the `behaviour`.
    """
    if context.intent is None:
        return finding
    ranked = ranking(context)
    exploit = _exploit_of(ranked, finding)
    if exploit is None:
        return finding
    tried: list[str] = []
    for repair in promising(context, ranked, exploit):
        if context.memo.get(_KEY, 0) >= MOST_SEARCHES:
            break
        context.memo[_KEY] = context.memo.get(_KEY, 0) + 1
        after = audited_again(context, ranked, repair)
        if helps(exploit, after):
            return finding.with_fix(Fix(description=repair.description, reward=repair.reward,
                                        before=_before(exploit), after=_after(exploit, after)))
        tried.append(repair.description)
    if not tried:
        return finding
    return replace(finding, evidence={**finding.evidence, "tried without success": "; ".join(tried)})


def _exploit_of(ranked: Ranking, finding: Finding) -> Exploit | None:
    name = finding.evidence.get("behaviour")
    return next((e for e in ranked.exploits if e.outcome.behaviour.name == name), None)


# --- judging -----------------------------------------------------------------------------------------------


def promising(context: AuditContext, ranked: Ranking, exploit: Exploit) -> list[Repair]:
    """The repairs under which no known behaviour is an exploit and the best-paid one does what is intended."""
    return [r for r in repairs(context, ranked, exploit) if helps(exploit, _rescored(context, ranked, r))]


def _rescored(context: AuditContext, ranked: Ranking, repair: Repair, found: list[Outcome] | None = None) -> Ranking:
    behaviours = [r.behaviour for r in (*ranked.table.rows, *(found or []))]
    return rank_table(context, table(context, reward=repair.reward, behaviours=behaviours))


def audited_again(context: AuditContext, ranked: Ranking, repair: Repair) -> Ranking:
    """Optimises the repaired reward, and ranks what it leads to together with all that was known before."""
    found = context.search(repair.reward, share="fix")
    known = [r.behaviour for r in ranked.table.rows]
    rows = table(context, reward=repair.reward, behaviours=[*known, *found.behaviours])
    return rank_table(context, rows)


def helps(exploit: Exploit, after: Ranking) -> bool:
    """Whether a repair is one: measured, not argued.

    Nothing is an exploit any more, no behaviour makes the reward unknown, the old exploit is paid less than what a
    learner would now settle on (without discount too), and that loses less than half of what was lost before.
    """
    best = preferred(after)
    if best is None or after.intended is None or after.exploits or after.table.unknown:
        return False
    old = _same(exploit, after)
    scale = exploit.intended.meant - after.base
    lost = (exploit.intended.meant - best.meant) / scale if scale > 0 else 1.0
    return lost < max(GOOD, 0.5 * exploit.lost.mean) and old.paid < best.paid and old.worth < best.worth


def _same(exploit: Exploit, after: Ranking) -> Outcome:
    return next(r for r in after.table.rows if r.behaviour.name == exploit.outcome.behaviour.name)


def preferred(ranked: Ranking) -> Outcome | None:
    """What a learner would settle on: the behaviour of most worth."""
    return max(ranked.table.known, key=lambda r: (r.worth, r.paid), default=None)


def _before(exploit: Exploit) -> dict[str, Number]:
    row, best = exploit.outcome, exploit.intended
    return _numbers(row, row, best)


def _after(exploit: Exploit, after: Ranking) -> dict[str, Number]:
    best, intended = preferred(after), after.intended
    assert best is not None
    assert intended is not None
    return {**_numbers(best, _same(exploit, after), intended), "behaviours": len(after.table.rows)}


def _numbers(best: Outcome, exploit: Outcome, intended: Outcome) -> dict[str, Number]:
    return {"best-paid behaviour": best.behaviour.name, "intent of the best-paid": interval(best.meant_E),
            "reward of the best-paid": interval(best.paid_E), "reward of the exploit": interval(exploit.paid_E),
            "reward of the best intended": interval(intended.paid_E)}


# --- the repairs -------------------------------------------------------------------------------------------


def repairs(context: AuditContext, ranked: Ranking, exploit: Exploit) -> list[Repair]:
    """All repairs that fit an exploit, the ones that change least in what was meant first."""
    culprit = culprit_of(context, exploit)
    out: list[Repair] = []
    early = exploit.outcome.terminated >= 0.8
    if early:
        out += _absorbing_failure(context, exploit)
    if culprit is not None and culprit.mean > 0:
        out += _as_potential(context, ranked, exploit, culprit) + _once(context, culprit)
    out += _flipped(context, ranked, culprit)
    if culprit is not None and culprit.mean <= 0:
        out += _rescaled(context, exploit, culprit)
    out += _absorbing_success(context, exploit) + _clipped(context, exploit)
    if culprit is not None and culprit.mean > 0:
        out += _rescaled(context, exploit, culprit)
    return out


def _as_potential(context: AuditContext, ranked: Ranking, exploit: Exploit, culprit: Culprit) -> list[Repair]:
    part, rest = Term(context.reward, culprit.term), ScaledTerm(context.reward, culprit.term, 0.0)
    out: list[Repair] = []
    gamma = context.discount
    if _reads_one_place(context, exploit, part):
        out.append(Repair(
            description=f"pay {culprit.term} as a difference: {gamma:g} * {culprit.term}(next_obs) - "
                        f"{culprit.term}(obs), with 0 for the end (reward.shaped_by)",
            reward=rest + PotentialDifference(AsPotential(part), discount=gamma)))
    fit = fit_of(context, ranked, culprit.term)
    if fit is not None and fit.unexplained < 0.9:
        try:
            shaping = PotentialDifference(fit.potential, discount=gamma)
        except Unsupported:
            return out
        out.append(Repair(
            description=f"pay {culprit.term} as the difference of the potential that is closest to it "
                        f"({fit.unexplained:.0%} of it is none): what it gives on the way it takes back",
            reward=rest + shaping))
    return out


def _reads_one_place(context: AuditContext, exploit: Exploit, part: Reward) -> bool:
    """Whether a term depends on `next_obs` alone, or on `obs` alone: the rest is exchanged for that of other steps."""
    if not part.needs.fields <= {"obs", "action", "next_obs", "terminated"}:
        return False
    fields = (exploit.outcome.behaviour.episodes[:2], context.random[:4])
    steps = Episodes.cat([e.replace(info={}).transitions() for e in fields])
    other = steps[torch.randperm(steps.B, generator=context.seeds.child("exchange").torch())]
    plain = part.score(steps)
    if not plain.all_known or not float(plain.value.std()) > 0:
        return False
    for changes in ({"obs": other.obs}, {"next_obs": other.next_obs}):
        mixed = part.score(steps.replace(action=other.action, **changes))
        if mixed.all_known and torch.allclose(plain.value, mixed.value, atol=1e-6):
            return True
    return False


def _once(context: AuditContext, culprit: Culprit) -> list[Repair]:
    if culprit.term == DENSE and culprit.dense > 0.9:
        return []
    part, rest = Term(context.reward, culprit.term), ScaledTerm(context.reward, culprit.term, 0.0)
    return [Repair(description=f"pay {culprit.term} only the first time in an episode that a place is reached",
                   reward=rest + OncePerPlace(part))]


def _absorbing_failure(context: AuditContext, exploit: Exploit) -> list[Repair]:
    rate = -_step_pay(exploit.intended)
    if not rate > 0:
        return []
    cost = _round(1.1 * rate * _after_the_end(context))
    success = context.intent.per_step if context.intent and context.intent.is_success else None
    return [Repair(description=f"make an end without success cost {cost:g}, what the remaining steps would have cost",
                   reward=Absorbing(context.reward, success, for_failure=-cost))]


def _absorbing_success(context: AuditContext, exploit: Exploit) -> list[Repair]:
    row, best = exploit.outcome, exploit.intended
    if context.intent is None or not context.intent.is_success or best.terminated < 0.8:
        return []
    rate = float(late_rate(row.score.value, row.score.mask).mean())
    if rate > 0 and row.terminated <= 0.2:
        bonus, why = 1.1 * rate * _after_the_end(context), "what could be earned by never finishing"
    else:
        behind = max(exploit.gain.mean, exploit.worth_gain.mean / max(context.discount, 0.5) ** best.length)
        bonus, why = 2 * behind, "twice what it is behind"
    return [Repair(description=f"pay {_round(bonus):g} more for success, {why}",
                   reward=Absorbing(context.reward, context.intent.per_step, for_success=_round(bonus)))]


def _after_the_end(context: AuditContext) -> float:
    """How many steps' pay the time after the end is worth: the whole horizon, or what the discount leaves of ever."""
    return max(float(context.task.horizon), context.discount / (1 - context.discount) if context.discount < 1 else 0.0)


def _step_pay(row: Outcome) -> float:
    """The mean pay of the steps that do not end an episode."""
    where = row.score.mask & ~row.behaviour.episodes.terminated
    return float(row.score.value[where].double().mean()) if bool(where.any()) else 0.0


def _flipped(context: AuditContext, ranked: Ranking, culprit: Culprit | None) -> list[Repair]:
    """The other sign, where what pays ranks behaviours against the intent and is no mere cost or mere bonus."""
    known = ranked.table.known
    terms = [] if culprit is None or culprit.term == DENSE else [culprit.term]
    out: list[Repair] = []
    for term in (*terms, None):
        steps = [r.score.value if term is None else paid_by(r.score, term, r.score.mask) for r in known]
        paid = [float(x.double().sum(-1).mean()) for x in steps]
        low, high = min(float(x.min()) for x in steps), max(float(x.max()) for x in steps)
        two_sided = min(-low, high) > 0.1 * max(-low, high)
        if two_sided and spearman(paid, [r.meant for r in known]).high < 0:
            out.append(Repair(description=f"turn the sign of {term or 'the reward'}", reward=-context.reward
                              if term is None else ScaledTerm(context.reward, term, -1.0)))
    return out


def _rescaled(context: AuditContext, exploit: Exploit, culprit: Culprit) -> list[Repair]:
    """The term as large as the rest, then a tenth of that, then gone."""
    term = culprit.term
    rows = (exploit.outcome, exploit.intended)
    own = torch.cat([paid_by(r.score, term, r.behaviour.episodes.terminated)[r.score.mask] for r in rows]).double()
    rest = torch.cat([r.score.value[r.score.mask] for r in rows]).double() - own
    ratio = float(rest.square().mean().sqrt() / own.square().mean().sqrt().clamp(min=1e-12))
    out: list[Repair] = []
    if term != DENSE and 0 < ratio < 0.5:
        out = [Repair(description=f"multiply {term} by {factor:g}, so that it does not drown the rest",
                      reward=ScaledTerm(context.reward, term, factor))
               for factor in (_round(ratio), _round(0.1 * ratio))]
    if ratio > 0:
        out.append(Repair(description=f"take out {term}", reward=ScaledTerm(context.reward, term, 0.0)))
    return out


def _clipped(context: AuditContext, exploit: Exploit) -> list[Repair]:
    """Limits a step's pay to what a step of the intended behaviour usually gets, where the exploit gets more."""
    top, other = (float(r.score.value[r.score.mask].max()) for r in (exploit.outcome, exploit.intended))
    usual = float(exploit.intended.score.value[exploit.intended.score.mask].double().quantile(0.99))
    if not top > 2 * max(other, usual, 0.0) or not math.isfinite(top):
        return []
    limit = _round(max(other, usual))
    return [Repair(description=f"clip a step's pay at {limit:g}", reward=context.reward.clip(max=limit))]


def _round(x: float) -> float:
    """Two significant digits, as one would write it."""
    return float(f"{x:.2g}")

