"""Features as a model reads them: standardised and clipped by the training set, what is missing replaced and flagged.

Of a feature that a policy can push out of the range that people judged, the model knows nothing: there it pays as at
the end of the range. What is missing gets the mean of the training set, and a column of its own says so; the model
learns what missing is worth. Where a feature was never missing in training it could not learn that, and a row in which
it is missing is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.core.errors import BadInput

CONSTANT = 1e-6
"""A standard deviation of so much of the size of the mean is none."""


@dataclass(frozen=True, eq=False)
class Columns:
    """B rows of what a model reads, and what was done to them."""

    x_BC: Float[Tensor, "B C"]
    """Standardised values of the kept features, then their flags (in no units: a rare one must not become the loudest
    input); 0 is the mean of the training set."""
    missing_BD: Bool[Tensor, "B K"]
    """Which kept features were unknown."""
    outside_BD: Bool[Tensor, "B K"]
    """Which lay outside their training range, and were clipped."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """What a training set says of its features; made by `Scaling.of`.

    Example:
        >>> raw = torch.tensor([[0.0, 5.0, 1.0], [2.0, 5.0, torch.nan], [4.0, 5.0, 3.0]])
        >>> scaling = Scaling.of(raw, ["a", "b", "c"])
        >>> scaling.kept, scaling.flagged, scaling.dropped
        (('a', 'c'), ('c',), {'b': 'it is 5 everywhere'})
        >>> scaling(torch.tensor([[99.0, 5.0, torch.nan]])).x_BC[0, :2]  # clipped to 4, replaced by the mean
        tensor([1.2247, 0.0000])
    """

    names: tuple[str, ...]
    """All features, in the order in which they are read."""
    kept: tuple[str, ...]
    flagged: tuple[str, ...]
    """Those that were sometimes missing."""
    dropped: Mapping[str, str]
    """Those that say nothing, and why."""
    mean_K: Float[Tensor, "K"]
    std_K: Float[Tensor, "K"]
    low_K: Float[Tensor, "K"]
    high_K: Float[Tensor, "K"]
    missing_F: Float[Tensor, "F"]
    """The share of rows in which each flagged feature was missing."""

    @staticmethod
    def of(raw_BD: Float[Tensor, "B D"], names: Sequence[str], *,
           why: Sequence[Mapping[str, int]] = ()) -> Scaling:
        """Learns from the options of a training set.

        Args:
            raw_BD: Features as they were read, NaN where unknown.
            names: Their names.
            why: For each feature, reasons for what is unknown (for the message).

        Raises:
            BadInput: when no feature is left.
        """
        dropped: dict[str, str] = {}
        kept: list[int] = []
        for d, name in enumerate(names):
            known = raw_BD[:, d][~raw_BD[:, d].isnan()].double()
            if not len(known):
                reasons = list(why[d]) if why else []
                dropped[name] = f"it is unknown everywhere{': ' + reasons[0] if reasons else ''}"
            elif float(known.std(correction=0)) <= CONSTANT * max(1.0, abs(float(known.mean()))):
                dropped[name] = f"it is {float(known[0]):g} everywhere"
            else:
                kept.append(d)
        if not kept:
            raise BadInput("features", expected="at least one that differs between completions",
                           received="; ".join(f"{n}: {reason}" for n, reason in dropped.items()))
        x = raw_BD[:, kept].double()
        lost = x.isnan()
        mean, count = x.nanmean(0), (~lost).sum(0)
        std = ((x - mean).nan_to_num().square().sum(0) / count).sqrt()
        low, high = (torch.where(lost, end, x).aminmax(dim=0)[i] for i, end in ((0, torch.inf), (1, -torch.inf)))
        share = lost.double().mean(0)
        flags = [k for k in range(len(kept)) if float(share[k]) > 0]
        return Scaling(tuple(names), tuple(names[d] for d in kept), tuple(names[kept[k]] for k in flags), dropped,
                       mean.float(), std.float(), low.float(), high.float(), share[flags].float())

    @property
    def C(self) -> int:
        """How many columns a model reads."""
        return len(self.kept) + len(self.flagged)

    @property
    def owner(self) -> list[int]:
        """For each column, the place of its feature among the kept ones."""
        return [*range(len(self.kept)), *(self.kept.index(n) for n in self.flagged)]

    def __call__(self, raw_BD: Float[Tensor, "B D"]) -> Columns:
        """Rows as the model reads them."""
        raw = raw_BD[:, [self.names.index(n) for n in self.kept]]
        missing = raw.isnan()
        slack = CONSTANT * self.std_K
        outside = (raw < self.low_K - slack) | (raw > self.high_K + slack)
        clipped = torch.maximum(torch.minimum(raw, self.high_K), self.low_K)
        x = torch.where(missing, torch.zeros_like(raw), (clipped - self.mean_K) / self.std_K)
        flags = missing[:, [self.kept.index(n) for n in self.flagged]].float()
        return Columns(torch.cat([x, flags - self.missing_F], 1), missing, outside & ~missing)

    def surprised(self, columns: Columns) -> Bool[Tensor, "B"]:
        """Rows that lack a feature which was never missing in training."""
        never = torch.tensor([n not in self.flagged for n in self.kept])
        return (columns.missing_BD & never).any(1)

    def to_json(self) -> dict[str, Any]:
        """The names; the numbers are in `state`."""
        return {"names": list(self.names), "kept": list(self.kept), "flagged": list(self.flagged),
                "dropped": dict(self.dropped)}

    def state(self) -> dict[str, Tensor]:
        """The numbers."""
        return {n: getattr(self, n) for n in ("mean_K", "std_K", "low_K", "high_K", "missing_F")}

    @staticmethod
    def from_json(raw: Mapping[str, Any], state: Mapping[str, Tensor] | None = None) -> Scaling:
        """The inverse of both; without numbers it only has its shape."""
        K, F = len(raw["kept"]), len(raw["flagged"])
        blank = {"mean_K": torch.zeros(K), "std_K": torch.ones(K), "low_K": torch.zeros(K), "high_K": torch.zeros(K),
                 "missing_F": torch.zeros(F)}
        return Scaling(tuple(raw["names"]), tuple(raw["kept"]), tuple(raw["flagged"]), dict(raw["dropped"]),
                       **dict(state or blank))
