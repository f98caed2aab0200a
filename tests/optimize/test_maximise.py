from __future__ import annotations

import itertools
import math

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.core.functions import EnvReward, reward
from plaudit.core.needs import Needs
from plaudit.optimize.behaviours import Behaviour, Budget, Found, distinct
from plaudit.optimize.hunting.plan import SHARES, chosen, divide
from plaudit.optimize.maximise import maximise
from plaudit.tasks.base import Batch, Task
from plaudit.tasks.classic import CartPole, MountainCar, Pendulum
from plaudit.tasks.gridworld import GridWorld
from plaudit.tasks.rollouts import replay

FAST = ["random", "scripted", "cem", "qd"]
RIGHT = reward(lambda next_obs: (next_obs[..., 0] > 1.0).float(), name="right")
SPIN = reward(lambda next_obs: next_obs[..., 2].abs(), name="spin")
SPEED = reward(lambda next_obs: next_obs[..., 1].abs() * 100, name="speed")

BONUS = reward(lambda obs, next_obs, terminated: 1.0 * (obs[..., 1] < 0.3) * (next_obs[..., 1] > 0.3) + terminated,
               name="bonus")
"""Pays each crossing of a line, and the goal."""


class Counting(Task):
    """A CartPole that counts the steps of rows that had not ended."""

    def __init__(self, task: Task) -> None:
        self.task, self.name, self.horizon = task, task.name, task.horizon
        self.obs_space, self.action_space, self.counted = task.obs_space, task.action_space, 0

    def make(self, num_envs, *, device="cpu", render=False):
        return _CountingBatch(self, self.task.make(num_envs, device=device))


class _CountingBatch(Batch):
    def __init__(self, owner: Counting, batch: Batch) -> None:
        self.owner, self.batch, self.num_envs = owner, batch, batch.num_envs

    def reset(self, seeds):
        self.batch.autoreset, self.alive = self.autoreset, torch.ones(self.num_envs, dtype=torch.bool)
        return self.batch.reset(seeds)

    def step(self, action):
        step = self.batch.step(action)
        self.owner.counted += int(self.alive.sum())
        if not self.autoreset:
            self.alive &= ~step.done
        return step


# --- planted truths ------------------------------------------------------------------------------------------


def test_a_cart_paid_for_standing_far_right_is_driven_there() -> None:
    found = maximise(RIGHT, CartPole(horizon=200), 2_400_000, optimisers=FAST)
    assert found.best.paid(RIGHT) > 30
    assert float(found.best.episodes.next_obs[..., 0].max()) > 1.0


def test_random_behaviour_alone_does_not_find_the_far_right() -> None:
    found = maximise(RIGHT, CartPole(horizon=200), 2_400_000, optimisers=["random"])
    assert found.best.paid(RIGHT) < 1 and [b.origin for b in found.behaviours] == ["random"]


def test_a_pendulum_paid_for_speed_spins_at_full_speed() -> None:
    found = maximise(SPIN, Pendulum(), 80_000, optimisers=FAST)
    assert found.best.paid(SPIN) > 0.75 * 8 * 200
    assert maximise(SPIN, Pendulum(), 100_000, optimisers=["random"]).best.paid(SPIN) < 0.4 * 8 * 200


def test_a_car_paid_for_speed_swings_to_and_fro_and_avoids_the_flag() -> None:
    found = maximise(SPEED, MountainCar(), 90_000, optimisers=FAST)
    best = found.best.episodes
    assert found.best.paid(SPEED) > 4 * maximise(SPEED, MountainCar(), 60_000, optimisers=["random"]).best.paid(SPEED)
    assert float(best.terminated.any(-1).float().mean()) < 0.5
    turns = (best.next_obs[..., 1].sign().diff(dim=-1).abs() > 1).sum(-1)
    assert int(turns.min()) >= 3


@pytest.mark.slow  # trains four PPO agents for some ten seconds
def test_the_healthy_reward_of_the_pole_is_best_paid_for_balancing() -> None:
    found = maximise(EnvReward(), CartPole(), Budget(steps=6_000_000, rl_cost=30.0, batch_cost=500))
    assert found.best.paid(EnvReward()) == 500
    assert {b.origin for b in found.behaviours} == {"random", "scripted", "ppo", "cem", "qd"}
    assert found.by_origin()["ppo"].paid(EnvReward()) > 450


# --- grid worlds: exact truths -------------------------------------------------------------------------------


def brute_force(world: GridWorld, pays, horizon: int) -> float:
    """The best return of all sequences of actions."""
    n = len(world.action_names)
    sequences = torch.tensor(list(itertools.product(range(n), repeat=horizon)))
    episodes = replay(world, sequences, [0] * len(sequences))
    return float(pays.score(episodes).returns()[0].max())


