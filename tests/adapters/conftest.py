"""Small worlds for the adapters: what they give is known in closed form."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest


class Line(gymnasium.Env):
    """Walks on a line: at x = 3 it ends, at step `limit` it is cut. Reports a term, a vector and a success flag."""

    observation_space = gymnasium.spaces.Box(-99, 99, (2,), np.float32)

    def __init__(self, limit: int = 5, box: bool = False):
        self.limit = self.max_episode_steps = limit
        self.action_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32) if box else gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.x = 0, 0.0
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        self.x += float(np.asarray(action).reshape(-1)[0]) - (0 if isinstance(self.action_space,
                                                                              gymnasium.spaces.Box) else 1)
        info = {"reward_place": 0.5 * self.x, "is_success": self.x >= 3}
        return self._obs(), 0.5 * self.x, self.x >= 3, self.t >= self.limit, info

    def _obs(self):
        return np.array([self.x, self.t], np.float32)


@pytest.fixture
def line():
    return Line
