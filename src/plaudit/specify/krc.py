"""Kinesthetic reward combination: parts that must all be good, multiplied instead of added."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.algebra import Node, as_reward
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.joining import join_members, join_why
from plaudit.core.reward import Reward
from plaudit.core.score import Score

log = logging.getLogger(__name__)
_SLACK = 1e-5


def signed_geometric_mean(parts_NBT: Float[Tensor, "N ..."], *, epsilon: float = 0.0) -> Float[Tensor, "..."]:
    """sgn * (|x_1| ... |x_n|)^(1/n), where sgn is 1 only if all x are positive, else -1 (eq. 3).

    Two negatives do not make plus: it is no product of signs. One 0 makes it 0, also beside NaN; otherwise NaN stays.

    Args:
        parts_NBT: The n numbers on the first axis.
        epsilon: Above 0, the root is (p + epsilon)^(1/n) - epsilon^(1/n) of the product p, whose slope at 0 is finite.

    Example:
        >>> signed_geometric_mean(torch.tensor([[0.5, -0.5, 0.5], [0.5, -0.5, 0.0]])).tolist()
        [0.5, -0.5, 0.0]
    """
    n = parts_NBT.shape[0]
    zero = (parts_NBT == 0).any(0)
    size = parts_NBT.abs()
    if epsilon > 0:
        mean = (size.prod(0) + epsilon) ** (1 / n) - epsilon ** (1 / n)
    else:
        mean = size.clamp(min=torch.finfo(size.dtype).tiny).log().mean(0).exp()
    return torch.where(zero, 0.0, torch.where((parts_NBT > 0).all(0), mean, -mean))


class KRC(Node):
    """The signed geometric mean of several rewards; see `krc`.

    What is unknown follows the truth table of gates: a part that is known to be 0 makes the whole 0 whatever the
    others are, since 0 times any number is 0; otherwise an unknown part makes the whole unknown. (A known negative
    part fixes the sign, but not the size.)

    Its terms are itself, with weight 1, and those of its parts with weight 0: they are seen in logs and maps, and what
    the terms paid still sums to the value.
    """

    def __init__(self, parts: Sequence[Reward], *, name: str = "krc", epsilon: float = 0.0) -> None:
        if not parts:
            raise BadInput("parts", expected="at least one reward", received="an empty list")
        if not (math.isfinite(epsilon) and epsilon >= 0):
            raise BadInput("epsilon", expected="a finite number >= 0", received=epsilon)
        super().__init__(parts, name=name)
        self.epsilon = epsilon
        self._warned = False
        for part in self.parts:
            if not all(math.isinf(end) or abs(end) <= 1 + _SLACK for end in part.range):
                self._warn(part.name, f"may pay {part.range[0]:g} to {part.range[1]:g}")
        lows, highs = [p.range[0] for p in self.parts], [p.range[1] for p in self.parts]
        most = self._mean([max(abs(a), abs(b)) for a, b in zip(lows, highs, strict=True)])
        self.range = (-most if min(lows) < 0 else 0.0, self._mean([max(0.0, h) for h in highs]))

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        values = torch.stack([s.value for s in scores])
        for part, score in zip(self.parts, scores, strict=True):
            if not self._warned and bool((score.value.abs() > 1 + _SLACK).any()):
                self._warn(part.name, f"paid {float(torch.nan_to_num(score.value).abs().max()):g}")
        value = signed_geometric_mean(values, epsilon=self.epsilon)
        terms: dict[str, Tensor] = {self.name: value}
        for part, score in zip(self.parts, scores, strict=True):
            for term, numbers in score.terms.items():
                key = term if term not in terms else f"{part.name}.{term}"
                copies = 2
                while key in terms:
                    key, copies = f"{term} ({copies})", copies + 1
                terms[key] = numbers
        weights = {term: 1.0 if term == self.name else 0.0 for term in terms}
        return Score.of(value, mask=episodes.mask, terms=terms, weights=weights, why=join_why(scores),
                        members=join_members(scores, lambda xs: signed_geometric_mean(
                            torch.stack(xs), epsilon=self.epsilon)))

    def _mean(self, sizes: Sequence[float]) -> float:
        if any(s == 0 for s in sizes):
            return 0.0
        if any(map(math.isinf, sizes)):
            return math.inf
        return float(signed_geometric_mean(torch.tensor(sizes, dtype=torch.float64), epsilon=self.epsilon)) + (
            0.0 if self.epsilon else 1e-9)

    def _warn(self, name: str, what: str) -> None:
        self._warned = True
        log.warning("%s: %s %s, outside [-1, 1]: the parts of a geometric mean should have one scale, or the largest "
                    "decides; divide it, or .clip(-1, 1)", self.name, name, what)

    def spec(self) -> dict[str, Any]:
        """JSON from which `from_spec` makes it again."""
        return {"epsilon": self.epsilon}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], parts: Sequence[Reward]) -> KRC:
        return cls(parts, epsilon=float(spec["epsilon"]))

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(p.name for p in self.parts)})"


def krc(*parts: Any, name: str = "krc", epsilon: float = 0.0) -> KRC:
    """The signed geometric mean of rewards: high only where all of them are, 0 where one is (eq. 3).

    Args:
        *parts: Rewards (or functions, as `plaudit.reward` reads them) of about [-1, 1]; others are warned about.
        name: How it is called.
        epsilon: Set it (1e-3) to take gradients through it: the root has an infinite slope where a part is 0.

    Raises:
        BadInput: without parts, or for a negative epsilon.

    Example:
        >>> from plaudit.core.algebra import Constant
        >>> e = Episodes.of_steps(obs=torch.zeros(1, 1), action=torch.zeros(1), next_obs=torch.zeros(1, 1))
        >>> (0.7 * krc(Constant(0.25), Constant(1.0)) + krc(Constant(-0.25), Constant(-1.0), name="both bad"))(e).item()
        -0.15
    """
    return KRC([as_reward(p) for p in parts], name=name, epsilon=epsilon)
