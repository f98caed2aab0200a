"""Small Gymnasium environments with known answers, for the tests of adapters."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces


class Count(gymnasium.Env):
    """Counts its steps; the first number is drawn from the seed; ends (terminated) after `length` steps.

    The observation is [first number, count]; the reward is the count; info tells much, partly late or seldom.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, length: int = 5, *, fail_at: int = 0, old_api: bool = False, render_mode: str | None = None):
        self.length, self.fail_at, self.old_api, self.render_mode = length, fail_at, old_api, render_mode
        self.observation_space = spaces.Box(0.0, 1000.0, (2,), dtype=np.float64)
        self.action_space = spaces.Discrete(3, start=-1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.first, self.count = self.np_random.random(), 0
        return self._obs(), {"at_reset": 1.0}

    def step(self, action):
        self.count += 1
        if self.count == self.fail_at:
            raise ZeroDivisionError("planted")
        ended = self.count >= self.length
        info = {"count": self.count, "reward_count": float(self.count), "action": np.array([action, 2.0]),
                "words": "no number", "nested": {"half": self.count / 2}}
        if ended:
            info["is_success"] = True
            info["bonus"] = 7.0
        out = (self._obs(), float(self.count), ended, False, info)
        return out[:4] if self.old_api else out

    def render(self):
        return np.full((8, 8, 3), self.count, dtype=np.uint8)

    def _obs(self):
        return np.array([self.first, self.count])


class Mixed(gymnasium.Env):
    """Nested observations with a text, several discrete actions, no time limit."""

    def __init__(self):
        self.observation_space = spaces.Dict(
            image=spaces.Box(0, 255, (4, 4, 3), dtype=np.uint8), mission=spaces.Text(20),
            pair=spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (2,)))), bits=spaces.MultiBinary(3))
        self.action_space = spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._obs(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return self._obs(), float(action.sum()), False, False, {}

    def _obs(self):
        return {"image": self.np_random.integers(0, 256, (4, 4, 3), dtype=np.uint8), "mission": "go",
                "pair": (2, np.zeros(2, dtype=np.float32)), "bits": np.array([0, 1, 1], dtype=np.int8)}


class Limited(Count):
    """Truncates itself after its own `horizon`; `ahead` is an attribute of that name that means something else."""

    def __init__(self, horizon: int = 6, *, ahead: int | None = None):
        super().__init__(length=1000)
        self.limit, self.horizon = horizon, horizon if ahead is None else ahead

    def step(self, action):
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, self.count >= self.limit, info


def limited_task(horizon: int = 6):
    from plaudit.tasks.features import Goal
    from plaudit.tasks.gridworld import GridWorld

    return GridWorld("S.G", [Goal()], horizon=horizon)
