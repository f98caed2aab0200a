"""What is done with pairs by their strength: left out, turned round, softened, or asked for a margin."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.core.checkpoint import replacing
from plaudit.core.errors import BadInput
from plaudit.feedback.records import Preference
from plaudit.learn.text.losses import flipped
from plaudit.learn.text.strengths import Strengths

Where = Literal["all", "ambiguous", "strongest", "both"]


@dataclass(frozen=True, kw_only=True)
class Denoise:
    """What is done with pairs by their strength. All of it can be combined; it happens in this order.

    Raises:
        BadInput: when a share is none, or margins are larger than the head can give.

    Source:
        Secrets of RLHF II (arXiv 2401.06080), sections 2.2 and 2.3: flip the lowest fifth, soften, and ask for a
        margin, all together, was the most stable recipe there.

    Example:
        >>> paper = Denoise(flip=0.2, smooth=0.1, margin=1.0)
    """

    drop: float = 0.0
    """The share of the lowest strengths that is left out: the plain baseline."""
    flip: float = 0.0
    """The share of the lowest strengths (of those left) whose labels change sides; the paper's is 0.2."""
    smooth: float = 0.0
    """Label smoothing epsilon: 1 becomes 1 - epsilon."""
    smooth_where: Where = "all"
    """Which are softened: all, the ambiguous ones, the strongest ones (against over-fitting), or both of these."""
    by_strength: bool = False
    """Whether epsilon falls with |mu|, as 2 epsilon sigma(-|mu|): the whole epsilon only where models cannot tell."""
    ambiguous: float = 0.2
    """The share above the flipped ones that counts as ambiguous."""
    strongest: float = 0.1
    """The share at the top that counts as strongest."""
    margin: float = 0.0
    """The margin becomes so many times |mu|, at most `most`."""
    most: float = 5.0
    """The largest margin."""
    bound: float | None = None
    """The largest gap that the head can give, where it is bounded."""

    def __post_init__(self) -> None:
        shares = (self.drop, self.flip, self.ambiguous, self.strongest)
        if not (all(0 <= s < 1 for s in shares) and 0 <= self.smooth < 0.5):
            raise BadInput("denoise", expected="shares in [0, 1), smoothing in [0, 0.5)", received=self)
        if self.smooth_where not in ("all", "ambiguous", "strongest", "both"):
            raise BadInput("denoise.smooth_where", expected="all, ambiguous, strongest or both",
                           received=self.smooth_where)
        if not (0 <= self.margin < math.inf and 0 <= self.most < math.inf):
            raise BadInput("denoise.margin", expected="finite numbers >= 0", received=(self.margin, self.most))
        if self.bound is not None and self.margin and self.most >= self.bound:
            raise BadInput("denoise.most", expected=f"margins below {self.bound:g}, the largest gap of the head",
                           received=self.most, fix="lower `most`")

    @property
    def idle(self) -> bool:
        """Whether nothing would be done."""
        return not (self.drop or self.flip or self.smooth or self.margin)


@dataclass(frozen=True, eq=False)
class Treated:
    """What came of N pairs; with leading axes, of several data sets."""

    label: Float[Tensor, "*S N"]
    margin: Float[Tensor, "*S N"]
    kept: Bool[Tensor, "*S N"]
    flipped: Bool[Tensor, "*S N"]
    softened: Float[Tensor, "*S N"]
    """The epsilon of each."""


