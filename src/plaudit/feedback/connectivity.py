"""Is a preference set well connected? How well any two answers can be compared by all that was said, as one number.

Answers are nodes. A comparison joins two of them by an edge whose variance is that of its noise; likeness joins two by
an edge whose variance grows with how different they are. Variances add along a way, precisions add over parallel ways,
so the variance of r(y1) - r(y2) given all edges is the effective resistance between them: the *inference distance*.
Answers without any way between them cannot be compared at all: infinity, and the components say so.

In a network with many edges the distance of two answers is near 1 / c1 + 1 / c2, c being the sum of conductances at
each (von Luxburg et al. 2014): how well each one is tied in, not how alike they are. So keep `neighbours` small.

Source:
    Qiu et al. (2024), Reward Generalization in RLHF: A Topological Perspective (induced Bayesian networks, section 4).
    The paper bounds the variance by sets of ways; that it is the effective resistance is the Gaussian reading of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.intervals import Interval
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import mean_interval
from plaudit.core.tokens import plain_text
from plaudit.feedback.records import Preference

Array: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.int64]
Solver: TypeAlias = Literal["auto", "direct", "iterative"]
_COLUMNS = 256
"""How many right-hand sides are solved for at once."""
_DIRECT = 4000
"""Up to so many nodes, or three edges to a node, factorising is cheap."""


@dataclass(frozen=True, eq=False)
class Network:
    """Answers, and what joins them.

    Args:
        nodes: How many answers there are.
        edges: Which two each edge joins [E, 2].
        variance: That of each edge [E], above 0.

    Raises:
        BadInput: when an edge joins what is not there, or a variance is not a finite number above 0.

    Example:
        >>> line = Network(3, [[0, 1], [1, 2]], [1.0, 2.0])
        >>> triangle = Network(3, [[0, 1], [1, 2], [0, 2]], [1.0, 2.0, 3.0])
        >>> [float(n.distances([[0, 2]])[0].round(9)) for n in (line, triangle)]
        [3.0, 1.5]
    """

    nodes: int
    edges: Index
    variance: Array

    def __init__(self, nodes: int, edges: ArrayLike, variance: ArrayLike) -> None:
        pairs = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
        spread = np.asarray(variance, dtype=np.float64).reshape(-1)
        if len(pairs) != len(spread):
            raise BadInput("variance", expected=f"one for each of {len(pairs)} edges", received=len(spread))
        if len(pairs) and (pairs.min() < 0 or pairs.max() >= nodes or not np.isfinite(spread).all()
                           or spread.min() <= 0):
            raise BadInput("edges", expected=f"nodes in 0..{nodes - 1}, and finite variances above 0",
                           received=f"nodes {pairs.min()}..{pairs.max()}, variances from {spread.min():g}")
        for name, value in (("nodes", int(nodes)), ("edges", pairs), ("variance", spread)):
            object.__setattr__(self, name, value)

    def joined(self, other: Network) -> Network:
        """The edges of both."""
        return Network(max(self.nodes, other.nodes), np.concatenate([self.edges, other.edges]),
                       np.concatenate([self.variance, other.variance]))

    def components(self) -> Index:
        """To which component each node belongs; numbered by size, the largest first."""
        from scipy.sparse.csgraph import connected_components

        label = connected_components(self._weights(), directed=False)[1]
        order = np.argsort(-np.bincount(label), kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return place[label].astype(np.int64)

    def distances(self, pairs: ArrayLike, *, solver: Solver = "auto") -> Array:
        """The inference distance of each pair [M, 2]: its effective resistance; infinity across components.

        Args:
            pairs: Which two nodes.
            solver: `direct` factorises the Laplacian once, which is exact and fast where edges are few or the network
                is like a tree; `iterative` needs next to no memory (conjugate gradients for each pair, a relative
                residual of 1e-9); `auto` iterates above 4000 nodes with more than three edges each.

        Raises:
            PlauditError: when the iteration does not arrive.
        """
        wanted = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        component = self.components()
        out = np.where(component[wanted[:, 0]] == component[wanted[:, 1]], 0.0, np.inf)
        todo = np.flatnonzero((out == 0) & (wanted[:, 0] != wanted[:, 1]))
        if not len(todo):
            return out
        iterate = solver == "iterative" or (
            solver == "auto" and self.nodes > _DIRECT and len(self.edges) > 3 * self.nodes)
        out[todo] = (self._iterated if iterate else self._factorised)(wanted[todo], component)
        return out

    def _laplacian(self) -> Any:
        from scipy.sparse import diags

        weights = self._weights()
        return (diags(np.asarray(weights.sum(1)).ravel()) - weights).tocsr()

    def _iterated(self, wanted: Index, component: Index) -> Array:
        """Conjugate gradients for each pair; a flow within a component meets no singularity."""
        from scipy.sparse import diags
        from scipy.sparse.linalg import cg

        laplacian, out = self._laplacian(), np.zeros(len(wanted))
        degree = laplacian.diagonal()
        scaling, most = diags(1 / np.where(degree > 0, degree, 1.0)), 20 * int(self.nodes**0.5) + 500
        for k, (a, b) in enumerate(wanted):
            flow = np.zeros(self.nodes)
            flow[a], flow[b] = 1.0, -1.0
            height, failed = cg(laplacian, flow, rtol=1e-9, atol=0.0, M=scaling, maxiter=most)
            if failed:
                raise PlauditError(f"the distance of nodes {a} and {b} was not found in {failed} steps; pass "
                                   'solver="direct"')
            out[k] = height[a] - height[b]
        return out

    def _factorised(self, wanted: Index, component: Index) -> Array:
        """One sparse factorisation, then a solve for each pair."""
        from scipy.sparse.linalg import splu

        out = np.zeros(len(wanted))
        grounded = np.zeros(self.nodes, dtype=bool)  # one node of each component stands still
        grounded[np.unique(component, return_index=True)[1]] = True
        free = np.flatnonzero(~grounded)
        column = np.full(self.nodes, -1)
        column[free] = np.arange(len(free))
        factor = splu(self._laplacian().tocsc()[free][:, free], permc_spec="MMD_AT_PLUS_A",
                      options={"SymmetricMode": True}, diag_pivot_thresh=0.0)
        for start in range(0, len(wanted), _COLUMNS):
            some = np.arange(start, min(start + _COLUMNS, len(wanted)))
            flow = np.zeros((len(free), len(some)))
            at = [(column[wanted[some, k]], sign) for k, sign in ((0, 1.0), (1, -1.0))]
            for where, sign in at:
                flow[where[where >= 0], np.flatnonzero(where >= 0)] += sign
            height = factor.solve(flow)
            for where, sign in at:
                inside = where >= 0
                out[some[inside]] += sign * height[where[inside], np.flatnonzero(inside)]
        return out

    def path_distances(self, pairs: ArrayLike) -> Array:
        """The variance along the best single way of each pair: an upper bound of `distances`."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import dijkstra

        wanted = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        order = np.argsort(-self.variance)  # of parallel edges the best is kept: the last one written
        best = {(int(min(e)), int(max(e))): float(v) for e, v in zip(self.edges[order], self.variance[order],
                                                                      strict=True)}
        ends = np.array(list(best), dtype=np.int64).reshape(-1, 2)
        matrix = coo_matrix((list(best.values()), (ends[:, 0], ends[:, 1])), shape=(self.nodes,) * 2).tocsr()
        sources, row = np.unique(wanted[:, 0], return_inverse=True)
        return np.asarray(dijkstra(matrix, directed=False, indices=sources))[row, wanted[:, 1]]

    def _weights(self) -> Any:
        """The conductances as a symmetric sparse matrix; parallel edges add up."""
        from scipy.sparse import coo_matrix

        i, j = self.edges[self.edges[:, 0] != self.edges[:, 1]].T
        weight = 1 / self.variance[self.edges[:, 0] != self.edges[:, 1]]
        return coo_matrix((np.concatenate([weight, weight]), (np.concatenate([i, j]), np.concatenate([j, i]))),
                          shape=(self.nodes, self.nodes)).tocsr()


