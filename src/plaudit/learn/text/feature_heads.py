"""Small models of numbers that describe two options: linear or a perceptron, fitted to pairs and never trusted far.

With a few hundred pairs an unregularised perceptron throws away what good features give. So each member of an ensemble
leaves one fold of the prompts out, stops where its loss on that fold is least, and of several weight decays that one is
kept whose members do best on what they did not see. All members under all decays are one stack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.misspelt import Options
from plaudit.core.seeds import Seeds
from plaudit.core.stacked import PopulationMLP
from plaudit.learn.bradley_terry import BradleyTerry, BradleyTerryConfig
from plaudit.learn.comparing import PairData
from plaudit.learn.features import StepFeatures
from plaudit.learn.losses import Ties
from plaudit.learn.model import LearnedReward

LOOKS = 40
"""How often the held-out fold is measured in a fit."""
NODES = 16
"""Points of the integral of the attributions."""


@dataclass(frozen=True, eq=False)
class PairTable:
    """N pairs as rows of numbers.

    Attributes:
        x_N2C: Both options of each pair.
        label_N: The probability that the first is the better.
        weight_N: What a pair counts.
        tie_N: Where they were called equal.
        margin_N: By how much the better one should win at least.
        family: Pairs of one prompt are never on both sides of a split.
    """

    x_N2C: Float[Tensor, "N 2 C"]
    label_N: Float[Tensor, "N"]
    weight_N: Float[Tensor, "N"]
    tie_N: Bool[Tensor, "N"]
    margin_N: Float[Tensor, "N"]
    family: tuple[Hashable, ...]

    @staticmethod
    def of(x_N2C: Float[Tensor, "N 2 C"], label_N: Float[Tensor, "N"], family: Sequence[Hashable]) -> PairTable:
        """Plain pairs of weight 1."""
        one = torch.ones(len(label_N), device=label_N.device)
        return PairTable(x_N2C, label_N, one, torch.zeros_like(one, dtype=torch.bool), 0 * one, tuple(family))

    def __len__(self) -> int:
        return len(self.label_N)

    def to(self, device: str | torch.device) -> PairTable:
        """The same on another device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()
                                if isinstance(value, Tensor)})

    def __getitem__(self, rows: Int[Tensor, "M"] | slice) -> PairTable:
        chosen = torch.arange(len(self))[rows].tolist()
        return PairTable(self.x_N2C[chosen], self.label_N[chosen], self.weight_N[chosen], self.tie_N[chosen],
                         self.margin_N[chosen], tuple(self.family[i] for i in chosen))


@dataclass(frozen=True, kw_only=True)
class HeadOptions(Options):
    """How a head is fitted.

    Raises:
        BadInput: when a number is out of its range.

    Example:
        >>> HeadOptions(hidden=()).folds
        5
    """

    hidden: tuple[int, ...] = (16,)
    """Widths of the hidden layers; none is a linear model."""
    decays: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    """Weight decays out of which one is chosen on held-out prompts."""
    folds: int = 5
    """Members, each of which leaves one fold of the prompts out."""
    repeats: int = 1
    """How often the prompts are dealt out anew: folds times repeats members."""
    early: bool = True
    """Whether a member keeps the weights that were best on its fold, or the last ones."""
    steps: int = 300
    """Updates."""
    batch: int = 256
    """Pairs of a member in an update, at most."""
    lr: float = 0.05
    """Step size, which falls to 0."""
    start: float = 0.3
    """How much of the usual initial weights it begins with: near 0 nothing is claimed."""
    ties: Ties = "soft"
    """`soft` reads a tie as the label 0.5; `rao-kupper` gives ties a probability of their own; `drop` leaves them
    out."""
    tie_width: float = 0.5
    """How wide the ties of `rao-kupper` are."""

    def __post_init__(self) -> None:
        for name, low in (("folds", 2), ("repeats", 1), ("steps", 1), ("batch", 1)):
            if getattr(self, name) < low:
                raise BadInput(name, expected=f"an integer >= {low}", received=getattr(self, name))
        if not self.decays or not all(0 <= d < math.inf for d in self.decays):
            raise BadInput("decays", expected="one or more numbers >= 0", received=self.decays)
        if any(h < 1 for h in self.hidden):
            raise BadInput("hidden", expected="widths of 1 or more", received=self.hidden)
        if not self.lr > 0:
            raise BadInput("lr", expected="a number above 0", received=self.lr)


