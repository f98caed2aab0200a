from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from plaudit.core.errors import BadInput, Unsupported
from plaudit.tasks.base import Batch, Step, Task
from plaudit.tasks.classic import CartPole, MountainCar, Pendulum
from plaudit.tasks.making import from_spec, make
from plaudit.tasks.policy import ActionSequence, Policy, RandomPolicy
from plaudit.tasks.rollouts import replay, rollout


class Counter(Task):
    """Row with seed n ends after n steps; the observation counts; every truth about it is known."""

    name, horizon = "Counter", 6
    obs_space = gymnasium.spaces.Box(0, 100, (1,))
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken

    def make(self, num_envs: int, *, device: str = "cpu", render: bool = False) -> Batch:
        return CounterBatch(num_envs, broken=self.broken)


class CounterBatch(Batch):
    def __init__(self, num_envs: int, *, broken: bool) -> None:
        self.num_envs, self.broken = num_envs, broken

    def reset(self, seeds):
        self.ends, self.count = torch.tensor(list(seeds)), torch.zeros(self.num_envs, dtype=torch.int64)
        return self.count[:, None].float()

    def step(self, action):
        self.count = self.count + 1
        now = self.count[:, None].float()
        terminated, truncated = self.count >= self.ends, self.count >= 6
        info: dict[str, Any] = {"late": self.count * 1.0} if int(self.count.max()) > 2 else {}
        done = terminated | truncated
        begin = torch.where(done[:, None], 0.0, now)
        self.count = torch.where(done, 0, self.count) if self.autoreset or self.broken else self.count
        return Step(next_obs=begin if self.broken else now, obs=begin, terminated=terminated, truncated=truncated,
                    env_reward=now[:, 0], info=info)


def counted(task: Task, seeds: list[int]):
    return rollout(task, RandomPolicy(task.action_space, 0), seeds=seeds)


def test_rows_end_by_themselves_and_are_masked_afterwards():
    e = counted(Counter(), [2, 4, 9])
    assert e.lengths.tolist() == [2, 4, 6] and e.T == 6
    assert e.terminated.nonzero().tolist() == [[0, 1], [1, 3]]
    assert e.truncated.nonzero().tolist() == [[2, 5]]
    assert e.obs[..., 0].tolist() == [[0, 1, 0, 0, 0, 0], [0, 1, 2, 3, 0, 0], [0, 1, 2, 3, 4, 5]]
    assert e.next_obs[..., 0].tolist() == [[1, 2, 0, 0, 0, 0], [1, 2, 3, 4, 0, 0], [1, 2, 3, 4, 5, 6]]
    assert bool((e.action[~e.mask] == 0).all()) and bool((e.env_reward[~e.mask] == 0).all())


def check_final_observation(task: Task) -> None:
    e = counted(task, [2, 4, 9])
    assert e.next_obs[range(3), e.last, 0].tolist() == [2, 4, 6]


def test_next_obs_at_the_end_is_the_final_observation():
    check_final_observation(Counter())


def test_a_batch_that_gives_the_reset_observation_as_next_obs_fails():
    with pytest.raises(AssertionError):
        check_final_observation(Counter(broken=True))


def test_info_that_comes_late_is_unknown_before():
    late = counted(Counter(), [9]).info["late"][0]
    assert torch.isnan(late[:2]).all() and late[2:].tolist() == [3, 4, 5, 6]


def test_max_steps_cuts_and_says_so():
    e = rollout(Counter(), RandomPolicy(Counter.action_space, 0), seeds=[2, 9], max_steps=3)
    assert e.lengths.tolist() == [2, 3]
    assert e.truncated.tolist() == [[False, False, False], [False, False, True]]


