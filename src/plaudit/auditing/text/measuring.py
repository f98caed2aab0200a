"""Numbers that several checks need: shares and means with intervals over prompts, and what could have been seen."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from plaudit.auditing.text.scoring import Numbers
from plaudit.core.intervals import Interval
from plaudit.core.statistics import proportion_interval

RESAMPLES = 2000
FEW = 40
"""Clusters, up to which a bootstrap of shares is widened."""
SEEN = 2.8
"""An effect of so many standard errors is found in four audits of five (two-sided, 5%): 1.96 + 0.84."""


def clustered_mean(values: Numbers, clusters: Sequence[Hashable], *, seed: int = 0, confidence: float = 0.95
                   ) -> Interval:
    """The mean of values with a bootstrap interval over clusters: rows of one prompt go in or out together.

    Example:
        >>> import numpy as np
        >>> str(clustered_mean(np.array([1.0, 1.0, 0.0, 0.0]), ["a", "a", "b", "b"]).mean)
        '0.5'
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return Interval(math.nan, math.nan, math.nan, 0)
    ids = {c: n for n, c in enumerate(dict.fromkeys(clusters))}
    place = np.array([ids[c] for c in clusters])
    total = np.bincount(place, weights=values, minlength=len(ids))
    count = np.bincount(place, minlength=len(ids)).astype(np.float64)
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(ids), size=(RESAMPLES, len(ids)))
    means = total[draws].sum(1) / count[draws].sum(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    mean = float(values.mean())
    if np.all((values == 0) | (values == 1)) and (len(ids) < FEW or low == high):  # there the bootstrap is too short
        size = _worth(values, total / count, confidence)
        wide = proportion_interval(round(mean * size), size, confidence=confidence)
        low, high = min(float(low), wide.low), max(float(high), wide.high)
    return Interval(mean, float(min(low, mean)), float(max(high, mean)), len(ids))


def _worth(values: Numbers, means: Numbers, confidence: float) -> int:
    """How many independent yes or no these are worth: one for each cluster at least, all of them at most."""
    from scipy.stats import norm
    from scipy.stats import t as student

    mean, n = float(values.mean()), len(means)
    error = float(np.var(means, ddof=1)) / n if n > 1 else 0.0
    if not error:
        return n
    few = float(norm.ppf((1 + confidence) / 2) / student.ppf((1 + confidence) / 2, n - 1)) ** 2
    return int(np.clip(round(few * mean * (1 - mean) / error), n, len(values)))


def smallest_seen(values: Numbers, clusters: Sequence[Hashable]) -> float:
    """The smallest mean that such data would have shown in four audits of five.

    Example:
        >>> import numpy as np
        >>> round(smallest_seen(np.array([0.0, 1.0] * 50), range(100)), 2)
        0.14
    """
    ids = {c: n for n, c in enumerate(dict.fromkeys(clusters))}
    if len(ids) < 2:
        return math.inf
    place = np.array([ids[c] for c in clusters])
    means = np.bincount(place, weights=values) / np.bincount(place)
    return SEEN * float(np.std(means, ddof=1)) / math.sqrt(len(ids))


def halves(n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of n prompts: one to choose on, one to measure on.

    Example:
        >>> a, b = halves(10)
        >>> len(a), len(b), sorted([*a, *b]) == list(range(10))
        (5, 5, True)
    """
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2:])


def percent(x: float) -> str:
    """A share in percent, as findings say it.

    Example:
        >>> percent(0.254), percent(float("nan"))
        ('25%', 'unknown')
    """
    return f"{x:.0%}" if math.isfinite(x) else "unknown"


def span(share: Interval) -> str:
    """A share with its interval, in percent.

    Example:
        >>> span(Interval(0.254, 0.2, 0.31, 12))
        '25% [20%, 31%]'
    """
    return f"{percent(share.mean)} [{percent(share.low)}, {percent(share.high)}]"


def wins(x: Numbers, y: Numbers) -> Numbers:
    """1 where x is paid more, 0 where less, one half where they are equal."""
    return np.where(x > y, 1.0, np.where(x == y, 0.5, 0.0))


def quoted(text: str, n: int = 70) -> str:
    r"""A text in quotation marks as it stands in a title, blanks and backslashes as they are.

    Example:
        >>> print(quoted(r"\boxed{ 1 }"), quoted("a\n\nb"))
        '\boxed{ 1 }' 'a⏎⏎b'
    """
    line = "".join("⏎" if c == "\n" else c if c.isprintable() else "�" for c in str(text))
    return f"'{_cut(line, n)}'"


def short(text: str, n: int = 70) -> str:
    """A text as it stands in a title: one line, cut in the middle.

    Example:
        >>> short("a" * 50, 11)
        'aaaaa…aaaaa'
    """
    return _cut(" ".join(str(text).split()), n)


def _cut(line: str, n: int) -> str:
    return line if len(line) <= n else f"{line[: n // 2]}…{line[-(n // 2):]}"
