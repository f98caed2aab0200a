"""Which nodes cause which: edges go from the complete graph until no ring is left, those of the largest score first.

The score of an edge p -> n is I(residual; x_p) - w log|b_pn|: an edge that points the wrong way leaves a residual that
depends on its cause, and has a small weight. Nothing else is pruned, because errors are not alike: an edge too many
costs variance, a missing one makes the mean wrong (Peng, Zhang and Mitra, IEEE TSP 2025).

Letters: N nodes, S samples of a column, P causes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from plaudit.optimize.bandits.causal_information import neighbour_information
from plaudit.tasks.bandits.causal_graph import causal_order
from plaudit.tasks.bandits.protocol import Array, Bools

Graphs: TypeAlias = Literal["joint", "separate"]


@dataclass(frozen=True, eq=False)
class Fit:
    """One regression of a node on some of the others."""

    weight_N: Array
    """0 for nodes that are no causes."""
    mean: float
    """Of the node's own noise: known, or the intercept."""
    variance: float
    """Of the residuals."""
    widest: float
    """The largest eigenvalue of (X X^T)^{-1}; 0 without causes."""
    error_N: Array
    """Standard errors of the weights for noise of variance 1."""


class Column:
    """The samples of one node while it was left alone (or intervened on), and its regressions, each made once.

    Args:
        x_SN: all nodes in those rounds.
        node: whose causes are sought.
        nu: the mean of its noise; None fits an intercept.
        weight: of log|b| in the score.
        k: neighbours of the mutual information.
        compiled: see `neighbour_information`.
    """

    def __init__(self, x_SN: Array, node: int, *, nu: float | None, weight: float = 1.0, k: int = 5,
                 compiled: bool | None = None) -> None:
        self.x_SN, self.node, self.nu, self.weight, self.k = x_SN, node, nu, weight, k
        self.compiled = compiled
        self.y_S = x_SN[:, node] - (nu or 0.0)
        self._centre = x_SN.mean(0) if nu is None else np.zeros(x_SN.shape[1])
        moved = x_SN - self._centre
        self._gram, self._moment = moved.T @ moved, moved.T @ (self.y_S - (self.y_S.mean() if nu is None else 0.0))
        self._fits: dict[bytes, Fit] = {}
        self._scores: dict[bytes, Array] = {}

    def fit(self, cause_N: Bools) -> Fit:
        """Least squares on these causes; of the shortest weights where samples are too few or collinear."""
        key = cause_N.tobytes()
        if key not in self._fits:
            self._fits[key] = self._fitted(np.flatnonzero(cause_N))
        return self._fits[key]

    def _fitted(self, causes: np.ndarray) -> Fit:
        weight_N, error_N, S = np.zeros(len(self._moment)), np.zeros(len(self._moment)), len(self.y_S)
        widest = 0.0
        if len(causes):
            value, vector = np.linalg.eigh(self._gram[np.ix_(causes, causes)])
            use = value > max(value[-1], 0.0) * 1e-12
            inverse = (vector[:, use] / value[use]) @ vector[:, use].T
            weight_N[causes] = inverse @ self._moment[causes]
            error_N[causes] = np.sqrt(np.maximum(np.diag(inverse), 0))
            widest = float(1 / value[use][0]) if use.any() else 0.0
        left_S = self.y_S - self.x_SN @ weight_N
        mean = float(left_S.mean()) if self.nu is None else self.nu
        left_S = left_S - (mean if self.nu is None else 0.0)
        free = max(S - len(causes) - (self.nu is None), 1)
        return Fit(weight_N, mean, float(left_S @ left_S) / free, widest, error_N)

    def scores(self, cause_N: Bools) -> Array:
        """The score [N] of every edge into this node, -inf where there is none and inf where its weight is 0."""
        key = cause_N.tobytes()
        if key not in self._scores:
            score_N, causes = np.full(len(cause_N), -np.inf), np.flatnonzero(cause_N)
            if len(causes):
                weight_N = self.fit(cause_N).weight_N
                left_S = self.y_S - self.x_SN @ weight_N
                information = neighbour_information(left_S, self.x_SN[:, causes], k=self.k, compiled=self.compiled)
                with np.errstate(divide="ignore"):
                    score_N[causes] = information - self.weight * np.log(np.abs(weight_N[causes]))
            self._scores[key] = score_N
        return self._scores[key]


def learn_topology(columns: Sequence[Column]) -> Bools:
    """The edges [N, N] that are left when no ring is.

    Args:
        columns: one for each node, in their order.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(200, 2)) + 1.0
        >>> x[:, 1] += 1.5 * x[:, 0]
        >>> learn_topology([Column(x, n, nu=1.0) for n in range(2)]).astype(int).tolist()
        [[0, 1], [0, 0]]
    """
    return learn_together([columns])


def learn_together(sides: Sequence[Sequence[Column | None]]) -> Bools:
    """One graph for several sets of columns: those of nodes left alone, and of nodes intervened on.

    An edge goes as badly as its better side says, because weights may be 0 on one side alone; None has no say.
    """
    N = len(sides[0])
    edge = ~np.eye(N, dtype=bool)

    def scored(n: int) -> Array:
        return np.min([side[n].scores(edge[:, n]) for side in sides if side[n] is not None], axis=0)  # type: ignore[union-attr]

    score = np.stack([scored(n) for n in range(N)], 1)
    while causal_order(edge) is None:
        p, n = (int(i) for i in np.unravel_index(score.argmax(), score.shape))
        edge[p, n] = False
        score[:, n] = scored(n)
    return edge


def pruned(column: Column, cause_N: Bools, z: float, variance: float) -> Bools:
    """The causes whose weight is more than z standard errors from 0: errors of both kinds controlled alike."""
    fit = column.fit(cause_N)
    return cause_N & (np.abs(fit.weight_N) > z * np.sqrt(variance) * fit.error_N)