def assert_same(a, b) -> None:
    for name in ("obs", "action", "next_obs", "terminated", "truncated", "mask", "env_reward"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert set(a.info) == set(b.info) and all(torch.equal(a.info[k], b.info[k]) for k in a.info)


@pytest.mark.parametrize("task", [CartPole(), Pendulum(horizon=40), MountainCar(horizon=40)], ids=repr)
def test_the_same_seeds_and_actions_give_the_same_bits(task):
    seeds = [3, 1, 4]
    first = rollout(task, RandomPolicy(task.action_space, seeds), seeds=seeds)
    again = replay(task, first.action, seeds)
    alone = rollout(task, RandomPolicy(task.action_space, seeds[2:]), seeds=seeds[2:])
    assert_same(first, again)
    assert_same(first[2].steps(0, alone.T), alone)
    other = rollout(task, RandomPolicy(task.action_space, seeds), seeds=[3, 1, 5])
    assert torch.equal(other.obs[0, 0], first.obs[0, 0]) and not torch.equal(other.obs[2, 0], first.obs[2, 0])


def test_frames_run_from_the_first_state_to_the_last():
    frames: dict[int, list[np.ndarray]] = {1: []}
    task = CartPole()
    e = rollout(task, RandomPolicy(task.action_space, 0), seeds=[1, 2], frames=frames)
    assert len(frames[1]) == int(e.lengths[1]) + 1
    last = task.draw(np.array([*e.next_obs[1, e.last[1]].tolist()]), e.action[1, e.last[1]].numpy())
    assert np.abs(frames[1][-1].astype(int) - last).mean() < 1, "the last frame shows the fall, not a new beginning"


def test_progress_is_told():
    told: list[tuple[int, int]] = []
    rollout(Counter(), RandomPolicy(Counter.action_space, 0), seeds=[2, 4],
            progress=lambda done, rows: told.append((done, rows)))
    assert told == [(0, 2), (1, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize("space", [
    gymnasium.spaces.Discrete(3, start=2), gymnasium.spaces.MultiDiscrete([2, 5]), gymnasium.spaces.MultiBinary(4),
    gymnasium.spaces.Box(-2, 5, (2, 3)), gymnasium.spaces.Box(-np.inf, np.inf, (2,)),
    gymnasium.spaces.Box(np.float32([0, -np.inf]), np.float32([np.inf, 1.0])),
], ids=str)
def test_random_actions_lie_in_the_space_and_fill_it(space):
    policy = RandomPolicy(space, 0)
    assert isinstance(policy, Policy)
    action, _ = policy.act(torch.zeros(3000, 1), policy.start(3000), step=5)
    assert all(space.contains(a.numpy().astype(space.dtype)) for a in action[:200])
    flat = action.reshape(3000, -1).double()
    if isinstance(space, gymnasium.spaces.Box) and space.is_bounded():
        assert float(flat.min()) < -1.99 and float(flat.max()) > 4.99
    elif isinstance(space, gymnasium.spaces.MultiDiscrete):
        assert [len(c.unique()) for c in flat.T] == [2, 5]
    elif isinstance(space, gymnasium.spaces.Discrete):
        assert flat.unique().tolist() == [2, 3, 4]


def test_logged_actions_are_checked():
    with pytest.raises(BadInput, match="rows"):
        replay(CartPole(), torch.zeros(2, 3, dtype=torch.int64), [1])
    policy = ActionSequence(torch.zeros(1, 3, 1))
    with pytest.raises(BadInput, match="max_steps=3"):
        rollout(Pendulum(), policy, seeds=[1])
    with pytest.raises(Unsupported):
        RandomPolicy(gymnasium.spaces.Text(3), 0)
    with pytest.raises(BadInput, match="seeds"):
        rollout(CartPole(), policy, seeds=[])


def test_classic_specs_make_the_same_task():
    for task in (CartPole(sutton_barto_reward=True, horizon=9), Pendulum(g=3.0), MountainCar(goal_velocity=0.01)):
        again = from_spec(task.spec())
        assert type(again) is type(task) and again.spec() == task.spec()


def test_make_gives_native_batches_and_names_wrong_arguments():
    assert isinstance(make("CartPole-v1", sutton_barto_reward=True), CartPole)
    task = CartPole()
    assert make(task) is task and isinstance(make(CartPole, horizon=3), CartPole)
    with pytest.raises(BadInput, match="gravity"):
        make("CartPole-v1", gravity=1)
    with pytest.raises(BadInput, match="class"):
        make(gymnasium.make("CartPole-v1"))
    with pytest.raises(Unsupported, match="consent"):
        from_spec({"kind": "target", "target": "file.py:make"})
    with pytest.raises(BadInput, match="spec"):
        from_spec({"kind": "nonsense"})
