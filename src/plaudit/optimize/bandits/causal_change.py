"""Whether a causal system has changed: tests of the noise that its last observations must have had.

For residuals e of a node with known sigma, of standard deviation s in the window, the log-likelihood ratio of a sample
is log(sigma / s) + mean((e / sigma)^2) / 2 - 1/2: 0 where they are as they should be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from plaudit.tasks.bandits.protocol import Array, Bools

Detect: TypeAlias = Literal["none", "column", "full", "global"]
THRESHOLD = {"column": 2.0, "full": 2.0, "global": 20.0}


def likelihood_ratio(e: Array, sigma: Array) -> Array:
    """The ratio over the last axis; at least 0 but for rounding.

    Example:
        >>> e = np.random.default_rng(0).normal(size=(2, 20)) * [[1.0], [5.0]]
        >>> likelihood_ratio(e, np.ones(2)).round(1).tolist()
        [0.0, 4.4]
    """
    s = np.maximum(e.std(-1), 1e-12)
    return np.log(sigma / s) + (e**2).mean(-1) / (2 * sigma**2) - 0.5


def joint_ratio(e_WN: Array, sigma_N: Array) -> float:
    """The ratio of all nodes at once, per sample and node: their covariance in the window against the known one."""
    W, N = e_WN.shape
    covariance = np.cov(e_WN.T) + 1e-12 * np.eye(N)
    sign, log = np.linalg.slogdet(covariance)
    if sign <= 0 or W <= N:
        return 0.0
    return float((2 * np.log(sigma_N).sum() - log + ((e_WN / sigma_N) ** 2).sum(1).mean() - N * (W - 1) / W) / (2 * N))


class Watch:
    """The last residuals of every column of every run.

    Args:
        runs: R.
        N: nodes.
        detect: which test.
        window: samples of a column, or rounds, that it looks at.
        threshold: above which something has changed.
    """

    def __init__(self, runs: int, N: int, detect: Detect, *, window: int, threshold: float | None) -> None:
        self.detect, self.window = detect, window
        self.threshold = THRESHOLD[detect] if threshold is None else threshold
        shape = (runs, window, N) if detect == "global" else (runs, 2, N, window)
        self.kept = np.full(shape, np.nan)
        self._at = np.zeros((runs, 2, N), dtype=np.int64)

    def add(self, r: int, e_N: Array, on_N: Bools) -> None:
        """One round of one run."""
        if self.detect == "global":
            self.kept[r] = np.roll(self.kept[r], -1, axis=0)
            self.kept[r, -1] = e_N
            return
        side, n = on_N.astype(np.int64), np.arange(len(e_N))
        self.kept[r, side, n, self._at[r, side, n] % self.window] = e_N
        self._at[r, side, n] += 1

    def fill(self, r: int, e_TN: Array, on_TN: Bools) -> None:
        """All rounds of one run again."""
        self.kept[r] = np.nan
        if self.detect == "global":
            last = e_TN[-self.window:]
            self.kept[r, self.window - len(last):] = last
            return
        for side in (0, 1):
            for n in range(e_TN.shape[1]):
                last = e_TN[on_TN[:, n] == side, n][-self.window:]
                self.kept[r, side, n, : len(last)] = last
                self._at[r, side, n] = len(last)

    def changed(self, sigma_RN: Sequence[Array]) -> Bools:
        """Which columns [R, 2, N] have changed; all of a run where the global test says so. Half-full windows wait."""
        sigma = np.stack(sigma_RN)
        if self.detect == "global":
            found = [not np.isnan(e).any() and joint_ratio(e, s) > self.threshold
                     for e, s in zip(self.kept, sigma, strict=True)]
            return np.broadcast_to(np.array(found)[:, None, None], self._at.shape)
        return np.nan_to_num(likelihood_ratio(self.kept, sigma[:, None, :]), nan=-np.inf) > self.threshold
