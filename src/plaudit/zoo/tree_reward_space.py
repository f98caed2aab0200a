"""A space of answers in which likeness is known: the leaves of a prefix tree, and comparisons laid out over it.

Two leaves whose common prefix has l of H levels differ by a variance D(l) = K^(-alpha l), or (1 + l)^(-alpha), by
likeness alone; the inner nodes are where beginnings meet. So F(M) is known: M = K^l groups are the subtrees at level l.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plaudit.feedback.connectivity import Array, Index, Network

Regime: TypeAlias = Literal["polynomial", "logarithmic"]
CHAIN, REUSED = "chain", "chain, as many answers as the tree"
SMALL, LARGE = "small trees", "one large tree"
LAYOUTS = (CHAIN, REUSED, SMALL, LARGE)


@dataclass(frozen=True, kw_only=True)
class Space:
    """K^H answers."""

    K: int
    H: int
    alpha: float
    regime: Regime = "polynomial"

    @property
    def leaves(self) -> int:
        return self.K**self.H

    def by_likeness(self, level: NDArray[np.int64]) -> Array:
        """D(l): how far apart two answers are by likeness alone; 0 for an answer and itself."""
        near = (1.0 + level) ** -self.alpha if self.regime == "logarithmic" else float(self.K) ** (-self.alpha * level)
        return np.where(level == self.H, 0.0, near)

    def shared(self, a: Index, b: Index) -> Index:
        """The levels that two leaves have in common."""
        out = np.zeros(np.broadcast(a, b).shape, dtype=np.int64)
        for level in range(1, self.H + 1):
            size = self.K ** (self.H - level)
            out += a // size == b // size
        return out

    def network(self) -> Network:
        """The prefix tree as edges: leaf i is node i, the root and the inner nodes follow."""
        offset = np.cumsum([self.leaves, *(self.K**level for level in range(self.H))])
        D = self.by_likeness(np.arange(self.H + 1))
        edges, variance = list[Index](), list[Array]()
        for level in range(1, self.H + 1):
            code = np.arange(self.K**level)
            child = code if level == self.H else offset[level] + code
            edges.append(np.stack([offset[level - 1] + code // self.K, child], 1))
            variance.append(np.full(len(code), (D[level - 1] - D[level]) / 2))
        return Network(int(offset[-1]), np.concatenate(edges), np.concatenate(variance))


def compared(space: Space, layout: str, n: int, rng: np.random.Generator) -> Index:
    """Which n pairs of leaves are compared [n, 2]."""
    layouts: dict[str, Callable[[], Index]] = {
        CHAIN: lambda: _random_pairs(rng, space.leaves, n),
        REUSED: lambda: _among(rng, rng.choice(space.leaves, size=n, replace=False), n),
        LARGE: lambda: _among(rng, large_tree(space, n, rng), n),
        SMALL: lambda: np.concatenate([_among(rng, small_tree(space, rng), min(12, n - start), again=False)
                                       for start in range(0, n, 12)])}
    return layouts[layout]()


def large_tree(space: Space, n: int, rng: np.random.Generator) -> Index:
    """n leaves of one tree that branches in full from the root down, and where n is reached goes on singly."""
    fringe = np.zeros(1, dtype=np.int64)
    for _ in range(space.H):
        children = np.repeat(fringe, space.K).reshape(-1, space.K) * space.K + np.arange(space.K)
        want = min(n, children.size)
        order = rng.permuted(children, axis=1)  # of each node one child, then a second, ...
        rounds = [rng.permutation(order[:, k]) for k in range(space.K)]
        fringe = np.concatenate(rounds)[:want]
    return fringe


def small_tree(space: Space, rng: np.random.Generator, *, depth: int = 3, branching: int = 2) -> Index:
    """The leaves of a tree of the paper's size: at each node `branching` different pieces of H / depth levels."""
    fringe, stops = np.zeros(1, dtype=np.int64), np.linspace(0, space.H, depth + 1).round().astype(int)
    for low, high in zip(stops, stops[1:], strict=False):
        pieces = space.K ** int(high - low)
        fringe = np.concatenate([node * pieces + rng.choice(pieces, size=min(branching, pieces), replace=False)
                                 for node in fringe])
    return fringe


def _random_pairs(rng: np.random.Generator, N: int, n: int) -> Index:
    first = rng.integers(N, size=n)
    return np.stack([first, (first + rng.integers(1, N, size=n)) % N], 1)


def _among(rng: np.random.Generator, leaves: Index, n: int, *, again: bool = True) -> Index:
    """n random pairs of some leaves; `again`: a pair may come twice."""
    if again:
        return leaves[_random_pairs(rng, len(leaves), n)]
    every = np.stack(np.triu_indices(len(leaves), 1), 1)
    return leaves[every[rng.permutation(len(every))[:n]]]


def inference(space: Space, tree: Network, layout: str, n: int, *, noise: float, pairs: Index,
              rng: np.random.Generator) -> dict[str, float]:
    """Mean inference distances of pairs of leaves after n comparisons laid out in one way.

    `all ways`: the effective resistance by all edges. `through S`: the paper's construction, from each answer to the
    one most like it among those that were compared, by likeness alone, and between these two by all edges.
    `best way`: the same by the best single way instead of all.
    """
    said = compared(space, layout, n, rng)
    whole = tree.joined(Network(tree.nodes, said, np.full(len(said), noise)))
    S = np.unique(said)
    ends, detour = pairs.copy(), np.zeros(len(pairs))
    for side in (0, 1):
        level = space.shared(pairs[:, side, None], S[None, :])
        nearest = (level + rng.random(level.shape)).argmax(1)
        ends[:, side] = S[nearest]
        detour += space.by_likeness(level[np.arange(len(pairs)), nearest])
    found = whole.distances(np.concatenate([pairs, ends]))
    return {"all ways": float(found[:len(pairs)].mean()), "through S": float((detour + found[len(pairs):]).mean()),
            "best way": float(whole.path_distances(pairs).mean()), "answers": float(len(S))}
