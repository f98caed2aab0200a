from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.seeds import Seeds
from plaudit.feedback.connectivity import Network, connectivity, likeness, random_pairs
from plaudit.feedback.records import Fragment, Preference
from plaudit.feedback.structure import all_distances, regime, structural_function
from plaudit.learn.text.embedding import HashedEncoder


def random_network(seed: int, nodes: int = 7, edges: int = 12) -> Network:
    rng = np.random.default_rng(seed)
    return Network(nodes, rng.integers(nodes, size=(edges, 2)), rng.uniform(0.1, 3.0, edges))


def posterior_variance(network: Network, a: int, b: int) -> float:
    """The variance of r(a) - r(b) given every edge as an observed difference, under a prior that says next to nothing:
    by the inverse of the precision matrix, and so by no resistance and no pseudo-inverse."""
    precision = np.eye(network.nodes) * 1e-9
    for (i, j), v in zip(network.edges, network.variance, strict=True):
        x = np.zeros(network.nodes)
        x[i] += 1
        x[j] -= 1
        precision += np.outer(x, x) / v
    covariance = np.linalg.inv(precision)
    return float(covariance[a, a] + covariance[b, b] - 2 * covariance[a, b])


def test_variances_add_in_series_and_precisions_in_parallel() -> None:
    v = np.array([0.3, 1.7, 2.0, 0.9])
    series = Network(5, [[k, k + 1] for k in range(4)], v)
    assert series.distances([[0, 4]])[0] == pytest.approx(v.sum(), abs=1e-6)
    parallel = Network(2, [[0, 1]] * 4, v)
    assert parallel.distances([[1, 0]])[0] == pytest.approx(1 / (1 / v).sum(), abs=1e-6)
    ladder = Network(4, [[0, 1], [1, 3], [0, 2], [2, 3]], v)
    assert ladder.distances([[0, 3]])[0] == pytest.approx(1 / (1 / (v[0] + v[1]) + 1 / (v[2] + v[3])), abs=1e-6)
    balanced = Network(4, [[0, 1], [1, 3], [0, 2], [2, 3], [1, 2]], [1.0, 1.0, 1.0, 1.0, 7.0])
    assert balanced.distances([[0, 3]])[0] == pytest.approx(1.0, abs=1e-6), "Wheatstone: no current in the bridge"


@pytest.mark.parametrize("seed", range(5))
def test_the_distance_is_the_posterior_variance_of_the_difference(seed: int) -> None:
    network = random_network(seed)
    component = network.components()
    pairs = list(product(range(7), repeat=2))
    for (a, b), d in zip(pairs, network.distances(pairs), strict=True):
        if component[a] != component[b]:
            assert d == np.inf
        else:
            assert d == pytest.approx(posterior_variance(network, a, b), abs=1e-4)
            assert d == pytest.approx(all_distances(network)[a, b], abs=1e-6)


def test_the_best_way_bounds_the_distance_and_is_it_on_a_tree() -> None:
    rng = np.random.default_rng(0)
    tree = Network(40, [[i, int(rng.integers(i))] for i in range(1, 40)], rng.uniform(0.1, 1, 39))
    pairs = random_pairs(40, 60, Seeds(0))
    assert tree.path_distances(pairs) == pytest.approx(tree.distances(pairs), abs=1e-9)
    more = tree.joined(Network(40, random_pairs(40, 20, Seeds(1)), np.full(20, 0.5)))
    assert (more.distances(pairs) <= more.path_distances(pairs) + 1e-9).all()
    assert more.distances(pairs).mean() < more.path_distances(pairs).mean() - 0.01, "parallel ways count"
    assert (more.distances(pairs) <= tree.distances(pairs) + 1e-9).all(), "another edge never harms (Rayleigh)"
    doubled = Network(2, [[0, 1], [1, 0]], [2.0, 1.0])
    assert doubled.path_distances([[0, 1]])[0] == 1.0 and doubled.distances([[0, 1]])[0] == pytest.approx(2 / 3)


def test_iterating_finds_what_factorising_finds_and_says_so_where_it_does_not() -> None:
    network = likeness(np.random.default_rng(0).normal(size=(200, 8))).joined(Network(203, [[200, 201]], [0.5]))
    pairs = np.concatenate([random_pairs(203, 40, Seeds(0)), [[200, 201], [202, 0], [5, 5]]])
    direct, iterative = (network.distances(pairs, solver=how) for how in ("direct", "iterative"))
    assert iterative == pytest.approx(direct, abs=1e-6) and direct[-3:].tolist() == [0.5, np.inf, 0.0]
    line = Network(5000, [[i, i + 1] for i in range(4999)], np.ones(4999))
    assert line.distances([[0, 4999]])[0] == pytest.approx(4999)
    with pytest.raises(PlauditError, match="solver"):
        line.distances([[0, 4999]], solver="iterative")


def test_a_large_network_is_solved_without_a_dense_matrix() -> None:
    N = 3000
    ring = Network(N, [[i, (i + 1) % N] for i in range(N)], np.ones(N))
    assert ring.distances([[0, 1000]])[0] == pytest.approx(1000 * 2000 / 3000)


@pytest.mark.parametrize(("edges", "variance"), [([[0, 3]], [1.0]), ([[0, 1]], [0.0]), ([[0, 1]], [np.nan]),
                                                 ([[0, 1]], [1.0, 2.0]), ([[-1, 1]], [1.0])])
