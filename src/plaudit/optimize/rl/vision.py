"""Networks that see: convolutions in front of a population of perceptrons, all members in one grouped product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from plaudit.optimize.rl.networks import PopulationMLP

SMALLEST_SIDE = 8
"""A `uint8` box with a shorter side is a table of codes, read as numbers."""
_LARGE, _SMALL = 48, 20
_MNIH = ((32, 8, 4, 0), (64, 4, 2, 0), (64, 3, 1, 0))
_MIDDLE = ((16, 4, 2, 1), (32, 3, 2, 1))
_TINY = ((16, 3, 1, 1), (32, 3, 2, 1))


@dataclass(frozen=True)
class Picture:
    """Where a picture lies in an encoded observation, and how its numbers are ordered."""

    start: int
    """Its first column."""
    shape: tuple[int, ...]
    """As the environment gives it."""
    axes: tuple[int, ...]
    """The order of its axes that puts height and width last; those before them are channels."""

    @property
    def size(self) -> int:
        """Its number of columns."""
        return math.prod(self.shape)

    @property
    def channels(self) -> int:
        """The number of channels, stacked frames included."""
        return math.prod(self.shape[a] for a in self.axes[:-2])

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[self.axes[-2]], self.shape[self.axes[-1]]


def picture_axes(space: gymnasium.Space[Any]) -> tuple[int, ...] | None:
    """The order of axes that puts height and width of a picture last; None where the space holds none.

    A picture is a `uint8` box [H, W], [H, W, C], [C, H, W], or a stack of such ([S, H, W, C] or [S, C, H, W]), with
    at least 8 rows and columns. The channels are the shorter of the first and the last axis of a frame.

    Example:
        >>> picture_axes(spaces.Box(0, 255, (84, 84, 3), np.uint8)), picture_axes(spaces.Box(0, 1, (2, 84, 84)))
        ((2, 0, 1), None)
    """
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) not in (2, 3, 4):
        return None
    rank = len(space.shape)
    if rank == 2:
        axes = (0, 1)
    else:
        first, last = rank - 3, rank - 1
        channel = first if space.shape[first] < space.shape[last] else last
        axes = (*range(first), channel, *(a for a in range(first, rank) if a != channel))
    return axes if min(space.shape[a] for a in axes[-2:]) >= SMALLEST_SIDE else None


def convolutions(sides: tuple[int, int]) -> tuple[tuple[int, int, int, int], ...]:
    """Channels, width, stride and padding of each layer for pictures of this size.

    From 48 pixels on the layers of Mnih et al. 2015; below it two layers whose strides suit the size.

    Example:
        >>> [layer[0] for layer in convolutions((84, 84))], [layer[0] for layer in convolutions((16, 16))]
        ([32, 64, 64], [16, 32])
    """
    side = min(sides)
    return _MNIH if side >= _LARGE else _MIDDLE if side >= _SMALL else _TINY


class PopulationConv(PopulationMLP):
    """P networks that cut the pictures out of their inputs, convolve them, and go on as perceptrons.

    Inputs are rows of numbers [P, N, D], as for `PopulationMLP`; the columns of the pictures are replaced by what
    the convolutions make of them. Their parameters (`filter_i_j`, `offset_i_j` of picture i and layer j) follow the
    perceptron's in `flat`. Convolutions are initialised orthogonally with gain sqrt(2) and followed by ReLU.

    Args:
        sizes: The widths, from the input (pictures and numbers) to the output.
        pictures: Where the pictures lie.
        generators: One for each member.
        stack: How many networks each member has.
        device: Where the parameters live.
        **options: Those of `PopulationMLP`.

    Example:
        >>> from plaudit.core.seeds import Seeds
        >>> picture = Picture(start=1, shape=(8, 8, 3), axes=(2, 0, 1))
        >>> net = PopulationConv((1 + 192, 16, 2), pictures=[picture], generators=[Seeds(p).torch() for p in range(3)])
        >>> net(torch.zeros(3, 5, 193)).shape
        torch.Size([3, 5, 2])
    """

    def __init__(self, sizes: Sequence[int], *, pictures: Sequence[Picture], generators: Sequence[torch.Generator],
                 stack: int = 1, device: str | torch.device = "cpu", **options: Any) -> None:
        self.pictures = list(pictures)
        self.plans = [convolutions(p.sides) for p in self.pictures]
        seen = torch.zeros(sizes[0], dtype=torch.bool)
        for p in self.pictures:
            seen[p.start:p.start + p.size] = True
        self._others = (~seen).nonzero()[:, 0].to(device)
        features = sum(_features(p, plan) for p, plan in zip(self.pictures, self.plans, strict=True))
        super().__init__((features + len(self._others), *sizes[1:]), generators=generators, stack=stack, device=device,
                         **options)
        filters = {name: shape for i, (p, plan) in enumerate(zip(self.pictures, self.plans, strict=True))
                   for name, shape in _filters(i, p, plan).items()}
        self.layout = {**self.layout, **filters}
        self._lengths = [math.prod(shape) for shape in self.layout.values()]
        rows = torch.stack([_initial(filters, g) for g in generators for _ in range(stack)]).to(device)
        self.flat = torch.cat([self.flat.detach(), rows], -1).requires_grad_()

    def inputs(self, x: Float[Tensor, "P N D"], part: dict[str, Tensor]) -> Float[Tensor, "P N F"]:
        P, N = x.shape[:2]
        parts: list[Tensor] = [x.index_select(-1, self._others)] if len(self._others) else []
        for i, (picture, plan) in enumerate(zip(self.pictures, self.plans, strict=True)):
            image = x[..., picture.start:picture.start + picture.size].reshape(P, N, *picture.shape)
            image = image.permute(1, 0, *(a + 2 for a in picture.axes)).reshape(N, -1, *picture.sides)
            for j, (_, _, stride, padding) in enumerate(plan):
                weight, bias = part[f"filter_{i}_{j}"].flatten(0, 1), part[f"offset_{i}_{j}"].flatten()
                image = torch.relu(F.conv2d(image, weight, bias, stride=stride, padding=padding, groups=P))
            parts.append(image.reshape(N, P, -1).transpose(0, 1))
        return torch.cat(parts, -1)


def population_net(pictures: Sequence[Picture], sizes: Sequence[int], **options: Any) -> PopulationMLP:
    """A `PopulationConv` where there are pictures, else a `PopulationMLP`."""
    return PopulationConv(sizes, pictures=pictures, **options) if pictures else PopulationMLP(sizes, **options)


def _features(picture: Picture, plan: Sequence[tuple[int, int, int, int]]) -> int:
    height, width = picture.sides
    for _, kernel, stride, padding in plan:
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
    return plan[-1][0] * height * width


def _filters(i: int, picture: Picture, plan: Sequence[tuple[int, int, int, int]]) -> dict[str, tuple[int, ...]]:
    layout: dict[str, tuple[int, ...]] = {}
    channels = picture.channels
    for j, (out, kernel, _, _) in enumerate(plan):
        layout[f"filter_{i}_{j}"], layout[f"offset_{i}_{j}"] = (out, channels, kernel, kernel), (out,)
        channels = out
    return layout


def _initial(filters: dict[str, tuple[int, ...]], generator: torch.Generator) -> Float[Tensor, "W"]:
    parts: list[Tensor] = []
    for name, shape in filters.items():
        part = torch.zeros(shape)
        if name.startswith("filter"):
            torch.nn.init.orthogonal_(part, math.sqrt(2), generator=generator)
        parts.append(part.flatten())
    return torch.cat(parts)
