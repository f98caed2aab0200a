"""How strong and how reliable each preference is, by the vote of models that did not see it.

mu is the mean over an ensemble of the reward gap towards the option that was called better, sigma its deviation. Low
ones are mostly wrong labels, those about 0 ambiguous, high ones plain (and the first to be over-fitted).
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.feedback.records import Preference
from plaudit.learn.text.losses import bradley_terry
from plaudit.learn.text.pair_heads import HeadOptions, Lessons, fit_heads, gaps


@dataclass(frozen=True, kw_only=True)
class CrossFit:
    """How strengths are measured.

    Raises:
        BadInput: when there are no folds or members.
    """

    folds: int = 5
    """How many parts; models judge the part that they did not see. 1 lets them judge what they learnt: harmless after
    one epoch (the paper's way), but longer ones repeat the noise that they memorised."""
    members: int = 10
    """Models in each fold."""
    bootstrap: bool = True
    """Whether each sees a bootstrap sample of the prompts; else they differ by order and first weights alone, as in the
    paper (linear models then not at all)."""
    hidden: tuple[int, ...] = ()
    """Widths of hidden layers; () is linear, fitted to the optimum."""
    decay: float = 1e-2
    """Weight of half the squared norm of linear models."""
    steps: int = 200
    """Steps of L-BFGS for linear models, updates of Adam for others: few, so that they do not learn the noise."""
    batch: int = 32
    """Pairs in an update of Adam."""
    lr: float = 3e-3
    """Its step size."""

    def __post_init__(self) -> None:
        for name in ("folds", "members", "steps", "batch"):
            if getattr(self, name) < 1:
                raise BadInput(f"cross_fit.{name}", expected="an integer >= 1", received=getattr(self, name))


@dataclass(frozen=True)
class Group:
    """Pairs of about one strength."""

    number: int
    """From the weakest, 0."""
    n: int
    low: float
    high: float
    mu: float
    """The mean."""
    sigma: float
    """The mean."""
    against: float
    """The share that the ensemble would have labelled the other way."""
    wrong: float | None = None
    """The share of wrong labels, where they are known."""


@dataclass(frozen=True, eq=False)
class Strengths:
    """mu and sigma of N pairs; with leading axes those of several data sets."""

    mu: Float[Tensor, "*S N"]
    sigma: Float[Tensor, "*S N"]
    folds: int = 1
    """1: the models had seen the pairs that they judged."""

    def __len__(self) -> int:
        return self.mu.shape[-1]

    @property
    def order(self) -> Int[Tensor, "*S N"]:
        """Rows from the weakest to the strongest."""
        return torch.argsort(self.mu, dim=-1, stable=True)

    @property
    def place(self) -> Float[Tensor, "*S N"]:
        """Which share of the pairs is weaker, in [0, 1).

        Example:
            >>> Strengths(torch.tensor([3.0, -1.0, 0.0, 1.0]), torch.zeros(4)).place
            tensor([0.7500, 0.0000, 0.2500, 0.5000])
        """
        return torch.argsort(self.order, dim=-1).to(self.mu.dtype) / len(self)

    def groups(self, k: int = 10) -> Int[Tensor, "*S N"]:
        """k groups of equal size, 0 the weakest.

        Raises:
            BadInput: when there are fewer pairs than groups.
        """
        if not 1 <= k <= len(self):
            raise BadInput("k", expected=f"a number of groups in [1, {len(self)}]", received=k)
        return (self.place * k + 1e-4).long()

    def reading(self, k: int = 10, *, wrong: Bool[Tensor, "N"] | None = None) -> list[Group]:
        """The strengths group by group; with `wrong`, how many labels of each are.

        Example:
            >>> found = Strengths(torch.linspace(-1, 3, 40), torch.ones(40)).reading(4)
            >>> [(g.n, g.against, round(g.mu, 1)) for g in found]
            [(10, 1.0, -0.5), (10, 0.0, 0.5), (10, 0.0, 1.5), (10, 0.0, 2.5)]
        """
        where = self.groups(k)
        out: list[Group] = []
        for g in range(k):
            mu, sigma = self.mu[where == g].double(), self.sigma[where == g].double()
            share = None if wrong is None else float(wrong[where == g].double().mean())
            out.append(Group(g, len(mu), float(mu.min()), float(mu.max()), float(mu.mean()), float(sigma.mean()),
                             float((mu < 0).double().mean()), share))
        return out

    def check(self) -> None:
        """Warns of what a reader would overlook: labels that are upside down, members that are all alike."""
        against = float((self.mu < 0).double().mean()) if self.mu.numel() else 0.0
        if against > 0.5:
            warnings.warn(f"{against:.0%} of the strengths are below 0: the labels may be upside down as a whole, or "
                          "nothing can be learnt of them", UserWarning, stacklevel=2)
        spread = float(self.mu.double().std()) if self.mu.numel() > 1 else 1.0
        if float(self.sigma.mean()) <= 1e-6 * spread:
            warnings.warn("the members of the ensemble are alike, so sigma says nothing: give them other seeds or "
                          "bootstrap samples", UserWarning, stacklevel=2)


def cross_fit(states: Sequence[Float[Tensor, "O D"]], records: Sequence[Preference], family: Sequence[Hashable], *,
              seed: int = 0, how: CrossFit | None = None, **options: Any) -> Strengths:
    """The strength of each pair under models that saw none of its prompt.

    mu > 0 where they agree with the label. Models that saw the pair would have learnt its noise: a flip by their
    strength would confirm itself.

    Args:
        states: The states of both options of each record, such as those of a frozen backbone.
        records: Labelled pairs.
        family: Records of one prompt are in one fold, and in the same bootstrap samples.
        seed: Of folds, samples and first weights.
        how: Folds, members and models; or its fields one by one.
        options: Fields of `CrossFit`.

    Raises:
        BadInput: when there are fewer prompts than folds, or a record is no labelled pair of two texts.

    Source:
        Secrets of RLHF II, section 2.1 (eq. 4), with cross-fitting in place of models of the same data.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x = torch.randn(60, 2, 3, generator=g)  # what has the larger first number is better
        >>> labels = (x[:, 0, 0] > x[:, 1, 0]).float()
        >>> labels[7] = 1 - labels[7]
        >>> records = [Preference(options=("a", "b"), context=str(i), label=float(y)) for i, y in enumerate(labels)]
        >>> found = cross_fit(list(x), records, range(60))
        >>> int(found.order[0]), bool(found.mu[7] < 0)
        (7, True)
    """
    how = how or CrossFit(**options)
    bad = next((i for i, r in enumerate(records) if len(r.options) != 2 or r.label is None), None)
    if bad is not None:
        raise BadInput(f"records[{bad}]", expected="a labelled pair", received=records[bad].options,
                       fix="as_comparisons makes pairs of larger records")
    same = next((i for i, r in enumerate(records) if r.options[0] == r.options[1]), None)
    if same is not None:
        raise BadInput(f"records[{same}]", expected="two different texts", received="the same text twice",
                       fix="plaudit.feedback.text.checks.check_pairs finds all of them")
    names = {f: i for i, f in enumerate(dict.fromkeys(family))}
    if len(names) < how.folds:
        raise BadInput("records", expected=f"at least {how.folds} prompts", received=len(names))
    label = torch.tensor([float(r.label) for r in records if r.label is not None])
    place = torch.tensor([names[f] for f in family])
    found = cross_fit_tensors(torch.stack(list(states)).float().unsqueeze(0), label.unsqueeze(0), [Seeds(seed)],
                              how=how, family_N=place)
    one = Strengths(found.mu[0], found.sigma[0], found.folds)
    one.check()
    return one


def cross_fit_tensors(x_SN2D: Float[Tensor, "S N 2 D"], label_SN: Float[Tensor, "S N"], seeds: Sequence[Seeds], *,
                      how: CrossFit | None = None, family_N: Int[Tensor, "N"] | None = None) -> Strengths:
    """`cross_fit` for S data sets at once, on tensors of any device; each row is a family unless they are said.

    Raises:
        BadInput: when there are not as many seeds as data sets.
    """
    how = how or CrossFit()
    S, N = label_SN.shape
    if len(seeds) != S:
        raise BadInput("seeds", expected=f"one for each of {S} data sets", received=len(seeds))
    family = torch.arange(N) if family_N is None else family_N.cpu()
    F, M = how.folds, how.members
    folds, weights = list[Tensor](), list[Tensor]()
    for root in seeds:
        generator = root.child("folds").numpy()
        many = int(family.max()) + 1
        folds.append((torch.from_numpy(generator.permutation(many)) % F)[family])
        counts = generator.poisson(1.0, (F * M, many)) if how.bootstrap else np.ones((F * M, many))
        draws = torch.from_numpy(counts).float()[:, family]
        seen = torch.ones(F, N) if F == 1 else (folds[-1] != torch.arange(F).unsqueeze(1)).float()
        seen = seen.repeat_interleave(M, 0)
        drawn = draws * seen
        weights.append(torch.where(drawn.sum(1, keepdim=True) > 0, drawn, seen))
    fold_SN, weight_SPN = (torch.stack(parts).to(x_SN2D.device) for parts in (folds, weights))
    x = x_SN2D / x_SN2D.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
    fit = _linear if not how.hidden else _perceptrons
    gap_SPN = fit(x, label_SN, weight_SPN, seeds, how).view(S, F, M, N)
    at = fold_SN[:, None, None].expand(S, 1, M, N)
    judged_SMN = gap_SPN.gather(1, at)[:, 0] * (2 * label_SN - 1).sign().unsqueeze(1)
    return Strengths(judged_SMN.mean(1).float(), judged_SMN.std(1, correction=0).float(), F)


def _linear(x: Tensor, label_SN: Tensor, weight_SPN: Tensor, seeds: Sequence[Seeds], how: CrossFit) -> Tensor:
    """Bradley-Terry models without an intercept, all at once."""
    gap = (x[:, :, 0] - x[:, :, 1]).double()
    gap = gap / gap.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-12)
    share = (weight_SPN / weight_SPN.sum(-1, keepdim=True)).double().transpose(1, 2)
    label = label_SN.double().unsqueeze(-1).expand_as(share)
    weight = torch.zeros(len(x), x.shape[-1], weight_SPN.shape[1], dtype=torch.float64, device=x.device,
                         requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=how.steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = (share * bradley_terry(torch.bmm(gap, weight), label)).sum() + how.decay * weight.square().sum() / 2
        loss.backward()
        return loss

    optimiser.step(closure)
    return torch.bmm(gap, weight.detach()).transpose(1, 2)


def _perceptrons(x: Tensor, label_SN: Tensor, weight_SPN: Tensor, seeds: Sequence[Seeds], how: CrossFit) -> Tensor:
    S, P, N = weight_SPN.shape
    sets = torch.arange(S, device=x.device).repeat_interleave(P)
    net = fit_heads(Lessons(x_SN2D=x, label_PN=label_SN[sets], weight_PN=weight_SPN.reshape(-1, N), set_P=sets),
                    HeadOptions(hidden=how.hidden, steps=how.steps, batch=how.batch, lr=how.lr),
                    seeds=[root.child("member", p) for root in seeds for p in range(P)])
    return gaps(net, x, sets).view(S, P, N)


def lessons_of_groups(x_N2D: Float[Tensor, "N 2 D"], label_N: Float[Tensor, "N"], strengths: Strengths,
                      test_M2D: Float[Tensor, "M 2 D"], *, groups: int = 10, members: int = 3,
                      options: HeadOptions | None = None, every: int = 25,
                      seed: int | Seeds = 0) -> tuple[list[int], Float[Tensor, "C G"]]:
    """What is learnt from each strength group alone: accuracy on clean pairs in the course of training.

    Training on the weakest groups ends below chance where their labels are wrong; the middle teaches most; the
    strongest are learnt at once and then over-fitted.

    Args:
        x_N2D: States of the pairs.
        label_N: What was said of them.
        strengths: Their strengths.
        test_M2D: States of clean pairs, the better option first: validation data carry the same noise, so take those
            whose label is known, or that other models are sure of (`clean_rows`).
        groups: How many.
        members: Heads for each, which are averaged.
        options: How heads are fitted.
        every: Updates between two measurements.
        seed: Of the heads.

    Returns:
        The updates at which it was measured, and the accuracy of each group there.
    """
    root = seed if isinstance(seed, Seeds) else Seeds(seed)
    where = strengths.groups(groups)
    weight = (where == torch.arange(groups, device=where.device).unsqueeze(1)).float().repeat_interleave(members, 0)
    steps, rows = list[int](), list[Tensor]()

    def watch(step: int, net: Any) -> None:
        gap = gaps(net, test_M2D.unsqueeze(0))
        steps.append(step)
        rows.append(((gap > 0).double() + 0.5 * (gap == 0)).mean(1).view(groups, members).mean(1))

    P = groups * members
    fit_heads(Lessons(x_SN2D=x_N2D.unsqueeze(0), label_PN=label_N.expand(P, -1), weight_PN=weight), options,
              seeds=[root.child("member", p % members) for p in range(P)], watch=watch, every=every)
    return steps, torch.stack(rows).float()


def clean_rows(strengths: Strengths, *, weakest: float = 0.4) -> Bool[Tensor, "N"]:
    """Pairs whose labels an ensemble is sure of: all but the weakest share, and none that it votes against.

    Example:
        >>> clean_rows(Strengths(torch.tensor([2.0, -1.0, 0.1, 3.0]), torch.ones(4)), weakest=0.5)
        tensor([ True, False, False,  True])
    """
    if not 0 <= weakest < 1:
        raise BadInput("weakest", expected="a share in [0, 1)", received=weakest)
    return (strengths.place >= weakest) & (strengths.mu > 0)