# --- preference sets --------------------------------------------------------------------------------------------


def likeness(embeddings: ArrayLike | Tensor, *, neighbours: int = 8, scale: float = 1.0, least: float = 1e-3,
             variance: Callable[[Array], Array] | None = None) -> Network:
    """Each answer joined to those nearest to it in direction.

    Args:
        embeddings: [N, D], one row an answer.
        neighbours: To how many.
        scale: The variance is scale * |e1 - e2|^2 / 2 = scale * (1 - cosine) of unit vectors, up to a factor that of
            r(y1) - r(y2) where r is linear in the embedding with weights of that prior variance.
        least: The smallest variance, for answers that are told apart by nothing.
        variance: Cosines to variances, instead of that.

    Raises:
        BadInput: when embeddings are no matrix, or a row is 0 or not finite.
    """
    rows = np.asarray(embeddings.detach().cpu() if isinstance(embeddings, Tensor) else embeddings, dtype=np.float64)
    size = np.linalg.norm(rows, axis=-1, keepdims=True) if rows.ndim == 2 else np.zeros(1)
    if rows.ndim != 2 or not np.isfinite(size).all() or not size.all():
        raise BadInput("embeddings", expected="a matrix [N, D] of finite rows, none of them 0",
                       received=f"shape {list(rows.shape)}", fix="leave empty answers out (check_pairs finds them)")
    rows, N = rows / size, len(rows)
    k, found = min(neighbours, N - 1), list[Any]()
    if k < 1:
        return Network(N, np.zeros((0, 2)), [])
    for start in range(0, N, 1024):
        cosine = rows[start:start + 1024] @ rows.T
        here = np.arange(len(cosine))
        cosine[here, start + here] = -np.inf
        near = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        found.append(np.stack([np.repeat(start + here, k), near.ravel(), cosine[here[:, None], near].ravel()], 1))
    i, j, cosine = np.concatenate(found).T
    edges, first = np.unique(np.sort(np.stack([i, j], 1), 1).astype(np.int64), axis=0, return_index=True)
    spread = variance(cosine[first]) if variance is not None else scale * (1 - cosine[first])
    return Network(N, edges, np.maximum(spread, least))


