from __future__ import annotations

import math

import gymnasium
import numpy as np
import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.tasks.arrays import ArrayBatch, episode_seed
from plaudit.tasks.classic import CLASSIC, Acrobot, CartPole, MountainCar, MountainCarContinuous, Pendulum
from plaudit.tasks.policy import RandomPolicy

RANGES = {
    "CartPole-v1": ([-2.5, -4, -0.22, -4], [2.5, 4, 0.22, 4]),
    "Pendulum-v1": ([-12, -8], [12, 8]),
    "MountainCar-v0": ([-1.2, -0.07], [0.6, 0.07]),
    "MountainCarContinuous-v0": ([-1.2, -0.07], [0.6, 0.07]),
    "Acrobot-v1": ([-math.pi, -math.pi, -4 * math.pi, -9 * math.pi], [math.pi, math.pi, 4 * math.pi, 9 * math.pi]),
}


def random_states(name: str, rows: int) -> np.ndarray:
    low, high = (np.array(x, dtype=np.float64) for x in RANGES[name])
    states = np.random.default_rng(0).uniform(low, high, size=(rows, len(low)))
    if name.startswith("MountainCar"):
        states[::5, 0] = -1.2  # against the wall
        states[1::5, 0] = np.random.default_rng(1).uniform(0.4, 0.5, size=len(states[1::5]))  # near the flag
    return states.astype(np.float32).astype(np.float64) if name == "MountainCarContinuous-v0" else states


def actions_for(space, rows: int) -> torch.Tensor:
    if isinstance(space, gymnasium.spaces.Discrete):
        return torch.arange(rows) % int(space.n)
    return torch.from_numpy(np.random.default_rng(2).uniform(-3, 3, size=(rows, 1)).astype(np.float32))


def gym_step(env, state: np.ndarray, action: torch.Tensor):
    inner = env.unwrapped
    inner.state = state.astype(np.float32) if isinstance(inner.action_space, gymnasium.spaces.Box) and len(
        state) == 2 and hasattr(inner, "power") else state.copy()
    inner.steps_beyond_terminated = None
    return inner.step(int(action) if action.ndim == 0 else action.numpy())


@pytest.mark.parametrize("xp", [np, torch], ids=["numpy", "torch"])
@pytest.mark.parametrize("name", list(CLASSIC))
def test_one_step_equals_gymnasium_from_random_states(name, xp):
    rows = 400
    env, task = gymnasium.make(name), CLASSIC[name]()
    env.reset(seed=0)
    states, action = random_states(name, rows), actions_for(task.action_space, rows)
    batch = ArrayBatch(task, rows, xp=xp)
    batch.reset(range(rows))
    batch.load_state_dict({**batch.state_dict(), "state": torch.from_numpy(states.T.copy())})
    step = batch.step(action)
    expected = [gym_step(env, s, a) for s, a in zip(states, action, strict=True)]
    np.testing.assert_allclose(step.next_obs.numpy(), np.stack([e[0] for e in expected]), rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(step.env_reward.numpy(), [e[1] for e in expected], rtol=2e-6, atol=1e-6)
    assert step.terminated.tolist() == [e[2] for e in expected]
    if name != "Pendulum-v1":
        assert 0 < int(step.terminated.sum()) < rows, "the states must probe both sides of the end"


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "MountainCar-v0"])
def test_double_precision_states_follow_gymnasium_through_whole_episodes_with_the_time_limit(name):
    env, task = gymnasium.make(name), CLASSIC[name]()
    batch = task.make(1)
    batch.autoreset = False
    batch.reset([5])
    env.reset(seed=0)
    env.unwrapped.state = batch.state_dict()["state"][:, 0].numpy()
    rng = np.random.default_rng(3)
    for _ in range(task.horizon):
        if name == "CartPole-v1":  # a controller that stands until the limit
            x, dx, angle, turn = env.unwrapped.state
            action = torch.tensor([int(angle + 0.3 * turn + 0.02 * x + 0.05 * dx > 0)])
        else:
            action = torch.tensor([rng.integers(3)]) if name == "MountainCar-v0" else torch.from_numpy(
                rng.uniform(-2, 2, size=(1, 1)).astype(np.float32))
        step = batch.step(action)
        obs, reward, terminated, truncated, _ = env.step(int(action[0]) if action.ndim == 1 else action[0].numpy())
        np.testing.assert_allclose(step.next_obs[0].numpy(), obs, rtol=1e-5, atol=1e-5)
        assert abs(float(step.env_reward) - reward) < 1e-5
        assert (bool(step.terminated), bool(step.truncated)) == (terminated, truncated)
        if terminated or truncated:
            break
    assert truncated and batch.state_dict()["elapsed"].item() == task.horizon


