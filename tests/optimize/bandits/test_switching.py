"""Last-switch-dependent bandits: the relaxation bounds the optimum, rounding keeps its share, learners find it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from plaudit.core.errors import BadInput, Unsupported
from plaudit.optimize.bandits import UCB1, play
from plaudit.optimize.bandits.switching import (
    SingleCycle,
    SwitchingGreedy,
    SwitchingPlan,
    averages,
    draw,
    optimal_average,
    single_cycle,
)
from plaudit.optimize.bandits.switching_learning import BlockUCB, SwitchingCommit, SwitchingOptimist
from plaudit.tasks.bandits import Bernoulli
from plaudit.tasks.bandits.switching import (
    FLOOR,
    LastSwitch,
    as_payoffs,
    column,
    cycle_payoffs,
    moved,
    project,
    random_monotone,
    recharging,
    relax,
    tight,
    trap,
)

INSTANCES = [random_monotone(A, D, seed=10 * A + D + s) for A, D in ((1, 3), (2, 2), (2, 3), (3, 3)) for s in range(4)]


def by_hand(state: int, pulled: bool, D: int) -> int:
    if pulled:
        return -1 if state > 0 else max(state - 1, -D)
    return min(state + 1, D) if state > 0 else 1


def test_states_move_as_written() -> None:
    D = 4
    states = [*range(-D, 0), *range(1, D + 1)]
    for pulled in (True, False):
        got = moved(np.array([column(s, D) for s in states]), np.full(2 * D, pulled), D)
        assert got.tolist() == [column(by_hand(s, pulled, D), D) for s in states]


def test_a_cycle_pays_what_playing_it_pays() -> None:
    p = random_monotone(2, 3, seed=5)
    gain = cycle_payoffs(p)
    for arm, n, k in itertools.product(range(2), range(1, 4), range(1, 4)):
        state, total = -k, 0.0
        for pulled in [False] * n + [True] * k:
            total += p[arm, column(state, 3)] * pulled
            state = by_hand(state, pulled, 3)
        assert gain[arm, n - 1, k - 1] == pytest.approx(total, abs=1e-12)


def best_schedule(p: np.ndarray, length: int) -> float:
    """The best average of a periodic schedule of this length, by trying them all."""
    A, D = len(p), p.shape[1] // 2
    best = 0.0
    for plan in itertools.product(range(A + 1), repeat=length):
        state = [D] * A
        for round in range(4 * length):
            if round == 3 * length:
                total = 0.0
            for a in range(A):
                if plan[round % length] == a and round >= 3 * length:
                    total += p[a, column(state[a], D)]
                state[a] = by_hand(state[a], plan[round % length] == a, D)
        best = max(best, total / length)
    return best


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_that_of_all_schedules_and_the_relaxation_is_above_it(seed: int) -> None:
    p = random_monotone(2, 2, seed=seed)
    tried = max(best_schedule(p, length) for length in range(1, 7))
    found = optimal_average(p)
    assert found >= tried - 1e-6
    assert found == pytest.approx(tried, abs=0.02)  # a longer period may gain a little more
    assert relax(p).value >= found - 1e-6


@pytest.mark.parametrize("p", INSTANCES)
def test_the_bound_and_the_guarantee_on_random_instances(p: np.ndarray) -> None:
    relaxation, rng = relax(p), np.random.default_rng(0)
    assert relaxation.value >= optimal_average(p) - 1e-6
    assert relax(p, delay_only=True).value <= relaxation.value + 1e-9
    length = relaxation.rate_AND * (np.arange(1, p.shape[1] // 2 + 1)[:, None] + np.arange(1, p.shape[1] // 2 + 1))
    assert (length.sum((1, 2)) + relaxation.always_A <= 1 + 1e-9).all()
    paid = averages(p, draw(relaxation, rng, count=400), rounds=120)
    assert paid.mean() + 4 * paid.std() / 20 > FLOOR * relaxation.value


def test_one_arm_alone_loses_nothing_to_rounding() -> None:
    p = random_monotone(1, 4, seed=3)
    best = single_cycle(p)[0]
    assert relax(p).value == pytest.approx(best, abs=1e-9)
    assert optimal_average(p) == pytest.approx(best, abs=1e-7)


@pytest.mark.parametrize("arms", [2, 4, 8])
def test_the_tight_family_pays_what_independent_candidates_pay(arms: int) -> None:
    p, rng = tight(arms), np.random.default_rng(1)
    paid = averages(p, draw(relax(p), rng, count=4000), rounds=3 * arms)
    closed = 1 - (1 - 1 / arms) ** arms  # some arm is a candidate, each with probability 1 / arms
    assert paid.mean() == pytest.approx(closed, abs=5 * paid.std() / 4000**0.5)
    together = averages(p, draw(relax(p), rng, count=8, phases="fixed"), rounds=3 * arms)
    assert together.mean() < 0.6 < closed  # the broken variant: all arms are ready in the same round


def test_real_states_are_never_less_rested_than_virtual_ones() -> None:
    p, rng = random_monotone(4, 3, seed=8), np.random.default_rng(2)
    rounding = draw(relax(p), rng, count=200)
    real = np.full((200, 4), 5)
    for t in range(60):
        candidate, virtual = rounding.candidates(t, 3)
        assert (real >= virtual)[candidate].all()
        value = np.where(candidate, p[np.arange(4), virtual], -np.inf)
        real = moved(real, (value.argmax(1)[:, None] == np.arange(4)) & candidate, 3)


def test_several_pulls_a_round_come_nearer_to_the_relaxation() -> None:
    p, rng = np.repeat(tight(6), 2, 0), np.random.default_rng(3)
    shares = []
    for pulls in (1, 2, 4):
        relaxation = relax(p, pulls=pulls)
        paid = averages(p, draw(relaxation, rng, count=1500), rounds=36, pulls=pulls)
        shares.append(paid.mean() / relaxation.value)
        assert shares[-1] > 1 - 1 / (2 * np.pi * pulls) ** 0.5 - 0.02
    assert shares[0] < shares[1] < shares[2]


def test_the_policy_earns_what_the_plan_says_and_greed_falls_into_the_trap() -> None:
    bandit = LastSwitch(trap(), sigma=0.0)
    plan = play(bandit, SwitchingPlan(best_of=20), rounds=600, runs=8, seed=0)
    greedy = play(bandit, SwitchingGreedy(), rounds=600, runs=1, seed=0)
    assert plan.mean_RT.mean() > 0.95 * optimal_average(trap())
    assert greedy.mean_RT.mean() == pytest.approx(0.0615, abs=0.01)
    assert plan.reward_RT == pytest.approx(plan.mean_RT)


def test_learners_come_to_the_plan_and_who_ignores_states_does_not() -> None:
    bandit = LastSwitch(trap())
    late = {policy.name: float(play(bandit, policy, rounds=2500, runs=2, seed=1).mean_RT[:, -500:].mean())
            for policy in (SwitchingCommit(), SwitchingOptimist(), BlockUCB(), UCB1())}
    optimum = optimal_average(trap())
    assert late.pop("ucb1") < 0.4 * optimum
    assert min(late.values()) > 0.8 * optimum, late


def test_every_state_is_sampled_as_often_as_was_asked() -> None:
    policy = SwitchingCommit(samples=5)
    play(LastSwitch(random_monotone(3, 4, seed=1)), policy, rounds=1500, runs=2, seed=0)
    assert policy.committed_R.all()
    assert (policy.seen.count >= 5).all()


def test_estimates_are_means_and_runs_do_not_touch_each_other() -> None:
    p = random_monotone(2, 2, seed=4)
    policy = SwitchingCommit(samples=4)
    play(LastSwitch(p, sigma=0.0), policy, rounds=400, runs=2, seed=0)
    assert policy.seen.sum / policy.seen.count == pytest.approx(np.broadcast_to(p, (2, 2, 4)))
    one = play(LastSwitch(p), SwitchingOptimist(), rounds=200, runs=3, seed=5).rows(0, 1)
    alone = play(LastSwitch(p), SwitchingOptimist(), rounds=200, runs=1, seed=5)
    assert (one.arm_RT == alone.arm_RT).all()


# --- bad input -----------------------------------------------------------------------------------------------


def test_payoffs_that_fall_are_refused_projected_or_kept() -> None:
    falling = [[0.0, 0.4, 0.2, 1.0]]
    with pytest.raises(BadInput, match="monotone='project'"):
        as_payoffs(falling)
    assert as_payoffs(falling, monotone="project").tolist() == [[0.0, pytest.approx(0.3), pytest.approx(0.3), 1.0]]
    assert as_payoffs(falling, monotone="allow").tolist() == falling
    assert project(falling)[1] == pytest.approx(0.1)
    with pytest.raises(BadInput, match="even number of states"):
        as_payoffs([[0.0, 0.5, 1.0]])
    with pytest.raises(BadInput, match=r"payoffs\[0, 1\]"):
        as_payoffs([[0.0, np.nan]])
    with pytest.raises(BadInput, match="sigma"):
        LastSwitch([[-0.5, 0.5]])


def test_one_arm_in_one_cycle_is_the_fallback_without_monotone_payoffs() -> None:
    p = np.array([[0.9, 0.1, 0.1, 0.8], [0.3, 0.2, 0.1, 0.1]])
    value, arm, rest, run = single_cycle(p)
    assert (value, arm, rest, run) == (0.9, 0, 0, 1)
    got = play(LastSwitch(p, monotone="allow"), SingleCycle(), rounds=200, runs=1, seed=0).mean_RT[0, 100:]
    assert got.mean() == pytest.approx(value)


def test_losses_are_not_taken_and_other_bandits_are_refused() -> None:
    assert relax([[-1.0, -0.5]]).value == pytest.approx(0.0)
    idle = play(LastSwitch([[-1.0, -0.5]], sigma=0.0), SwitchingPlan(), rounds=10, runs=2, seed=0)
    assert (idle.arm_RT == 1).all()
    with pytest.raises(Unsupported, match="last-switch-dependent"):
        play(Bernoulli([0.1, 0.2]), SwitchingPlan(), rounds=5, runs=1, seed=0)
    with pytest.raises(Unsupported, match="joint states"):
        optimal_average(random_monotone(8, 8, seed=0))


def test_recharging_arms_need_no_runs() -> None:
    delays = np.sort(np.random.default_rng(0).random((3, 5)), 1)
    delays[:, 0] = 0.0  # a second pull pays nothing, so that runs gain nothing
    p = recharging(delays)
    assert (p[:, :4] == 0).all() and (p[:, 4:] == delays[:, 1:]).all()
    assert relax(p).value == pytest.approx(relax(p, delay_only=True).value, abs=1e-9)
    assert relax(random_monotone(3, 4, seed=2)).value > relax(random_monotone(3, 4, seed=2), delay_only=True).value


@pytest.mark.parametrize("seed", range(4))
def test_the_linear_program_has_the_value_of_its_best_vertex(seed: int) -> None:
    p, D = random_monotone(2, 2, seed=seed), 2
    gain = cycle_payoffs(p)
    columns = [(a, n + k, k, gain[a, n - 1, k - 1]) for a in range(2) for n in range(1, D + 1) for k in range(1, D + 1)]
    columns += [(a, 1, 1, p[a, 0]) for a in range(2)]
    worth = np.array([c[3] for c in columns] + [0.0] * 3)
    table = np.zeros((3, len(columns) + 3))  # an arm's time each, pulls, and what is left of them
    for j, (arm, length, pulled, _) in enumerate(columns):
        table[arm, j], table[2, j] = length, pulled
    table[:, len(columns):] = np.eye(3)
    best = 0.0
    for basis in itertools.combinations(range(len(worth)), 3):
        square = table[:, basis]
        if abs(np.linalg.det(square)) > 1e-9:
            x = np.linalg.solve(square, np.ones(3))
            if (x >= -1e-12).all():
                best = max(best, float(x @ worth[list(basis)]))
    assert relax(p).value == pytest.approx(best, abs=1e-9)
