"""Numbers with their intervals: means and interquartile means over seeds, improvements, proportions, correlations.

Bootstrap intervals are percentile intervals, resampled within each task as rliable does (Agarwal et al. 2021), and
stretched about the estimate by sqrt(n / (n - 1)) * t / z: with few seeds the plain ones are too short (with three
seeds they cover 75% at best), stretched ones match Student's t on normal data and keep the bootstrap's asymmetry.
One run says nothing about the spread: its interval is (-inf, inf), from which no verdict can be drawn.
Data that hold NaN or infinity are refused: leaving them out would be an answer to a question nobody asked.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from plaudit.core.comparisons import pearson, probability_of_improvement, proportion_interval, spearman
from plaudit.core.errors import BadInput
from plaudit.core.intervals import Array, Data, Interval, as_array, as_pairs, as_tasks, as_vector, z_score

__all__ = ["Interval", "PairedTest", "bootstrap", "curve_band", "difference_interval", "iqm", "iqm_interval",
           "mean_interval", "paired_test", "pearson", "probability_of_improvement", "proportion_interval", "spearman"]

CELLS = 4_000_000
"""How many resampled numbers are held at once."""
_EXACT = 12  # up to 2**12 sign flips are all tried

# --- means over seeds ----------------------------------------------------------------------------------


def iqm(x: Data) -> float:
    """The interquartile mean: the mean of what is left when a quarter of all numbers is cut off at each end.

    Source:
        Agarwal et al. (2021), Deep RL at the Edge of the Statistical Precipice, section 4.3; like there, a quarter
        is rounded down, so that fewer than four numbers give their mean.

    Example:
        >>> iqm([0.0, 1.0, 3.0, 100.0])
        2.0
    """
    return float(_trimmed(as_array("x", x).reshape(1, -1))[0])


def mean_interval(x: Data, *, confidence: float = 0.95, seed: int = 0, resamples: int = 2000) -> Interval:
    """The mean with a stretched percentile bootstrap interval, resampled within each task.

    Args:
        x: [seeds] or [tasks, seeds].
        confidence: the share of intervals that should hold the truth, in (0, 1).
        seed: of the resampling.
        resamples: how many bootstrap samples.

    Raises:
        BadInput: when x is empty, has another shape, or holds NaN or infinity.

    Example:
        >>> print(mean_interval([1.0, 2.0, 3.0, 4.0, 5.0]))
        3.0 [1.1, 4.9]
    """
    return _stratified(x, _mean, confidence, seed, resamples)


def iqm_interval(x: Data, *, confidence: float = 0.95, seed: int = 0, resamples: int = 2000) -> Interval:
    """The interquartile mean over all runs with a stretched percentile bootstrap interval (see `mean_interval`).

    Args:
        x: [seeds] or [tasks, seeds]; scores of different tasks should have one unit.
        confidence: the share of intervals that should hold the truth, in (0, 1).
        seed: of the resampling.
        resamples: how many bootstrap samples.

    Raises:
        BadInput: when x is empty, has another shape, or holds NaN or infinity.
    """
    return _stratified(x, _trimmed, confidence, seed, resamples)


def difference_interval(x: Data, y: Data, *, confidence: float = 0.95, seed: int = 0,
                        resamples: int = 2000) -> Interval:
    """The difference of the means of two unpaired samples, x less y, each resampled on its own.

    Args:
        x: [seeds].
        y: [seeds], another number of them if need be.
        confidence: the share of intervals that should hold the truth, in (0, 1).
        seed: of the resampling.
        resamples: how many bootstrap samples.

    Raises:
        BadInput: when a sample is empty, has another shape, or holds NaN or infinity.
    """
    a, b = as_vector("x", x), as_vector("y", y)
    rng = np.random.default_rng(seed)
    draws = [np.concatenate([part.mean((-1, -2)) for part in _resampled(v[None], rng, resamples)]) for v in (a, b)]
    n = min(len(a), len(b))
    return _percentile(float(a.mean() - b.mean()), draws[0] - draws[1], n=len(a) + len(b), confidence=confidence,
                       stretch=_stretch(n, n - 1, confidence))


def bootstrap(fn: Callable[[Array], Any], data: Data, *, seed: int, n: int = 2000, confidence: float = 0.95,
              vectorised: bool = False) -> Interval:
    """Any statistic with a stretched percentile bootstrap interval.

    Args:
        fn: data -> number; with `vectorised`, data [R, N, ...] -> numbers [R].
        data: [N, ...]; the rows are resampled.
        seed: of the resampling.
        n: how many bootstrap samples.
        confidence: the share of intervals that should hold the truth, in (0, 1).
        vectorised: `fn` takes R data sets at once.

    Raises:
        BadInput: when data are empty or hold NaN or infinity.

    Example:
        >>> bootstrap(np.median, [1.0, 2.0, 9.0, 4.0, 4.0], seed=0).mean
        4.0
    """
    rows = as_array("data", data)
    if rows.ndim == 0 or len(rows) == 0:
        raise BadInput("data", expected="shape [N, ...] with N of 1 or more", received=list(rows.shape))

    def many(sets: Array) -> Array:
        return np.asarray(fn(sets) if vectorised else [float(fn(one)) for one in sets], dtype=np.float64)

    rng = np.random.default_rng(seed)
    parts = [many(rows[rng.integers(len(rows), size=(r, len(rows)))]) for r in _chunks(n, rows.size)]
    estimate = float(many(rows[None])[0])
    return percentile_interval(estimate, np.concatenate(parts), n=len(rows), confidence=confidence)


def percentile_interval(estimate: float, draws: Array, *, n: int, confidence: float = 0.95) -> Interval:
    """The stretched percentile interval of bootstrap draws that the caller made from `n` independent things.

    Example:
        >>> percentile_interval(0.0, np.linspace(-1, 1, 101), n=1000).high.__round__(2)
        0.95
    """
    return _percentile(estimate, draws, n=n, confidence=confidence, stretch=_stretch(n, n - 1, confidence))


def curve_band(x: Data, *, centre: Literal["mean", "iqm"] = "mean", confidence: float = 0.95, seed: int = 0,
               resamples: int = 1000) -> tuple[Array, Array, Array]:
    """The middle of several curves with a band, point by point, for plots.

    Args:
        x: [seeds, points]; NaN where a curve is unknown.
        centre: `mean` or `iqm` over the seeds.
        confidence: of each point's interval, in (0, 1).
        seed: of the resampling, which is the same for all points.
        resamples: how many bootstrap samples.

    Returns:
        Centre, low and high, each [points]; NaN where a curve is unknown, and the band of one curve is NaN.

    Raises:
        BadInput: when x has no two axes or no seeds, or holds infinity.
    """
    curves = np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float64)
    if curves.ndim != 2 or len(curves) == 0 or np.isinf(curves).any():
        raise BadInput("x", expected="finite numbers or NaN [seeds, points]", received=f"shape {list(curves.shape)}")
    n, points = curves.shape
    middle = _trimmed if centre == "iqm" else _mean
    estimate = middle(curves.T)
    low, high = np.full(points, np.nan), np.full(points, np.nan)
    factor = _stretch(n, n - 1, confidence)
    if n > 1:
        index = np.random.default_rng(seed).integers(n, size=(resamples, n))
        wide = max(1, CELLS // (resamples * n))
        for columns in (slice(i, i + wide) for i in range(0, points, wide)):
            draws = middle(np.moveaxis(curves[:, columns][index], 1, -1))
            ends = np.quantile(draws, _tails(confidence), axis=0)
            low[columns] = estimate[columns] + factor * np.minimum(ends[0] - estimate[columns], 0.0)
            high[columns] = estimate[columns] + factor * np.maximum(ends[1] - estimate[columns], 0.0)
    return estimate, low, high


# --- paired ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairedTest:
    """What `paired_test` returns."""

    difference: Interval
    """The mean of x - y with its interval."""
    p: float
    """The share of sign flips whose mean is as far out: small where the difference is no chance."""
    exact: bool
    """All sign flips were tried."""

    def __str__(self) -> str:
        return f"{self.difference}, p = {self.p:.2g}"


def paired_test(x: Data, y: Data, *, alternative: Literal["two-sided", "greater", "less"] = "two-sided",
                confidence: float = 0.95, seed: int = 0, resamples: int = 10_000) -> PairedTest:
    """Do two methods differ on the same seeds? A paired bootstrap interval, and a sign-flip permutation test.

    Args:
        x: [seeds].
        y: [seeds], number i paired with number i of x.
        alternative: whether x should differ from y, be `greater` or be `less`.
        confidence: the share of intervals that should hold the truth, in (0, 1).
        seed: of both resamplings.
        resamples: how many bootstrap samples, and sign flips where there are too many to try all (above 12 pairs).

    Raises:
        BadInput: when the samples have different lengths, are empty, or hold NaN or infinity.

    Example:
        >>> paired_test([2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 2.5, 3.0, 4.2, 5.0]).p
        0.0625
    """
    a, b = as_pairs(x, y)
    if alternative not in ("two-sided", "greater", "less"):
        raise BadInput("alternative", expected="two-sided, greater or less", received=alternative)
    d = a - b
    exact = len(d) <= _EXACT
    if exact:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(d))))
        means = (signs * d).mean(1)
    else:
        rng = np.random.default_rng(seed)
        means = np.concatenate([(rng.choice((1.0, -1.0), size=(r, len(d))) * d).mean(1)
                                for r in _chunks(resamples, len(d))])
    observed, rounding = float(d.mean()), 1e-12 * float(np.abs(d).max())
    if alternative == "two-sided":
        far = np.abs(means) >= abs(observed) - rounding
    else:
        far = means >= observed - rounding if alternative == "greater" else means <= observed + rounding
    p = float(far.mean()) if exact else float((1 + far.sum()) / (1 + len(far)))
    return PairedTest(mean_interval(d, confidence=confidence, seed=seed, resamples=resamples), p, exact)


# --- helpers -------------------------------------------------------------------------------------------


def _stratified(x: Data, statistic: Callable[[Array], Array], confidence: float, seed: int,
                resamples: int) -> Interval:
    runs = as_tasks("x", x)
    tasks, seeds = runs.shape
    rng = np.random.default_rng(seed)
    draws = np.concatenate([statistic(part.reshape(len(part), -1)) for part in _resampled(runs, rng, resamples)])
    return _percentile(float(statistic(runs.reshape(1, -1))[0]), draws, n=runs.size, confidence=confidence,
                       stretch=_stretch(seeds, tasks * (seeds - 1), confidence))


def _resampled(runs: Array, rng: np.random.Generator, resamples: int) -> list[Array]:
    """Bootstrap samples [R, tasks, seeds] in parts: the seeds of each task drawn with replacement."""
    tasks, seeds = runs.shape
    rows: NDArray[np.int64] = np.arange(tasks, dtype=np.int64).reshape(-1, 1)
    return [runs[rows, rng.integers(seeds, size=(r, tasks, seeds))] for r in _chunks(resamples, runs.size)]


def _chunks(resamples: int, cells: int) -> list[int]:
    if resamples < 1:
        raise BadInput("resamples", expected="at least 1", received=resamples)
    most = max(1, CELLS // max(cells, 1))
    return [min(most, resamples - done) for done in range(0, resamples, most)]


def _mean(flat: Array) -> Array:
    return flat.mean(-1)


def _trimmed(flat: Array) -> Array:
    """The mean over the last axis without a quarter (rounded down) at each end."""
    cut = flat.shape[-1] // 4
    return np.sort(flat, axis=-1)[..., cut : flat.shape[-1] - cut].mean(-1)


def _percentile(estimate: float, draws: Array, *, n: int, confidence: float, stretch: float) -> Interval:
    if math.isinf(stretch):
        return Interval(estimate, -math.inf, math.inf, n)
    low, high = (float(q) for q in np.quantile(draws, _tails(confidence)))
    return Interval(estimate, estimate + stretch * min(low - estimate, 0.0),
                    estimate + stretch * max(high - estimate, 0.0), n)


def _stretch(n: int, freedom: int, confidence: float) -> float:
    """How much longer an interval from n numbers has to be: sqrt(n / (n - 1)) * t / z; infinite for n = 1."""
    z = z_score(confidence)
    if n < 2:
        return math.inf
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]

    return math.sqrt(n / (n - 1)) * float(stdtrit(freedom, (1 + confidence) / 2)) / z


def _tails(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2
