"""Running mean and variance of observations or rewards, one set for each member of a population."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from plaudit.core.errors import BadInput

_MOMENTS = ("count", "mean", "m2")


class RunningMoments:
    """Mean and variance of a stream of batches, merged in float64 so that the order of batches does not matter.

    Every member of a population has statistics of its own. A number that is not finite is not counted.

    A feature that (nearly) never moved is centred but not divided: where its standard deviation is at most
    `relative` times the size of its mean, or at most `absolute`, its scale is 1. Otherwise the rounding noise of a
    constant feature would become the loudest input, and its first real move an explosion. What comes out is limited
    to `clip` standard deviations besides.

    Args:
        shape: the shape of one sample: D, (D,), (height, width, channels), or () for single numbers.
        population: how many members, P.
        clip: the largest size of a normalised number, positive; inf for no limit.
        relative: the threshold against the size of the mean; 1e-6 is some ten times the rounding of float32.
        absolute: the threshold in the feature's own units.
        device: where the statistics live.

    Raises:
        BadInput: when a number is out of its range.

    Source:
        Chan, Golub and LeVeque (1983), Algorithms for Computing the Sample Variance, eq. 2.1.

    Example:
        >>> moments = RunningMoments(2)
        >>> moments.update(torch.tensor([[[0.0, 5.0], [2.0, 5.0]]]))
        >>> moments.normalise(torch.tensor([[2.0, 5.0]])).tolist()
        [[1.0, 0.0]]
    """

    def __init__(self, shape: int | Sequence[int], *, population: int = 1, clip: float = 10.0,
                 relative: float = 1e-6, absolute: float = 1e-8, device: str | torch.device = "cpu") -> None:
        self.shape: tuple[int, ...] = (shape,) if isinstance(shape, int) else tuple(shape)
        if population < 1 or any(d < 0 for d in self.shape):
            raise BadInput("population, shape", expected="at least 1 member, sizes of 0 or more",
                           received=(population, self.shape))
        if not clip > 0 or not relative >= 0 or not absolute >= 0 or math.isinf(relative + absolute):
            raise BadInput("clip, relative, absolute", expected="clip above 0, thresholds of 0 or more",
                           received=(clip, relative, absolute))
        self.population, self.clip, self.relative, self.absolute = population, clip, relative, absolute
        self.frozen = False
        self.count, self.mean, self.m2 = (
            torch.zeros(population, *self.shape, dtype=torch.float64, device=device) for _ in _MOMENTS)

    # --- learning ------------------------------------------------------------------------------

    def update(self, x: Num[Tensor, "P ..."], *, mask: Bool[Tensor, "P ..."] | None = None) -> None:
        """Counts a batch; does nothing when frozen.

        Args:
            x: [P, ..., *shape], any number of axes between.
            mask: [P, ...], True where a sample counts; None counts all.

        Raises:
            BadInput: when a shape does not fit.
        """
        samples = self._samples("x", x)
        counts = torch.isfinite(samples)
        if mask is not None:
            if mask.shape != x.shape[: x.ndim - len(self.shape)]:
                raise BadInput("mask", expected=f"shape {list(x.shape[: x.ndim - len(self.shape)])}",
                               received=list(mask.shape))
            counts &= mask.reshape(self.population, samples.shape[1], *(1 for _ in self.shape))
        if self.frozen:
            return
        values = torch.where(counts, samples, 0.0)
        count = counts.sum(1, dtype=torch.float64)
        mean = values.sum(1) / count.clamp(min=1)
        m2 = (torch.where(counts, samples - mean.unsqueeze(1), 0.0) ** 2).sum(1)
        self._merge(count, mean, m2)

    def merge(self, other: RunningMoments) -> None:
        """Counts what another one has counted, such as another worker's; does nothing when frozen."""
        if (other.population, other.shape) != (self.population, self.shape):
            raise BadInput("other", expected=f"population {self.population} of shape {self.shape}",
                           received=f"population {other.population} of shape {other.shape}")
        if not self.frozen:
            self._merge(*(getattr(other, name).to(self.mean.device) for name in _MOMENTS))

    def _merge(self, count: Tensor, mean: Tensor, m2: Tensor) -> None:
        total = self.count + count
        share = count / total.clamp(min=1)
        delta = mean - self.mean
        self.mean = self.mean + delta * share
        self.m2 = self.m2 + m2 + delta**2 * self.count * share
        self.count = total

    def freeze(self) -> None:
        """Keeps the statistics as they are from now on, such as in an evaluation."""
        self.frozen = True

    # --- using ---------------------------------------------------------------------------------

    @property
    def var(self) -> Float[Tensor, "P ..."]:
        """The population variance [P, *shape] (divided by the count), 0 where nothing was counted."""
        return self.m2 / self.count.clamp(min=1)

    @property
    def scale(self) -> Float[Tensor, "P ..."]:
        """What a feature is divided by [P, *shape]: its standard deviation, or 1 where it (nearly) never moved."""
        std = self.var.sqrt()
        threshold = (self.relative * self.mean.abs()).clamp(min=self.absolute)
        return torch.where(std > threshold, std, 1.0)

    def normalise(self, x: Num[Tensor, "P ..."], *, centre: bool = True) -> Float[Tensor, "P ..."]:
        """Samples in units of their standard deviations.

        Args:
            x: [P, ..., *shape].
            centre: subtract the mean; False only divides (rewards keep their sign).

        Returns:
            The shape and dtype of x (float32 where x holds integers), within [-clip, clip]; NaN where x is NaN.
        """
        samples = self._samples("x", x)
        shifted = samples - self.mean.unsqueeze(1) if centre else samples
        dtype = x.dtype if x.is_floating_point() else torch.float32
        return (shifted / self.scale.unsqueeze(1)).clamp(-self.clip, self.clip).to(dtype).reshape(x.shape)

    def denormalise(self, z: Float[Tensor, "P ..."], *, centre: bool = True) -> Float[Tensor, "P ..."]:
        """The inverse of `normalise` within the clip range."""
        samples = self._samples("z", z) * self.scale.unsqueeze(1)
        return (samples + self.mean.unsqueeze(1) if centre else samples).to(z.dtype).reshape(z.shape)

    def member(self, index: int) -> RunningMoments:
        """A copy of one member's statistics, as a population of one."""
        if not 0 <= index < self.population:
            raise BadInput("index", expected=f"a member in [0, {self.population})", received=index)
        out = RunningMoments(self.shape, clip=self.clip, relative=self.relative, absolute=self.absolute,
                             device=self.mean.device)
        out.count, out.mean, out.m2 = (getattr(self, name)[index : index + 1].clone() for name in _MOMENTS)
        out.frozen = self.frozen
        return out

    def to(self, device: str | torch.device) -> RunningMoments:
        """Moves the statistics, and returns itself."""
        self.count, self.mean, self.m2 = (getattr(self, name).to(device) for name in _MOMENTS)
        return self

    # --- saving --------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The statistics, as tensors and JSON values."""
        return {**{name: getattr(self, name).clone() for name in _MOMENTS}, "frozen": self.frozen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave.

        Raises:
            BadInput: when the state is one of another shape or population.
        """
        shapes = {name: tuple(state[name].shape) if name in state else None for name in _MOMENTS}
        if set(shapes.values()) != {(self.population, *self.shape)} or "frozen" not in state:
            raise BadInput("state", expected=f"statistics of shape {(self.population, *self.shape)}", received=shapes)
        self.count, self.mean, self.m2 = (
            state[name].to(device=self.mean.device, dtype=torch.float64, copy=True) for name in _MOMENTS)
        self.frozen = bool(state["frozen"])

    def __repr__(self) -> str:
        return f"RunningMoments(shape={self.shape}, population={self.population}, frozen={self.frozen})"

    def _samples(self, name: str, x: Tensor) -> Tensor:
        """The tensor as [P, N, *shape] in float64."""
        between = x.ndim - len(self.shape)
        if between < 1 or x.shape[0] != self.population or tuple(x.shape[between:]) != self.shape:
            raise BadInput(name, expected=f"shape [{self.population}, ..., {', '.join(map(str, self.shape))}]",
                           received=list(x.shape), fix="the first axis is the population, also where it is 1")
        n = math.prod(x.shape[1:between])
        return x.reshape(self.population, n, *self.shape).to(torch.float64)
