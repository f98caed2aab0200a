"""CSL-UCB: learns which node causes which, and is optimistic about all 2^L interventions.

Random interventions until every column (a node left alone, a node intervened on) has enough samples; then graphs,
weights, and the intervention with the largest

    mean_a + c_t ||C[:, target]|| sqrt(4 S log(2 N / delta)) ||E x||,  C = (I - B_a)^{-1},
    S = sum_n sqrt(P (P + 2)) lambda_max(sigma_n^2 (X_P X_P^T)^{-1}) over the P causes of n,

where c_t falls to 0 along a cosine. Where the system may change, the samples of a column are dropped when its residuals
change, and no others (Peng, Zhang and Mitra, IEEE TSP 2025; arXiv 2408.11240).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.misspelt import Options
from plaudit.optimize.bandits.causal_change import Detect, Watch
from plaudit.optimize.bandits.causal_model import CausalModel
from plaudit.optimize.bandits.causal_topology import Graphs
from plaudit.optimize.bandits.policies import Policy
from plaudit.tasks.bandits.causal import LinearSEM
from plaudit.tasks.bandits.causal_graph import on_of
from plaudit.tasks.bandits.protocol import Array, Bandit, Heard, Ints, positive


@dataclass(frozen=True, kw_only=True)
class CSLOptions(Options):
    """Options of CSL-UCB; the defaults are those of the authors' code, except `graphs`."""

    per_column: int = 20
    """Random interventions until every column has so many samples."""
    most: int = 100
    """Samples of a column that count, the first ones."""
    weight: float = 1.0
    """Of log|b| in the score of an edge."""
    neighbours: int = 5
    """Of the mutual information."""
    delta: float = 0.05
    """The confidence of the width."""
    scale: float = 0.5
    """The width counts at first so that it is at most this share of the largest mean, and falls to 0."""
    graph_every: int = 50
    """Rounds between two looks at the graphs."""
    weights_every: int = 20
    """Rounds between two looks at weights and interventions."""
    graphs: Graphs = "joint"
    """joint: one graph without rings for both sides of every node; separate: one for each, as in the authors' code,
    whose mixtures may have rings and wild means."""
    prune: float | None = None
    """Ablation, equal control of both errors: drops edges within so many standard errors of 0."""
    detect: Detect = "none"
    """column: forgets the columns that change; full: forgets all when one changes; global: one test of all nodes,
    and forgets all."""
    threshold: float | None = None
    """Of the test; by default 2 for columns and 20 for the global one."""
    window: int = 20
    """Samples of a column, or rounds, that the test looks at."""
    detect_after: int = 200
    """Rounds before the first test."""
    noise: Literal["known", "estimated"] = "known"
    """Whether the mean and variance of the noise are told, or read off the regressions (intercepts and residuals)."""
    enumerate: int = 14
    """Nodes up to which all interventions are tried; coordinate ascent beyond."""

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.per_column <= self.neighbours or self.most < self.per_column:
            raise BadInput("per_column, neighbours, most", expected="neighbours < per_column <= most, from 1",
                           received=(self.per_column, self.neighbours, self.most))
        if not 0 < self.delta < 1:
            raise BadInput("delta", expected="a number in (0, 1)", received=self.delta)
        for name in ("graph_every", "weights_every", "window", "enumerate"):
            if getattr(self, name) < 1:
                raise BadInput(name, expected="at least 1", received=getattr(self, name))
        for name, values in (("graphs", ("joint", "separate")), ("detect", ("none", "column", "full", "global")),
                             ("noise", ("known", "estimated"))):
            if getattr(self, name) not in values:
                raise BadInput(name, expected=f"one of {', '.join(values)}", received=getattr(self, name))
        positive("weight", self.weight, zero=True)
        positive("scale", self.scale, zero=True)


