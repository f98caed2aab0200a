"""Scale and terms: is there a signal, is it flat, and which part of a sum is heard?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from plaudit.auditing.checks.culprit import fit_of
from plaudit.auditing.checks.exploit import witness_of
from plaudit.auditing.checks.incentives import UNEXPLAINED
from plaudit.auditing.checks.outcomes import Outcome, interval
from plaudit.auditing.checks.ranking import Exploit, Ranking, ranking
from plaudit.auditing.checks.terms import TermTable, paid_rows, random_score, term_table
from plaudit.auditing.finding import SEVERITIES, Finding, Severity
from plaudit.core.statistics import Interval, mean_interval

if TYPE_CHECKING:
    from plaudit.auditing.context import AuditContext

EDGE = 0.01
"""A value lies on a plateau if it is within this share of the range from the largest or least value ..."""
TIGHT = 1e-4
"""... and it is a plateau if half of these values are within this share: a cost that is often small is none."""
FLAT = 0.9
"""A reward is saturated if at least this share of random steps lies on a plateau."""
DROWNING = 0.9
"""A term drowns the others if its share of the spread is at least this."""
SILENCING = 0.97
"""From this share on drowning is likely to do harm, even where no exploit was found."""
HEARD = 0.3
"""A term serves the intent if the rank correlation with it surely exceeds this."""
_CONTINUOUS = 20


@dataclass(frozen=True)
class ScaleCheck:
    """Reads the steps of random and of found behaviours."""

    name: str = "scale"
    question: str = "Is there a signal to learn from, and is every term of it heard?"

    def run(self, context: AuditContext) -> list[Finding]:
        """Finds silent or flat rewards (sparse ones are no fault), and terms that are dead, drowned or cancel."""
        ranked = ranking(context)
        score = random_score(context)
        random = score.value[score.mask & score.known].double()
        if not len(random) or not paid_rows(ranked.table):
            return []
        silent = _silent(context, ranked, random)
        if silent is not None:
            return [silent]
        terms = term_table(context, ranked.table)
        return [*_flat(context, ranked), *_dead(context, ranked, terms), *_drowned(context, ranked, terms),
                *_fighting(terms)]


CHECK = ScaleCheck()


# --- is there a signal? ------------------------------------------------------------------------------------


def _silent(context: AuditContext, ranked: Ranking, random: Tensor) -> Finding | None:
    """Every step that anybody took earned the same, and so did every episode."""
    rows = paid_rows(ranked.table)
    steps = torch.cat([random, *(r.score.value[r.score.mask].double() for r in rows)])
    paid = torch.cat([r.paid_E for r in rows])
    if _span(steps) > 0 or _span(paid) > 0:
        return None
    value, top = float(steps[0]), max(rows, key=lambda r: -math.inf if math.isnan(r.meant) else r.meant)
    if not (ranked.reached and ranked.scale > 0):
        return Finding(
            check=CHECK.name, kind="constant", severity="low",
            title=f"all {len(steps)} steps of {len(rows)} behaviours earn {value:.4g}: whether there is anything to "
                  "learn from this effort cannot tell", evidence={"steps": len(steps), "value of every step": value},
            advice="Search longer, or bring a policy that succeeds (--policy): then it shows whether success is paid.")
    title = (f"all {len(steps)} steps of {len(rows)} behaviours earn {value:.4g}, also those of "
             f"{top.behaviour.name!r}, which gets {interval(top.meant_E)} of what is intended (random actions: "
             f"{interval(ranked.table.random_meant_E)}): there is nothing to learn")
    return Finding(
        check=CHECK.name, kind="constant", severity="high", title=title, cost=1.0,
        evidence={"steps": len(steps), "value of every step": value, "intent of the best": interval(top.meant_E),
                  "intent of random actions": interval(ranked.table.random_meant_E)},
        witness=witness_of(context, top, title, check=CHECK.name),
        advice="The place, the unit or the frame that is paid for is never met: compare what the reward reads (obs or "
               "next_obs, row or column, metres or centimetres) with the last step of the witness.")


# --- is it flat? -------------------------------------------------------------------------------------------


def _flat(context: AuditContext, ranked: Ranking) -> Iterator[Finding]:
    """A continuous reward that sits on a plateau nearly always."""
    score = random_score(context)
    rows = paid_rows(ranked.table)
    every = torch.cat([score.value[score.mask & score.known], *(r.score.value[r.score.mask] for r in rows)]).double()
    low, high = float(every.min()), float(every.max())
    on = plateau(score.value.double(), low, high) & score.mask
    between = every[~plateau(every, low, high)]
    if len(torch.unique((between / (high - low)).round(decimals=6))) < min(_CONTINUOUS, 0.5 * len(between) + 1):
        return
    if not len(between):
        return
    share = mean_interval((on.sum(1) / score.mask.sum(1).clamp(min=1)).double())
    if share.low < FLAT or _distance_to_edge(score.value[on].double(), low, high) > TIGHT:
        return
    worst = _harm(ranked)
    stuck = _stuck(ranked)
    severity: Severity = "high" if stuck is not None and stuck.low >= 0.5 else "medium"
    where = float(score.value[on].double().mean())
    title = (f"saturated: {share.mean:.1%} of random steps lie on a plateau ({where:.4g}, within {EDGE:.1%} of the "
             f"range {low:.4g} to {high:.4g}), so coming closer pays nothing there")
    yield Finding(
        check=CHECK.name, kind="plateau", severity=severity, title=title, cost=worst.cost if worst else 0.0,
        evidence={"share of random steps on a plateau": share, "least value": low, "largest value": high,
                  **({"share of the intended goal that optimising it misses": stuck} if stuck else {})},
        advice="Widen what is squashed (divide the distance by its usual size before tanh or exp), or add a term that "
               "still changes far away.")


def plateau(value: Tensor, low: float, high: float) -> Tensor:
    """Where values lie at the very ends of their range.

    Example:
        >>> plateau(torch.tensor([0.0, 0.5, 0.999]), 0.0, 1.0).tolist()
        [True, False, True]
    """
    edge = EDGE * (high - low)
    return (value <= low + edge) | (value >= high - edge)


def _distance_to_edge(value: Tensor, low: float, high: float) -> float:
    """The median distance to the nearer end of the range, as a share of it."""
    return float(torch.minimum(value - low, high - value).median()) / (high - low)


def _stuck(ranked: Ranking) -> Interval | None:
    """The share of the intended goal that the best-paid behaviour misses."""
    best, top = ranked.best_paid, ranked.intended
    if not ranked.reached or best is None or top is None or ranked.scale <= 0:
        return None
    return mean_interval((top.meant - best.meant_E) / ranked.scale)


# --- which term is heard? -----------------------------------------------------------------------------------


def _dead(context: AuditContext, ranked: Ranking, terms: TermTable) -> Iterator[Finding]:
    """Terms that were 0 at every step that anybody took.

    Where nobody did what is intended they may pay for just that, and nothing can be said.
    """
    for name in terms.dead:
        harm = _harm(ranked)
        if harm is not None and ranked.reached:
            top = harm.intended
            title = (f"the term {name!r} is never paid, not even to {top.behaviour.name!r}, which gets "
                     f"{interval(top.meant_E)} of what is intended; so {harm.outcome.behaviour.name!r} "
                     f"({interval(harm.outcome.paid_E)}) beats it ({interval(top.paid_E)})")
            yield Finding(check=CHECK.name, kind=f"unpaid: {name}", severity=harm.severity, title=title,
                          cost=harm.cost,
                          evidence={"term": name, "steps": terms.steps, "share of the intended goal lost": harm.lost},
                          witness=witness_of(context, top, title, check=CHECK.name),
                          advice=f"Look at the last step of the witness: {name!r} should pay there. Often it reads obs "
                                 "where next_obs is meant, or a place that cannot be reached.")
        elif ranked.reached:
            yield Finding(check=CHECK.name, kind=f"unpaid: {name}", severity="low",
                          title=f"the term {name!r} is 0 at all {terms.steps} steps of {terms.rows} behaviours",
                          evidence={"term": name, "steps": terms.steps},
                          advice="Is it meant for something that these behaviours never did? Else it is dead.")


def _drowned(context: AuditContext, ranked: Ranking, terms: TermTable) -> Iterator[Finding]:
    """One term decides alone, and it is not the one that serves the intent.

    A potential difference decides nothing, however loud it is: it changes no comparison of policies (Ng, Harada and
    Russell 1999, theorem 1).
    """
    loud = terms.loudest
    if loud is None:
        return
    name, share = loud
    if share < DROWNING or (serves := terms.serves(name)) is None or serves.low > 0:
        return
    heard = [(other, with_intent) for other in terms.names if other != name
             and (with_intent := terms.serves(other)) is not None and with_intent.low > HEARD]
    if not heard:
        return
    fit = fit_of(context, ranked, name)
    if fit is not None and fit.unexplained < UNEXPLAINED:
        return
    victim, wanted = max(heard, key=lambda x: x[1].mean)
    harm = _harm(ranked)
    severity: Severity = harm.severity if harm else "medium" if share >= SILENCING else "low"
    row: Outcome | None = harm.outcome if harm else ranked.best_paid
    title = (f"the term {name!r} makes {share:.1%} of the spread and drowns {victim!r}, which is what serves the "
             f"intent (rank correlation {wanted}; {name!r}: {serves})")
    if harm is not None:
        title += (f": {harm.outcome.behaviour.name!r} earns {interval(harm.outcome.paid_E)} and gets "
                  f"{interval(harm.outcome.meant_E)}, doing what is intended earns {interval(harm.intended.paid_E)}")
    yield Finding(
        check=CHECK.name, kind=f"{name} drowns {victim}", severity=severity, title=title,
        cost=harm.cost if harm else 0.0,
        evidence={"drowning term": name, "drowned term": victim, "share of the spread": share,
                  f"rank correlation of {victim} with the intent": wanted,
                  f"rank correlation of {name} with the intent": serves, "behaviours": terms.rows},
        witness=None if row is None else witness_of(context, row, title, check=CHECK.name),
        advice=f"Check the unit and the weight of {name!r}: divided by about {terms.factor(name, victim):.3g} it would "
               f"be as loud as {victim!r}.")


def _fighting(terms: TermTable) -> Iterator[Finding]:
    """Two terms that take from each other nearly all that they give."""
    for a, b, together, left in terms.fights():
        yield Finding(check=CHECK.name, kind=f"{a} against {b}", severity="low",
                      title=f"the terms {a!r} and {b!r} cancel: over {terms.rows} behaviours their returns correlate "
                            f"at {together}, and {left:.0%} of their spread is left in the sum",
                      evidence={"correlation": together, "spread left": left},
                      advice="What one pays the other takes: give one of them the lead, or make one a limit.")


def _harm(ranked: Ranking) -> Exploit | None:
    """The best-paid of the most severe exploits: what the reward leads to."""
    return max(ranked.exploits, key=lambda e: (SEVERITIES.index(e.severity), e.outcome.paid), default=None)


def _span(x: Tensor) -> float:
    """Largest less least value; 0 where that is rounding."""
    span = float(x.max() - x.min())
    return span if span > 1e-7 * max(float(x.abs().max()), 1e-12) else 0.0
