"""NaN from the environment itself: named with its share, in what it pays and in what it shows."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces

import plaudit


class Broken(gymnasium.Env):
    """Pays NaN from its 4th step on, or shows it there; ten steps long."""

    observation_space, action_space = spaces.Box(-9, 9, (2,)), spaces.Discrete(2)

    def __init__(self, pays=False, shows=False):
        self.pays, self.shows = pays, shows

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        late = self.t > 3
        obs = np.array([action, np.nan if self.shows and late else 0.0], np.float32)
        return obs, np.nan if self.pays and late else 1.0, False, self.t >= 10, {}


def first(next_obs):
    return next_obs[..., 0]


def test_an_intent_that_the_environment_makes_nan_is_named_with_its_share():
    report = plaudit.audit(first, env=lambda: Broken(pays=True), intent="env", steps=6000, only=["exploit"])
    (said,) = (c.why for c in report.checks if c.name == "exploit")
    assert "the intent is unknown at 70.0% of the steps" in said and "environment returned NaN" in said


def test_observations_that_are_no_numbers_are_a_finding_of_the_contract():
    for shows in (True, False):
        report = plaudit.audit(first, env=lambda shows=shows: Broken(shows=shows), steps=6000, only=["contract"])
        found = [f for f in report.findings if f.kind == "observations not finite"]
        assert len(found) == shows
        if shows:  # 7 of 10, less where the budget cut an episode short
            assert 0.5 < found[0].evidence["steps"] / found[0].evidence["visited steps"] <= 0.7
