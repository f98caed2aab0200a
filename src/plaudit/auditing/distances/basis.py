"""What sampled distances fit with: fixed features, least squares for values, canonical rewards and dynamics.

All of it is linear in the reward, so that the fits of R + shaping and of R differ by the fit of the shaping
alone, and many rewards share one factorisation. Letters: N transitions, D features, R rewards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import gymnasium
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.core.tree import Tree, leaves

_LINEAR_UP_TO = 64
"""Inputs with more numbers than this (images) enter through the random features alone."""
_SPREADS = (0.5, 1.0, 2.0)
"""Length scales of the random features, in units of the typical distance between two inputs."""
_RIDGE = 1e-10


@dataclass(frozen=True, eq=False, kw_only=True)
class Basis:
    """Features of inputs [N, ...]: one-hot where the space is discrete, else 1, x, x^2 and random cosines.

    Random Fourier features (Rahimi & Recht 2007) span smooth functions; the polynomial part represents the
    usual quadratic costs exactly.
    """

    classes: int = 0
    mean: Tensor | None = None
    std: Tensor | None = None
    frequency: Tensor | None = None
    phase: Tensor | None = None

    @staticmethod
    def fit(x: Tensor, *, generator: torch.Generator, features: int = 192, classes: int = 0) -> Basis:
        """Chooses scales from inputs [N, D] (or indices [N, 1] of so many `classes`)."""
        if classes:
            return Basis(classes=classes)
        mean, std = x.mean(0), x.std(0, correction=0)
        std = torch.where(std > 1e-6 * (1 + mean.abs()), std, 1.0)
        moving = ((x - mean) / std).std(0, correction=0) > 0.5
        D = max(1, int(moving.sum()))
        scale = torch.tensor(_SPREADS, dtype=torch.float64).repeat_interleave(math.ceil(features / len(_SPREADS)))
        normal = torch.randn(x.shape[-1], len(scale), generator=generator, dtype=torch.float64)
        phase = 2 * math.pi * torch.rand(len(scale), generator=generator, dtype=torch.float64)
        return Basis(mean=mean, std=std, frequency=normal / (scale * math.sqrt(2 * D)), phase=phase)

    def __call__(self, x: Float[Tensor, "N K"]) -> Float[Tensor, "N D"]:
        if self.classes:
            return torch.nn.functional.one_hot(x[:, 0].long().clamp(0, self.classes - 1), self.classes).double()
        assert self.mean is not None and self.std is not None
        assert self.frequency is not None and self.phase is not None
        z = ((x - self.mean) / self.std).clamp(-10, 10)
        parts = [torch.ones_like(z[:, :1]), math.sqrt(2) * torch.cos(z @ self.frequency + self.phase)]
        if z.shape[-1] <= _LINEAR_UP_TO:
            parts += [z, z**2]
        return torch.cat(parts, -1)


def flat(tree: Tree) -> Float[Tensor, "N D"]:
    """All leaves [N, ...] side by side, as float64."""
    parts = [leaf.double().flatten(1) if leaf.ndim > 1 else leaf.double().unsqueeze(-1) for _, leaf in leaves(tree)]
    return torch.cat(parts, -1)


def one_hot(action: Tensor, space: gymnasium.Space) -> Float[Tensor, "N D"]:
    """Actions [N, ...] as numbers: one-hot where they are choices."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return torch.nn.functional.one_hot(action.long() - int(space.start), int(space.n)).double()
    return flat(action)


def solve_values(here: Float[Tensor, "N D"], there: Float[Tensor, "N D"], reward: Float[Tensor, "N R"], *,
                 discount: float) -> Float[Tensor, "D R"]:
    """Weights of the value function by least-squares temporal differences (LSTD, Bradtke & Barto 1996).

    Solves E[f(s) (f(s) - discount f(s'))^T] w = E[f(s) r]; `there` is 0 where the episode terminated.
    """
    left = here.T @ (here - discount * there)
    return _solve(left, here.T @ reward, size=(here**2).sum(0).mean())


def solve_potential(here: Float[Tensor, "N D"], there: Float[Tensor, "N D"], reward: Float[Tensor, "N R"], *,
                    discount: float) -> Float[Tensor, "D R"]:
    """Weights of the potential that leaves the least sum of squares of R + discount potential(s') - potential(s)."""
    return solve_regression(discount * there - here, -reward)


def solve_regression(x: Float[Tensor, "N D"], y: Float[Tensor, "N R"]) -> Float[Tensor, "D R"]:
    """Ridge regression with a ridge too small to be seen."""
    return _solve(x.T @ x, x.T @ y, size=(x**2).sum(0).mean())


def blocks(mask: Bool[Tensor, "B T"], length: int) -> Tensor:
    """For each step that happened (rows first), the number of its stretch of `length` steps: the unit of resampling."""
    B, T = mask.shape
    stretch = torch.arange(T) // length
    number = torch.arange(B)[:, None] * (int(stretch.max()) + 1) + stretch
    return torch.unique(number[mask], return_inverse=True)[1]


def _solve(left: Tensor, right: Tensor, *, size: Tensor) -> Tensor:
    ridge = _RIDGE * size * torch.eye(len(left), dtype=left.dtype)
    return torch.linalg.solve(left + ridge, right)  # lstsq's default driver gives other last digits at each call
