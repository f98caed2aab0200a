"""Intervals in closed form: probability of improvement, proportions, correlations."""

from __future__ import annotations

import math

import numpy as np

from plaudit.core.errors import BadInput
from plaudit.core.intervals import Array, Data, Interval, as_pairs, as_tasks, z_score


def probability_of_improvement(x: Data, y: Data, *, confidence: float = 0.95) -> Interval:
    """The probability that a run of x beats a run of y; a tie counts one half; the mean over tasks.

    The interval is Newcombe's score interval (method 5), tasks joined by the recovery of variances. Unlike a
    bootstrap it keeps its width where every x beats every y, as a few seeds often do.

    Args:
        x: [seeds] or [tasks, seeds].
        y: [seeds] or [tasks, seeds], as many tasks, another number of seeds if need be.
        confidence: the share of intervals that should hold the truth, in (0, 1).

    Raises:
        BadInput: when the tasks differ, or a sample is empty or holds NaN or infinity.

    Source:
        Agarwal et al. (2021), section 4.3; Newcombe (2006), Confidence intervals for an effect size measure based on
        the Mann-Whitney statistic, part 2; Zou and Donner (2008), Construction of confidence limits (...).

    Example:
        >>> probability_of_improvement([3.0, 4.0], [1.0, 3.0]).mean
        0.875
    """
    a, b = as_tasks("x", x), as_tasks("y", y)
    if len(a) != len(b):
        raise BadInput("y", expected=f"{len(a)} tasks, as x has", received=len(b))
    z = z_score(confidence)
    pairs = a[:, :, None] - b[:, None, :]
    each = ((pairs > 0) + 0.5 * (pairs == 0)).mean((1, 2))
    ends = np.array([_newcombe(float(theta), a.shape[1], b.shape[1], z) for theta in each])
    below, above = (float(np.sqrt(((ends[:, i] - each) ** 2).sum()) / len(each)) for i in (0, 1))
    mean = float(each.mean())
    return Interval(mean, max(0.0, mean - below), min(1.0, mean + above), a.size + b.size)


def _newcombe(theta: float, m: int, n: int, z: float) -> tuple[float, float]:
    """Both solutions t of (theta - t)**2 = z**2 * variance(t), by bisection."""
    more = (m + n) / 2 - 1

    def outside(t: float) -> bool:
        variance = t * (1 - t) * (1 + more * (1 - t) / (2 - t) + more * t / (1 + t)) / (m * n)
        return (theta - t) ** 2 > z**2 * variance

    ends: list[float] = []
    for far in (0.0, 1.0):
        out, inside = far, theta
        for _ in range(60):
            middle = (out + inside) / 2
            out, inside = (middle, inside) if outside(middle) else (out, middle)
        ends.append(inside)
    return ends[0], ends[1]


# --- proportions and correlations ----------------------------------------------------------------------


def proportion_interval(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """A proportion with Wilson's score interval; of 0 trials nothing is known: nan [0, 1].

    Raises:
        BadInput: when there are more successes than trials, or fewer than none.

    Source:
        Wilson (1927), Probable inference, the law of succession, and statistical inference.

    Example:
        >>> print(proportion_interval(9, 10))
        0.90 [0.60, 0.98]
    """
    if not 0 <= successes <= n:
        raise BadInput("successes", expected=f"a number in [0, {n}]", received=successes)
    z = z_score(confidence)
    if n == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    p = successes / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    return Interval(p, low, 1.0 if successes == n else min(1.0, middle + half), n)


def pearson(x: Data, y: Data, *, confidence: float = 0.95) -> Interval:
    """The linear correlation with Fisher's interval; nan [-1, 1] where x or y is constant.

    Below four pairs the interval is [-1, 1].

    Raises:
        BadInput: when the samples have different lengths, are empty, or hold NaN or infinity.

    Source:
        Fisher (1921), On the probable error of a coefficient of correlation.

    Example:
        >>> round(pearson([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]).mean, 9)
        0.8
    """
    a, b = as_pairs(x, y)
    r = _correlation(a, b)
    return _fisher(r, len(a), 1.0, r, confidence)


def spearman(x: Data, y: Data, *, confidence: float = 0.95) -> Interval:
    """The rank correlation (ties share their mean rank); nan [-1, 1] where x or y is constant.

    The interval is Fisher's with the variance of Bonett and Wright (2000). Ranks are coarse: where all n agree, the
    interval is that of half a step below 1, the step being one swap of neighbours.

    Raises:
        BadInput: when the samples have different lengths, are empty, or hold NaN or infinity.
    """
    a, b = as_pairs(x, y)
    n, r = len(a), _correlation(_ranks(a), _ranks(b))
    most = 1 - 6 / (n * (n**2 - 1)) if n > 1 else 1.0
    inner = min(max(r, -most), most) if math.isfinite(r) else r
    return _fisher(r, n, 1 + inner**2 / 2, inner, confidence)


def _correlation(a: Array, b: Array) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    a, b = ((v - v.mean()) / np.ptp(v) for v in (a, b))
    r = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
    return math.copysign(1.0, r) if abs(r) > 1 - 1e-14 else r


def _fisher(r: float, n: int, variance: float, inner: float, confidence: float) -> Interval:
    z = z_score(confidence)
    if n < 4 or not math.isfinite(r):
        return Interval(r, -1.0, 1.0, n)
    if abs(inner) == 1:
        return Interval(r, r, r, n)
    half = z * math.sqrt(variance / (n - 3))
    low, high = math.tanh(math.atanh(inner) - half), math.tanh(math.atanh(inner) + half)
    return Interval(r, min(low, r), max(high, r), n)


def _ranks(x: Array) -> Array:
    _, place, count = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]
