"""Reward surface maps (Moschopoulos et al. 2023, the reward analysis of Lucy-SKG): a reward over two dimensions.

A reward of single steps that reads obs, action and next_obs can be asked anywhere: it is evaluated on a
grid over the two dimensions that move it most, the others held at their median. Any other reward is
shown as the mean of what it paid where behaviours went.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.reward import Reward

ASKABLE = frozenset({"obs", "action", "next_obs", "terminated", "truncated"})
SIDE = 48


@dataclass(frozen=True)
class Surface:
    """A map [X, Y] with its axes; NaN where nothing is known."""

    name: str
    value: np.ndarray
    x_name: str
    y_name: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    path: np.ndarray | None = None
    """[T, 2], an episode over the map."""
    flip_y: bool = False


def surfaces(reward: Reward, episodes: Sequence[Episodes], *, path: Episodes | None, most: int = 3,
             names: Sequence[str] = ()) -> list[Surface]:
    """Maps of the reward and of its terms; empty where the observations have fewer than two dimensions.

    Args:
        reward: What to draw.
        episodes: Where behaviours went: they give the ranges, and the values of a reward that cannot be asked.
        path: One episode to draw over the maps.
        most: The largest number of maps.
        names: Names of the dimensions of the observation.
    """
    flat = Episodes.cat([_plain(e) for e in episodes if isinstance(e.obs, Tensor)]).transitions() \
        if any(isinstance(e.obs, Tensor) for e in episodes) else None
    if flat is None or not isinstance(flat.next_obs, Tensor) or flat.next_obs.ndim != 3 or flat.next_obs.shape[-1] < 2:
        return []
    seen = flat.next_obs[:, 0].double()
    score = reward.score(flat)
    i, j = _dimensions(seen, torch.nan_to_num(score.value[:, 0].double()))
    i, j, flip = _as_on_a_map(i, j, names)
    axes = _Axes(seen, i, j, names)
    cells = len(seen[:, i].unique()) <= SIDE and len(seen[:, j].unique()) <= SIDE
    askable = reward.needs.time == "step" and reward.needs.state == "none" and reward.needs.fields <= ASKABLE
    if askable and not cells and flat.action.is_floating_point() | (flat.action.ndim == 2):
        score, where = reward.score(_grid(flat, axes)), None
    else:
        where = axes.cells(seen)
    parts = {"reward": score.value[:, 0], **({n: score.contribution(n)[:, 0] for n in score.terms}
                                             if len(score.terms) > 1 else {})}
    line = None if path is None or not isinstance(path.next_obs, Tensor) else \
        torch.cat([path.obs[0, :1, [i, j]], path.next_obs[0, path.mask[0]][:, [i, j]]]).numpy()  # type: ignore[index]
    return [Surface(name, axes.image(value.double(), where), axes.name(i), axes.name(j), axes.x, axes.y, line, flip)
            for name, value in list(parts.items())[:most]]


class _Axes:
    """Two dimensions of the observation and a grid over what was seen of them."""

    def __init__(self, seen: Tensor, i: int, j: int, names: Sequence[str]) -> None:
        self.i, self.j, self.names = i, j, names
        self.x, self.y = self._range(seen[:, i]), self._range(seen[:, j])
        self.median = seen.median(0).values
        self.shape = tuple(int(min(SIDE, max(2, len(seen[:, k].unique())))) for k in (i, j))

    @staticmethod
    def _range(x: Tensor) -> tuple[float, float]:
        few = len(x.unique()) <= SIDE
        low, high = (float(x.min()), float(x.max())) if few else (float(x.quantile(0.01)), float(x.quantile(0.99)))
        return (low, high) if high - low > 1e-9 else (low - 0.5, low + 0.5)

    def name(self, k: int) -> str:
        return self.names[k] if k < len(self.names) else f"obs[{k}]"

    def cells(self, seen: Tensor) -> Tensor:
        """The flat cell of each observation; -1 outside."""
        index = []
        for k, (low, high), n in ((self.i, self.x, self.shape[0]), (self.j, self.y, self.shape[1])):
            index.append(((seen[:, k] - low) / (high - low) * (n - 1)).round().long())
        inside = (index[0] >= 0) & (index[0] < self.shape[0]) & (index[1] >= 0) & (index[1] < self.shape[1])
        return torch.where(inside, index[0] * self.shape[1] + index[1], -1)

    def image(self, value: Tensor, where: Tensor | None) -> np.ndarray:
        """[X, Y] from values on the grid, or from the mean of values in their cells."""
        if where is None:
            return value.reshape(SIDE, SIDE).numpy()
        total, count = (torch.zeros(self.shape[0] * self.shape[1], dtype=torch.float64) for _ in range(2))
        good = (where >= 0) & torch.isfinite(value)
        total.index_add_(0, where[good], value[good])
        count.index_add_(0, where[good], torch.ones(int(good.sum()), dtype=torch.float64))
        return torch.where(count > 0, total / count, torch.nan).reshape(self.shape).numpy()


def _dimensions(seen: Tensor, paid: Tensor) -> tuple[int, int]:
    """The two dimensions in whose bins the mean reward varies most."""
    spread: list[float] = []
    for k in range(seen.shape[1]):
        x = seen[:, k].contiguous()
        if float(x.std()) < 1e-9:
            spread.append(-1.0)
            continue
        edges = torch.quantile(x, torch.linspace(0, 1, 13, dtype=torch.float64)).unique()
        bins = torch.bucketize(x, edges[1:-1])
        means = torch.stack([paid[bins == b].mean() for b in bins.unique()])
        spread.append(float(means.std(correction=0)))
    first, second = sorted(np.argsort(spread, kind="stable")[::-1][:2].tolist())
    return first, second


def _as_on_a_map(i: int, j: int, names: Sequence[str]) -> tuple[int, int, bool]:
    """Rows and columns are drawn as on a map: columns to the right, rows downwards."""
    if len(names) > 1 and tuple(names[:2]) == ("row", "column"):
        return 1, 0, True
    return i, j, False


def _grid(flat: Episodes, axes: _Axes) -> Episodes:
    """Transitions that stand still at each point of the grid, with the median action."""
    n = SIDE * SIDE
    obs = axes.median.repeat(n, 1)
    x, y = torch.meshgrid(torch.linspace(*axes.x, SIDE), torch.linspace(*axes.y, SIDE), indexing="ij")
    obs[:, axes.i], obs[:, axes.j] = x.flatten().double(), y.flatten().double()
    obs = obs.to(flat.next_obs.dtype)  # type: ignore[union-attr]
    action = flat.action[:, 0].median(0).values.expand(n, *flat.action.shape[2:])
    return Episodes.of_transitions(obs=obs, action=action, next_obs=obs)


def _plain(episodes: Episodes) -> Episodes:
    """Without what differs between behaviours, so that batches can be joined."""
    return episodes.replace(group=None, agent=None, member=None)
