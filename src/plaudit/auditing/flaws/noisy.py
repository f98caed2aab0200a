"""A reward that is not deterministic: the same step is paid otherwise each time it is asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from plaudit.auditing.flaws.flaw import Flaw, bound
from plaudit.tasks.base import Task
from plaudit.tasks.making import make

_GENERATOR = np.random.default_rng(0)


def task() -> Task:
    """InvertedPendulum-v5 with episodes of 200 steps."""
    return make("InvertedPendulum-v5", horizon=200)


def reward(next_obs: Any, *, noise: float = 0.5) -> Any:
    """How upright the pole is, as seen by a sensor with noise of standard deviation `noise` of its own."""
    angle = np.asarray(next_obs[..., 1])
    return 1.0 - np.abs(angle) / 0.2 + noise * _GENERATOR.standard_normal(angle.shape)


def healthy(next_obs: Any) -> Any:
    """How upright the pole is: 1 for upright, 0 at the angle where the episode ends."""
    return 1.0 - np.abs(np.asarray(next_obs[..., 1])) / 0.2


def intended(terminated: Any) -> Any:
    """1 for each step without a fall."""
    return 1.0 * (terminated == 0)


def noisy_sensor(*, noise: float = 0.5) -> Flaw:
    """A reward with noise of standard deviation `noise` from a generator of its own."""
    return Flaw(
        name="noisy", kind="not deterministic", statement="the pole stays up",
        wrong="noise is drawn inside the reward, so no number can be reproduced or relabelled",
        make=task, flawed=bound(reward, noise=noise), healthy=healthy, intended=intended, reduce="sum",
        caught_by=("contract",), strength=noise, tags=("mujoco", "contract"),
        source="Gymnasium's environment checker (a step must be a function of seed and actions)")
