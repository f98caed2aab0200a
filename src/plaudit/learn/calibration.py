"""How good the probabilities of a reward model are: accuracy, log loss, calibration, each with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.core.comparisons import proportion_interval
from plaudit.core.errors import BadInput
from plaudit.core.intervals import Interval
from plaudit.core.statistics import mean_interval
from plaudit.feedback.oracles import Over
from plaudit.feedback.preferences import Preferences
from plaudit.learn.comparing import evidence, pair_data
from plaudit.learn.losses import Ties, pair_loss, wins
from plaudit.learn.model import LearnedReward


@dataclass(frozen=True)
class Bin:
    """Pairs that got about the same probability."""

    probability: float
    """The mean probability of the option that was thought better."""
    share: float
    """How often it was."""
    n: int


@dataclass(frozen=True)
class Calibration:
    """What probabilities are worth on pairs that were not trained on."""

    accuracy: Interval
    """How often the option thought better was, over pairs that were no ties."""
    log_loss: Interval
    """Mean of minus the log of the probability given to the label."""
    brier: float
    """Mean squared error of the probability (half the sum over the outcomes where a tie is one)."""
    error: float
    """Expected calibration error: the mean distance between probability and share over bins, weighted by size. Of a
    tie, each option was better by one half, or neither where ties have a probability of their own."""
    bins: tuple[Bin, ...]


def probabilities(model: LearnedReward, pairs: Preferences, *, over: Over | None = None,
                  discount: float | None = None) -> Float[Tensor, "H N"]:
    """The probability of each member that the first option is better; their mean over H is the model's own.

    Differences of scores are divided by the temperature that `fit` found on held-out pairs, if it did. Of a model that
    was fitted with `ties="rao-kupper"`, it is the probability that the first is better and they do not tie.

    Args:
        model: The model.
        pairs: Labelled or not.
        over: How fragments of different lengths are compared; None is as in the fit.
        discount: Step t of a fragment counts discount ** t; None is as in the fit.

    Raises:
        BadInput: when lengths differ, and neither `over` nor the fit says how to compare them.
    """
    return _wins(model, pairs, over, discount)[0]


def _wins(model: LearnedReward, pairs: Preferences, over: Over | None,
          discount: float | None) -> Float[Tensor, "2 H N"]:
    """The probabilities of each member that the first option is better, and that the second is."""
    whole = pairs.labelled(torch.full((len(pairs),), 0.5))  # undecided ones get a probability too
    gap = _gaps(model, whole, over, discount)
    return wins(gap / model.temperature.view(model.G, model.H).to(gap.device)[pairs.group].T, model.tie_width)


@torch.no_grad()
def _gaps(model: LearnedReward, pairs: Preferences, over: Over | None,
          discount: float | None) -> Float[Tensor, "H N"]:
    """Differences of scores in the units of training, by the networks of each pair's group."""
    data = pair_data(model, pairs, over=model.over if over is None else over, learn_moments=False,
                     discount=model.discount if discount is None else discount)
    out = torch.zeros(model.H, len(data), device=model.device)
    for g, rows in enumerate(data.rows):
        for part in rows.split(1024) if len(rows) else ():
            x = data.steps(part.unsqueeze(0)).expand(model.K, -1, -1)
            mine = model.net(x)[g * model.H:(g + 1) * model.H, :, 0]
            pair = (mine.view(model.H, len(part), 2, -1) * data.weight_N2L[part]).sum(-1)
            out[:, part] = pair[..., 0] - pair[..., 1]
    return out.to(pairs.label.device)


def calibration(model: LearnedReward, pairs: Preferences, *, over: Over | None = None, discount: float | None = None,
                bins: int = 10, ties: Ties | None = None) -> Calibration:
    """How the model's probabilities fare on labelled pairs.

    Args:
        model: The model.
        pairs: Pairs that it was not fitted to.
        over: How fragments of different lengths are compared; None is as in the fit.
        discount: Step t of a fragment counts discount ** t; None is as in the fit.
        bins: How many bins of probability between one half and 1 (0 and 1 where a tie has one of its own).
        ties: `soft` counts a tie as the label 0.5, `drop` leaves it out; None is as in the fit. The width of
            `rao-kupper` is the model's.

    Raises:
        BadInput: when no pair is decided, or lengths differ, and neither `over` nor the fit says how to compare them.
    """
    ties = model.ties if ties is None else ties
    pairs = evidence(pairs, ties)
    if not len(pairs):
        raise BadInput("preferences", expected="at least one pair that was decided",
                       received="none" if ties != "drop" else "none that is no tie")
    return measured(_wins(model, pairs, over, discount).mean(1), pairs, ties=model.tie_width > 0, bins=bins)


