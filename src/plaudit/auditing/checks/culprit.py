"""Which term pays for an exploit, and is it a potential difference?"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plaudit.auditing.checks.outcomes import Outcome, worth
from plaudit.auditing.checks.potential import DENSE, Fit, TablePotential, Term, exact_fit, paid_by, sampled_fit
from plaudit.auditing.checks.ranking import Exploit, Ranking
from plaudit.auditing.finding import Number
from plaudit.core.errors import PlauditError

if TYPE_CHECKING:
    from plaudit.auditing.context import AuditContext

log = logging.getLogger(__name__)
_EXACT_STATES = 4000
_SAMPLED = 16


@dataclass(frozen=True, kw_only=True)
class Culprit:
    """The term that pays for an exploit."""

    term: str
    share: float
    """Its share of what the exploit is worth above the intended behaviour."""
    decides: bool
    """Whether the intended behaviour would be worth at least as much without it."""
    mean: float
    """What it paid a step of the exploit."""
    dense: float
    """The share of the exploit's steps at which it is not 0."""


def culprit_of(context: AuditContext, exploit: Exploit) -> Culprit | None:
    """The term with the largest part in an exploit; a reward of one piece is split into the end and the rest."""
    row, best = exploit.outcome, exploit.intended
    names = [t for t in row.score.terms if t in best.score.terms]
    names = names if len(names) > 1 else [DENSE]
    gain = {t: _worth_of(context, row, t) - _worth_of(context, best, t) for t in names}
    term = max(gain, key=lambda t: gain[t])
    whole = exploit.worth_gain.mean
    if not gain[term] > 0 or not whole > 0:
        return None
    paid = paid_by(row.score, term, row.behaviour.episodes.terminated)[row.score.mask]
    return Culprit(term=term, share=gain[term] / whole, decides=gain[term] >= whole, mean=float(paid.mean()),
                   dense=float((paid != 0).double().mean()))


def _worth_of(context: AuditContext, row: Outcome, term: str) -> float:
    episodes = row.behaviour.episodes
    paid = paid_by(row.score, term, episodes.terminated)
    ended = (episodes.terminated & episodes.mask).any(-1)
    return float(worth(paid, ended, discount=context.discount, mask_BT=episodes.mask).mean())


def fit_of(context: AuditContext, ranked: Ranking, term: str) -> Fit | None:
    """The potential that comes closest to a term, and the share that it leaves unexplained; kept in the memo.

    Exact where the task can write itself out and has few enough states, else sampled; at the discount of the
    audit or without one, whichever explains more.
    """
    key = f"_fit {term}"
    if key not in context.memo:
        part = Term(context.reward, term)
        context.memo[key] = _exact_fit(context, part) or _sampled_fit(context, ranked, part)
    return context.memo[key]


def _exact_fit(context: AuditContext, part: Term) -> Fit | None:
    index = getattr(context.task, "index", None)
    try:
        mdp = context.tabulate(part)
    except PlauditError as error:
        log.info("no exact process for %s: %s", part.name, error)
        return None
    if mdp is None or index is None or mdp.S > _EXACT_STATES:
        return None
    fits = [(exact_fit(mdp, discount=gamma), gamma) for gamma in dict.fromkeys((context.discount, 1.0))]
    (share, phi), gamma = min(fits, key=lambda f: f[0][0])
    return Fit(unexplained=share, discount=gamma, exact=True,
               potential=TablePotential(index, phi, name=f"potential of {part.name}"))


def _sampled_fit(context: AuditContext, ranked: Ranking, part: Term) -> Fit | None:
    rows = [r.behaviour.episodes for r in ranked.table.known]
    some = [rows[i * len(rows) // _SAMPLED] for i in range(_SAMPLED)] if len(rows) > _SAMPLED else rows
    fits = [sampled_fit([context.random[:8], *some, context.random[8:]], part, discount=gamma, seed=context.seed)
            for gamma in dict.fromkeys((context.discount, 1.0))]
    known = [f for f in fits if f is not None]
    return min(known, key=lambda f: f.unexplained) if known else None


def culprit_evidence(context: AuditContext, ranked: Ranking, exploit: Exploit) -> dict[str, Number]:
    """Which term pays for an exploit, and how much of that term is no potential difference."""
    culprit = culprit_of(context, exploit)
    if culprit is None:
        return {}
    context.memo.setdefault("culprit", culprit)
    fit = fit_of(context, ranked, culprit.term)
    out: dict[str, Number] = {"term that pays for it": culprit.term, "its share of the gain": culprit.share}
    if fit is not None:
        context.memo.setdefault("unexplained", {})[culprit.term] = fit.unexplained
        out |= {"share of it that is no potential difference": fit.unexplained, "potential fitted exactly": fit.exact}
    return out