def treat(label: Float[Tensor, "*S N"], strengths: Strengths, how: Denoise) -> Treated:
    """`Denoise` on tensors.

    Example:
        >>> found = treat(torch.ones(5), Strengths(torch.tensor([-2.0, -1.0, 0.5, 1.0, 2.0]), torch.ones(5)),
        ...               Denoise(drop=0.2, flip=0.25, smooth=0.1, margin=1.0))
        >>> found.kept.tolist()
        [False, True, True, True, True]
        >>> found.label, found.margin
        (tensor([0.9000, 0.1000, 0.9000, 0.9000, 0.9000]), tensor([2.0000, 1.0000, 0.5000, 1.0000, 2.0000]))
    """
    N = len(strengths)
    rank = torch.argsort(strengths.order, dim=-1)
    dropped = math.floor(how.drop * N + 1e-9)
    turned = dropped + math.floor(how.flip * (N - dropped) + 1e-9)
    flip = (rank >= dropped) & (rank < turned)
    unsure = (rank >= turned) & (rank < turned + math.floor(how.ambiguous * N + 1e-9))
    top = rank >= N - math.floor(how.strongest * N + 1e-9)
    soft = {"all": torch.ones_like(flip), "ambiguous": unsure, "strongest": top, "both": unsure | top}[how.smooth_where]
    epsilon = how.smooth * soft.to(label.dtype)
    size = strengths.mu.abs().to(label.dtype)
    if how.by_strength:
        epsilon = 2 * epsilon * torch.sigmoid(-size)
    turned_label = flipped(label, flip)
    return Treated((1 - epsilon) * turned_label + epsilon * (1 - turned_label),
                   (how.margin * size).clamp(max=how.most), rank >= dropped, flip, epsilon)


def denoise(records: Sequence[Preference], strengths: Strengths, how: Denoise) -> list[Preference]:
    """Records with cleaner labels; what was done stands in their provenance.

    Labels that are upside down as a whole, and an ensemble whose members are all alike, are warned about.

    Raises:
        BadInput: when there are not as many strengths as records.

    Example:
        >>> records = [Preference(options=("a", "b"), label=1.0) for _ in range(4)]
        >>> said = Strengths(torch.tensor([-2.0, 1.0, 2.0, 0.5]), torch.ones(4))
        >>> [r.label for r in denoise(records, said, Denoise(flip=0.25))]
        [0.0, 1.0, 1.0, 1.0]
    """
    if len(strengths) != len(records):
        raise BadInput("strengths", expected=f"{len(records)}, one for each record", received=len(strengths))
    bad = next((i for i, r in enumerate(records) if r.label is None), None)
    if bad is not None:
        raise BadInput(f"records[{bad}]", expected="a labelled pair", received="no label")
    strengths.check()
    done = treat(torch.tensor([float(r.label) for r in records if r.label is not None]), strengths, how)
    out: list[Preference] = []
    for i, record in enumerate(records):
        if bool(done.kept[i]):
            said = {"mu": round(float(strengths.mu[i]), 6), "sigma": round(float(strengths.sigma[i]), 6),
                    "flipped": bool(done.flipped[i])}
            out.append(replace(record, label=round(float(done.label[i]), 6), strength=None,
                               margin=float(done.margin[i]) or record.margin,
                               provenance={**record.provenance, **said}))
    return out


def write_strengths(path: Path, rows: Sequence[int], records: Sequence[Preference], strengths: Strengths,
                    how: Denoise | None = None) -> None:
    """One line of JSON for each pair, the weakest first: its row, mu, sigma, its tenth, and what was done with it.

    Args:
        path: The file.
        rows: Which rows the records are.
        records: The pairs.
        strengths: Their strengths.
        how: What is done with them, if anything.
    """
    label = torch.tensor([float(r.label) for r in records if r.label is not None])
    done = treat(label, strengths, how or Denoise())
    tenth = (strengths.place * 10).long()
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for i in map(int, strengths.order):
            did = "flipped" if bool(done.flipped[i]) else "kept" if bool(done.kept[i]) else "dropped"
            file.write(json.dumps({
                "row": rows[i], "mu": round(float(strengths.mu[i]), 6), "sigma": round(float(strengths.sigma[i]), 6),
                "tenth": int(tenth[i]) + 1, "did": did, "label": records[i].label,
                "new_label": round(float(done.label[i]), 6), "margin": round(float(done.margin[i]), 6)}) + "\n")
