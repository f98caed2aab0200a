"""A boat on a line, with rewards good and bad: copied into the folder of a test and named on a command line."""

from __future__ import annotations

import gymnasium
import numpy as np
import torch

import plaudit


class Boat(gymnasium.Env):
    """Moves left, stays, or moves right; it is meant to come beyond 1."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, limit: int = 20):
        self.max_episode_steps = limit

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.x = 0, float(self.np_random.uniform(-0.1, 0.1))
        return self._obs(), {}

    def step(self, action):
        self.t, self.x = self.t + 1, self.x + (int(action) - 1) * 0.1
        return self._obs(), self.pay(), False, self.t >= self.max_episode_steps, {"x": self.x, "is_success": self.x > 1}

    def _obs(self):
        return np.array([self.x, self.t / self.max_episode_steps], np.float32)

    def pay(self):
        return -abs(self.x - 1.0)


class Sail(Boat):
    """The same with numbers as actions, and nothing said of success."""

    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def step(self, action):
        self.t, self.x = self.t + 1, self.x + 0.1 * float(action[0])
        return self._obs(), self.pay(), False, self.t >= self.max_episode_steps, {"reward_place": self.x}


class StepFails(Boat):
    def step(self, action):
        if self.t == 6:
            raise RuntimeError("the motor broke")
        return super().step(action)


class ResetFails(Boat):
    def reset(self, **options):
        raise RuntimeError("no water")


class InitFails(Boat):
    def __init__(self):
        raise OSError("no file boat.xml")


class Hangs(Boat):
    def step(self, action):
        while self.t == 5:
            pass
        return super().step(action)


class FourValues(Boat):
    def step(self, action):
        return super().step(action)[:4]


def marina(limit: int = 15):
    """A factory."""
    return Boat(limit)


def world():
    """A factory of a Task."""
    from plaudit.tasks.gridworld import GridWorld

    return GridWorld("S..G", horizon=6)


def progress(obs, next_obs):
    return next_obs[..., 0] - obs[..., 0]


def beyond(next_obs):
    return 1.0 * (next_obs[..., 0] > 1.0)


def terms(obs, next_obs):
    return {"progress": next_obs[..., 0] - obs[..., 0], "time": -0.01 + 0 * obs[..., 1]}


def one_at_a_time(next_obs):
    if next_obs[0] > 0.2:
        return 1.0
    return float(next_obs[0])


@plaudit.reward(range=(-5.0, 5.0))
def declared(next_obs):
    return next_obs[..., 0]


composed = 2.0 * plaudit.reward(progress) - 0.5


def fails(obs):
    raise KeyError("velocity")


def fails_late(next_obs):
    if (abs(next_obs[..., 0]) > 0.3).any():
        raise ZeroDivisionError("far away")
    return next_obs[..., 0]


def nan_late(next_obs):
    return torch.where(abs(next_obs[..., 0]) > 0.3, float("nan"), next_obs[..., 0])


def wrong_shape(obs):
    return obs[..., :1] * torch.ones(3)


def misnamed(observation):
    return observation[..., 0]


def hangs(obs):
    while True:
        pass


def hangs_and_catches(obs):
    while True:
        try:
            sum(range(100))
        except Exception:
            pass


def leaves(obs):
    raise SystemExit(3)


number = 3.0
