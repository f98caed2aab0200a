"""What each behaviour was paid and how well it did what was wanted: the table that the behavioural checks read.

Letters: E evaluation episodes of a behaviour, T steps, N behaviours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.statistics import Interval, difference_interval, mean_interval

if TYPE_CHECKING:
    from plaudit.auditing.context import AuditContext
    from plaudit.optimize.behaviours import Behaviour

GOOD = 0.1
"""A behaviour is as good as intended if it loses less than this share of the intended goal."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """One behaviour under one reward."""

    behaviour: Behaviour
    score: Score
    paid_E: Float[Tensor, "E"]
    """Undiscounted returns; NaN where unknown."""
    worth_E: Float[Tensor, "E"]
    """Discounted returns, with what would follow after the time limit (see `worth`)."""
    meant_E: Float[Tensor, "E"]
    """The intent of each episode; NaN where unknown."""

    @property
    def known(self) -> bool:
        """Whether every episode's pay is known."""
        return not bool(torch.isnan(self.paid_E).any())

    @property
    def paid(self) -> float:
        return float(self.paid_E.mean())

    @property
    def worth(self) -> float:
        return float(self.worth_E.mean())

    @property
    def meant(self) -> float:
        return float(self.meant_E.mean())

    @property
    def terminated(self) -> float:
        """The share of episodes that the world ended (rather than the time limit)."""
        return float(_ended(self.behaviour).double().mean())

    @property
    def length(self) -> float:
        """Mean steps of an episode."""
        return float(self.behaviour.episodes.lengths.double().mean())


def outcome(context: AuditContext, behaviour: Behaviour, reward: Reward | None = None) -> Outcome:
    """Scores a behaviour under a reward (by default the one under audit)."""
    score = (reward or context.reward).score(behaviour.episodes)
    return Outcome(
        behaviour=behaviour, score=score, paid_E=score.returns()[0].double(), meant_E=context.meant(behaviour),
        worth_E=worth(score.value, _ended(behaviour), discount=context.discount, mask_BT=score.mask),
    )


def worth(value_BT: Float[Tensor, "B T"], terminated_B: Tensor, *, discount: float,
          mask_BT: Tensor) -> Float[Tensor, "B"]:
    """Discounted returns as a learner that bootstraps at the time limit would see them.

    A truncated episode goes on where nobody looks: the mean pay of its second half is taken to follow
    for ever. So potential shaping, whose undiscounted return depends on where the time limit falls,
    changes no comparison: for a behaviour that has settled, the discounted sum of
    discount * phi(s') - phi(s) is -phi(s_0), wherever it is cut.

    Args:
        value_BT: the reward of each step.
        terminated_B: which episodes the world ended.
        discount: in [0, 1]; with 1 nothing is added.
        mask_BT: which steps happened.

    Example:
        >>> one = torch.ones(1, 4, dtype=torch.float64)
        >>> round(float(worth(one, torch.tensor([False]), discount=0.9, mask_BT=one.bool())), 6)
        10.0
        >>> round(float(worth(one, torch.tensor([True]), discount=0.9, mask_BT=one.bool())), 6)
        3.439
    """
    value = value_BT.double()
    time = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    paid = torch.where(mask_BT, value * discount**time, 0.0).sum(-1)
    if discount >= 1:
        return paid
    after = discount ** mask_BT.sum(-1) * late_rate(value, mask_BT) / (1 - discount)
    return paid + torch.where(terminated_B, 0.0, after)


def late_rate(value_BT: Float[Tensor, "B T"], mask_BT: Tensor) -> Float[Tensor, "B"]:
    """The mean pay a step in the second half of each episode, less what cannot be taken to go on.

    Weighted by a Hann window, so that half a round of a loop at either end hardly counts. What the episode also took
    back is no income: a slow swing of a potential rises through a second half as it fell through the first. So
    positive pay counts where the second half gains more than the largest fall of the cumulative pay, or where nearly
    every step of it pays; else it is 0.
    """
    value, length = value_BT.double(), mask_BT.sum(-1, keepdim=True)
    skip = length // 2
    place = (mask_BT.cumsum(-1) - skip - 0.5) / (length - skip).clamp(min=1)
    late_BT = mask_BT & (place > 0)
    weight = torch.where(late_BT, torch.sin(math.pi * place.double()).square(), 0.0)
    rate = torch.where(late_BT, weight * value, 0.0).sum(-1) / weight.sum(-1).clamp(min=1e-12)

    paid = torch.where(mask_BT, value, 0.0).nan_to_num()
    total = torch.nn.functional.pad(paid.cumsum(-1), (1, 0))
    fall = (total.cummax(-1).values - total).amax(-1)
    gains = torch.where(late_BT, paid, 0.0).sum(-1) > fall
    steady = (late_BT & (paid >= 0.5 * rate.unsqueeze(-1))).sum(-1) >= 0.9 * late_BT.sum(-1)
    return torch.where((rate > 0) & ~gains & ~steady, 0.0, rate)


