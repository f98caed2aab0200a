"""Causal bandits: means and effects of all interventions are those of one solve each; rings are named."""

from __future__ import annotations

import numpy as np
import pytest

from plaudit.core.errors import BadInput
from plaudit.optimize.bandits import UCB1, play
from plaudit.tasks.bandits import LinearSEM, random_sem, with_change
from plaudit.tasks.bandits.causal import ascend
from plaudit.tasks.bandits.causal_graph import (
    causal_order,
    effects_of_all,
    find_cycle,
    means_of_all,
    mixed,
    on_of,
    solved,
)

FAMILIES = ("dense", "sparse", "chain", "layered", "hard")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_means_and_effects_of_all_interventions_are_those_of_inverses(family, seed) -> None:
    rng = np.random.default_rng(seed)
    N, order = 5, rng.permutation(5)
    system = random_sem(N, family=family, seed=seed)
    back = np.argsort(order)  # nodes in any order, some that cannot be intervened on
    B, B2 = (b[0][np.ix_(back, back)] for b in (system.B_SNN, system.B_prime_SNN))
    allowed, nu, target = [0, 2, 3], rng.normal(size=N), int(rng.integers(N))
    found = causal_order((B != 0) | (B2 != 0))
    assert found is not None
    mean, effect = means_of_all(B, B2, nu, found, allowed), effects_of_all(B, B2, target, found, allowed)
    for arm in range(8):
        on = np.zeros(N, dtype=bool)
        on[[n for j, n in enumerate(allowed) if arm >> j & 1]] = True
        C = np.linalg.inv(np.eye(N) - np.where(on, B2, B))
        assert mean[arm] == pytest.approx(C.T @ nu)
        assert effect[arm] == pytest.approx(C[:, target])
    rows = solved(mixed(B, B2, on_of(np.arange(8), N, allowed)), nu, target)
    assert rows[0] == pytest.approx(mean) and rows[1] == pytest.approx(effect)


def test_observations_have_the_mean_and_covariance_of_the_system() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3)) / 2
    base = random_sem(3, seed=4)
    system = LinearSEM(base.B_SNN[0], base.B_prime_SNN[0], nu=[1.0, -1.0, 0.5], Sigma=root @ root.T)
    system.reset(range(20_000))
    arm = 5
    pull = system.pull(np.full(20_000, arm))
    C = np.linalg.inv(np.eye(3) - np.where(on_of(np.array([arm]), 3, system.allowed)[0], system.B_prime_SNN[0],
                                           system.B_SNN[0]))
    assert pull.seen_RM is not None
    assert pull.seen_RM.mean(0) == pytest.approx(C.T @ system.nu, abs=0.08)
    assert np.cov(pull.seen_RM.T) == pytest.approx(C.T @ system.Sigma @ C, abs=0.15)
    assert (pull.reward_R == pull.seen_RM[:, 2]).all() and pull.mean_R[0] == pytest.approx((C.T @ system.nu)[2])


def test_the_reward_node_may_be_intervened_on_or_not() -> None:
    B, B2 = [[0, 1.0], [0, 0]], [[0, 3.0], [0, 0]]
    assert LinearSEM(B, B2).best == 4.0
    kept = LinearSEM(B, B2, allowed=[0])
    assert (kept.K, kept.best) == (2, 2.0)


def test_a_run_is_the_same_in_a_batch_of_any_size_and_nodes_are_in_the_episodes() -> None:
    system = random_sem(4, seed=1)
    one, many = (play(system, UCB1(), rounds=30, runs=r, seed=3) for r in (1, 5))
    assert (one.reward_RT == many.rows(0, 1).reward_RT).all()
    info = many.episodes().info
    assert info["node 3"].numpy() == pytest.approx(many.reward_RT, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_a_change_moves_the_optimum_and_touches_columns_that_it_used(seed) -> None:
    system = random_sem(5, seed=seed)
    changed = with_change(system, columns=2, at=50, seed=seed)
    moved = (changed.B_SNN[0] != changed.B_SNN[1]).any(0) | (changed.B_prime_SNN[0] != changed.B_prime_SNN[1]).any(0)
    assert 1 <= moved.sum() <= 2
    assert changed.means_SK[1, system.means_SK[0].argmax()] < changed.best_S[1] - 1e-9
    changed.reset([1])
    bests = [float(changed.pull(np.array([0])).best_R[0]) for _ in range(60)]
    assert bests[:50] == [changed.best_S[0]] * 50 and bests[50:] == [changed.best_S[1]] * 10


def test_coordinate_ascent_finds_the_optimum_of_systems_that_can_be_tried_out() -> None:
    hits = 0
    for seed in range(8):
        system = random_sem(6, seed=seed)
        same = random_sem(6, seed=seed, best="ascent")
        assert same.best <= system.best + 1e-9 and "coordinate ascent" in same.comparator
        hits += abs(same.best - system.best) < 1e-9
    assert hits >= 7
    big = random_sem(24, family="chain", seed=0, best="ascent")
    big.reset([0])
    assert big.K == 2**24 and np.isfinite(big.pull(np.array([12345])).reward_R).all()
    assert ascend(lambda on: np.full(len(on), np.nan), 3, [0, 1, 2], starts=2)[1] == -np.inf


# --- bad input -----------------------------------------------------------------------------------------------


def test_a_ring_is_found_wherever_it_is() -> None:
    edge = np.zeros((6, 6), dtype=bool)
    edge[[0, 1, 4, 2], [1, 4, 2, 1]] = True  # 1 -> 4 -> 2 -> 1, with a way in
    assert find_cycle(edge) == [1, 4, 2, 1] and causal_order(edge) is None
    edge[2, 1] = False
    assert find_cycle(edge) == [] and causal_order(edge) is not None


@pytest.mark.parametrize(("given", "says"), [
    ({"B": [[0, 1.0], [0.5, 0]]}, r"ring 0 -> 1 -> 0; set the weight of 1 -> 0 to 0"),
    ({"B": [[0, 1.0], [1.0, 0]]}, r"I - B is singular"),
    ({"B": [[0.5, 1.0], [0, 0]]}, r"ring 0 -> 0"),
    ({"B": [[0, 1.0], [0, 0]], "B_prime": [[0, 0], [2.0, 0]]}, r"ring 0 -> 1 -> 0"),  # only mixtures have it
    ({"B": [[0, np.nan], [0, 0]]}, r"B\[0, 1\]: expected a finite number"),
    ({"B": [[0, 1.0, 1.0], [0, 0, 0]]}, "square matrix"),
    ({"B_prime": np.zeros((3, 3))}, r"B_prime: expected the shape of B"),
    ({"Sigma": [[1.0, 2.0], [2.0, 1.0]]}, "Sigma: expected a covariance"),
    ({"Sigma": [1.0, 1.0, 1.0]}, "Sigma"), ({"nu": [1.0, 1.0, 1.0]}, "nu: expected one number or 2"),
    ({"target": 2}, "target: expected a node"), ({"allowed": [0, 0]}, "different nodes"),
    ({"changes": [10]}, "changes: expected 0 growing rounds"),
])
def test_bad_systems_are_refused_by_name(given, says) -> None:
    with pytest.raises(BadInput, match=says):
        LinearSEM(**{"B": [[0, 1.0], [0, 0]], "B_prime": [[0, 2.0], [0, 0]], **given})


def test_too_many_nodes_are_refused_with_the_way_out() -> None:
    with pytest.raises(BadInput, match="best='ascent'"):
        random_sem(17, family="chain", seed=0)
    with pytest.raises(BadInput, match="nodes"):
        random_sem(1)
