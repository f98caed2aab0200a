"""What every number comes with: `Interval`, and how data are read before one is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from plaudit.core.errors import BadInput

Array: TypeAlias = NDArray[np.float64]
Data: TypeAlias = ArrayLike | Tensor


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Example:
        >>> print(Interval(12.34, 11.02, 13.91, 8))
        12.3 [11.0, 13.9]
    """

    mean: float
    """The estimate: a mean, an interquartile mean, a proportion, a correlation, ..."""
    low: float
    high: float
    n: int
    """How many independent numbers it rests on."""

    def __str__(self) -> str:
        width = self.high - self.low
        spread = math.isfinite(width) and width > 0
        decimals = 1 - math.floor(math.log10(width)) if spread else 0
        form = f".{max(decimals, 0)}f" if spread and decimals <= 6 else ".4g"
        return f"{self.mean:{form}} [{self.low:{form}}, {self.high:{form}}]"

    def exceeds(self, value: float) -> bool | None:
        """True where the whole interval lies above `value`, False where it lies below, None where it cannot tell.

        Example:
            >>> Interval(2.0, 1.0, 3.0, 5).exceeds(0.0), Interval(2.0, -1.0, 5.0, 5).exceeds(0.0)
            (True, None)
        """
        return True if self.low > value else False if self.high < value else None

    def to_json(self) -> dict[str, float | int | None]:
        """The numbers by name, None for those that are not finite."""
        out = {"mean": self.mean, "low": self.low, "high": self.high}
        return {**{k: v if math.isfinite(v) else None for k, v in out.items()}, "n": self.n}


def each_of(n: int, *, confidence: float = 0.95) -> float:
    """The confidence of each of n intervals that hold together (Bonferroni), so also of one that is chosen by its mean.

    Example:
        >>> round(each_of(5), 4), each_of(1)
        (0.99, 0.95)
    """
    return 1 - (1 - confidence) / n


# --- reading data ---------------------------------------------------------------------------------------


def as_array(name: str, x: Data) -> Array:
    """Finite numbers, at least one, as float64."""
    try:
        array = np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadInput(name, expected="numbers in an array", received=type(x).__name__) from None
    if array.size == 0 or not np.isfinite(array).all():
        raise BadInput(name, expected="at least one number, all finite",
                       received=f"{int((~np.isfinite(array)).sum())} of {array.size} not finite")
    return array


def as_vector(name: str, x: Data) -> Array:
    """Finite numbers [seeds]."""
    array = as_array(name, x)
    if array.ndim != 1:
        raise BadInput(name, expected="shape [seeds]", received=list(array.shape))
    return array


def as_tasks(name: str, x: Data) -> Array:
    """Finite numbers [tasks, seeds]; [seeds] is one task."""
    array = as_array(name, x)
    if array.ndim not in (1, 2):
        raise BadInput(name, expected="shape [seeds] or [tasks, seeds]", received=list(array.shape))
    return array.reshape(-1, array.shape[-1])


def as_pairs(x: Data, y: Data) -> tuple[Array, Array]:
    """Two samples of one length."""
    a, b = as_vector("x", x), as_vector("y", y)
    if len(a) != len(b):
        raise BadInput("y", expected=f"{len(a)} numbers, paired with x", received=len(b))
    return a, b


def z_score(confidence: float) -> float:
    """How many standard errors to each side hold the share `confidence` of a normal distribution."""
    if not 0 < confidence < 1:
        raise BadInput("confidence", expected="a number between 0 and 1", received=confidence, fix="pass 0.95")
    return NormalDist().inv_cdf((1 + confidence) / 2)