@pytest.mark.parametrize("optimisers", [None, ["planned"], ["cem"], ["qd"]])
def test_the_best_behaviour_of_a_tiny_world_is_that_of_brute_force(optimisers) -> None:
    world = GridWorld("S.G\n.C.", step_reward=-0.1, horizon=6)
    pays = EnvReward()
    exact = brute_force(world, pays, 6)
    found = maximise(pays, world, 20_000, tabular=world.tabular(pays, discount=0.99), optimisers=optimisers)
    assert found.best.paid(pays) == pytest.approx(exact)


def test_a_bonus_that_rearms_is_farmed_to_the_last_step() -> None:
    world = GridWorld("#######\n#S...G#\n#.....#\n#######", horizon=60)
    for names in (["cem"], ["planned"], None):
        found = maximise(BONUS, world, 30_000, tabular=world.tabular(BONUS, discount=0.99), optimisers=names)
        assert found.best.paid(BONUS) >= 29
        assert int(found.best.episodes.lengths.min()) >= 59
    assert found.by_origin()["planned"].paid(BONUS) == found.best.paid(BONUS)


def test_the_broken_variant_that_only_acts_at_random_misses_the_loop() -> None:
    world = GridWorld("#######\n#S...G#\n#.....#\n#######", horizon=60)
    assert maximise(BONUS, world, 60_000, optimisers=["random"]).best.paid(BONUS) < 10


# --- what a reward needs ---------------------------------------------------------------------------------------


def test_a_reward_of_whole_episodes_is_given_only_to_those_who_honour_it() -> None:
    far = reward(lambda next_obs: next_obs[:, 0].max(), name="far", time="episode")
    found = maximise(far, MountainCar(), 70_000)
    assert set(found.plan) == {"random", "scripted", "cem", "qd", "evaluate"}
    assert "whole episodes" in found.config["left_out"]["ppo"]
    assert found.best.paid(far) > 0.45


def test_a_reward_that_compares_rows_sees_one_behaviour_at_a_time() -> None:
    rows: list[int] = []

    def ahead(next_obs):
        rows.append(next_obs.shape[0])
        return next_obs[..., 0] - next_obs[..., 0].mean()

    pays = reward(ahead, name="ahead", across="batch")
    found = maximise(pays, Pendulum(horizon=30), 15_000, optimisers=["random", "scripted", "cem"])
    assert max(rows) <= 64 and abs(found.best.paid(pays)) < 1e-3


@pytest.mark.parametrize("names", [FAST, ["random", "ppo"]])
def test_unknown_is_not_zero_what_is_unknown_comes_last(names) -> None:
    def half(next_obs):
        return torch.where(next_obs[..., 0] < -0.06, torch.nan, -1.0 - next_obs[..., 0])

    pays = reward(half, name="half")
    found = maximise(pays, CartPole(horizon=60), 30_000, optimisers=names)
    paid = [b.paid(pays) for b in found.behaviours]
    unknown = [math.isnan(p) for p in paid]
    assert unknown == sorted(unknown) and found.unknown == found.behaviours[unknown.index(True):]
    assert 0.0 not in paid and any(unknown)
    if names is FAST:
        assert not math.isnan(paid[0]) and paid[0] < 0
        assert bool((found.best.episodes.next_obs[..., 0][found.best.episodes.mask] >= -0.06).all())


# --- the budget --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [700, 5_000, 30_000])
def test_the_budget_is_never_exceeded_and_the_count_is_true(steps) -> None:
    task = Counting(CartPole(horizon=50))
    found = maximise(EnvReward(), task, steps)
    assert task.counted == found.steps == sum(found.plan.values()) <= steps
    assert found.budget.steps == steps


def test_a_budget_too_small_for_one_evaluation_is_refused() -> None:
    with pytest.raises(BadInput, match="raise the budget"):
        maximise(EnvReward(), CartPole(), 20)


def test_the_same_budget_and_seed_give_the_same_bits_and_another_seed_does_not() -> None:
    def run(seed: int) -> Found:
        return maximise(EnvReward(), CartPole(horizon=100), Budget.of(16_000), seed=seed)

    one, two, other = run(1), run(1), run(2)
    assert [(b.name, b.effort) for b in one.behaviours] == [(b.name, b.effort) for b in two.behaviours]
    for a, b in zip(one.behaviours, two.behaviours, strict=True):
        assert torch.equal(a.episodes.obs, b.episodes.obs) and torch.equal(a.episodes.action, b.episodes.action)
    assert one.plan == two.plan
    assert not torch.equal(one.best.episodes.obs, other.best.episodes.obs)


