"""envpool's environments as tasks: the same contract on a scripted pool, and on envpool itself where it is installed.

    PYTHONPATH=src FOLDER/bin/python -m pytest tests/tasks/test_pooled.py

with a virtual environment that has envpool (740 MB, so it is not among the test requirements) beside them.
"""

from __future__ import annotations

import importlib.util
import types

import numpy as np
import pytest
import torch
from gymnasium import spaces

from plaudit.core.errors import BadInput, MissingExtra, Unsupported
from plaudit.core.tree import leaves
from plaudit.optimize import PPOConfig, train
from plaudit.tasks import pooled
from plaudit.tasks.making import from_spec, make
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import replay, rollout

real = pytest.mark.skipif(importlib.util.find_spec("envpool") is None, reason="envpool (740 MB) is not installed")


class ScriptedPool:
    """Behaves like envpool: obs is (seed, episode, step); the world ends at step 3, or 5 where the seed is odd.

    The step after an end gives the next episode's first observation and the reward 0; `reset` of some rows begins
    their next episodes.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = spaces.Discrete(2)

    def __init__(self, num_envs, seed, max_episode_steps=4, num_threads=1):
        self.seeds, self.limit = np.array(seed), max_episode_steps
        self.time, self.episode = np.zeros(num_envs, int), np.full(num_envs, -1)
        self.over = np.ones(num_envs, bool)
        self.spec = types.SimpleNamespace(config=types.SimpleNamespace(max_episode_steps=max_episode_steps))
        self.closed = False

    def _look(self, rows):
        obs = np.stack([self.seeds, self.episode, self.time], -1)[rows].astype(float)
        info = {"env_id": rows, "players": {"env_id": rows}, "elapsed_step": self.time[rows],
                "reward_time": self.time[rows].astype(float), "odd": self.seeds[rows] % 2 == 1}
        return obs, info

    def reset(self, env_id=None):
        rows = np.arange(len(self.seeds)) if env_id is None else env_id
        self.time[rows], self.over[rows] = 0, False
        self.episode[rows] += 1
        return self._look(rows)

    def step(self, action, env_id=None):
        rows = np.arange(len(self.seeds)) if env_id is None else env_id
        assert action.dtype == np.int32 and len(action) == len(rows)
        fresh = rows[self.over[rows]]
        self.time[rows] += 1
        if len(fresh):
            self.reset(fresh)
        terminated = self.time[rows] >= np.where(self.seeds[rows] % 2 == 1, 5, 3)
        truncated = self.time[rows] >= self.limit
        self.over[rows] = terminated | truncated
        obs, info = self._look(rows)
        return obs, np.where(np.isin(rows, fresh), 0.0, 1.0 + action), terminated, truncated, info

    def close(self):
        self.closed = True


@pytest.fixture
def scripted(monkeypatch):
    pools = []

    def make_gymnasium(env_id, num_envs, seed, **options):
        pools.append(ScriptedPool(num_envs, seed, **options))
        return pools[-1]

    module = types.SimpleNamespace(list_all_envs=lambda: ["Count-v0"], make_gymnasium=make_gymnasium)
    monkeypatch.setattr(pooled, "require", lambda name, *, extra: module)
    return pools


def test_the_step_after_an_end_is_never_seen(scripted):
    """Six steps of a row whose episodes last three: each pays, and `obs` begins the next episode."""
    batch = make("envpool:Count-v0").make(2)
    assert batch.reset([2, 7]).tolist() == [[2, 0, 0], [7, 0, 0]]
    paid, seen, begun, ends = [], [], [], []
    for _ in range(6):
        step = batch.step(torch.tensor([1, 0]))
        paid.append(step.env_reward.tolist())
        seen.append(step.next_obs[0].tolist())
        begun.append(step.obs[0].tolist())
        ends.append((step.terminated.tolist(), step.truncated.tolist()))
    assert paid == [[2.0, 1.0]] * 6, "a step that pays 0 is envpool's own reset"
    assert seen == [[2, 0, 1], [2, 0, 2], [2, 0, 3], [2, 1, 1], [2, 1, 2], [2, 1, 3]]
    assert begun[2] == [2, 1, 0] and begun[5] == [2, 2, 0] and begun[0] == seen[0]
    assert [e[0][0] for e in ends] == [False, False, True] * 2 and [e[1][0] for e in ends] == [False] * 6
    assert ends[3] == ([False, False], [False, True]), "row 1 is cut by the limit of 4 steps"


def test_a_pool_that_is_only_stepped_would_show_it(scripted):
    """The broken variant: without the reset by name, the row of the first test pays 0 at its fourth step."""
    pool = ScriptedPool(1, [2])
    pool.reset()
    assert [float(pool.step(np.ones(1, np.int32))[1][0]) for _ in range(5)] == [2.0, 2.0, 2.0, 0.0, 2.0]


def test_rows_that_ended_stay_where_they_ended_in_a_rollout(scripted):
    task = make("envpool:Count-v0", horizon=10)
    episodes = rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=[2, 7])
    assert episodes.lengths.tolist() == [3, 5] and episodes.terminated.any(-1).tolist() == [True, True]
    assert episodes.info["reward_time"][1].tolist() == [1, 2, 3, 4, 5]
    assert episodes.info["odd"].dtype == torch.bool and set(episodes.info) == {"reward_time", "odd"}
    assert all(pool.closed for pool in scripted)


def test_specs_errors_and_bad_input(scripted, monkeypatch):
    task = make("envpool:Count-v0", horizon=7)
    assert task.horizon == 7 and from_spec(task.spec()).spec() == task.spec()
    with pytest.raises(BadInput, match="did you mean Count-v0"):
        make("envpool:Count-v1")
    with pytest.raises(BadInput, match="num_envs"):
        make("envpool:Count-v0", num_envs=3)
    batch = task.make(1)
    with pytest.raises(BadInput, match="after its reset"):
        batch.step(torch.tensor([0]))
    batch.reset([0])
    with pytest.raises(BadInput, match=r"integers in \[0, 2\)"):
        batch.step(torch.tensor([5]))
    with pytest.raises(Unsupported, match="saved in mid-episode"):
        batch.state_dict()
    monkeypatch.undo()
    if importlib.util.find_spec("envpool") is None:
        with pytest.raises(MissingExtra, match=r"plaudit\[envpool\]"):
            make("envpool:CartPole-v1")


# --- envpool itself ------------------------------------------------------------------------------------

IDS = ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "MiniGrid-DoorKey-5x5-v0", "highway-fast-v0", "HalfCheetah-v5"]


@real
@pytest.mark.parametrize("env_id", IDS)
def test_an_episode_is_a_function_of_its_seed_and_actions(env_id):
    task = make(f"envpool:{env_id}", horizon=40)
    one = rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=[3, 11, 4])
    again = replay(task, one.action[1:2], [11])
    T = int(one.lengths[1])
    assert again.lengths.tolist() == [T]
    assert torch.equal(again.env_reward[0, :T], one.env_reward[1, :T])
    for (_, a), (_, b) in zip(leaves(again.next_obs), leaves(one.next_obs), strict=True):
        assert torch.equal(a[0, :T], b[1, :T])


@real
def test_no_reset_step_is_seen_in_cartpole():
    """Every step of CartPole pays 1; envpool's own reset steps would pay 0. A new episode begins near the origin."""
    task = make("envpool:CartPole-v1")
    batch = task.make(4)
    batch.reset([1, 2, 3, 4])
    ends = 0
    for _ in range(200):
        step = batch.step(torch.ones(4, dtype=torch.int64))
        assert step.env_reward.tolist() == [1.0] * 4
        for b in step.done.nonzero()[:, 0].tolist():
            ends += 1
            assert float(step.obs[b].abs().max()) <= 0.05 < float(step.next_obs[b].abs().max())
    assert ends > 40


@real
def test_reward_terms_come_from_info():
    task = make("envpool:HalfCheetah-v5", horizon=20)
    played = rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=[1, 2])
    total = played.info["reward_run"] + played.info["reward_ctrl"]
    torch.testing.assert_close(total, played.env_reward, atol=1e-4, rtol=1e-4)


@real
def test_ppo_learns_on_it():
    trained = train("ppo", "envpool:CartPole-v1", steps=20_480, progress=False, config=PPOConfig(discount=0.98))
    assert float(trained.evaluate(episodes=20).mean()) > 150
