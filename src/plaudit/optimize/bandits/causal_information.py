"""Mutual information of two columns of numbers from nearest neighbours, for many pairs at once.

I(X; Y) = psi(k) - 1/k - mean(psi(n_x) + psi(n_y)) + psi(n), where n_x counts the points no farther in x than the
farthest of the k nearest neighbours in the maximum norm (Kraskov, Stoegbauer and Grassberger 2004, equation 9).
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from plaudit.core.errors import BadInput
from plaudit.tasks.bandits.protocol import Array, Ints

Counter = Callable[[Array, Array, int], Ints]


def neighbour_information(x_N: Array, y_NM: Array, *, k: int = 5, compiled: bool | None = None) -> Array:
    """The mutual information [M], in nats, of x with each column of y; a little below 0 is noise around 0.

    Args:
        x_N: N numbers.
        y_NM: M columns of N numbers.
        k: neighbours.
        compiled: whether to count in a compiled loop (extra `fast`), which gives the same bits; None where Numba is
            installed.

    Raises:
        BadInput: for fewer than k + 1 numbers, or lengths that differ.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x, e = rng.normal(size=(2, 400))
        >>> found = neighbour_information(x, np.stack([e, x + 0.1 * e], 1))
        >>> bool(abs(found[0]) < 0.15), bool(found[1] > 1.5)
        (True, True)
    """
    if y_NM.ndim != 2 or len(y_NM) != len(x_N) or not 1 <= k < len(x_N):
        raise BadInput("x_N, y_NM", expected=f"more than k = {k} numbers, as many in x as in each column of y",
                       received=f"shapes {list(x_N.shape)} and {list(y_NM.shape)}")
    fast = importlib.util.find_spec("numba") is not None if compiled is None else compiled
    x_N = np.ascontiguousarray(x_N, dtype=np.float64)
    y_MN = np.ascontiguousarray(y_NM.T, dtype=np.float64)
    count_2MN = (_compiled() if fast else counts)(x_N, y_MN, k)
    table = _psi(len(x_N) + 1)
    return table[k] - 1 / k - table[count_2MN].sum((0, 2)) / len(x_N) + table[len(x_N)]


def counts(x_N: Array, y_MN: Array, k: int) -> Ints:
    """n_x and n_y [2, M, N] by NumPy, one column after the other; of equally near neighbours the first ones count."""
    N = len(x_N)
    dx = np.abs(x_N[:, None] - x_N)
    out = np.empty((2, *y_MN.shape), dtype=np.int64)
    for m, y in enumerate(y_MN):
        dy = np.abs(y[:, None] - y)
        far = np.maximum(dx, dy)
        far[np.arange(N), np.arange(N)] = np.inf  # nobody is a neighbour of itself
        near = np.argsort(far, axis=1, kind="stable")[:, :k]
        for which, d in enumerate((dx, dy)):
            reach = np.take_along_axis(d, near, 1).max(1)
            out[which, m] = (d <= reach[:, None]).sum(1) - 1
    return out


@functools.cache
def _compiled() -> Counter:
    from plaudit.optimize.bandits import causal_compiled

    loop: Any = causal_compiled.counts
    return loop


@functools.lru_cache(maxsize=64)
def _psi(n: int) -> Array:
    """The digamma function at 0 (never used) to n."""
    from scipy.special import digamma

    return np.concatenate([[np.nan], digamma(np.arange(1, n + 1))])