class CSLUCB(Policy):
    """CSL-UCB on a causal bandit.

    Args:
        options: see `CSLOptions`.
        name: in tables.

    Example:
        >>> from plaudit.optimize.bandits import play
        >>> from plaudit.tasks.bandits import random_sem
        >>> bandit = random_sem(4, seed=0)
        >>> late = play(bandit, CSLUCB(), rounds=300, runs=2, seed=0).mean_RT[:, -50:].mean()
        >>> bool(late > 0.9 * bandit.best)
        True
    """

    def __init__(self, options: CSLOptions | None = None, *, name: str = "csl-ucb") -> None:
        self.options, self.name = options or CSLOptions(), name
        if self.options.noise == "estimated":
            self.note = "the mean and the variance of the noise are estimates: intercepts and residuals of regressions"

    def start(self, bandit: Bandit) -> None:
        world, o = sem_of(bandit, self.name), self.options
        self.N, self.target, self.allowed = world.N, world.target, world.allowed
        known = o.noise == "known"
        self.models = [CausalModel(world, o, known=known) for _ in range(self.runs)]
        self.valid_2N = np.ones((2, self.N), dtype=bool)
        self.valid_2N[1] = np.isin(np.arange(self.N), self.allowed)
        self.count_R2N = np.zeros((self.runs, 2, self.N), dtype=np.int64)
        self.since_R2N = np.zeros_like(self.count_R2N)
        self.new_R2N = np.tile(self.valid_2N, (self.runs, 1, 1))
        self.x_RTN, self.heard_RT = np.zeros((self.runs, self.rounds, self.N)), np.zeros((self.runs, self.rounds), bool)
        self.on_RTN = np.zeros((self.runs, self.rounds, self.N), dtype=bool)
        self.held_R, self.scale_R = np.zeros(self.runs, dtype=np.int64), np.full(self.runs, np.nan)
        self.watch = None if o.detect == "none" else Watch(self.runs, self.N, o.detect, window=o.window,
                                                           threshold=o.threshold)
        self.changes: list[tuple[int, int, int, int]] = []
        """What was taken for a change: run, round, side (1: intervened on) and node."""

    def choose(self, round: int, context_RKD: Array | None) -> Ints:
        o = self.options
        if self.watch is not None and round > o.detect_after:
            self._forget(round)
        few_R = np.where(self.valid_2N, self.count_R2N, o.per_column).min((1, 2)) < o.per_column
        arm_R = np.minimum((self.uniform_R() * self.K).astype(np.int64), self.K - 1)
        due = round % o.graph_every == 0 or round % o.weights_every == 0
        for r in np.flatnonzero(~few_R):
            if due or self.new_R2N[r].any():
                self._look(int(r), round)
        return np.where(few_R, arm_R, self.held_R)

    def update(self, round: int, heard: Heard) -> None:
        row, t = heard.row_N, heard.round_N
        assert heard.seen_NM is not None
        x_NM = heard.seen_NM.copy()
        x_NM[:, self.target] = heard.reward_N  # what is paid, also where that is another reward than the bandit's own
        on_NM = on_of(heard.arm_N, self.N, self.allowed)
        self.x_RTN[row, t], self.on_RTN[row, t], self.heard_RT[row, t] = x_NM, on_NM, True
        side = on_NM.astype(np.int64)
        np.add.at(self.count_R2N, (row[:, None], side, np.arange(self.N)), 1)
        if self.watch is not None:
            for r, x, on in zip(row, x_NM, on_NM, strict=True):
                if self.models[r].learnt:
                    self.watch.add(int(r), self.models[r].residual(x, on), on)

    def _look(self, r: int, t: int) -> None:
        """Graphs, weights and the intervention of one run, as far as they are due."""
        o, model = self.options, self.models[r]
        first = bool(self.new_R2N[r].any())
        model.read(self.x_RTN[r, :t], self.on_RTN[r, :t], self.heard_RT[r, :t], self.since_R2N[r])
        if first or t % o.graph_every == 0:
            model.learn_graphs()
        if first or t % o.weights_every == 0:
            fresh = model.learn_weights()
            self.new_R2N[r] = False
            if self.watch is not None and fresh:
                self._reread(r, t)
            if np.isnan(self.scale_R[r]):
                self.scale_R[r] = o.scale * model.span()
                share = 1.0
            else:
                last = int(self.since_R2N[r].max())
                share = (1 + np.cos(np.pi * (t - last) / max(self.rounds - last, 1))) / 2
            self.held_R[r] = model.best(self.scale_R[r] * share)

    def _reread(self, r: int, t: int) -> None:
        """The watch's residuals under new weights."""
        assert self.watch is not None
        at = np.flatnonzero(self.heard_RT[r, :t])
        on_TN, x_TN = self.on_RTN[r, at], self.x_RTN[r, at]
        self.watch.fill(r, self.models[r].residual(x_TN, on_TN), on_TN)

    def _forget(self, t: int) -> None:
        """Drops what changed."""
        assert self.watch is not None
        learnt_R = np.array([model.learnt for model in self.models])
        changed = self.watch.changed([model.sigma_N for model in self.models]) & learnt_R[:, None, None]
        changed &= self.valid_2N & ~self.new_R2N
        for r, side, n in np.argwhere(changed):
            self.changes.append((int(r), t, int(side), int(n)))
        if self.options.detect != "column":
            changed = changed.any((1, 2), keepdims=True) & self.valid_2N
        self.since_R2N[changed], self.count_R2N[changed], self.new_R2N[changed] = t - 1, 0, True


def sem_of(bandit: Bandit, who: str) -> LinearSEM:
    """The bandit, if it is a causal one.

    Raises:
        Unsupported: where it is another kind.
    """
    if not isinstance(bandit, LinearSEM):
        raise Unsupported(f"{who} plays causal bandits, not {bandit.name}; "
                          "make one with plaudit.tasks.bandits.LinearSEM(B, B_prime)")
    return bandit
