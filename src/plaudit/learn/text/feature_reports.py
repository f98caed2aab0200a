"""What a feature model has learnt, against what its author expected: importance, response curves, length, drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.intervals import Interval
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import mean_interval
from plaudit.learn.text.feature_heads import FeatureHead, PairTable
from plaudit.learn.text.feature_reward import FeatureReward, length_of
from plaudit.learn.text.feature_scaling import Scaling
from plaudit.learn.text.features import SIGN, Better

Moves = Literal["up", "down", "turns", "flat"]
TURN = 0.1
"""A curve turns where this share of its way goes back."""
FLAT = 0.02
"""A curve is flat whose way is at most this much, in standard deviations of the reward."""


def permutation_importance(head: FeatureHead, scaling: Scaling, table: PairTable, *, repeats: int = 10,
                           seed: int | Seeds = 0) -> dict[str, Interval]:
    """How much pair accuracy is lost where one feature is dealt out anew among all options, with its flag.

    Args:
        head: The model.
        scaling: Which columns belong to which feature.
        table: Pairs; better ones that were not trained on.
        repeats: How often each is dealt out.
        seed: Of the dealing.

    Returns:
        The mean loss of accuracy with its interval over pairs, largest first.

    Source:
        Breiman (2001), Random Forests, section 10; Fisher et al. (2019).
    """
    rng = (seed if isinstance(seed, Seeds) else Seeds(seed)).child("importance").torch()
    strict = (table.label_N != 0.5) & ~table.tie_N
    table = table[strict.nonzero()[:, 0]]
    x = table.x_N2C.reshape(2 * len(table), -1)
    before = _right(head(x), table)
    out: dict[str, Interval] = {}
    for k, name in enumerate(scaling.kept):
        mine = [c for c, owner in enumerate(scaling.owner) if owner == k]
        lost = torch.zeros(len(table), dtype=torch.float64)
        for _ in range(repeats):
            dealt = x.clone()
            dealt[:, mine] = x[torch.randperm(len(x), generator=rng)][:, mine]
            lost += before - _right(head(dealt), table)
        out[name] = mean_interval(lost / repeats)
    return dict(sorted(out.items(), key=lambda item: -item[1].mean))


def _right(value_M: Float[Tensor, "M"], table: PairTable) -> Float[Tensor, "N"]:
    """1 where the better option has the higher value, one half where they are equal."""
    gap = (value_M.view(-1, 2)[:, 0] - value_M.view(-1, 2)[:, 1]) * (table.label_N - 0.5).sign()
    return (gap > 0).double() + 0.5 * (gap == 0).double()


@dataclass(frozen=True)
class Response:
    """The mean reward as one feature goes through its training range and all others stay as they were."""

    name: str
    x: tuple[float, ...]
    """Values of the feature, in its own units."""
    y: tuple[float, ...]
    """The mean reward there, in standard deviations of the reward over the training options."""
    better: Better
    """What its author declared."""
    moves: Moves

    @property
    def agrees(self) -> bool | None:
        """Whether the curve goes the declared way; None where nothing was declared."""
        return None if self.better == "unknown" else self.moves == {"more": "up", "less": "down"}[self.better]

    def to_json(self) -> dict[str, Any]:
        """JSON values, rounded."""
        return {"x": [round(v, 6) for v in self.x], "y": [round(v, 6) for v in self.y], "better": self.better,
                "moves": self.moves, "agrees": self.agrees}


def response_curves(reward: FeatureReward, *, points: int = 15) -> list[Response]:
    """A curve for each kept feature (partial dependence) over the training rows that the reward keeps.

    Source:
        Friedman (2001), Greedy Function Approximation, section 8.2.
    """
    scaling, rows, out = reward.scaling, reward.background, list[Response]()
    declared: dict[str, Better] = {f.name: f.better for f in reward.features}
    share = torch.linspace(0, 1, points)
    for k, name in enumerate(scaling.kept):
        if name not in declared:
            continue  # the length control
        low, high = float(scaling.low_K[k]), float(scaling.high_K[k])
        x = low + share * (high - low)
        each = rows.unsqueeze(0).repeat(points, 1, 1)
        each[:, :, k] = ((x - scaling.mean_K[k]) / scaling.std_K[k]).unsqueeze(1)
        y = reward.head(each.reshape(points * len(rows), -1)).view(points, -1).mean(1)
        out.append(Response(name, tuple(x.tolist()), tuple(y.tolist()), declared[name], moves_of(y)))
    return out


def moves_of(y: Float[Tensor, "X"]) -> Moves:
    """Where a curve goes.

    Example:
        >>> [moves_of(torch.tensor(y)) for y in ([0.0, 1.0, 2.0], [2.0, 0.0, 0.1], [0.0, 1.0, 0.0], [0.0, 0.0, 0.001])]
        ['up', 'down', 'turns', 'flat']
    """
    steps = y.diff()
    up, down = float(steps.clamp(min=0).sum()), float(-steps.clamp(max=0).sum())
    if up + down <= FLAT:
        return "flat"
    if min(up, down) > TURN * (up + down):
        return "turns"
    return "up" if up > down else "down"


def sign_weights(scaling: Scaling, declared: Mapping[str, Better], table: PairTable) -> Float[Tensor, "C"]:
    """The weights of a plain mean of features, each turned so that more is better.

    Where no direction was declared, the side that the pairs prefer on average decides; flags and the length count 0.
    """
    side = (table.label_N - 0.5) * table.weight_N * 2
    lean_C = (side.unsqueeze(1) * (table.x_N2C[:, 0] - table.x_N2C[:, 1])).sum(0)
    out = torch.zeros(scaling.C)
    mine = [k for k, n in enumerate(scaling.kept) if n in declared]
    for k in mine:
        sign = SIGN[declared[scaling.kept[k]]]
        out[k] = (sign or float(lean_C[k].sign())) / len(mine)
    return out


def with_length(value_B: Float[Tensor, "B"], texts: Sequence[str], family: Sequence[Any]) -> float | None:
    """The correlation with the logarithm of the number of words among options of a prompt; None where none differ.

    Example:
        >>> with_length(torch.tensor([1.0, 2.0, 0.0, 3.0]), ["a", "a b", "c", "c d"], [0, 0, 1, 1])
        0.894
    """
    names = {f: i for i, f in enumerate(dict.fromkeys(family))}
    at = torch.tensor([names[f] for f in family])
    known = ~value_B.isnan()
    pair = torch.stack([value_B.nan_to_num().double(), length_of(texts).double()])
    count = torch.zeros(len(names), dtype=torch.float64).index_add(0, at, known.double()).clamp(min=1)
    mean = torch.stack([torch.zeros(len(names), dtype=torch.float64).index_add(0, at, row * known) for row in pair])
    a, b = ((pair - (mean / count)[:, at]) * known).unbind(0)
    size = float((a.square().sum() * b.square().sum()).sqrt())
    return round(float((a * b).sum()) / size, 3) if size > 1e-9 else None


@dataclass(frozen=True)
class Drift:
    """How far the texts of now lie from those of the training, for one feature."""

    outside: float
    """The share outside the training range (they are clipped to it)."""
    missing: float
    """The share that is unknown."""
    shift: float
    """The change of the mean, in standard deviations of the training set."""


def drift(reward: FeatureReward, prompts: Sequence[Any], completions: Sequence[Any], *,
          columns: Mapping[str, Sequence[Any]] | None = None) -> dict[str, Drift]:
    """Whether the features of a policy's texts are still those that were judged: they move when it hacks one."""
    table, scaling = reward.table(prompts, completions, columns=columns), reward.scaling
    out: dict[str, Drift] = {}
    for k, name in enumerate(scaling.kept):
        raw = table.raw_BD[:, scaling.names.index(name)]
        mean = float(raw.nanmean()) if bool((~raw.isnan()).any()) else float("nan")
        out[name] = Drift(float(table.columns.outside_BD[:, k].float().mean()),
                          float(table.columns.missing_BD[:, k].float().mean()),
                          (mean - float(scaling.mean_K[k])) / float(scaling.std_K[k]))
    return out
