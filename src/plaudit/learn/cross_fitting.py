"""Honest figures from held-out pairs that also choose epochs and temperatures: each tenth is judged by the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.seeds import Seeds
from plaudit.feedback.preferences import Preferences
from plaudit.learn.calibration import Calibration, best_temperature, measured
from plaudit.learn.losses import wins
from plaudit.learn.model import LearnedReward

FOLDS = 10


class CrossFit:
    """The held-out pairs of each group in ten folds at random (F), while a fit goes on.

    A figure measured on the pairs that chose the epoch and the temperature is too good: it would foresee the fall of
    coins. So the pairs of a fold are judged by the weights of the epoch that the other folds found best, at the
    temperature that the other folds found best for these. Only the number of epochs that were run, out of which they
    choose, depends on all.

    Args:
        held: The held-out pairs of each group.
        held_Kn: The same for each network, -1 where one has fewer.
        weight_Kn: What they count when an epoch is chosen.
        early: Whether the epoch is chosen; otherwise the last one counts.
        calibrate: Whether a temperature is chosen.
        seed: Of the division.
    """

    def __init__(self, held: Sequence[Int[Tensor, "_"]], held_Kn: Int[Tensor, "K n"], weight_Kn: Float[Tensor, "K n"],
                 *, early: bool, calibrate: bool, seed: int) -> None:
        self.held, self.held_Kn, self.weight_Kn = held, held_Kn, weight_Kn
        self.early, self.calibrate = early, calibrate
        K, n = held_Kn.shape
        fold_Kn = torch.full((K, n), -1)
        members = K // len(held)
        for g, rows in enumerate(held):
            order = torch.randperm(len(rows), generator=Seeds(seed).child("folds", g).torch())
            fold_Kn[g * members:(g + 1) * members, :len(rows)] = order % FOLDS
        self.fold_Kn = fold_Kn.to(held_Kn.device)
        self.gap_FKn = torch.full((FOLDS, K, n), torch.nan, device=held_Kn.device)
        """The gaps of all pairs after the epoch that the folds beside F chose."""
        self.best_FK = torch.full((FOLDS, K), torch.inf, device=held_Kn.device)

    def look(self, gap_Kn: Float[Tensor, "K n"], loss_Kn: Float[Tensor, "K n"]) -> None:
        """Takes the gaps and losses after one more epoch."""
        if not self.early:
            self.gap_FKn.copy_(gap_Kn)
            return
        fold = torch.arange(FOLDS, device=gap_Kn.device).view(-1, 1, 1)
        weight_FKn = torch.where((self.fold_Kn != fold) & (self.fold_Kn >= 0), self.weight_Kn, 0.0)
        found_FK = (torch.where(weight_FKn > 0, loss_Kn, 0.0) * weight_FKn).sum(-1) / weight_FKn.sum(-1)
        better_FK = found_FK < self.best_FK
        self.best_FK = torch.where(better_FK, found_FK, self.best_FK)
        self.gap_FKn = torch.where(better_FK.unsqueeze(-1), gap_Kn, self.gap_FKn)

    def calibration(self, model: LearnedReward, pairs: Preferences, label: Float[Tensor, "N"],
                    tie: Bool[Tensor, "N"]) -> Calibration | None:
        """The figures over all held-out pairs for which others could choose; None where there are none.

        Args:
            model: Whose members' probabilities are averaged.
            pairs: All pairs, in the order that the held-out rows mean.
            label: Their labels, where the networks are.
            tie: Which of them are ties.
        """
        p_2Kn = torch.full((2, *self.held_Kn.shape), torch.nan, device=self.held_Kn.device)
        width = model.tie_width
        for k, rows in enumerate(self.held_Kn.clamp(min=0)):
            fold, equal = self.fold_Kn[k], tie[rows]
            for f, gap in enumerate(self.gap_FKn[:, k]):
                here, others = fold == f, (fold >= 0) & (fold != f)
                if not bool(here.any()) or (self.calibrate and not bool(others.any())):
                    continue
                t = model.temperature[k]
                if self.calibrate:
                    t = best_temperature(gap, label[rows], others, tie=equal, tie_width=width)
                p_2Kn[:, k, here] = wins(gap[here] / t, width)
        p_2N = torch.cat([p_2Kn[:, g * model.H:(g + 1) * model.H, :len(rows)].mean(1)
                          for g, rows in enumerate(self.held)], 1)
        known = ~torch.isnan(p_2N[0])
        if not bool(known.any()):
            return None
        return measured(p_2N[:, known].cpu(), pairs[torch.cat(list(self.held))[known].cpu()], ties=width > 0)

    def state_dict(self) -> dict[str, Any]:
        """What the epochs so far have chosen."""
        return {"gap": self.gap_FKn, "best": self.best_FK}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.gap_FKn.copy_(state["gap"])
        self.best_FK.copy_(state["best"])
