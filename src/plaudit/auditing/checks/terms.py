"""What each term of a reward paid to each behaviour, and how that goes with the intent.

Letters: N behaviours.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from plaudit.auditing.checks.outcomes import Outcome, Table
from plaudit.core.score import Score
from plaudit.core.statistics import Interval, pearson, spearman

if TYPE_CHECKING:
    from plaudit.auditing.context import AuditContext

_FEWEST = 6
_CANCEL = 0.2


@dataclass(frozen=True, eq=False, kw_only=True)
class TermTable:
    """The terms of a reward over the behaviours of an audit."""

    returns_N: dict[str, np.ndarray]
    """For each term its mean return in each behaviour."""
    step_spread: dict[str, float]
    """For each term its standard deviation over all steps."""
    dead: list[str]
    """Terms that were 0 at every step, where others were not."""
    meant_N: np.ndarray
    """The intent of each behaviour (NaN without one)."""
    steps: int
    rows: int

    @property
    def names(self) -> list[str]:
        return list(self.returns_N)

    @property
    def loudest(self) -> tuple[str, float] | None:
        """The term with the largest share of the spread, over steps or over returns; None for a single term."""
        if len(self.names) - len(self.dead) < 2:
            return None
        returns = {n: float(x.std()) for n, x in self.returns_N.items()}
        shares = [(n, s[n] / total) for s in (returns, self.step_spread) if (total := sum(s.values())) > 0 for n in s]
        return max(shares, key=lambda x: x[1], default=None)

    def serves(self, name: str) -> Interval | None:
        """The rank correlation of a term's returns with the intent; None where it cannot be told."""
        paid = self.returns_N[name]
        if self.rows < _FEWEST or not np.isfinite(self.meant_N).all() or paid.std() == 0 or self.meant_N.std() == 0:
            return None
        return spearman(paid, self.meant_N)

    def factor(self, loud: str, quiet: str) -> float:
        """How many times larger the spread of one term is."""
        over_steps = self.step_spread[loud] / max(self.step_spread[quiet], 1e-300)
        over_returns = float(self.returns_N[loud].std()) / max(float(self.returns_N[quiet].std()), 1e-300)
        return max(over_steps, over_returns)

    def fights(self) -> Iterator[tuple[str, str, Interval, float]]:
        """Pairs of terms whose returns cancel: their correlation, and the share of the spread that is left."""
        if self.rows < _FEWEST:
            return
        for a, b in itertools.combinations(self.names, 2):
            x, y = self.returns_N[a], self.returns_N[b]
            alone = float(x.std() + y.std())
            if min(x.std(), y.std()) < 0.1 * alone or alone == 0:
                continue
            left = float((x + y).std()) / alone
            together = pearson(x, y)
            if together.high < -0.8 and left < _CANCEL:
                yield a, b, together, left


def paid_rows(table: Table) -> list[Outcome]:
    """The behaviours whose pay is known, whether or not their intent is."""
    return [r for r in table.rows if r.known]


def random_score(context: AuditContext) -> Score:
    """The score of the random episodes, computed once."""
    if "_random_score" not in context.memo:
        context.memo["_random_score"] = context.reward.score(context.random)
    return context.memo["_random_score"]


def term_table(context: AuditContext, table: Table) -> TermTable:
    """Reads the terms off the behaviours whose pay is known, and off random actions."""
    rows = [r for r in paid_rows(table) if r.score.terms]
    scores = [random_score(context), *(r.score for r in rows)]
    names = [n for n in scores[0].terms if all(n in s.terms for s in scores)
             and any(s.weights.get(n, 1.0) != 0 for s in scores)]  # parts of a product pay nothing themselves
    over = {n: np.concatenate([_steps(s, n) for s in scores]) for n in names}
    alive = {n for n, x in over.items() if len(x) and np.nanmax(np.abs(x)) > 0}
    return TermTable(
        returns_N={n: np.array([float(r.score.contribution(n).sum(1).double().mean()) for r in rows]) for n in names},
        step_spread={n: float(np.nanstd(x)) if len(x) else 0.0 for n, x in over.items()},
        dead=[n for n in names if n not in alive] if alive else [],
        meant_N=np.array([r.meant for r in rows]), steps=sum(int(s.mask.sum()) for s in scores), rows=len(rows))


def _steps(score: Score, name: str) -> np.ndarray:
    return torch.nan_to_num(score.contribution(name)[score.mask].double()).numpy()