def answers_of(records: Sequence[Preference]) -> tuple[list[tuple[str, str]], Index]:
    """The different answers (prompt, text) of all comparisons, and which two of them each compared.

    Records of which nothing is known, and options that are steps of an episode, are left out.

    Example:
        >>> records = [Preference(options=("4", "5"), context="2 + 2?", label=1.0)] * 2
        >>> answers_of(records)[1].tolist()
        [[0, 1], [0, 1]]
    """
    number: dict[tuple[str, str], int] = {}
    pairs: list[tuple[int, int]] = []
    for record in records:
        if record.label is not None and len(record.options) == 2 and isinstance(record.options[0], str | Sequence):
            asked = str(record.context) if isinstance(record.context, str) else plain_text(record.context)
            first, second = (number.setdefault((asked, plain_text(o)), len(number)) for o in record.options)
            pairs.append((first, second))
    return list(number), np.array(pairs, dtype=np.int64).reshape(-1, 2)


@dataclass(frozen=True, eq=False, kw_only=True)
class Connectivity:
    """How well a preference set is connected."""

    answers: list[tuple[str, str]]
    """The different answers, as (prompt, text): the nodes."""
    comparisons: Network
    """What was said alone."""
    network: Network
    """With likeness, where embeddings were given."""
    compared: list[int]
    """The sizes of the components by comparisons alone, the largest first."""
    sizes: list[int]
    """Those of the whole network."""
    distance: Interval
    """The mean inference distance of two answers of the network that can be compared, over random pairs."""
    alike: Interval | None
    """The same by likeness alone: what the comparisons have added to. None without embeddings."""
    apart: float
    """The share of random pairs that cannot be compared at all."""
    farthest: list[tuple[tuple[str, str], tuple[str, str], float]]
    """The pairs drawn with the largest distance, one for each answer: what to have compared next."""

    def __str__(self) -> str:
        alone = f" (by likeness alone {self.alike})" if self.alike is not None else ""
        return (f"{len(self.answers)} answers, {len(self.comparisons.edges)} comparisons; components by comparisons: "
                f"{_few(self.compared)}; with likeness: {_few(self.sizes)}; mean inference distance "
                f"{self.distance}{alone}; {self.apart:.0%} of pairs cannot be compared")