@dataclass(eq=False)
class FeatureHead:
    """H members that read C numbers; the value is their mean, in units of its spread over the training options.

    Rows may lie on another device than the members: what is said of them is where they are.
    """

    net: PopulationMLP
    decay: float = 0.0
    """The one that was chosen."""
    shift: float = 0.0
    scale: float = 1.0
    seen_gap_N: Float[Tensor, "N"] | None = None
    """For each training pair the difference of raw scores under the members that did not see its prompt."""

    @property
    def H(self) -> int:
        """The number of members."""
        return self.net.P

    @torch.no_grad()
    def members(self, x_BC: Float[Tensor, "B C"]) -> Float[Tensor, "H B"]:
        """What each member says."""
        value_HB = self.net(x_BC.to(self.net.flat.device).expand(self.H, -1, -1))[..., 0]
        return ((value_HB - self.shift) / self.scale).to(x_BC.device)

    def __call__(self, x_BC: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
        """The mean of the members."""
        return self.members(x_BC).mean(0)

    def standardise(self, x_BC: Float[Tensor, "B C"]) -> FeatureHead:
        """Mean 0 and spread 1 over these rows, so that a policy's KL price has a meaning before it trains."""
        raw = self(x_BC) * self.scale + self.shift
        spread = float(raw.std(correction=0))
        self.shift, self.scale = float(raw.mean()), spread if spread > 1e-8 else 1.0
        return self

    def attributions(self, x_BC: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """What each column adds to the value at the mean of the training set; they sum to the value less that one.

        For a linear head the weight times the column. Else the integral of the gradient along the straight line from
        the mean, by Gauss and Legendre's rule: effects of several features together are shared fairly, and nothing is
        lost (completeness).

        Source:
            Sundararajan et al. (2017), Axiomatic Attribution for Deep Networks, eq. 1.
        """
        import numpy as np

        node, weight = np.polynomial.legendre.leggauss(NODES if len(self.net.sizes) > 2 else 1)
        x = x_BC.to(self.net.flat.device)
        out = torch.zeros_like(x)
        for at, w in zip((node + 1) / 2, weight / 2, strict=True):
            point = (x * float(at)).detach().requires_grad_()
            with torch.enable_grad():
                total = self.net(point.expand(self.H, -1, -1), self.net.flat.detach())[..., 0].mean(0).sum()
                (slope,) = torch.autograd.grad(total, point)
            out += float(w) * slope * x
        return (out / self.scale).to(x_BC.device)


def fixed_head(weight_C: Float[Tensor, "C"]) -> FeatureHead:
    """A linear head of given weights, which learns nothing.

    Example:
        >>> fixed_head(torch.tensor([0.5, -0.5]))(torch.tensor([[1.0, 2.0]]))
        tensor([-0.5000])
    """
    net = PopulationMLP((len(weight_C), 1), generators=[Seeds(0).torch()])
    net.flat = torch.cat([weight_C, weight_C.new_zeros(1)]).unsqueeze(0).requires_grad_()
    return FeatureHead(net)


def fit_head(table: PairTable, *, options: HeadOptions | None = None, seed: int | Seeds = 0,
             progress: Callable[[int, int], None] | None = None) -> FeatureHead:
    """Fits a head to pairs by the Bradley-Terry model, where these live.

    Args:
        table: The pairs; undecided ones are left out before.
        options: How.
        seed: Of folds, weights and batches.
        progress: Told the updates done and planned.

    Raises:
        BadInput: when fewer than two prompts have pairs, all are ties, or the weights are 0.

    Example:
        >>> x = torch.randn(200, 2, 2, generator=Seeds(0).torch())
        >>> gap = (x[:, 0] - x[:, 1]) @ torch.tensor([2.0, 0.0])
        >>> head = fit_head(PairTable.of(x, (gap > 0).float(), range(200)), options=HeadOptions(hidden=()))
        >>> a, b = head.attributions(torch.ones(1, 2))[0].abs().tolist()
        >>> a > 5 * b
        True
    """
    how, seeds = options or HeadOptions(), seed if isinstance(seed, Seeds) else Seeds(seed)
    _check(table, how.ties)
    fold_N, F = _folds(table, how, seeds)
    run = _Stack(table, how, fold_N, F, seeds)
    epochs = max(1, round(how.steps / math.ceil(run.train_Kn.shape[1] / how.batch)))
    for epoch in range(epochs):
        run.trainer.lr.fill_(how.lr * 0.5 * (1 + math.cos(math.pi * epoch / epochs)))
        run.trainer.epoch(run.data, run.train_Kn)
        if (epoch + 1) % max(1, epochs // LOOKS) == 0 or epoch + 1 == epochs:
            run.look()
            if progress is not None:
                progress(epoch + 1, epochs)
    return run.result()


class _Stack:
    """Members under all decays, side by side: network k = (decay, repeat, fold)."""

    def __init__(self, table: PairTable, how: HeadOptions, fold_RN: Int[Tensor, "R N"], F: int, seeds: Seeds) -> None:
        self.how, self.M, C, device = how, F * len(fold_RN), table.x_N2C.shape[-1], table.x_N2C.device
        decays = tuple(d for d in how.decays for _ in range(self.M))
        self.model = LearnedReward(StepFeatures(("obs",), (C,)), hidden=how.hidden, members=len(decays),
                                   activation="tanh", normalise=False, device=device,
                                   seed=seeds.child("members"))
        with torch.no_grad():
            self.model.net.flat.mul_(how.start)
        self.trainer = BradleyTerry(self.model, BradleyTerryConfig(
            lr=how.lr, batch=how.batch, decay=decays, ties=how.ties, tie_width=how.tie_width, standardise="none"))
        self.data = _pair_data(table, how.ties)
        out_MN = torch.cat([fold == torch.arange(F).unsqueeze(1) for fold in fold_RN])
        self.train_Kn, self.held_Kn = (_rows(o).repeat(len(how.decays), 1).to(device) for o in (~out_MN, out_MN))
        self.best = self.model.net.flat.detach().clone()
        self.best_loss = torch.full((len(decays),), torch.inf, device=device)
        self.gaps = torch.full((len(decays), len(table)), torch.nan, device=device)

    @torch.no_grad()
    def look(self) -> None:
        """Measures every network on its fold, and keeps the best weights so far."""
        gap_Kn = self.trainer.all_gaps(self.data, self.held_Kn)
        rows = self.held_Kn.clamp(min=0)
        weight = torch.where(self.held_Kn >= 0, self.data.weight[rows], 0.0)
        loss = torch.where(weight > 0, self.trainer.losses(gap_Kn.nan_to_num(), self.data, rows), 0.0)
        found = (loss * weight).sum(1) / weight.sum(1).clamp(min=1e-12)
        better = found < self.best_loss if self.how.early else torch.ones_like(found, dtype=torch.bool)
        self.best_loss = torch.where(better, found, self.best_loss)
        self.best[better] = self.model.net.flat.detach()[better]
        for k in better.nonzero()[:, 0].tolist():
            here = self.held_Kn[k] >= 0
            self.gaps[k, rows[k, here]] = gap_Kn[k, here]

    def result(self) -> FeatureHead:
        """The members of the best decay; of equal ones the strongest."""
        loss_D = self.best_loss.view(-1, self.M).mean(1)
        if not bool(torch.isfinite(loss_D).all()):
            raise BadInput("table", expected="numbers that a fit can bear", received="a loss that is not finite",
                           fix="standardise the features, or lower lr")
        order = sorted(range(len(loss_D)), key=lambda i: (round(float(loss_D[i]), 6), -self.how.decays[i]))
        chosen = range(order[0] * self.M, (order[0] + 1) * self.M)
        net = self.model.net.select(chosen)
        net.flat = self.best[list(chosen)].clone().requires_grad_()
        return FeatureHead(net, decay=self.how.decays[order[0]], seen_gap_N=self.gaps[list(chosen)].nanmean(0))


def _check(table: PairTable, ties: Ties) -> None:
    if not len(table) or not float(table.weight_N.sum()) > 0:
        raise BadInput("records", expected="pairs with a weight above 0",
                       received="none" if not len(table) else "only weights of 0")
    equal_N, counts_N = table.tie_N | (table.label_N == 0.5), _counting(table, ties) > 0
    if not bool((~equal_N & counts_N).any()):
        raise BadInput("records", expected="pairs of which one option was better",
                       received=f"{len(table)} pairs, all called equal or of weight 0")
    if len(set(table.family)) < 2:
        raise BadInput("records", expected="pairs of at least 2 prompts", received=f"{len(table)} pairs of one",
                       fix="what is learnt from one prompt cannot be tried on another")
    if not bool(torch.isfinite(table.x_N2C).all()):
        raise BadInput("features", expected="finite numbers", received="NaN or infinity",
                       fix="Scaling replaces what is missing")


def _folds(table: PairTable, how: HeadOptions, seeds: Seeds) -> tuple[Int[Tensor, "R N"], int]:
    """The fold of each pair in each repeat: prompts are dealt out evenly."""
    names = {f: i for i, f in enumerate(dict.fromkeys(table.family))}
    F = min(how.folds, len(names))
    rng = seeds.child("folds").torch()
    deal = [torch.randperm(len(names), generator=rng) % F for _ in range(how.repeats)]
    at = torch.tensor([names[f] for f in table.family])
    return torch.stack([d[at] for d in deal]), F


def _counting(table: PairTable, ties: Ties) -> Float[Tensor, "N"]:
    """What the pairs count: nothing where they are ties that are dropped."""
    return torch.where(table.tie_N, 0.0, table.weight_N) if ties == "drop" else table.weight_N


def _pair_data(table: PairTable, ties: Ties) -> PairData:
    """Options are episodes of one step."""
    (N, _, C), device = table.x_N2C.shape, table.x_N2C.device
    return PairData(
        features_SD=table.x_N2C.reshape(2 * N, C), first_step=torch.arange(2 * N, device=device).view(N, 2),
        weight_N2L=torch.ones(N, 2, 1, device=device), label=table.label_N, tie=table.tie_N, margin=table.margin_N,
        weight=_counting(table, ties), scale=torch.ones(N, device=device), rows=(torch.arange(N, device=device),),
        laid_out=table.x_N2C.reshape(N, 2 * C))


def _rows(chosen_MN: Bool[Tensor, "M N"]) -> Int[Tensor, "M n"]:
    """The places that are chosen in each row, -1 where one has fewer."""
    out = torch.full((len(chosen_MN), max(1, int(chosen_MN.sum(1).max()))), -1)
    for m, chosen in enumerate(chosen_MN):
        rows = chosen.nonzero()[:, 0]
        out[m, :len(rows)] = rows
    return out

