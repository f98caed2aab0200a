"""Two searches over vectors of N numbers that only need scores: ask for candidates, tell what they scored.

Letters: K candidates, N numbers. A score that is NaN or -inf ranks last. Scores are only compared in CEM; in the
random search they are also weighed.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.errors import BadInput


@runtime_checkable
class Search(Protocol):
    """What both searches offer."""

    generation: int
    mean: Tensor
    """The centre of the search, [N]."""

    def ask(self, K: int) -> Float[Tensor, "K N"]:
        """Candidates to be scored; their number may change from call to call."""
        ...

    def tell(self, theta_KN: Float[Tensor, "K N"], score_K: Float[Tensor, "K"]) -> None:
        """The scores of what `ask` gave; more is better."""
        ...

    @property
    def converged(self) -> bool:
        """Whether further generations would hardly differ."""
        ...


class CrossEntropy:
    """The cross-entropy method with a diagonal Gaussian, noise that fades, and elites that stay.

    A generation is K samples of N(mean, std^2 + noise); mean and std follow the elite share of them. The first
    candidate is the mean itself, the next ones the best of the generation before, scored anew.

    Args:
        size: N.
        rng: where the samples come from.
        spread: the first standard deviation.
        elite: the share that the next generation is drawn from, in (0, 1).
        noise: the first extra standard deviation, which falls linearly to 0 over `fade` generations.
        fade: generations.
        keep: how many elites are scored again.

    Source:
        Rubinstein (1999); the fading noise: Szita and Lorincz (2006), Learning Tetris using the noisy
        cross-entropy method, section 3.

    Example:
        >>> search = CrossEntropy(3, rng=np.random.default_rng(0))
        >>> for _ in range(40):
        ...     x = search.ask(64)
        ...     search.tell(x, -(x - 2.0).square().sum(-1))
        >>> search.mean.round(decimals=1).tolist()
        [2.0, 2.0, 2.0]
    """

    def __init__(self, size: int, *, rng: np.random.Generator, spread: float = 1.0, elite: float = 0.15,
                 noise: float = 0.5, fade: int = 20, keep: int = 2) -> None:
        if size < 1:
            raise BadInput("size", expected="an integer >= 1", received=size)
        if not 0 < elite < 1:
            raise BadInput("elite", expected="a share in (0, 1)", received=elite)
        self.size, self.rng, self.elite, self.noise, self.fade, self.keep = size, rng, elite, noise, fade, keep
        self.mean, self.std = torch.zeros(size), torch.full((size,), spread)
        self.spread, self.generation = spread, 0
        self._best = torch.zeros(0, size)

    def ask(self, K: int) -> Float[Tensor, "K N"]:
        """Samples, the mean first (not in the first generation), then the best of the last generation."""
        extra = self.noise * self.spread * max(0.0, 1 - self.generation / self.fade)
        std = (self.std.square() + extra**2).sqrt() if self.generation else self.std
        drawn = torch.from_numpy(self.rng.standard_normal((K, self.size)).astype(np.float32))
        theta = self.mean + std * drawn
        if self.generation and K > 1:
            again = torch.cat([self.mean.unsqueeze(0), self._best])[: max(1, K // 4)]
            theta[:len(again)] = again
        return theta

    def tell(self, theta_KN: Float[Tensor, "K N"], score_K: Float[Tensor, "K"]) -> None:
        """Moves mean and std to the elites."""
        order = ranking(score_K)
        elites = theta_KN[order[:max(2, round(self.elite * len(order)))]]
        rate = 0.8 if self.generation else 1.0
        self.mean = (1 - rate) * self.mean + rate * elites.mean(0)
        self.std = (1 - rate) * self.std + rate * elites.std(0, correction=0)
        self._best = theta_KN[order[:self.keep]].clone()
        self.generation += 1

    @property
    def converged(self) -> bool:
        """Whether the samples hardly differ any more."""
        return self.generation > self.fade and float(self.std.max()) < 0.02 * self.spread


class AugmentedRandomSearch:
    """Steps along the best of random directions, each tried both ways: for many parameters and few episodes.

    Args:
        size: N.
        rng: where the directions come from.
        spread: the standard deviation of the directions (nu).
        step: the length of a step (alpha).
        top: the share of directions that count (b / N in the paper).

    Source:
        Mania, Guy and Recht (2018), Simple random search provides a competitive approach to reinforcement
        learning, algorithm 2 (V1-t; the observations are scaled once, by the lens).
    """

    def __init__(self, size: int, *, rng: np.random.Generator, spread: float = 0.1, step: float = 0.05,
                 top: float = 0.5) -> None:
        if size < 1:
            raise BadInput("size", expected="an integer >= 1", received=size)
        self.size, self.rng, self.spread, self.step, self.top = size, rng, spread, step, top
        self.mean, self.generation = torch.zeros(size), 0
        self._flat = 0

    def ask(self, K: int) -> Float[Tensor, "K N"]:
        """Pairs mean + d, mean - d; with an odd K the mean itself comes last."""
        half = torch.from_numpy(self.rng.standard_normal((K // 2, self.size)).astype(np.float32)) * self.spread
        rest = self.mean.expand(K % 2, self.size)
        return torch.cat([torch.stack([self.mean + half, self.mean - half], 1).reshape(-1, self.size), rest])

    def tell(self, theta_KN: Float[Tensor, "K N"], score_K: Float[Tensor, "K"]) -> None:
        """One step."""
        pairs = score_K.numel() // 2
        score = _filled(score_K)[: 2 * pairs].reshape(pairs, 2)
        direction = (theta_KN[: 2 * pairs].reshape(pairs, 2, self.size)[:, 0] - self.mean) / self.spread
        best = score.amax(-1).argsort(descending=True, stable=True)[:max(1, round(self.top * pairs))]
        used = score[best]
        std = float(used.std(correction=0))
        self._flat = self._flat + 1 if std < 1e-9 else 0
        if std >= 1e-9:
            gain = (used[:, 0] - used[:, 1]).float().unsqueeze(-1)
            self.mean = self.mean + self.step / (len(best) * std) * (gain * direction[best]).sum(0)
        self.generation += 1

    @property
    def converged(self) -> bool:
        """Whether all directions have scored alike for some generations."""
        return self._flat >= 5


def ranking(score_K: Float[Tensor, "K"]) -> Tensor:
    """Indices from the best to the worst; NaN last; equal scores keep their order."""
    return torch.where(torch.isnan(score_K), -torch.inf, score_K).argsort(descending=True, stable=True)


def _filled(score_K: Tensor) -> Tensor:
    """Scores in which those that are not finite equal the worst of the others (0 where there are none)."""
    good = torch.isfinite(score_K)
    worst = score_K[good].amin() if bool(good.any()) else score_K.new_zeros(())
    return torch.where(good, score_K, worst)
