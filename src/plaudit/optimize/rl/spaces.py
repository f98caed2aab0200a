"""Borders between a task's spaces and a network: observations become rows of numbers, raw actions the task's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from plaudit.core.errors import Unsupported
from plaudit.core.tree import Tree
from plaudit.optimize.rl.vision import Picture, picture_axes


class ObsEncoder:
    """Flattens nested observations to [B, D] float32: boxes as they are, choices one-hot, pictures in [0, 1].

    Attributes:
        size: D.
        pictures: The columns that hold pictures (see `picture_axes`), for networks that convolve them.

    Raises:
        Unsupported: for text and other spaces without a fixed number of entries.

    Example:
        >>> space = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(-1, 1, (2,))})
        >>> ObsEncoder(space)({"a": torch.tensor([2]), "b": torch.tensor([[5.0, 6.0]])}).tolist()
        [[0.0, 0.0, 1.0, 5.0, 6.0]]
    """

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        self.space = space
        self.size = _size(space, "obs")
        self.pictures = _pictures(space, 0)

    def __call__(self, obs: Tree) -> Float[Tensor, "B D"]:
        """[B, ...] to [B, D]."""
        return _encode(self.space, obs)


class ActionMap:
    """Raw actions to the task's units and back.

    Choices get the space's first number added. Numbers in [-1, 1] are scaled to the bounds of the box and limited
    to them; entries without two finite bounds are passed as they are.

    Raises:
        Unsupported: for spaces that are neither choices nor boxes.

    Example:
        >>> box = ActionMap(spaces.Box(0.0, 4.0, (1,)))
        >>> box.to_env(torch.tensor([[-1.0], [0.5], [7.0]])).flatten().tolist()
        [0.0, 3.0, 4.0]
    """

    def __init__(self, space: gymnasium.Space[Any], *, device: str | torch.device = "cpu") -> None:
        self.space = space
        self.choices: list[int] | None = None
        """The number of options of each choice; None for a box."""
        if isinstance(space, spaces.Box):
            self.shape, self.actions = space.shape, math.prod(space.shape)
            low, high = (np.asarray(x, dtype=np.float32).reshape(-1) for x in (space.low, space.high))
            self.low, self.high = (torch.as_tensor(x, device=device) for x in (low, high))
            bounded = torch.isfinite(self.low) & torch.isfinite(self.high)
            low, high = torch.where(bounded, self.low, -1.0), torch.where(bounded, self.high, 1.0)
            self.centre, self.scale = (low + high) / 2, (high - low) / 2
            return
        self.choices, first = _choices(space)
        self.shape = () if isinstance(space, spaces.Discrete) else (len(self.choices),)
        self.actions = len(self.choices)
        self.first = torch.as_tensor(first, device=device)

    def to_env(self, raw: Tensor) -> Tensor:
        """[..., K] to [..., *shape], integers or float32."""
        if self.choices is None:
            out = torch.minimum(torch.maximum(raw * self.scale + self.centre, self.low), self.high)
        else:
            out = raw.long() + self.first
        return out.reshape(*raw.shape[:-1], *self.shape)

    def from_env(self, action: Tensor, lead: int) -> Tensor:
        """The inverse of `to_env` for actions with `lead` leading axes."""
        flat = action.reshape(*action.shape[:lead], self.actions)
        if self.choices is None:
            return (flat - self.centre) / self.scale
        return flat - self.first


def _choices(space: gymnasium.Space[Any]) -> tuple[list[int], list[int]]:
    if isinstance(space, spaces.Discrete):
        return [int(space.n)], [int(space.start)]
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return [int(n) for n in space.nvec], [int(s) for s in space.start]
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return [2] * space.shape[0], [0] * space.shape[0]
    raise Unsupported(f"actions in {space} are not supported; use a Box, Discrete, MultiDiscrete or MultiBinary space "
                      "(gymnasium.wrappers.TransformAction changes one into another)")


def same_layout(one: gymnasium.Space[Any], other: gymnasium.Space[Any]) -> bool:
    """Whether two spaces hold elements of one form; boxes may have other bounds.

    Example:
        >>> from gymnasium.spaces import Box, Discrete
        >>> same_layout(Box(0, 1, (2,)), Box(0, 9, (2,))), same_layout(Box(0, 1, (1,)), Discrete(2))
        (True, False)
    """
    if isinstance(one, spaces.Box) and isinstance(other, spaces.Box):
        return one.shape == other.shape and picture_axes(one) == picture_axes(other)
    if isinstance(one, spaces.Dict) and isinstance(other, spaces.Dict):
        return [*one.spaces] == [*other.spaces] and all(same_layout(one[key], other[key]) for key in one.spaces)
    return one == other


def _size(space: gymnasium.Space[Any], where: str) -> int:
    if isinstance(space, spaces.Box):
        return math.prod(space.shape)
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiBinary):
        return math.prod(space.shape)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    if isinstance(space, spaces.Dict):
        return sum(_size(part, f"{where}[{key!r}]") for key, part in space.spaces.items())
    raise Unsupported(f"{where} lies in {space}, which has no fixed number of entries; drop it with "
                      "gymnasium.wrappers.FilterObservation or turn it into numbers with TransformObservation")


def _pictures(space: gymnasium.Space[Any], start: int) -> list[Picture]:
    if isinstance(space, spaces.Dict):
        found: list[Picture] = []
        for part in space.spaces.values():
            found += _pictures(part, start)
            start += _size(part, "obs")
        return found
    axes = picture_axes(space)
    return [] if axes is None else [Picture(start, tuple(space.shape or ()), axes)]


def _encode(space: gymnasium.Space[Any], obs: Tree) -> Tensor:
    if isinstance(space, spaces.Dict):
        assert isinstance(obs, Mapping)
        return torch.cat([_encode(part, obs[key]) for key, part in space.spaces.items()], -1)
    assert isinstance(obs, Tensor)
    if isinstance(space, spaces.Discrete):
        return F.one_hot(obs.long().reshape(-1) - int(space.start), int(space.n)).to(torch.float32)
    if isinstance(space, spaces.MultiDiscrete):
        flat, sizes = obs.reshape(obs.shape[0], -1).long(), [int(n) for n in space.nvec.reshape(-1)]
        starts = [int(s) for s in space.start.reshape(-1)]
        return torch.cat([F.one_hot(flat[:, i] - starts[i], n) for i, n in enumerate(sizes)], -1).to(torch.float32)
    flat = (obs if obs.ndim == 2 else obs.reshape(obs.shape[0], -1)).to(torch.float32)
    if picture_axes(space) is None:
        return flat
    assert isinstance(space, spaces.Box)
    return flat / max(1, int(space.high.max()))