def connectivity(records: Sequence[Preference], embed: Callable[[Sequence[str]], ArrayLike | Tensor] | None = None, *,
                 comparison_variance: float = 1.0, neighbours: int = 8, scale: float = 1.0, least: float = 1e-3,
                 variance: Callable[[Array], Array] | None = None, pairs: int = 2000,
                 seed: int = 0) -> Connectivity:
    """Is this preference set well connected?

    Args:
        records: Comparisons of two answers.
        embed: Texts ("prompt, blank line, answer") to vectors [N, D], such as a `SentenceEncoder`; None leaves
            likeness out, so that only comparisons join.
        comparison_variance: That of the noise of a comparison, in the units of the reward, squared.
        neighbours: As for `likeness`.
        scale: As there.
        least: As there.
        variance: As there.
        pairs: How many random pairs the mean distance is taken over.
        seed: Of these pairs.

    Raises:
        BadInput: when there is no comparison of two texts.

    Example:
        >>> said = [Preference(options=(a, b), context="?", label=1.0) for a, b in ("ab", "bc", "xy")]
        >>> found = connectivity(said)
        >>> found.sizes, float(found.network.distances([[0, 2]])[0])
        ([3, 2], 2.0)
    """
    answers, which = answers_of(records)
    if not len(which):
        raise BadInput("records", expected="comparisons of two texts with a label", received="none",
                       fix="as_comparisons makes pairs of ratings")
    said = Network(len(answers), which, np.full(len(which), comparison_variance))
    near = None if embed is None else likeness(embed([f"{a}\n\n{b}" for a, b in answers]), neighbours=neighbours,
                                               scale=scale, least=least, variance=variance)
    network = said if near is None else said.joined(near)
    drawn = random_pairs(len(answers), pairs, Seeds(seed).child("connectivity"))
    distance = network.distances(drawn)
    return Connectivity(
        answers=answers, comparisons=said, network=network, compared=_sizes(said), sizes=_sizes(network),
        distance=_mean(distance), alike=None if near is None else _mean(near.distances(drawn)),
        apart=float(np.isinf(distance).mean()), farthest=_farthest(answers, drawn, distance))


def random_pairs(nodes: int, n: int, seeds: Seeds) -> Index:
    """n random pairs [n, 2] of different nodes."""
    if nodes < 2:
        raise BadInput("nodes", expected="at least 2", received=nodes)
    rng = seeds.numpy()
    first = rng.integers(nodes, size=n)
    return np.stack([first, (first + rng.integers(1, nodes, size=n)) % nodes], 1)


def _mean(distance: Array) -> Interval:
    known = distance[np.isfinite(distance)]
    return mean_interval(known, resamples=500) if len(known) else Interval(np.inf, np.inf, np.inf, 0)


def _sizes(network: Network) -> list[int]:
    return [int(n) for n in np.bincount(network.components())]


def _few(sizes: list[int]) -> str:
    return f"{len(sizes)} of {', '.join(map(str, sizes[:4]))}{', ...' if len(sizes) > 4 else ''}"


def _farthest(answers: list[tuple[str, str]], drawn: Index, distance: Array, most: int = 5
              ) -> list[tuple[tuple[str, str], tuple[str, str], float]]:
    out, used = list[tuple[tuple[str, str], tuple[str, str], float]](), set[int]()
    for i in np.argsort(-distance, kind="stable"):
        pair = (int(drawn[i, 0]), int(drawn[i, 1]))
        if not used & {*pair}:
            used |= {*pair}
            out.append((answers[pair[0]], answers[pair[1]], float(distance[i])))
        if len(out) == most:
            break
    return out
