"""CSL-UCB: information as in closed form, planted graphs that are found, changes that are noticed, rewards."""

from __future__ import annotations

import importlib.util
import itertools

import numpy as np
import pytest
from scipy.special import digamma

from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.functions import EnvReward
from plaudit.optimize.bandits import (
    CSLUCB,
    UCB1,
    CSLOptions,
    FixedArm,
    GolemGreedy,
    LinSEMThompson,
    RandomArm,
    play,
)
from plaudit.optimize.bandits.causal_baselines import _exp, _golem_loss, golem
from plaudit.optimize.bandits.causal_change import Watch, joint_ratio, likelihood_ratio
from plaudit.optimize.bandits.causal_information import neighbour_information
from plaudit.optimize.bandits.causal_model import CausalModel
from plaudit.optimize.bandits.causal_topology import Column, learn_together, learn_topology, pruned
from plaudit.tasks.bandits import Bernoulli, LinearSEM, random_sem, with_change
from plaudit.tasks.bandits.causal_graph import causal_order, on_of

FAST = importlib.util.find_spec("numba") is not None


def observed(system: LinearSEM, samples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What random interventions show: nodes and interventions."""
    arm = np.random.default_rng(seed).integers(system.K, size=samples)
    system.reset(range(seed, seed + samples))
    return system.pull(arm).seen_RM, on_of(arm, system.N, system.allowed)


def model_of(system: LinearSEM, samples: int, **options) -> CausalModel:
    x, on = observed(system, samples)
    model = CausalModel(system, CSLOptions(most=10_000, **options), known=options.get("noise") != "estimated")
    model.read(x, on, np.ones(samples, bool), np.zeros((2, system.N), dtype=np.int64))
    model.learn_graphs()
    model.learn_weights()
    return model


# --- information -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.skipif(not FAST, reason="no Numba"))])
@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_information_of_gaussians_is_that_of_the_closed_form(rho, compiled) -> None:
    rng = np.random.default_rng(1)
    x, e = rng.normal(size=(2, 300, 12))
    found = [neighbour_information(x[:, i], (rho * x + np.sqrt(1 - rho**2) * e)[:, i: i + 1], compiled=compiled)[0]
             for i in range(12)]
    assert np.mean(found) == pytest.approx(-0.5 * np.log(1 - rho**2), abs=0.05)


def test_information_is_what_counting_by_hand_gives_and_ties_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    n, k = 25, 3
    x, y = rng.normal(size=n).round(1), rng.normal(size=(n, 2)).round(1)  # many ties
    for m in range(2):
        total = 0.0
        for i in range(n):
            others = [j for j in range(n) if j != i]
            far = {j: max(abs(x[i] - x[j]), abs(y[i, m] - y[j, m])) for j in others}
            near = sorted(others, key=lambda j: (far[j], j))[:k]
            for z in (x, y[:, m]):
                reach = max(abs(z[i] - z[j]) for j in near)
                total += digamma(sum(abs(z[i] - z[j]) <= reach for j in others))
        by_hand = digamma(k) - 1 / k - total / n + digamma(n)
        assert neighbour_information(x, y, k=k, compiled=False)[m] == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.skipif(not FAST, reason="no Numba")
def test_the_compiled_loop_gives_the_same_bits() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=60).round(1), rng.normal(size=(60, 5)).round(1)
    assert (neighbour_information(x, y, compiled=True) == neighbour_information(x, y, compiled=False)).all()


def test_information_refuses_too_few_numbers() -> None:
    with pytest.raises(BadInput, match="more than k = 5"):
        neighbour_information(np.zeros(5), np.zeros((5, 1)))


# --- graphs and weights ----------------------------------------------------------------------------------------


def test_a_planted_graph_is_found_and_information_alone_turns_edges_round() -> None:
    missing, edges = {1.0: 0, 0.0: 0}, 0
    for seed in range(6):
        system = random_sem(5, seed=seed)
        system.reset(range(300))
        x = system.pull(np.zeros(300, dtype=np.int64)).seen_RM
        true = system.B_SNN[0] != 0
        edges += int(true.sum())
        for weight in missing:  # Gaussian residuals do not depend on their causes whichever way an edge points
            edge = learn_topology([Column(x, n, nu=1.0, weight=weight) for n in range(5)])
            assert causal_order(edge) is not None
            missing[weight] += int((true & ~edge).sum())
    assert missing[1.0] <= edges // 5 and missing[0.0] >= edges // 2


def test_weights_are_least_squares_and_the_shortest_where_columns_are_the_same() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4))
    x[:, 3] = 2.0 + x[:, 0] - x[:, 1] + 0.1 * rng.normal(size=50)
    cause = np.array([True, True, True, False])
    told = Column(x, 3, nu=2.0).fit(cause)
    assert told.weight_N[:3] == pytest.approx(np.linalg.lstsq(x[:, :3], x[:, 3] - 2.0, rcond=None)[0])
    assert told.widest == pytest.approx(1 / np.linalg.eigvalsh(x[:, :3].T @ x[:, :3])[0])
    free = Column(x, 3, nu=None).fit(cause)
    by_hand = np.linalg.lstsq(np.c_[x[:, :3], np.ones(50)], x[:, 3], rcond=None)[0]
    assert [*free.weight_N[:3], free.mean] == pytest.approx(by_hand)
    assert free.variance == pytest.approx(((x[:, 3] - np.c_[x[:, :3], np.ones(50)] @ by_hand) ** 2).sum() / 46)
    x[:, 2] = x[:, 0]
    twice = Column(x, 3, nu=2.0).fit(cause).weight_N
    assert twice[0] == pytest.approx(twice[2]) and np.isfinite(twice).all()


def test_a_weight_of_nothing_goes_first_and_a_constant_node_does_no_harm() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    x[:, 2] = 0.0
    column = Column(x, 0, nu=0.0)
    assert column.scores(np.array([False, True, True]))[2] == np.inf
    assert causal_order(learn_topology([Column(x, n, nu=0.0) for n in range(3)])) is not None


def test_one_graph_for_both_sides_has_no_ring_in_any_mixture() -> None:
    for seed in range(4):
        x, on = observed(random_sem(5, seed=seed), 80)
        sides = [[Column(x[on[:, n] == a], n, nu=1.0) for n in range(5)] for a in (False, True)]
        assert causal_order(learn_together(sides)) is not None


def test_pruning_drops_what_is_not_there_and_with_it_some_of_what_is() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 3))
    x[:, 2] += 2 * x[:, 0]
    column = Column(x, 2, nu=0.0)
    both = np.array([True, True, False])
    assert pruned(column, both, 3.0, 1.0).tolist() == [True, False, False]
    assert pruned(column, both, 1e3, 1.0).tolist() == [False, False, False]


@pytest.mark.parametrize("graphs", ["joint", "separate"])
def test_means_and_widths_are_those_of_the_formula(graphs) -> None:
    model = model_of(random_sem(4, seed=2), 200, graphs=graphs)
    mean, width = model.tables()
    log = np.log(2 * 4 / 0.05)
    for arm in (0, 5, 15):
        on = on_of(np.array([arm]), 4, range(4))[0]
        B = np.where(on, model.B_2NN[1], model.B_2NN[0])
        C = np.linalg.inv(np.eye(4) - B)
        mu, spread = C.T @ np.ones(4), 0.0
        for n in range(4):
            side = int(on[n])
            cause, column = model.edge_2NN[side, :, n], model._columns[side, n][1]
            if P := int(cause.sum()):
                spread += np.sqrt(P * (P + 2)) / np.linalg.eigvalsh(column.x_SN[:, cause].T @ column.x_SN[:, cause])[0]
        assert mean[arm] == pytest.approx(mu[3])
        assert width[arm] == pytest.approx(np.linalg.norm(C[:, 3]) * np.sqrt(4 * spread * log) * np.linalg.norm(mu))


def test_unknown_noise_is_read_off_the_regressions() -> None:
    base = random_sem(4, seed=5)
    system = LinearSEM(base.B_SNN[0], base.B_prime_SNN[0], nu=[0.5, 2.0, -1.0, 0.0], Sigma=[1.0, 0.25, 4.0, 1.0])
    model = model_of(system, 2500, noise="estimated")
    assert model.nu_N == pytest.approx(system.nu, abs=0.25)
    assert model.sigma_N == pytest.approx([1.0, 0.5, 2.0, 1.0], rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_with_samples_enough_the_best_intervention_is_found(seed) -> None:
    system = random_sem(5, seed=seed)
    model = model_of(system, 3000)
    missing = ((system.B_SNN[0] != 0) & ~model.edge_2NN[0]).sum()
    if missing == 0:  # extra edges cost variance alone
        assert system.means_SK[0, model.best(0.0)] > system.best - 0.5
        assert np.abs(model.tables()[0] - system.means_SK[0]).max() < 0.15 * np.abs(system.means_SK[0]).max() + 0.5


def test_a_ring_in_a_mixture_is_solved_or_left_out() -> None:
    model = model_of(random_sem(4, seed=2), 100, graphs="separate")
    model.edge_2NN[:] = False
    model.edge_2NN[0, 0, 1] = model.edge_2NN[1, 1, 0] = True
    model.B_2NN[:] = 0.0
    model.B_2NN[0, 0, 1] = model.B_2NN[1, 1, 0] = 1.0  # arm 1 intervenes on node 0 alone: 0 -> 1 -> 0 with gain 1
    model._tables = None
    mean, _ = model.tables()
    assert np.isnan(mean[1]) and np.isfinite(mean[0]) and model.best(0.0) != 1


# --- playing ---------------------------------------------------------------------------------------------------


def test_csl_ucb_loses_less_than_ucb_and_more_than_who_knows_the_graph() -> None:
    late = {}
    for policy in (CSLUCB(), UCB1(), LinSEMThompson(), GolemGreedy(explore=30), RandomArm()):
        late[policy.name] = np.sum([play(random_sem(6, seed=s), policy, rounds=250, runs=1, seed=s).regret_RT.sum()
                                    for s in (1, 3)])
    assert late["linsem-ts"] < late["csl-ucb"] < late["ucb1"] < late["random"]
    assert late["golem-greedy"] < late["random"]


def test_a_run_of_csl_ucb_does_not_depend_on_its_neighbours() -> None:
    system = with_change(random_sem(4, seed=0), columns=1, at=260, seed=0)
    options = CSLOptions(detect="column")
    one, many = (play(system, CSLUCB(options), rounds=350, runs=r, seed=2) for r in (1, 3))
    assert (one.arm_RT == many.rows(0, 1).arm_RT).all()


def test_csl_ucb_searches_where_it_cannot_enumerate() -> None:
    system = random_sem(5, seed=3)
    tried = play(system, CSLUCB(), rounds=200, runs=1, seed=0)
    searched = play(system, CSLUCB(CSLOptions(enumerate=4)), rounds=200, runs=1, seed=0)
    assert searched.mean_RT[0, -20:].mean() > 0.9 * tried.mean_RT[0, -20:].mean()


def test_another_reward_is_learnt_instead_of_the_bandits_own() -> None:
    system = random_sem(4, seed=0)
    worst = play(system, CSLUCB(), rounds=200, runs=1, seed=0, reward=-1.0 * EnvReward()).mean_RT[0, -50:].mean()
    best = play(system, CSLUCB(), rounds=200, runs=1, seed=0).mean_RT[0, -50:].mean()
    assert worst < 0 < best


def test_nodes_that_cannot_be_intervened_on_have_one_side() -> None:
    base = random_sem(4, seed=1)
    system = LinearSEM(base.B_SNN[0], base.B_prime_SNN[0], allowed=[1, 3])
    for graphs in ("joint", "separate"):
        late = play(system, CSLUCB(CSLOptions(graphs=graphs)), rounds=300, runs=1, seed=0).mean_RT[0, -20:].mean()
        assert late > system.best - 0.5


# --- change ----------------------------------------------------------------------------------------------------


def test_the_ratio_is_nothing_without_a_change_and_that_of_the_formula_with_one() -> None:
    e = np.random.default_rng(0).normal(size=(400, 20))
    ratio = likelihood_ratio(e, np.ones(400))
    assert (ratio > -1e-12).all() and (ratio < 1).mean() > 0.99 and (ratio > 2).sum() == 0
    m, s = e[0].mean() + 3, e[0].std()
    assert likelihood_ratio(e[:1] + 3, np.ones(1))[0] == pytest.approx(-np.log(s) + (m**2 + s**2) / 2 - 0.5)
    both = np.random.default_rng(1).normal(size=(20, 4))
    assert joint_ratio(both, np.ones(4)) < 1 < joint_ratio(both + 8, np.ones(4))


def test_the_watch_keeps_the_last_residuals_however_they_came() -> None:
    rng = np.random.default_rng(0)
    e, on = rng.normal(size=(50, 3)), rng.random((50, 3)) < 0.5
    for detect in ("column", "global"):
        step, whole = (Watch(1, 3, detect, window=6, threshold=None) for _ in range(2))
        for row, at in zip(e, on, strict=True):
            step.add(0, row, at)
        whole.fill(0, e, on)
        assert np.sort(step.kept[0], -1) == pytest.approx(np.sort(whole.kept[0], -1))


def test_a_change_is_noticed_soon_and_only_its_columns_are_relearnt() -> None:
    delays, wrong = [], 0
    for seed in range(3):
        system = with_change(random_sem(5, seed=seed), columns=1, at=300, seed=seed)
        policy = CSLUCB(CSLOptions(detect="column"))
        play(system, policy, rounds=450, runs=1, seed=seed)
        truly = np.stack([(b[0] != b[1]).any(0) for b in (system.B_SNN, system.B_prime_SNN)])
        delays += [t - 300 for _, t, side, n in policy.changes if truly[side, n]]
        wrong += sum(not truly[side, n] or t < 300 for _, t, side, n in policy.changes)
        touched = policy.since_R2N[0] > 0
        assert set(zip(*np.nonzero(touched), strict=True)) == {(s, n) for _, _, s, n in policy.changes}
    assert len(delays) >= 2 and np.median(delays) < 60 and wrong <= 1


def test_nothing_changes_where_nothing_changes() -> None:
    policies = [CSLUCB(CSLOptions(detect="column")) for _ in range(2)]
    for seed, policy in enumerate(policies):
        play(random_sem(4, seed=seed), policy, rounds=300, runs=1, seed=seed)
    assert sum(len(p.changes) for p in policies) == 0


# --- baselines -------------------------------------------------------------------------------------------------


def test_the_slope_of_golem_is_that_of_differences_and_its_exponential_the_series() -> None:
    from scipy.linalg import expm

    rng = np.random.default_rng(0)
    B, x = rng.normal(size=(3, 3)) * 0.3, rng.normal(size=(40, 3))
    gram, h = x.T @ x, 1e-6
    _, slope = _golem_loss(B, gram, 5.0)
    for i, j in itertools.product(range(3), range(3)):
        step = np.zeros((3, 3))
        step[i, j] = h
        ends = [_golem_loss(B + s * step, gram, 5.0)[0] for s in (1, -1)]
        assert slope[i, j] == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-4)
    A = rng.random((4, 4)) * 3
    assert _exp(A) == pytest.approx(expm(A), rel=1e-9)


def test_golem_finds_a_chain() -> None:
    system = random_sem(4, family="chain", seed=1)
    system.reset(range(800))
    x = system.pull(np.zeros(800, dtype=np.int64)).seen_RM
    assert golem(x) == pytest.approx(system.B_SNN[0], abs=0.2)


def test_thompson_sampling_ends_at_the_true_weights() -> None:
    system = random_sem(3, seed=2)
    policy = LinSEMThompson()
    play(system, policy, rounds=800, runs=1, seed=0)
    arm = int(system.means_SK[0].argmax())
    on = on_of(np.array([arm]), 3, range(3))[0]
    for n in range(3):
        true = (system.B_prime_SNN if on[n] else system.B_SNN)[0][:, n]
        assert policy.weight[0, int(on[n]), n] == pytest.approx(true, abs=0.3)


# --- bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "says"), [
    ({"per_column": 5}, "neighbours < per_column"), ({"most": 10}, "per_column"), ({"delta": 0.0}, "delta"),
    ({"graph_every": 0}, "graph_every"), ({"weight": -1.0}, "weight")])
def test_bad_options_are_refused(given, says) -> None:
    with pytest.raises(BadInput, match=says):
        CSLOptions(**given)


@pytest.mark.parametrize("policy", [CSLUCB(), LinSEMThompson(), GolemGreedy()])
def test_other_bandits_are_refused(policy) -> None:
    with pytest.raises(Unsupported, match="causal bandits, not bernoulli"):
        play(Bernoulli([0.1, 0.2]), policy, rounds=5, runs=1, seed=0)
    assert play(random_sem(3, seed=0), FixedArm(1), rounds=3, runs=1, seed=0).arm_RT.tolist() == [[1, 1, 1]]


# --- the guarantee ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["dense", "sparse", "chain", "hard"])
def test_the_width_covers_the_error_of_every_mean_where_no_edge_is_missing(family) -> None:
    covered, ratios = 0, []
    for seed in range(5):
        system = random_sem(4, family=family, seed=seed)
        x, on = observed(system, 120, seed)
        model = CausalModel(system, CSLOptions(most=1000), known=True)
        model.read(x, on, np.ones(120, bool), np.zeros((2, 4), dtype=np.int64))
        model.edge_2NN[:] = np.triu(np.ones((4, 4), dtype=bool), 1)  # all true edges, and others
        model.learn_weights()
        mean, width = model.tables()
        error = np.abs(mean - system.means_SK[0])
        covered += bool((error <= width).all())
        ratios.append(float((error / width).max()))
    assert covered == 5 and max(ratios) > 1e-3  # wide, and no wider than a thousand times


def test_a_missing_edge_is_not_covered() -> None:
    system = LinearSEM([[0, 2.0], [0, 0]], [[0, 2.0], [0, 0]])
    model = model_of(system, 4000)
    model.edge_2NN[:] = False  # the broken variant: the mean is wrong however many samples there are
    model.learn_weights()
    mean, width = model.tables()
    assert (np.abs(mean - system.means_SK[0]) > width + 1).all()