def measured(wins_2N: Float[Tensor, "2 N"], pairs: Preferences, *, ties: bool = False, bins: int = 10) -> Calibration:
    """How some probabilities fare on decided pairs.

    Args:
        wins_2N: That the first option is better, and that the second is.
        pairs: What was said of them.
        ties: Whether a tie has the probability that is left; otherwise it is the label one half.
        bins: How many bins of probability.
    """
    p, q = wins_2N.double()
    y = pairs.label.double()
    strict = ~pairs.tie & (y != 0.5)
    tied = pairs.tie if ties else torch.zeros_like(pairs.tie)
    right = ((p > q) == (y > 0.5)) & strict
    said = torch.where(tied, 0.0, torch.stack([y, 1 - y]))
    given = torch.stack([p, q, 1 - p - q])
    said = torch.cat([said, tied.double().unsqueeze(0)])
    loss = -(said * given.clamp(min=1e-12).log()).sum(0)
    found, error = _sure_bins(torch.maximum(p, q), torch.where(p >= q, said[0], said[1]), bins,
                              least=0.0 if ties else 0.5)
    return Calibration(
        accuracy=proportion_interval(int(right.sum()), int(strict.sum())) if bool(strict.any()) else Interval(
            float("nan"), 0.0, 1.0, 0),
        log_loss=mean_interval(loss), brier=float((given - said).square().sum(0).mean() / 2), error=error, bins=found)


def _bins(p: Float[Tensor, "N"], y: Float[Tensor, "N"], bins: int) -> tuple[tuple[Bin, ...], float]:
    return _sure_bins(torch.where(p >= 0.5, p, 1 - p), torch.where(p >= 0.5, y, 1 - y), bins)


def _sure_bins(sure: Float[Tensor, "N"], right: Float[Tensor, "N"], bins: int, *,
               least: float = 0.5) -> tuple[tuple[Bin, ...], float]:
    """The probabilities of what was thought better, in bins of equal width, and how far they are from its share."""
    place = ((sure - least) / (1 - least) * bins).long().clamp(max=bins - 1)
    found = [Bin(float(sure[place == i].mean()), float(right[place == i].mean()), int((place == i).sum()))
             for i in range(bins) if bool((place == i).any())]
    total = max(1, sum(b.n for b in found))
    return tuple(found), sum(abs(b.probability - b.share) * b.n for b in found) / total


def best_temperature(gap: Float[Tensor, "N"], label: Float[Tensor, "N"], keep: Bool[Tensor, "N"], *,
                     tie: Bool[Tensor, "N"] | None = None, tie_width: float = 0.0) -> float:
    """The temperature whose probabilities `wins(gap / temperature, tie_width)` fit the labels best.

    Golden section search over its logarithm, between 1/64 and 64.

    Args:
        gap: Differences of scores.
        label: How sure it is that the first is better.
        keep: Which pairs count.
        tie: Which of them tie, where a width gives ties a probability.
        tie_width: As in the fit; 0 without ties of their own.

    Source:
        Guo et al. (2017), On Calibration of Modern Neural Networks, section 4.2.

    Example:
        >>> sure = torch.tensor([4.0, 4.0, 4.0, 4.0])
        >>> t = best_temperature(sure, torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.ones(4).bool())
        >>> round(float(torch.sigmoid(sure[0] / t)), 3)  # three of four were right
        0.75
    """
    gap, label = gap[keep].double(), label[keep].double()
    if not len(gap):
        return 1.0
    equal = None if tie is None else tie[keep]

    def loss(log_t: float) -> float:
        return float(pair_loss(gap, label, scale=2.0**log_t, tie=equal, tie_width=tie_width or 0.5,
                               ties="rao-kupper" if tie_width else "soft").mean())

    low, high, ratio = -6.0, 6.0, (5**0.5 - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return 2.0 ** ((low + high) / 2)