def test_a_pole_of_another_length_would_be_noticed():
    class Short(CartPole):
        def advance(self, state_KB, action_B, uniform_KB, xp):
            return super().advance(state_KB * 1.001, action_B, uniform_KB, xp)

    rows = 50
    states, action = random_states("CartPole-v1", rows), torch.arange(rows) % 2
    env = gymnasium.make("CartPole-v1")
    env.reset(seed=0)
    batch = Short().make(rows)
    batch.reset(range(rows))
    batch.load_state_dict({**batch.state_dict(), "state": torch.from_numpy(states.T.copy())})
    expected = np.stack([gym_step(env, s, a)[0] for s, a in zip(states, action, strict=True)])
    assert not np.allclose(batch.step(action).next_obs.numpy(), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", list(CLASSIC))
def test_spaces_and_limits_are_those_of_gymnasium(name):
    env, task = gymnasium.make(name), CLASSIC[name]()
    assert task.obs_space == env.observation_space
    assert task.action_space == env.action_space
    assert task.horizon == env.spec.max_episode_steps


@pytest.mark.parametrize("name", list(CLASSIC))
def test_first_states_fill_the_ranges_of_gymnasium(name):
    task = CLASSIC[name]()
    batch = task.make(2000)
    batch.reset(range(2000))
    state = batch.state_dict()["state"].numpy()
    env = gymnasium.make(name)
    theirs = []
    for seed in range(300):
        env.reset(seed=seed)
        theirs.append(np.array(env.unwrapped.state))
    theirs = np.stack(theirs, 1)
    assert np.allclose(state.mean(1), theirs.mean(1), atol=5 * theirs.std() / math.sqrt(300) + 1e-9)
    assert np.allclose(state.min(1), theirs.min(1), atol=0.05 * np.ptp(theirs) + 1e-9)
    assert np.allclose(state.max(1), theirs.max(1), atol=0.05 * np.ptp(theirs) + 1e-9)


def play(batch, seeds, steps: int, *, keep: int | None = None):
    """Observations and rewards [steps, rows] under actions that depend on the row's seed."""
    policy = RandomPolicy(batch.task.action_space, seeds)
    obs, carry, out = batch.reset(seeds), policy.start(len(seeds)), []
    for t in range(steps):
        action, carry = policy.act(obs, carry, step=t)
        step = batch.step(action)
        out.append((obs, step.next_obs, step.env_reward, step.done))
        obs = step.obs
    return out


@pytest.mark.parametrize("name", list(CLASSIC))
def test_a_row_does_not_depend_on_its_neighbours(name):
    task = CLASSIC[name](horizon=15)
    together, alone = play(task.make(3), [4, 5, 6], 40), play(task.make(1), [5], 40)
    for many, one in zip(together, alone, strict=True):
        assert all(torch.equal(a[1:2], b) for a, b in zip(many, one, strict=True))


@pytest.mark.parametrize("name", list(CLASSIC))
def test_numpy_and_torch_give_the_same_episodes(name):
    task = CLASSIC[name](horizon=15)
    a = play(ArrayBatch(task, 4, xp=np), [1, 2, 3, 4], 30)
    b = play(ArrayBatch(task, 4, xp=torch), [1, 2, 3, 4], 30)
    for x, y in zip(a, b, strict=True):
        assert all(torch.allclose(p.float(), q.float(), rtol=1e-5, atol=1e-6) for p, q in zip(x, y, strict=True))


def test_next_obs_is_the_true_end_and_obs_the_new_beginning():
    batch = CartPole(horizon=7).make(4)
    record = play(batch, [1, 2, 3, 4], 21)
    for t in (6, 13):
        _, end, _, done = record[t]
        begin = record[t + 1][0]
        assert bool(done.all())
        assert bool((begin.abs() <= 0.05).all()), "the next observation to act on is a first one"
        assert not bool((end.abs() <= 0.05).all(-1).any()), "the final observation is not a first one"


def test_the_nth_episode_of_a_row_can_be_begun_alone():
    batch = CartPole(horizon=5).make(2)
    third = play(batch, [8, 9], 12)[10][0]
    seeds = batch.episode_seeds()
    assert len({*seeds, 8, 9}) == 4
    assert torch.equal(CartPole().make(2).reset(seeds), third)
    assert torch.equal(CartPole().make(1).reset(seeds[1:]), third[1:])
    assert episode_seed(np.array([8, 9]), np.array([2, 2])).tolist() == seeds


def test_a_restored_batch_goes_on_bit_for_bit():
    batch = MountainCarContinuous(horizon=9).make(3)
    play(batch, [1, 2, 3], 13)
    other = MountainCarContinuous(horizon=9).make(3)
    other.load_state_dict(batch.state_dict())
    for t in range(20):
        action = torch.full((3, 1), math.sin(t))
        a, b = batch.step(action), other.step(action)
        assert torch.equal(a.next_obs, b.next_obs) and torch.equal(a.obs, b.obs) and torch.equal(a.done, b.done)


def test_earlier_steps_are_not_overwritten_by_later_ones():
    batch = Acrobot().make(2)
    obs = batch.reset([1, 2])
    kept, copy = [obs], [obs.clone()]
    for _ in range(5):
        step = batch.step(torch.tensor([0, 2]))
        kept += [step.next_obs, step.env_reward]
        copy += [step.next_obs.clone(), step.env_reward.clone()]
    assert all(torch.equal(a, b) for a, b in zip(kept, copy, strict=True))


def test_sutton_barto_reward_is_minus_one_at_the_fall_alone():
    record = play(CartPole(sutton_barto_reward=True).make(8), list(range(8)), 60)
    for _, _, reward, done in record:
        assert torch.equal(reward, torch.where(done, -1.0, 0.0))


def test_reaching_the_flag_is_success():
    batch = MountainCar().make(1)
    batch.reset([0])
    for _ in range(200):
        velocity = float(batch.state_dict()["state"][1, 0])
        step = batch.step(torch.tensor([2 if velocity >= 0 else 0]))
        assert bool(step.info["is_success"]) == bool(step.terminated)
        if bool(step.done):
            break
    assert bool(step.terminated), "pumping reaches the flag"


@pytest.mark.parametrize("name", list(CLASSIC))
def test_frames_show_the_state(name):
    batch = CLASSIC[name]().make(2, render=True)
    batch.reset([1, 2])
    before = batch.render(0)
    assert before.dtype == np.uint8 and before.ndim == 3 and before.shape[2] == 3
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 20, "something is drawn, with smooth edges"
    for _ in range(10):
        batch.step(actions_for(batch.task.action_space, 2))
    assert not np.array_equal(before, batch.render(0))


def test_wrong_actions_and_seeds_are_named():
    batch = CartPole().make(2)
    with pytest.raises(BadInput, match="seeds"):
        batch.reset([1])
    with pytest.raises(BadInput, match="seeds"):
        batch.reset([1, -2])
    batch.reset([1, 2])
    for wrong in (torch.tensor([0, 2]), torch.tensor([0, -1]), torch.tensor([0]), torch.tensor([0.0, 1.0])):
        with pytest.raises(BadInput, match="action"):
            batch.step(wrong)
    with pytest.raises(BadInput, match="action"):
        pendulum = Pendulum().make(2)
        pendulum.reset([1, 2])
        pendulum.step(torch.zeros(2))