def test_seconds_become_steps_once_and_the_budget_that_was_used_repeats_the_search() -> None:
    first = maximise(EnvReward(), CartPole(horizon=60), Budget.of(seconds=2), optimisers=FAST)
    assert first.budget.steps is not None and first.budget.seconds is None
    assert first.config["measured"]["asked_s"] == 2 and first.config["measured"]["probe_steps"] > 0
    assert first.steps <= first.budget.steps
    again = maximise(EnvReward(), CartPole(horizon=60), first.budget, optimisers=FAST)
    assert again.steps == first.steps and again.config["measured"] == {}
    for a, b in zip(first.behaviours, again.behaviours, strict=True):
        assert a.name == b.name and torch.equal(a.episodes.obs, b.episodes.obs)


def test_shares_of_time_become_steps() -> None:
    for kind, shares in SHARES.items():
        assert sum(shares.values()) == pytest.approx(1.0)
        plan = divide(1_000_000, ["random", "scripted", "ppo", "cem", "qd"], kind=kind, rl_cost=10.0)
        assert 0 <= 1_000_000 - sum(plan.values()) < 6
        assert plan["ppo"] * 10 / plan["cem"] == pytest.approx(shares["ppo"] / shares["cem"], rel=1e-3)


def test_names_of_optimisers_are_checked() -> None:
    with pytest.raises(BadInput, match="cem"):
        chosen(Needs(), ["gradient descent"], tabular=False)
    with pytest.raises(BadInput, match="steps or seconds"):
        Budget.of()


# --- what comes back -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found() -> Found:
    return maximise(SPEED, MountainCar(), 60_000, optimisers=FAST)


def test_all_behaviours_meet_the_same_first_states_and_can_be_replayed(found) -> None:
    seeds = found.config["episode_seeds"]
    first = found.behaviours[0].episodes.obs[:, 0]
    for b in found.behaviours:
        assert b.episodes.B == len(seeds) == found.config["episodes"]
        assert torch.equal(b.episodes.obs[:, 0], first)
    for b in found.behaviours[:3]:
        again = replay(MountainCar(), b.episodes.action, seeds)
        assert torch.equal(again.obs, b.episodes.obs) and torch.equal(again.next_obs, b.episodes.next_obs)


def test_baselines_stages_and_variety_are_among_the_behaviours(found) -> None:
    names = [b.name for b in found.behaviours]
    assert "random actions" in names and any(n.startswith("stand still") for n in names)
    assert sum("generation" in n for n in names) >= 3
    assert {b.origin for b in found.behaviours} == {"random", "scripted", "cem", "qd"}
    assert len(found.behaviours) <= 60 and len(set(names)) == len(names)
    paid = [b.paid(SPEED) for b in found.behaviours]
    assert paid == sorted(paid, reverse=True)


def test_the_curve_rises_with_effort_and_reads_other_measures(found) -> None:
    arrived = lambda episodes: episodes.info["is_success"].any(-1).float()  # noqa: E731
    curve = found.curve(arrived)
    paid = [float(p.values[0].mean()) for p in curve]
    assert paid == sorted(paid) and paid[-1] == pytest.approx(found.best.paid(SPEED))
    assert [p.effort for p in curve] == sorted(p.effort for p in curve)
    assert curve[-1].values[1].shape == (found.config["episodes"],)


def test_near_duplicates_are_merged_into_the_best_paid_and_the_kept_stay() -> None:
    features = torch.tensor([[0.0], [0.001], [1.0], [0.5], [0.0]])
    paid = torch.tensor([1.0, 1.001, 0.0, float("nan"), 1.0])
    assert distinct(features, paid, most=5) == [1, 2, 3]
    assert distinct(features, paid, keep=[2, 0], most=5) == [2, 0, 3]
    assert len(distinct(torch.rand(50, 3), torch.rand(50), most=7)) == 7


def test_progress_is_told_and_never_falls() -> None:
    told: list[float] = []
    maximise(EnvReward(), CartPole(horizon=50), 30_000, on_progress=lambda done, text: told.append(done))
    assert told == sorted(told) and told[0] == 0.0 and told[-1] == pytest.approx(1.0)


def test_a_behaviour_is_its_log_where_no_policy_is_known(found) -> None:
    logged = Behaviour(name="log of Monday", origin="logged", policy=None, episodes=found.best.episodes)
    assert torch.equal(logged.returns(SPEED), found.best.returns(SPEED))
