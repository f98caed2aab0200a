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
from plaudit.learn.losses import Ties
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
    """Mean squared error of the probability."""
    error: float
    """Expected calibration error: the mean distance between probability and share over bins, weighted by size."""
    bins: tuple[Bin, ...]


def probabilities(model: LearnedReward, pairs: Preferences, *, over: Over | None = None,
                  discount: float = 1.0) -> Float[Tensor, "H N"]:
    """The probability of each member that the first option is better; their mean over H is the model's own.

    Divided by the temperature that `fit` found on held-out pairs, if it did.
    """
    whole = pairs.labelled(torch.full((len(pairs),), 0.5))  # undecided ones get a probability too
    gap = _gaps(model, whole, over, discount)
    return torch.sigmoid(gap / model.temperature.view(model.G, model.H).to(gap.device)[pairs.group].T)


@torch.no_grad()
def _gaps(model: LearnedReward, pairs: Preferences, over: Over | None, discount: float) -> Float[Tensor, "H N"]:
    """Differences of scores in the units of training, by the networks of each pair's group."""
    data = pair_data(model, pairs, over=over, discount=discount, learn_moments=False)
    out = torch.zeros(model.H, len(data), device=model.device)
    for g, rows in enumerate(data.rows):
        for part in rows.split(1024) if len(rows) else ():
            x = data.steps(part.unsqueeze(0)).expand(model.K, -1, -1)
            mine = model.net(x)[g * model.H:(g + 1) * model.H, :, 0]
            pair = (mine.view(model.H, len(part), 2, -1) * data.weight_N2L[part]).sum(-1)
            out[:, part] = pair[..., 0] - pair[..., 1]
    return out.to(pairs.label.device)


def calibration(model: LearnedReward, pairs: Preferences, *, over: Over | None = None, discount: float = 1.0,
                bins: int = 10, ties: Ties = "soft") -> Calibration:
    """How the model's probabilities fare on labelled pairs.

    Args:
        model: The model.
        pairs: Pairs that it was not fitted to.
        over: How fragments of different lengths are compared.
        discount: As in the fit.
        bins: How many bins of probability between one half and 1.
        ties: As in the fit: `drop` leaves them out.

    Raises:
        BadInput: when no pair is decided.
    """
    pairs = evidence(pairs, ties)
    if not len(pairs):
        raise BadInput("preferences", expected="at least one pair that was decided",
                       received="none" if ties != "drop" else "none that is no tie")
    return measured(probabilities(model, pairs, over=over, discount=discount).mean(0), pairs, bins=bins)


def measured(p: Float[Tensor, "N"], pairs: Preferences, *, bins: int = 10) -> Calibration:
    """How some probabilities that the first option is better fare on decided pairs."""
    p, y = p.double(), pairs.label.double()
    strict = ~pairs.tie & (y != 0.5)
    right = ((p > 0.5) == (y > 0.5)) & strict
    loss = -(y * p.clamp(min=1e-12).log() + (1 - y) * (1 - p).clamp(min=1e-12).log())
    found, error = _bins(p[strict], y[strict], bins)
    return Calibration(
        accuracy=proportion_interval(int(right.sum()), int(strict.sum())) if bool(strict.any()) else Interval(
            float("nan"), 0.0, 1.0, 0),
        log_loss=mean_interval(loss), brier=float((p - y).square().mean()), error=error, bins=found)


def _bins(p: Float[Tensor, "N"], y: Float[Tensor, "N"], bins: int) -> tuple[tuple[Bin, ...], float]:
    sure = torch.where(p >= 0.5, p, 1 - p)
    right = torch.where(p >= 0.5, y, 1 - y)
    place = ((sure - 0.5) * 2 * bins).long().clamp(max=bins - 1)
    found = [Bin(float(sure[place == i].mean()), float(right[place == i].mean()), int((place == i).sum()))
             for i in range(bins) if bool((place == i).any())]
    total = max(1, sum(b.n for b in found))
    return tuple(found), sum(abs(b.probability - b.share) * b.n for b in found) / total


def best_temperature(gap: Float[Tensor, "N"], label: Float[Tensor, "N"], keep: Bool[Tensor, "N"]) -> float:
    """The temperature whose probabilities sigmoid(gap / temperature) fit the labels best.

    Golden section search over its logarithm, between 1/64 and 64.

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

    def loss(log_t: float) -> float:
        z = gap / 2.0**log_t
        return float((torch.nn.functional.softplus(z) - label * z).mean())

    low, high, ratio = -6.0, 6.0, (5**0.5 - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return 2.0 ** ((low + high) / 2)