def _ended(behaviour: Behaviour) -> Tensor:
    return (behaviour.episodes.terminated & behaviour.episodes.mask).any(-1)


def interval(x_E: Float[Tensor, "E"]) -> Interval:
    """The mean over episodes; unknown episodes make it unknown (NaN), never zero."""
    if x_E.numel() == 0 or bool(torch.isnan(x_E).any()):
        return Interval(math.nan, -math.inf, math.inf, int((~torch.isnan(x_E)).sum()))
    return mean_interval(x_E)


def shown(x: Interval) -> str:
    """An interval in a sentence: just the number where it is exact, or rests on one episode."""
    exact = x.high - x.low <= 1e-6 * max(1.0, abs(x.mean))
    return f"{x.mean:.4g}" if exact or not math.isfinite(x.high - x.low) else str(x)


def difference(a: Outcome, b: Outcome, field: str) -> Interval:
    """How much more a gets than b of `paid_E`, `worth_E` or `meant_E`, by `lead`."""
    return lead(a.behaviour, b.behaviour, getattr(a, field), getattr(b, field))


def lead(a: Behaviour, b: Behaviour, x: Float[Tensor, "E"], y: Float[Tensor, "F"]) -> Interval:
    """How much more a gets than b, where x and y are what they get in each of their episodes.

    Paired where one of them was evaluated on the other's seeds (and perhaps on more), else as two samples: that they
    have equally many episodes does not make them pairs.
    """
    if bool(torch.isnan(x).any() | torch.isnan(y).any()):
        return Interval(math.nan, -math.inf, math.inf, 0)
    place = {seed: i for i, seed in enumerate(b.seeds)}
    pairs = [(i, place[seed]) for i, seed in enumerate(a.seeds) if seed in place]
    if not pairs or len(pairs) < min(len(x), len(y)):
        return difference_interval(x, y)
    mine, theirs = (torch.tensor(i) for i in zip(*pairs, strict=True))
    return mean_interval(x[mine] - y[theirs])


def scaled(x: Interval, factor: float) -> Interval:
    """An interval in another unit."""
    low, high = sorted((x.low * factor, x.high * factor))
    return Interval(x.mean * factor, low, high, x.n)


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """All behaviours of an audit under one reward."""

    rows: list[Outcome]
    random_meant_E: Float[Tensor, "E"]
    """The intent of episodes of random actions (NaN without an intent)."""

    @property
    def known(self) -> list[Outcome]:
        """Those whose pay and intent are known."""
        return [r for r in self.rows if r.known and not bool(torch.isnan(r.meant_E).any())]

    @property
    def unknown(self) -> list[Outcome]:
        """Those that made the reward unknown."""
        return [r for r in self.rows if not r.known]

    def spread(self, field: str) -> float:
        """What a mean (`paid`, `worth` or `meant`) spans between the 10% and the 90% quantile of the behaviours."""
        x = torch.tensor([getattr(r, field) for r in self.known], dtype=torch.float64)
        if x.numel() < 2:
            return 0.0
        inner = float(x.quantile(0.9) - x.quantile(0.1))
        return inner if inner > 0 else float(x.max() - x.min())


def table(context: AuditContext, *, reward: Reward | None = None,
          behaviours: Sequence[Behaviour] | None = None) -> Table:
    """Scores every behaviour of the audit once; the table of the reward under audit is kept in the memo."""
    if reward is None and behaviours is None and "_table" in context.memo:
        return context.memo["_table"]
    rows = [outcome(context, b, reward) for b in (context.behaviours if behaviours is None else behaviours)]
    meant = context.intent.of(context.random).double() if context.intent else torch.full((1,), torch.nan).double()
    out = Table(rows=rows, random_meant_E=meant)
    if reward is None and behaviours is None:
        context.memo["_table"] = out
    return out
