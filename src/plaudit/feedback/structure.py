"""How diverse a task is: the structural function F(M), and how it falls as answers are sorted into more groups.

F(M) says how far apart, by likeness alone, answers of one group still are when all are sorted into M groups of similar
size as well as can be. Where it falls like a power of M the task is diverse, and comparisons are needed everywhere;
where it falls like a power of log M, or slower, a few groups say nearly all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from plaudit.core.errors import BadInput
from plaudit.feedback.connectivity import Array, Network


def all_distances(network: Network) -> Array:
    """The inference distances of all pairs [N, N], from the pseudo-inverse: for up to some thousand answers.

    Example:
        >>> all_distances(Network(3, [[0, 1], [1, 2]], [1.0, 2.0])).round(9).tolist()
        [[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]]
    """
    N = network.nodes
    laplacian = np.zeros((N, N))
    for (i, j), v in zip(network.edges, network.variance, strict=True):
        if i != j:
            laplacian[[i, j, i, j], [i, j, j, i]] += np.array([1, 1, -1, -1]) / v
    inverse = np.linalg.pinv(laplacian, hermitian=True)
    diagonal = np.diag(inverse)
    component = network.components()
    out = diagonal[:, None] + diagonal[None, :] - 2 * inverse
    return np.where(component[:, None] == component[None, :], np.maximum(out, 0.0), np.inf)


def structural_function(distance: ArrayLike, groups: Sequence[int]) -> Array:
    """F(M) for each number of groups, from the distances [N, N] by likeness: an upper bound that is often met.

    F(M) is the least d such that the answers can be cut into M groups of N / (2M) to 2N / M answers, in none of which
    the mean distance of two answers (a pair of an answer with itself included) exceeds d. Of all cuts, those of an
    order of the answers are searched exhaustively: the order of the leaves of an average-linkage tree.

    Args:
        distance: Symmetric and finite; up to some hundred answers, so sample where there are more. 1 - cosine of
            embeddings keeps their geometry; `all_distances` of a network with many neighbours does not.
        groups: M, each in 1..N.

    Raises:
        BadInput: when the distances are no such matrix, or an M has no such cut.

    Source:
        Qiu et al. (2024), definition of the structural function in section 4.

    Example:
        >>> far = np.abs(np.subtract.outer([0.0, 0.1, 5.0, 5.1], [0.0, 0.1, 5.0, 5.1]))
        >>> structural_function(far, [1, 2, 4]).round(3).tolist()
        [2.525, 0.05, 0.0]
    """
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    d = np.asarray(distance, dtype=np.float64)
    if d.ndim != 2 or d.shape[0] != d.shape[1] or not np.isfinite(d).all() or not np.allclose(d, d.T):
        raise BadInput("distance", expected="a symmetric matrix of finite numbers", received=f"shape {list(d.shape)}",
                       fix="take one component alone: answers of different ones cannot be compared")
    N = len(d)
    if wrong := [M for M in groups if not 1 <= M <= N]:
        raise BadInput("groups", expected=f"numbers in 1..{N}", received=wrong)
    if N > 1:
        flat = squareform(d, checks=False)
        tree = linkage(flat, "average")
        order = leaves_list(optimal_leaf_ordering(tree, flat) if N <= 256 else tree)
        d = d[order][:, order]
    mean = _mean_within(d)
    return np.array([_best_cut(mean, N, M) for M in groups])


def _mean_within(d: Array) -> Array:
    """[N + 1, N + 1]: the mean distance among answers i .. j - 1 of the order."""
    total = np.zeros((len(d) + 1,) * 2)
    total[1:, 1:] = d.cumsum(0).cumsum(1)
    diagonal = np.diag(total)
    block = diagonal[None, :] + diagonal[:, None] - total - total.T
    length = np.maximum(np.arange(len(d) + 1)[None, :] - np.arange(len(d) + 1)[:, None], 1)
    return block / length**2


def _best_cut(mean: Array, N: int, M: int) -> float:
    """The least largest mean over cuts of the order into M blocks of allowed sizes."""
    low, high = max(1, -(-N // (2 * M))), max(1, 2 * N // M)
    best = np.full(N + 1, np.inf)
    best[0] = 0.0
    for _ in range(M):
        after = np.full(N + 1, np.inf)
        for j in range(low, N + 1):
            i = np.arange(max(0, j - high), j - low + 1)
            after[j] = np.maximum(best[i], mean[i, j]).min()
        best = after
    if not np.isfinite(best[N]):
        raise BadInput("groups", expected=f"a number of groups of {N} answers with {low} to {high} each", received=M)
    return float(best[N])


@dataclass(frozen=True, kw_only=True)
class Regime:
    """How F falls."""

    form: Literal["polynomial", "logarithmic"]
    """F ~ M^-alpha, or F ~ (log M)^-alpha: that of the two which fits better."""
    alpha: float
    r2: dict[str, float]
    """How well each form fits log F."""


def regime(groups: Sequence[int], F: ArrayLike) -> Regime:
    """Which of the two forms F has, by least squares on log F over M of 2 and more.

    Raises:
        BadInput: when there are fewer than three such M, or F is not positive.

    Example:
        >>> M = [2, 4, 8, 16, 32]
        >>> fit = regime(M, np.array(M) ** -0.5)
        >>> fit.form, round(fit.alpha, 6)
        ('polynomial', 0.5)
    """
    m, f = np.asarray(groups, dtype=np.float64), np.asarray(F, dtype=np.float64)
    kept = m >= 2
    if kept.sum() < 3 or not (f[kept] > 0).all():
        raise BadInput("F", expected="positive numbers at three or more M of at least 2", received=f.tolist())
    y, fits = np.log(f[kept]), dict[str, tuple[float, float]]()
    for name, x in (("polynomial", np.log(m[kept])), ("logarithmic", np.log(np.log(m[kept])))):
        slope, offset = np.polyfit(x, y, 1)
        rest, spread = ((y - slope * x - offset) ** 2).sum(), ((y - y.mean()) ** 2).sum()
        fits[name] = (-float(slope), float(1 - rest / spread) if spread > 0 else 1.0)
    form: Literal["polynomial", "logarithmic"] = (
        "polynomial" if fits["polynomial"][1] >= fits["logarithmic"][1] else "logarithmic")
    return Regime(form=form, alpha=fits[form][0], r2={name: r2 for name, (_, r2) in fits.items()})