def test_edges_to_nowhere_and_impossible_variances_are_refused(edges: list[list[int]], variance: list[float]) -> None:
    with pytest.raises(BadInput):
        Network(3, edges, variance)


# --- preference sets --------------------------------------------------------------------------------------------


def said(*pairs: str, prompt: str = "?") -> list[Preference]:
    return [Preference(options=(p[0], p[1]), context=prompt, label=1.0) for p in pairs]


def test_a_set_in_pieces_says_so_and_likeness_joins_them() -> None:
    records = [*said("ab", "bc", "ca", "xy"), Preference(options=("q", "z"), context="?", label=None),
               Preference(options=(Fragment(0, 0, 2), Fragment(1, 0, 2)), label=1.0)]
    alone = connectivity(records)
    assert (len(alone.answers), alone.compared, alone.sizes) == (5, [3, 2], [3, 2])
    assert alone.distance.mean == pytest.approx(0.75, abs=0.1), "2/3 in the triangle, 1 in the pair"
    assert alone.apart == pytest.approx(12 / 20, abs=0.05) and alone.alike is None
    assert alone.farthest[0][2] == np.inf
    joined = connectivity(records, lambda texts: np.eye(len(texts)) + 0.2, scale=4.0)
    assert joined.sizes == [5] and joined.compared == [3, 2] and joined.apart == 0
    assert joined.alike is not None and joined.distance.mean < joined.alike.mean
    assert "components by comparisons: 2 of 3, 2" in str(joined)
    with pytest.raises(BadInput, match="comparisons of two texts"):
        connectivity([Preference(options=("a", "b"), label=None)])


def test_likeness_joins_near_answers_and_its_variance_grows_with_their_difference() -> None:
    texts = ["three red birds", "four red birds", "translate this text", "translate that text"]
    network = likeness(HashedEncoder()(texts), neighbours=3)
    spread = {tuple(e): v for e, v in zip(network.edges.tolist(), network.variance, strict=True)}
    assert len(spread) == 6 and max(spread[0, 1], spread[2, 3]) < min(spread[0, 2], spread[1, 3])
    assert likeness(np.ones((2, 3))).variance.tolist() == [1e-3], "equal ones are near, not joined by nothing"
    assert likeness(np.eye(3), variance=lambda c: 5 - c).variance.tolist() == [5.0] * 3
    assert len(likeness(np.ones((1, 3))).edges) == 0
    for wrong in (np.zeros((2, 3)), np.ones(3), np.full((2, 2), np.nan)):
        with pytest.raises(BadInput, match="embeddings"):
            likeness(wrong)


# --- the structural function ------------------------------------------------------------------------------------


def brute_force(d: np.ndarray, M: int) -> float:
    """F(M) over every assignment of answers to groups of allowed sizes."""
    N = len(d)
    low, high = max(1, -(-N // (2 * M))), max(1, 2 * N // M)
    best = np.inf
    for groups in product(range(M), repeat=N):
        sizes = np.bincount(groups, minlength=M)
        if low <= sizes.min() and sizes.max() <= high:
            where = [np.flatnonzero(np.array(groups) == g) for g in range(M)]
            best = min(best, max(float(d[np.ix_(w, w)].mean()) for w in where))
    return best


def test_the_structural_function_is_that_of_brute_force_on_lines_and_trees() -> None:
    line = np.random.default_rng(1).uniform(0, 10, 7)
    d = np.abs(np.subtract.outer(line, line))
    assert structural_function(d, [1, 2, 3]) == pytest.approx([brute_force(d, M) for M in (1, 2, 3)])
    leaves = [(i, j) for i in range(3) for j in range(2)]
    tree = np.array([[0.0 if a == b else 1.0 if a[0] == b[0] else 5.0 for a in leaves] for b in leaves])
    assert structural_function(tree, [3])[0] == pytest.approx(0.5) and brute_force(tree, 3) == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_never_below_the_truth(seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(7, 3))
    d = np.linalg.norm(points[:, None] - points[None], axis=-1)
    truth, found = np.array([brute_force(d, M) for M in (2, 3)]), structural_function(d, [2, 3])
    assert (found >= truth - 1e-9).all() and (found <= 1.35 * truth).all()


def test_the_regime_is_read_off_prefix_trees_of_known_decay() -> None:
    """Planted: two leaves whose common prefix has l of 8 levels are 2^(-alpha l), or l^(-alpha), apart."""
    codes = np.array(list(product(range(2), repeat=8)))
    level = np.cumprod(codes[:, None] == codes[None], axis=-1).sum(-1)
    M = [2, 4, 8, 16]
    for form, decay in (("polynomial", 2.0 ** (-0.7 * level)), ("logarithmic", np.maximum(level, 0.5) ** -1.5)):
        d = np.where(level == 8, 0.0, decay)
        found = regime(M, structural_function(d, M))
        assert found.form == form and found.r2[form] > 0.97
    assert regime(M, [m**-0.7 for m in M]).alpha == pytest.approx(0.7)
    for wrong in ([1.0, 0.0, 1.0, 1.0], [1.0, 1.0]):
        with pytest.raises(BadInput):
            regime(M[:len(wrong)], wrong)


def test_distances_that_are_none_are_refused() -> None:
    for wrong in (np.zeros((2, 3)), np.array([[0, np.inf], [np.inf, 0]]), np.array([[0, 1.0], [2.0, 0]])):
        with pytest.raises(BadInput, match="distance"):
            structural_function(wrong, [1])
    with pytest.raises(BadInput, match="groups"):
        structural_function(np.zeros((3, 3)), [4])
