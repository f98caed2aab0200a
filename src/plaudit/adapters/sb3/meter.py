"""Running means of what rewards say, between two lines of a learner's log."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from plaudit.core.reward import Reward
from plaudit.core.score import Score


class Meter:
    """Means and counts under the names of plaudit's own logs, and the returns of whole episodes.

    Example:
        >>> from plaudit.core.algebra import Constant
        >>> meter, one = Meter(rows=1), torch.ones(1, 1)
        >>> for done in (False, True):
        ...     score = Score.of(2 * one, mask=one.bool())
        ...     meter.add(Constant(2.0).named("pay"), score, torch.tensor([done]))
        >>> meter.flush()["reward/train/pay"], meter.flush()
        (2.0, {})
    """

    def __init__(self, rows: int) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._returns: dict[str, Tensor] = {}
        self._rows = rows

    def add(self, reward: Reward, score: Score, done: Tensor) -> None:
        """One step [B, 1] of every row; `done` [B] says where episodes end. Unknown values enter no mean."""
        who = f"{reward.role}/{reward.name}"
        self._mean(f"reward/{who}", score.value)
        self._sums[f"unknown/{who}"] = self._sums.get(f"unknown/{who}", 0.0) + float((~score.known).sum())
        for term in score.terms:
            self._mean(f"term/{who}/{term}", score.contribution(term))
        for metric, values in score.measured.items():
            self._mean(metric, values)
        total = self._returns.get(who, torch.zeros(self._rows, dtype=torch.float64)) + score.value[:, 0].double()
        self._mean(f"episode/{who}", total[done])
        self._returns[who] = torch.where(done, 0.0, total)

    def _mean(self, name: str, values: Tensor) -> None:
        known = values[torch.isfinite(values)]
        if len(known):
            self._sums[name] = self._sums.get(name, 0.0) + float(known.double().sum())
            self._counts[name] = self._counts.get(name, 0) + len(known)

    def forget_episodes(self) -> None:
        """All rows begin anew."""
        self._returns = {}

    def flush(self) -> Mapping[str, float]:
        """Means, and counts of what was unknown, since the last call."""
        out = {name: total / self._counts.get(name, 1) for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return out
