"""What one run of CSL-UCB believes: graphs, weights, and the mean and width of every intervention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plaudit.optimize.bandits.causal_topology import Column, learn_together, learn_topology, pruned
from plaudit.optimize.bandits.policies import first_best
from plaudit.tasks.bandits.causal import LinearSEM, ascend
from plaudit.tasks.bandits.causal_graph import causal_order, effects_of_all, means_of_all, mixed, on_of, solved
from plaudit.tasks.bandits.protocol import Array, Bools

if TYPE_CHECKING:
    from plaudit.optimize.bandits.causal import CSLOptions

_SAMPLE = 4096  # interventions from which the span is read where there are too many


class CausalModel:
    """Graphs and weights of both sides of every node, from the samples of one run.

    Args:
        world: of which the size, the target and, where known, the noise are read.
        options: of CSL-UCB.
        known: whether the noise is.
    """

    def __init__(self, world: LinearSEM, options: CSLOptions, *, known: bool) -> None:
        self.o, self.N, self.target, self.allowed = options, world.N, world.target, world.allowed
        self.known = known
        self.nu_N = world.nu.copy() if known else np.zeros(self.N)
        self.sigma_N = np.sqrt(np.diag(world.Sigma)) if known else np.ones(self.N)
        self.edge_2NN = np.zeros((2, self.N, self.N), dtype=bool)
        self.B_2NN = np.zeros((2, self.N, self.N))
        self.spread_2N = np.zeros((2, self.N))
        self.learnt = False
        self._columns: dict[tuple[int, int], tuple[tuple[int, int], Column]] = {}
        self._tables: tuple[Array, Array] | None = None

    def read(self, x_TN: Array, on_TN: Bools, heard_T: Bools, since_2N: np.ndarray) -> None:
        """Takes the first samples of every column since its last change; those that are the same stay as they are."""
        for side in (0, 1):
            for n in range(self.N) if side == 0 else self.allowed:
                since = int(since_2N[side, n])
                at = np.flatnonzero((on_TN[since:, n] == side) & heard_T[since:])[: self.o.most] + since
                key = since, len(at)
                if (side, n) not in self._columns or self._columns[side, n][0] != key:
                    self._columns[side, n] = key, Column(
                        x_TN[at], n, nu=float(self.nu_N[n]) if self.known else None, weight=self.o.weight,
                        k=self.o.neighbours)

    def _side(self, side: int) -> list[Column | None]:
        return [self._columns[side, n][1] if (side, n) in self._columns else None for n in range(self.N)]

    def learn_graphs(self) -> None:
        """The edges of both sides."""
        alone, moved = self._side(0), self._side(1)
        if self.o.graphs == "joint":
            self.edge_2NN[:] = learn_together([alone, moved])
        else:  # a node that cannot be intervened on has one side
            for side, columns in enumerate((alone, [m or a for a, m in zip(alone, moved, strict=True)])):
                self.edge_2NN[side] = learn_topology([c for c in columns if c is not None])
        if self.o.prune is not None:
            for (side, n), (_, column) in self._columns.items():
                variance = float(self.sigma_N[n]) ** 2 if self.known else column.fit(self.edge_2NN[side, :, n]).variance
                self.edge_2NN[side, :, n] = pruned(column, self.edge_2NN[side, :, n], self.o.prune, variance)

    def learn_weights(self) -> bool:
        """Weights, and where it is unknown the noise; whether anything is new."""
        before = self.B_2NN.copy(), self.nu_N.copy()
        fits = {at: column.fit(self.edge_2NN[at[0], :, at[1]]) for at, (_, column) in self._columns.items()}
        if not self.known:
            for n in range(self.N):
                mine = [(f, len(self._columns[at][1].y_S)) for at, f in fits.items() if at[1] == n]
                share = np.array([s for _, s in mine]) / sum(s for _, s in mine)
                self.nu_N[n] = share @ [f.mean for f, _ in mine]
                self.sigma_N[n] = np.sqrt(max(share @ [f.variance for f, _ in mine], 1e-24))
        for (side, n), fit in fits.items():
            P = int(self.edge_2NN[side, :, n].sum())
            self.B_2NN[side, :, n] = fit.weight_N
            self.spread_2N[side, n] = np.sqrt(P * (P + 2)) * float(self.sigma_N[n]) ** 2 * fit.widest
        fresh = not self.learnt or bool((before[0] != self.B_2NN).any() or (before[1] != self.nu_N).any())
        self.learnt = True
        if fresh:
            self._tables = None
        return fresh

    def residual(self, x: Array, on: Bools) -> Array:
        """The noise [..., N] less its mean that these observations must have had."""
        moved = np.where(on, x @ self.B_2NN[1], x @ self.B_2NN[0])
        return x - moved - self.nu_N

    # --- interventions -------------------------------------------------------------------------------------

    def tables(self) -> tuple[Array, Array]:
        """Mean [K] and width [K] of every intervention; NaN where the believed system is singular."""
        if self._tables is None:
            B, B2 = self.B_2NN
            order = causal_order(self.edge_2NN[0] | self.edge_2NN[1])
            if order is None:
                self._tables = self.rows(on_of(np.arange(1 << len(self.allowed)), self.N, self.allowed))
            else:
                mean_KN = means_of_all(B, B2, self.nu_N, order, self.allowed)
                effect_KN = effects_of_all(B, B2, self.target, order, self.allowed)
                spread_K = self.spread_2N[0].sum() + on_of(np.arange(len(mean_KN)), self.N, self.allowed) @ (
                    self.spread_2N[1] - self.spread_2N[0])
                self._tables = mean_KN[:, self.target], self._width(mean_KN, effect_KN, spread_K)
        return self._tables

    def rows(self, on_MN: Bools) -> tuple[Array, Array]:
        """Mean [M] and width [M] of some interventions, rings or not."""
        mean_MN, effect_MN = solved(mixed(self.B_2NN[0], self.B_2NN[1], on_MN), self.nu_N, self.target)
        spread_M = np.where(on_MN, self.spread_2N[1], self.spread_2N[0]).sum(1)
        return mean_MN[:, self.target], self._width(mean_MN, effect_MN, spread_M)

    def _width(self, mean_MN: Array, effect_MN: Array, spread_M: Array) -> Array:
        inside = 4 * np.maximum(spread_M, 0) * np.log(2 * self.N / self.o.delta)
        return np.linalg.norm(effect_MN, axis=1) * np.sqrt(inside) * np.linalg.norm(mean_MN, axis=1)

    @property
    def few(self) -> bool:
        """Whether all interventions are tried."""
        return len(self.allowed) <= self.o.enumerate

    def span(self) -> float:
        """The largest mean over the largest width: with it, widths are as large as means."""
        if self.few:
            mean, width = self.tables()
        else:
            rng = np.random.default_rng(0)
            on_MN = np.zeros((_SAMPLE, self.N), dtype=bool)
            on_MN[:, self.allowed] = rng.random((_SAMPLE, len(self.allowed))) < 0.5
            mean, width = self.rows(on_MN)
        widest = float(np.nanmax(width, initial=0.0))
        return abs(float(np.nanmax(mean, initial=-np.inf))) / widest if widest > 0 else 0.0

    def best(self, coefficient: float) -> int:
        """The arm with the largest mean + coefficient * width."""
        def index(mean: Array, width: Array) -> Array:
            return np.nan_to_num(mean + coefficient * width, nan=-np.inf, posinf=-np.inf)

        if self.few:
            return int(first_best(index(*self.tables())[None])[0])
        on, _ = ascend(lambda on_MN: index(*self.rows(on_MN)), self.N, self.allowed, starts=8)
        return int((on[self.allowed].astype(np.int64) << np.arange(len(self.allowed))).sum())
