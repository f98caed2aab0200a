"""Preferences from factors ranked by importance: the decision tree of HERON.

Two options are compared by the most important factor first; where they differ by no more than its margin, by the
next, and so on. Nothing has to be weighed against anything else, so the units of the factors do not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.algebra import as_reward
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.reward import Reward
from plaudit.feedback.oracles import Over, check_over, need_over
from plaudit.feedback.preferences import Preferences

Read = Literal["total", "last", "largest"]


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One thing that matters, measured on a fragment.

    Raises:
        BadInput: when the sign is neither 1 nor -1, or the margin is negative.

    Example:
        >>> Factor(name="queue", of=lambda next_obs: next_obs[..., 0], sign=-1, margin=0.5).sign
        -1
    """

    name: str
    of: Reward | Callable[..., Any] = field(repr=False)
    """Its value at each step, in any units."""
    sign: int
    """1 where more is better, -1 where less is."""
    margin: float = 0.0
    """c_l: differences of up to this many standard deviations are no difference; 0 compares exactly."""
    read: Read = "total"
    """What of the steps counts: their total (sum or mean, as the hierarchy says), the last or the largest."""
    gap: float = 0.0
    """By how much the better option should win, in units of the reward, where this factor decides (for the loss)."""

    def __post_init__(self) -> None:
        if self.sign not in (1, -1):
            raise BadInput(f"factor {self.name}: sign", expected="1 (more is better) or -1", received=self.sign)
        for name in ("margin", "gap"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInput(f"factor {self.name}: {name}", expected="a finite number >= 0",
                               received=getattr(self, name))
        if self.read not in ("total", "last", "largest"):
            raise BadInput(f"factor {self.name}: read", expected="total, last or largest", received=self.read)


def decide(z_NL: Float[Tensor, "N L"], other_NL: Float[Tensor, "N L"],
           margin_L: Float[Tensor, "*N L"]) -> tuple[Float[Tensor, "N"], Int[Tensor, "N"]]:
    """The decision tree, on factors in order of importance with more being better.

    The first level whose difference exceeds its margin decides. A level that is not known (NaN) hides those below
    it: the pair stays undecided, because that level might have decided otherwise.

    Returns:
        The label (1 the first, 0 the second, NaN undecided), and the level that decided (-1: none).

    Source:
        Bukharin et al. (2023), HERON, algorithm 1.

    Example:
        >>> z = torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.5, 1.0]])
        >>> other = torch.tensor([[0.0, 9.0], [0.0, 1.0], [0.0, 1.0]])
        >>> decide(z, other, torch.tensor([0.6, 0.0]))
        (tensor([1., 1., nan]), tensor([ 0,  1, -1]))
    """
    gap = z_NL - other_NL
    speaks = (gap.abs() > margin_L) | torch.isnan(gap)
    level = speaks.int().argmax(1)
    found = gap.gather(1, level.unsqueeze(1))[:, 0]
    decided = speaks.any(1) & ~torch.isnan(found)
    label = torch.where(decided, (found > 0).to(gap.dtype), torch.nan)
    return label, torch.where(decided, level, -1)


class Hierarchy:
    """An annotator that ranks by factors in order of importance (HERON).

    Args:
        factors: Most important first.
        ranking: Another order, as a permutation of their indices.
        over: Whether a factor's total is the `sum` or the `mean` over the steps of a fragment; has to be said where
            fragments of different lengths are compared.
        scale: What margins are multiples of, by name: standard deviations; None takes those of the fragments at
            hand (a constant factor has 0, so that it never decides unless it changes).
        name: How the answers are signed.

    Raises:
        BadInput: when there are no factors, two share a name, or the ranking is no permutation.

    Example:
        >>> store = Episodes.of_transitions(obs=torch.tensor([[0.0, 5.0], [1.0, 2.0], [1.0, 3.0]]),
        ...                                 action=torch.zeros(3), next_obs=torch.zeros(3, 2))
        >>> ranked = Hierarchy([Factor(name="goal", of=lambda obs: obs[..., 0], sign=1),
        ...                     Factor(name="effort", of=lambda obs: obs[..., 1], sign=-1)])
        >>> said = ranked(Preferences.of_pairs(store, row=[[0, 1], [1, 2], [2, 2]]))
        >>> said.label.tolist(), said.level.tolist()
        ([0.0, 1.0, nan], [0, 1, -1])
    """

    def __init__(self, factors: Sequence[Factor], *, ranking: Sequence[int] | None = None, over: Over | None = None,
                 scale: dict[str, float] | None = None, name: str = "hierarchy") -> None:
        if not factors:
            raise BadInput("factors", expected="at least one", received="none")
        order = list(range(len(factors))) if ranking is None else list(ranking)
        if sorted(order) != list(range(len(factors))):
            raise BadInput("ranking", expected=f"a permutation of 0 ... {len(factors) - 1}", received=order)
        names = [f.name for f in factors]
        if len(set(names)) < len(names):
            raise BadInput("factors", expected="different names", received=names)
        check_over(over)
        self.factors = [factors[i] for i in order]
        self.over: Over | None = over
        self.scale, self.name = scale, name
        self._rewards = [as_reward(f.of) for f in self.factors]

    def __call__(self, pairs: Preferences) -> Preferences:
        need_over(pairs, self.over)
        fragments, index = pairs.distinct()
        z_N2L = self.values(fragments).cpu()[index]
        label, level = decide(z_N2L[:, 0], z_N2L[:, 1], self.margins(z_N2L, pairs.group))
        gaps = torch.tensor([*(f.gap for f in self.factors), 0.0])
        return pairs.labelled(label, level=level, margin=gaps[level], annotator=self.name, provenance=self.settings())

    def values(self, fragments: Episodes) -> Float[Tensor, "N L"]:
        """The factors of fragments, most important first, in float64 and so that more is better; NaN: unknown."""
        columns = [self._read(f, r, fragments) for f, r in zip(self.factors, self._rewards, strict=True)]
        return torch.stack(columns, 1)

    def _read(self, factor: Factor, reward: Reward, fragments: Episodes) -> Float[Tensor, "N"]:
        score = reward.score(fragments)
        value = torch.where(score.known, score.value.double(), torch.nan)
        if factor.read == "last":
            value = value.gather(1, fragments.last.unsqueeze(1))[:, 0]
        elif factor.read == "largest":
            bad = (~score.known).any(1)
            value = torch.where(fragments.mask, value, -math.inf).amax(1)
            value = torch.where(bad, torch.nan, value)
        else:
            value = torch.where(fragments.mask, value, 0.0).sum(1)
            value = value / fragments.lengths if self.over == "mean" else value
        return factor.sign * value

    def margins(self, z_N2L: Float[Tensor, "N 2 L"], group: Int[Tensor, "N"]) -> Float[Tensor, "N L"]:
        """delta_l = c_l * std(z_l) over the options of each group, or over what `scale` says."""
        multiple = torch.tensor([f.margin for f in self.factors], dtype=torch.float64)
        if self.scale is not None:
            fixed = torch.tensor([self.scale.get(f.name, math.nan) for f in self.factors], dtype=torch.float64)
            if bool(torch.isnan(fixed).any()):
                raise BadInput("scale", expected=f"a number for each of {[f.name for f in self.factors]}",
                               received=self.scale)
            return (multiple * fixed).expand(len(group), -1)
        groups = int(group.max()) + 1 if len(group) else 1
        known = ~torch.isnan(z_N2L)
        sums = lambda x: x.new_zeros(groups, x.shape[-1]).index_add_(0, group, x.sum(1))  # noqa: E731
        count = sums(known.double()).clamp(min=1)
        mean = sums(torch.where(known, z_N2L, 0.0)) / count
        away = torch.where(known, z_N2L - mean[group].unsqueeze(1), 0.0)
        return multiple * (sums(away.square()) / count).sqrt()[group]

    def settings(self) -> dict[str, Any]:
        """The tree as JSON."""
        return {"annotator": self.name, "over": self.over, "factors": [
            {"name": f.name, "sign": f.sign, "margin": f.margin, "read": f.read, "gap": f.gap} for f in self.factors]}


def intransitive_share(prefers_KK: Bool[Tensor, "K K"]) -> float:
    """The share of cycles (a over b over c over a) among the triples whose three pairs were all decided.

    Margins make them possible. A Bradley-Terry model averages them out; a large share says that the margins hide
    what should decide.

    Args:
        prefers_KK: True at [i, j] where i was preferred to j.

    Example:
        >>> rock_paper_scissors = torch.tensor([[0, 1, 0], [0, 0, 1], [1, 0, 0]]).bool()
        >>> intransitive_share(rock_paper_scissors)
        1.0
    """
    over = prefers_KK.double()
    decided = ((over + over.T) > 0).double()
    triples = float(torch.einsum("ij,jk,ki->", decided, decided, decided)) / 6
    cycles = float(torch.einsum("ij,jk,ki->", over, over, over)) / 3
    return cycles / triples if triples else 0.0
