"""Linear systems of nodes that cause each other: orders, cycles, and the means under all 2^L interventions at once.

x = B_a^T x + eps, so E x = (I - B_a^T)^{-1} nu; B[p, n] is the effect of p on n, and column n of B_a is B[:, n] where
node n is left alone, B'[:, n] where it is intervened on. In a system without cycles a node's mean needs those of its
causes alone, so the means of all interventions are built node by node, each one doubling the table.

Letters: N nodes, L nodes that may be intervened on, K = 2^L arms (bit j of an arm: the j-th of those nodes).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plaudit.core.errors import BadInput
from plaudit.tasks.bandits.protocol import Array, Bools, Ints

SINGULAR = 1e-9
"""A determinant of I - B_a below this is none."""


def causal_order(edge_NN: Bools) -> list[int] | None:
    """The nodes, each after its causes (the first of those that are free); None where there is a cycle.

    Example:
        >>> causal_order(np.array([[0, 0, 1], [1, 0, 0], [0, 0, 0]], dtype=bool))
        [1, 0, 2]
    """
    waiting = edge_NN.sum(0)
    order: list[int] = []
    left = np.ones(len(edge_NN), dtype=bool)
    while left.any():
        free = np.flatnonzero(left & (waiting == 0))
        if len(free) == 0:
            return None
        n = int(free[0])
        order.append(n)
        left[n] = False
        waiting = waiting - edge_NN[n]
    return order


def find_cycle(edge_NN: Bools) -> list[int]:
    """Nodes that cause each other in a ring, the first one again at the end; empty where there is none.

    Example:
        >>> find_cycle(np.array([[0, 1], [1, 0]], dtype=bool))
        [0, 1, 0]
    """
    left = np.arange(len(edge_NN))
    while len(left):  # what neither causes nor is caused by the rest lies on no ring
        inner = edge_NN[np.ix_(left, left)]
        on = inner.any(0) & inner.any(1)
        if on.all():
            break
        left = left[on]
    if len(left) == 0:
        return []
    path = [int(left[0])]
    while True:
        causes = [int(p) for p in left if edge_NN[p, path[-1]]]
        path.append(causes[0])
        if path[-1] in path[:-1]:
            ring = path[path.index(path[-1]):][::-1]
            first = ring.index(min(ring))
            return [*ring[first:-1], *ring[:first], ring[first]]


def means_of_all(B: Array, B_prime: Array, nu: Array, order: Sequence[int], allowed: Sequence[int]) -> Array:
    """E x [K, N] under every intervention, for a system without cycles.

    Example:
        >>> B = np.array([[0.0, 2.0], [0.0, 0.0]])
        >>> means_of_all(B, 3 * B, np.ones(2), [0, 1], [0, 1])[:, 1].tolist()
        [3.0, 3.0, 7.0, 7.0]
    """
    bit = {n: j for j, n in enumerate(allowed)}
    mean, arm = np.zeros((1, len(nu))), np.zeros(1, dtype=np.int64)
    for n in order:
        mean[:, n] = nu[n] + mean @ B[:, n]
        if n in bit:
            other = mean.copy()
            other[:, n] = 0.0
            other[:, n] = nu[n] + other @ B_prime[:, n]
            mean, arm = np.concatenate([mean, other]), np.concatenate([arm, arm + (1 << bit[n])])
    out = np.empty_like(mean)
    out[arm] = mean
    return out


def effects_of_all(B: Array, B_prime: Array, target: int, order: Sequence[int], allowed: Sequence[int]) -> Array:
    """The total effect [K, N] of each node's noise on the target under every intervention: (I - B_a)^{-1}[:, target].

    Example:
        >>> B = np.array([[0.0, 2.0], [0.0, 0.0]])
        >>> effects_of_all(B, 3 * B, 1, [0, 1], [0, 1]).tolist()
        [[2.0, 1.0], [2.0, 1.0], [6.0, 1.0], [6.0, 1.0]]
    """
    bit = {n: j for j, n in enumerate(allowed)}
    alone, moved = np.zeros((1, len(B))), np.zeros((1, len(B)))  # the effects of nodes left alone, intervened on
    arm = np.zeros(1, dtype=np.int64)
    for n in reversed(order):
        effect = alone @ B[n] + moved @ B_prime[n] + (n == target)
        alone[:, n] = effect
        if n in bit:
            other = alone.copy()
            other[:, n] = 0.0
            alone, moved = np.concatenate([alone, other]), np.concatenate([moved, moved])
            moved[len(effect):, n] = effect
            arm = np.concatenate([arm, arm + (1 << bit[n])])
    out = np.empty_like(alone)
    out[arm] = alone + moved
    return out


def mixed(B: Array, B_prime: Array, on_MN: Bools) -> Array:
    """B_a [M, N, N] of M interventions, given as which nodes are intervened on."""
    return np.where(on_MN[:, None, :], B_prime, B)


def solved(B_MNN: Array, nu: Array, target: int) -> tuple[Array, Array]:
    """E x [M, N] and the effects on the target [M, N] by solving; NaN where I - B_a is singular.

    Example:
        >>> mean, effect = solved(np.array([[[0.0, 2.0], [0.0, 0.0]]]), np.ones(2), 1)
        >>> mean.tolist(), effect.tolist()
        ([[1.0, 3.0]], [[2.0, 1.0]])
    """
    N = len(nu)
    system = np.eye(N) - B_MNN
    bad = np.abs(np.linalg.det(system)) < SINGULAR
    system[bad] = np.eye(N)
    mean = np.linalg.solve(system.transpose(0, 2, 1), np.broadcast_to(nu[:, None], (len(system), N, 1)))[:, :, 0]
    unit = np.broadcast_to(np.eye(N)[:, target: target + 1], (len(system), N, 1))
    effect = np.linalg.solve(system, unit)[:, :, 0]
    mean[bad] = effect[bad] = np.nan
    return mean.astype(np.float64, copy=False), effect.astype(np.float64, copy=False)


def on_of(arm_M: Ints, N: int, allowed: Sequence[int]) -> Bools:
    """Which nodes [M, N] the arms intervene on.

    Example:
        >>> on_of(np.array([0, 2]), 3, [0, 2]).tolist()
        [[False, False, False], [False, False, True]]
    """
    on = np.zeros((len(arm_M), N), dtype=bool)
    on[:, list(allowed)] = (arm_M[:, None] >> np.arange(len(allowed))) & 1 == 1
    return on


def as_system(name: str, B: Array, B_prime: Array, allowed: Sequence[int]) -> list[int]:
    """The order of the nodes.

    Raises:
        BadInput: for a ring of causes, with its nodes; and for an intervention under which I - B_a is singular.
    """
    edge = (B != 0) | np.where(np.isin(np.arange(len(B)), allowed), B_prime != 0, False)
    loops = np.flatnonzero(np.diag(edge))
    order = None if len(loops) else causal_order(edge)
    if order is not None:
        return order
    ring = [int(loops[0])] * 2 if len(loops) else find_cycle(edge)
    near = [label for label, one in (("B", B), ("B_prime", B_prime))
            if abs(np.linalg.det(np.eye(len(B)) - one)) < SINGULAR]
    said = f" (and I - {near[0]} is singular)" if near else ""
    raise BadInput(name, expected="a system without cycles, in which each node is caused by earlier ones alone",
                   received="the ring " + " -> ".join(map(str, ring)) + said,
                   fix=f"set the weight of {ring[-2]} -> {ring[-1]} to 0, or unroll the ring over rounds")
