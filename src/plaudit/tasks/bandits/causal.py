"""Causal bandits: a linear system of nodes, soft interventions on any set of them, and one node that is the reward.

Every round chooses which nodes to intervene on (2^L arms), shows all nodes and pays the reward node. An intervention
replaces the weights of what causes its nodes (Varici et al. 2023; Peng, Zhang and Mitra, IEEE TSP 2025). Weights may
change at known rounds. The effects are in `plaudit.tasks.bandits.causal_graph`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.tasks.bandits.causal_graph import as_system, means_of_all, mixed, on_of, solved
from plaudit.tasks.bandits.protocol import Array, Bandit, Bools, Ints, Pull, as_numbers

MOST = 16
"""Nodes that may be intervened on where all 2^L interventions are enumerated."""
_LIMIT = 60  # an arm is one number of 64 bits
Family: TypeAlias = Literal["dense", "sparse", "chain", "layered", "hard"]


class LinearSEM(Bandit):
    """x = B_a^T x + eps with eps ~ N(nu, Sigma); column n of B_a is B'[:, n] where node n is intervened on.

    Args:
        B: [N, N], or [S, N, N] for S segments; B[p, n] is the effect of node p on node n.
        B_prime: the same under intervention.
        nu: the mean of the noise, one number or [N].
        Sigma: its variance: one number, [N], or the covariance [N, N].
        target: the reward node; the last by default. It may be intervened on too.
        allowed: the nodes that may be intervened on; all by default.
        changes: the first rounds of the segments 1 to S - 1.
        best: "exact" tries all 2^L interventions; "ascent" takes the best that coordinate ascent finds, for more
            than 16 nodes.

    Raises:
        BadInput: for a ring of causes, shapes that do not fit, a Sigma that is no covariance, or too many nodes.

    Example:
        >>> bandit = LinearSEM([[0, 1.0], [0, 0]], [[0, -1.0], [0, 0]], nu=[1.0, 0.0])
        >>> bandit.means_SK.tolist()  # no intervention, on node 0, on node 1, on both
        [[1.0, 1.0, -1.0, -1.0]]
    """

    name = "causal"

    def __init__(self, B: ArrayLike, B_prime: ArrayLike, *, nu: ArrayLike = 1.0, Sigma: ArrayLike = 1.0,
                 target: int = -1, allowed: Sequence[int] | None = None, changes: Sequence[int] = (),
                 best: Literal["exact", "ascent"] = "exact") -> None:
        self.B_SNN, self.B_prime_SNN = _weights("B", B), _weights("B_prime", B_prime)
        if self.B_SNN.shape != self.B_prime_SNN.shape:
            raise BadInput("B_prime", expected=f"the shape of B, {list(self.B_SNN.shape)}",
                           received=list(self.B_prime_SNN.shape))
        self.N = self.B_SNN.shape[1]
        self.target = _node("target", target, self.N)
        self.allowed = _allowed(allowed, self.N)
        self.changes = np.asarray(changes, dtype=np.int64)
        if len(self.changes) != len(self.B_SNN) - 1 or (np.diff(self.changes, prepend=0) <= 0).any():
            raise BadInput("changes", expected=f"{len(self.B_SNN) - 1} growing rounds above 0, one less than the "
                           "segments of B", received=self.changes.tolist())
        self.nu, self.Sigma, self._root = _noise(nu, Sigma, self.N)
        self.orders = [as_system("B, B_prime" if len(self.B_SNN) == 1 else f"B[{s}], B_prime[{s}]", b, b2, self.allowed)
                       for s, (b, b2) in enumerate(zip(self.B_SNN, self.B_prime_SNN, strict=True))]
        self.noise_k, L = self.N, len(self.allowed)
        self.K = 1 << L
        if best == "exact" and L > MOST:
            raise BadInput("allowed", expected=f"at most {MOST} nodes to intervene on, for their 2^{MOST} arms",
                           received=f"{L}", fix="name fewer in allowed, or pass best='ascent': coordinate ascent "
                           "instead of trying them all, and regret against what it finds")
        self.comparator = "the best of all interventions" if best == "exact" else "the best found by coordinate ascent"
        self.means_SK: Array | None = None
        if best == "exact":
            self.means_SK = np.stack([self._means(s) for s in range(len(self.B_SNN))])
            self.best_S = self.means_SK.max(1)
            self.arms_KD = on_of(np.arange(self.K), self.N, self.allowed).astype(np.float64)
        else:
            self.best_S = np.array([self._ascended(s) for s in range(len(self.B_SNN))])
        if len(self.best_S) > 1:
            self.comparator += " in each segment"
        self.best = float(self.best_S[0])

    def _means(self, s: int) -> Array:
        return means_of_all(self.B_SNN[s], self.B_prime_SNN[s], self.nu, self.orders[s], self.allowed)[:, self.target]

    def _ascended(self, s: int) -> float:
        def worth(on_MN: Bools) -> Array:
            return solved(mixed(self.B_SNN[s], self.B_prime_SNN[s], on_MN), self.nu, self.target)[0][:, self.target]

        return float(ascend(worth, self.N, self.allowed, starts=16)[1])

    @property
    def segment(self) -> int:
        """Which of the segments the next round belongs to."""
        return int(np.searchsorted(self.changes, self.round, side="right"))

    @property
    def state(self) -> Mapping[str, Any]:
        return {"segment": self.segment, "B": self.B_SNN[self.segment], "B_prime": self.B_prime_SNN[self.segment]}

    def pull(self, arm_R: Ints) -> Pull:
        arm_R, s = self.check(arm_R), self.segment
        self.round += 1
        on_RN = on_of(arm_R, self.N, self.allowed)
        B_RNN = mixed(self.B_SNN[s], self.B_prime_SNN[s], on_RN)
        x_RN, mean_RN = self.nu + self.noise.next() @ self._root, np.tile(self.nu, (self.runs, 1))
        for n in self.orders[s]:  # the causes stand already
            causes = B_RNN[:, :, n]
            x_RN[:, n] += (x_RN * causes).sum(1)
            mean_RN[:, n] += (mean_RN * causes).sum(1)
        mean_R = mean_RN[:, self.target] if self.means_SK is None else self.means_SK[s, arm_R]
        return Pull(reward_R=x_RN[:, self.target].copy(), known_R=np.ones(self.runs, bool), mean_R=mean_R,
                    best_R=np.full(self.runs, self.best_S[s]), seen_RM=x_RN,
                    info={f"node {n}": x_RN[:, n] for n in range(self.N)})


def ascend(worth: Any, N: int, allowed: Sequence[int], *, starts: int, seed: int = 0) -> tuple[Bools, float]:
    """Coordinate ascent over interventions: flips the node that gains most until none does, from several starts.

    Args:
        worth: interventions [M, N] (booleans) to numbers [M]; NaN counts as worst.
        N: nodes.
        allowed: those that may be intervened on.
        starts: none, all, and random ones up to so many.
        seed: of the random ones.

    Example:
        >>> on, value = ascend(lambda on_MN: on_MN @ np.array([1.0, -1.0, 2.0]), 3, [0, 1, 2], starts=2)
        >>> on.tolist(), value
        ([True, False, True], 3.0)
    """
    rng, nodes = Seeds(seed).child("ascent").numpy(), list(allowed)
    first = np.zeros((max(starts, 1), N), dtype=bool)
    first[:, nodes] = rng.random((len(first), len(nodes))) < 0.5
    first[0], first[1:2, nodes] = False, True
    top, best = first[0], -np.inf
    for on in first:
        value = float(np.nan_to_num(worth(on[None]), nan=-np.inf)[0])
        while True:
            near = np.repeat(on[None], len(nodes), 0)
            near[np.arange(len(nodes)), nodes] ^= True
            worths = np.nan_to_num(worth(near), nan=-np.inf)
            if worths.max(initial=-np.inf) <= value + 1e-12:
                break
            on, value = near[int(worths.argmax())], float(worths.max())
        if value > best:
            top, best = on, value
    return top, best


# --- random systems ------------------------------------------------------------------------------------------


def random_weights(rng: np.random.Generator, edge_NN: Bools) -> Array:
    """Weights of random sign, uniform in size between 0.5 and 2, on these edges."""
    return np.where(edge_NN, rng.uniform(0.5, 2, edge_NN.shape) * (2 * rng.integers(2, size=edge_NN.shape) - 1), 0.0)


def random_edges(rng: np.random.Generator, N: int, family: Family) -> Bools:
    """Which nodes cause which, in the order of their numbers."""
    later = np.triu(np.ones((N, N), dtype=bool), 1)
    if family == "chain":
        return later & ~np.triu(later, 2)
    if family == "layered":  # three layers, each caused by the one before
        layer = np.minimum(np.arange(N) * 3 // max(N, 1), 2)
        return later & (layer[None] == layer[:, None] + 1)
    chance = min(1.0, 4 / max(N - 1, 1)) if family == "sparse" else 0.5
    return later & (rng.random((N, N)) < chance)


def random_sem(nodes: int = 6, *, family: Family = "dense", seed: int = 0, nu: ArrayLike = 1.0,
               Sigma: ArrayLike = 1.0, allowed: Sequence[int] | None = None,
               best: Literal["exact", "ascent"] = "exact") -> LinearSEM:
    """A random system, with nu = 1 and Sigma = I as in the paper.

    Args:
        nodes: N.
        family: "dense", half of all possible edges, drawn anew under intervention (the paper's); "sparse", four
            neighbours a node on average; "chain"; "layered", three layers; "hard", where an intervention cuts all
            causes.
        seed: of edges and weights.
        nu: see `LinearSEM`.
        Sigma: see `LinearSEM`.
        allowed: see `LinearSEM`.
        best: see `LinearSEM`.

    Raises:
        BadInput: for fewer than 2 nodes or an unknown family.

    Example:
        >>> random_sem(4, seed=1).K
        16
    """
    if nodes < 2:
        raise BadInput("nodes", expected="at least 2", received=nodes)
    if family not in ("dense", "sparse", "chain", "layered", "hard"):
        raise BadInput("family", expected="dense, sparse, chain, layered or hard", received=family)
    rng = Seeds(seed).child("system", family, nodes).numpy()
    while True:
        B = random_weights(rng, random_edges(rng, nodes, family))
        B2 = np.zeros_like(B) if family == "hard" else random_weights(rng, random_edges(rng, nodes, family))
        if family in ("hard", "sparse", "layered") or (B != B2).any(0)[1:].all():
            return LinearSEM(B, B2, nu=nu, Sigma=Sigma, allowed=allowed, best=best)


def with_change(system: LinearSEM, *, columns: int, at: int, seed: int) -> LinearSEM:
    """The system with a second segment, in which so many columns that the optimum uses are drawn anew.

    What was optimal is so no more. Columns that the best interventions all use are taken, as many as there are.

    Raises:
        BadInput: for a system that changes already or has no exact optimum.

    Example:
        >>> changed = with_change(random_sem(5, seed=3), columns=1, at=100, seed=0)
        >>> changed.best_S.shape, bool(changed.means_SK[1, changed.means_SK[0].argmax()] < changed.best_S[1])
        ((2,), True)
    """
    if len(system.B_SNN) > 1 or system.means_SK is None:
        raise BadInput("system", expected="one segment with an exact optimum", received=f"{len(system.B_SNN)} segments")
    rng = Seeds(seed).child("change").numpy()
    best = np.flatnonzero(system.means_SK[0] > system.best - 1e-2)
    on_MN = on_of(best, system.N, system.allowed)
    column = np.flatnonzero((on_MN.all(0) | ~on_MN.any(0)) & (np.arange(system.N) > 0))
    for _ in range(1000):
        B, B2 = system.B_SNN[0].copy(), system.B_prime_SNN[0].copy()
        for n in rng.choice(column, min(columns, len(column)), replace=False):
            edges = np.isin(np.arange(system.N), system.orders[0][: system.orders[0].index(int(n))])
            (B2 if on_MN[0, n] else B)[:, n] = random_weights(rng, edges & (rng.random(system.N) < 0.5))
        out = LinearSEM(np.stack([system.B_SNN[0], B]), np.stack([system.B_prime_SNN[0], B2]), nu=system.nu,
                        Sigma=system.Sigma, target=system.target, allowed=system.allowed, changes=[at])
        assert out.means_SK is not None
        if out.means_SK[1, best].max() < out.best_S[1] - 1e-9:
            return out
    raise BadInput("columns", expected="a change that moves the optimum", received=columns,
                   fix="take a larger system, or another seed")


# --- checks --------------------------------------------------------------------------------------------------


def _weights(name: str, B: ArrayLike) -> Array:
    try:
        ndim = np.ndim(B)
    except ValueError:
        ndim = 2
    weights = as_numbers(name, B, ndim=3 if ndim == 3 else 2)
    weights = weights if weights.ndim == 3 else weights[None]
    if weights.shape[1] != weights.shape[2] or weights.shape[1] < 2:
        raise BadInput(name, expected="a square matrix [N, N] of 2 nodes or more (or [S, N, N])",
                       received=f"shape {list(weights.shape[1:])}")
    return weights


def _node(name: str, node: int, N: int) -> int:
    if not isinstance(node, int | np.integer) or not -N <= node < N:
        raise BadInput(name, expected=f"a node from 0 to {N - 1} (or from the end: -1)", received=node)
    return int(node) % N


def _allowed(allowed: Sequence[int] | None, N: int) -> list[int]:
    out = list(range(N)) if allowed is None else [_node("allowed", n, N) for n in allowed]
    if not 1 <= len(out) <= _LIMIT or len(set(out)) != len(out):
        raise BadInput("allowed", expected=f"1 to {_LIMIT} different nodes", received=out)
    return sorted(out)


def _noise(nu: ArrayLike, Sigma: ArrayLike, N: int) -> tuple[Array, Array, Array]:
    """The mean [N], the covariance [N, N], and its root: normal numbers times it have that covariance."""
    mean = np.full(N, as_numbers("nu", np.atleast_1d(nu), ndim=1)[0]) if np.ndim(nu) == 0 else as_numbers(
        "nu", nu, ndim=1)
    if len(mean) != N:
        raise BadInput("nu", expected=f"one number or {N}", received=f"{len(mean)} numbers")
    given = as_numbers("Sigma", np.atleast_1d(Sigma), ndim=max(1, np.ndim(Sigma)))
    cov = given if given.ndim == 2 else np.diag(np.full(N, given[0]) if np.ndim(Sigma) == 0 else given)
    if cov.shape != (N, N) or not np.allclose(cov, cov.T):
        raise BadInput("Sigma", expected=f"a variance, {N} variances, or a symmetric matrix [{N}, {N}]",
                       received=f"shape {list(given.shape)}")
    value, vector = np.linalg.eigh(cov)
    if value.min() < -1e-10 * max(1.0, value.max()):
        raise BadInput("Sigma", expected="a covariance, without negative eigenvalues", received=f"{value.min():g}")
    diagonal = np.count_nonzero(cov - np.diag(np.diag(cov))) == 0
    root = np.diag(np.sqrt(np.maximum(np.diag(cov), 0))) if diagonal else (vector * np.sqrt(np.maximum(value, 0))).T
    return mean, cov, root
