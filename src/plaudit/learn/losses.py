"""Losses of comparisons, pair by pair, from the difference of the two scores; nothing is reduced."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from plaudit.core.errors import BadInput

Ties = Literal["soft", "rao-kupper", "drop"]


def pair_loss(gap: Float[Tensor, "..."], label: Float[Tensor, "..."], *, margin: Float[Tensor, "..."] | float = 0.0,
              scale: Float[Tensor, "..."] | float = 1.0, noise: float = 0.0, smoothing: float = 0.0,
              tie: Bool[Tensor, "..."] | None = None, ties: Ties = "soft",
              tie_width: float = 0.5) -> Float[Tensor, "..."]:
    """Minus the log-likelihood of a label under a Bradley-Terry model, for each pair.

    With gap = score of the first - score of the second and sigma the logistic function, a plain label y in [0, 1]
    costs -y log sigma(gap) - (1 - y) log sigma(-gap). What is added to that:

    Args:
        gap: The difference of the scores.
        label: How sure it is that the first is better.
        margin: m >= 0: the better one has to win by m, -y log sigma(gap - m) - (1 - y) log sigma(-gap - m).
        scale: alpha > 0: the gap counts in units of alpha, so that a larger one pulls the scores further apart.
        noise: The chance that an annotator answers at random: sigma becomes (1 - noise) sigma + noise / 2
            (Christiano et al. 2017, section 2.2.3, with 0.1). Under `rao-kupper` a tie is an answer too, so that each
            of the three probabilities p becomes (1 - noise) p + noise / 3.
        smoothing: The label becomes (1 - smoothing) label + smoothing / 2.
        tie: Where the annotator called them equal.
        ties: `soft` reads a tie as the label 0.5; `rao-kupper` gives ties a probability of their own; `drop` gives
            them the loss 0.
        tie_width: eta > 0 of Rao and Kupper: the log of the factor by which one has to be better to be told apart.
            First wins: sigma(gap - eta); tie: (e^(2 eta) - 1) sigma(gap - eta) sigma(-gap - eta).

    Raises:
        BadInput: when a number is out of its range.

    Source:
        Bradley and Terry (1952); Rao and Kupper (1967), Ties in Paired-Comparison Experiments, eq. 2.

    Example:
        >>> pair_loss(torch.tensor([0.0, 2.0]), torch.tensor([0.5, 1.0]))
        tensor([0.6931, 0.1269])
    """
    if not 0 <= noise < 1 or not 0 <= smoothing < 1:
        raise BadInput("noise, smoothing", expected="numbers in [0, 1)", received=(noise, smoothing))
    check_ties(ties)
    if ties == "rao-kupper" and not tie_width > 0:
        raise BadInput("tie_width", expected="a number above 0", received=tie_width)
    label = (1 - smoothing) * label + smoothing / 2 if smoothing else label
    gap = gap / scale
    width = tie_width if ties == "rao-kupper" else 0.0
    first, second = logsigmoid(gap - margin - width), logsigmoid(-gap - margin - width)
    outcomes = _outcomes(ties)
    if noise:
        first, second = (_mixed(p, noise, outcomes) for p in (first, second))
    loss = -(label * first + (1 - label) * second)
    if tie is None or ties == "soft":
        return loss
    if ties == "drop":
        return torch.where(tie, torch.zeros_like(loss), loss)
    between = _log_tie(gap, tie_width)
    return torch.where(tie, -_mixed(between, noise, outcomes) if noise else -between, loss)


def pair_slope(gap: Float[Tensor, "..."], label: Float[Tensor, "..."], *, margin: Float[Tensor, "..."] | float = 0.0,
               scale: Float[Tensor, "..."] | float = 1.0, noise: float = 0.0, smoothing: float = 0.0,
               tie: Bool[Tensor, "..."] | None = None, ties: Ties = "soft",
               tie_width: float = 0.5) -> Float[Tensor, "..."]:
    """The derivative of `pair_loss` by the gap, in closed form; the same arguments.

    Without options it is sigma(gap) - label.

    Example:
        >>> pair_slope(torch.tensor([0.0, 2.0]), torch.tensor([0.5, 1.0]))
        tensor([ 0.0000, -0.1192])
    """
    label = (1 - smoothing) * label + smoothing / 2 if smoothing else label
    gap = gap / scale
    width = tie_width if ties == "rao-kupper" else 0.0
    outcomes = _outcomes(ties)
    first, second = (_log_slope(u, noise, outcomes) for u in (gap - margin - width, -gap - margin - width))
    slope = (1 - label) * second - label * first
    if tie is not None and ties == "drop":
        slope = torch.where(tie, torch.zeros_like(slope), slope)
    elif tie is not None and ties == "rao-kupper":
        between = torch.sigmoid(gap - tie_width) - torch.sigmoid(-gap - tie_width)
        if noise:
            meant = (1 - noise) * _log_tie(gap, tie_width).exp()
            between = between * meant / (meant + noise / outcomes)
        slope = torch.where(tie, between, slope)
    return slope / scale


def wins(gap: Float[Tensor, "..."], tie_width: float = 0.0) -> Float[Tensor, "2 ..."]:
    """The probabilities that the first wins and that the second does; what is left to 1 is that they tie.

    Example:
        >>> wins(torch.tensor(0.0)).tolist()
        [0.5, 0.5]
        >>> wins(torch.tensor(0.0), 0.5).tolist()  # eq. 2 of Rao and Kupper, see `pair_loss`
        [0.3775406..., 0.3775406...]
    """
    return torch.sigmoid(torch.stack([gap, -gap]) - tie_width)


def check_ties(ties: Ties) -> None:
    """Refuses what is no way to count ties.

    Raises:
        BadInput: when it is something else.
    """
    if ties not in get_args(Ties):
        raise BadInput("ties", expected="soft, rao-kupper or drop", received=ties)


def _outcomes(ties: Ties) -> int:
    """How many answers an annotator has who answers at random."""
    return 3 if ties == "rao-kupper" else 2


def _mixed(log_p: Tensor, noise: float, outcomes: int) -> Tensor:
    """The log of a probability when some answers are random."""
    return torch.log((1 - noise) * log_p.exp() + noise / outcomes)


def _log_tie(gap: Tensor, width: float) -> Tensor:
    """The log of Rao and Kupper's probability of a tie."""
    return math.log(math.expm1(2 * width)) + logsigmoid(gap - width) + logsigmoid(-gap - width)


def _log_slope(u: Tensor, noise: float, outcomes: int) -> Tensor:
    """The derivative of log sigma(u), or of log((1 - noise) sigma(u) + noise / outcomes)."""
    low = torch.sigmoid(-u)
    return low if not noise else (1 - noise) * low * (1 - low) / ((1 - noise) * (1 - low) + noise / outcomes)
