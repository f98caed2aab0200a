"""NaN in a corner that is reached: a square root goes below zero exactly where the task is solved."""

from __future__ import annotations

from typing import Any

import numpy as np

from plaudit.auditing.flaws.flaw import Flaw, bound
from plaudit.tasks.base import Task
from plaudit.tasks.making import make


def task() -> Task:
    """Acrobot-v1: swing the tip above the bar, 1 over the upper joint."""
    return make("Acrobot-v1", horizon=200)


def _height(obs: Any) -> Any:
    """The tip's height over the upper joint, in [-2, 2]: -cos(a) - cos(a + b)."""
    return -obs[..., 0] - (obs[..., 0] * obs[..., 2] - obs[..., 1] * obs[..., 3])


def reward(next_obs: Any, *, bar: float = 1.0) -> Any:
    """Minus the square root of what is missing to the height `bar`."""
    with np.errstate(invalid="ignore"):
        return -np.sqrt(bar - _height(next_obs))


def healthy(next_obs: Any, *, bar: float = 1.0) -> Any:
    """The same, and 0 above the bar."""
    return -np.sqrt(np.clip(bar - _height(next_obs), 0.0, None))


def intended(next_obs: Any) -> Any:
    """The tip's height."""
    return _height(next_obs)


def undefined_corner(*, bar: float = 1.0) -> Flaw:
    """A reward that is not defined above the height `bar`."""
    return Flaw(
        name="nan_corner", kind="not a number", statement="the tip swings high above the joint",
        wrong="above the bar the root of a negative number is NaN: the reward breaks where the task is solved",
        make=task, flawed=bound(reward, bar=bar), healthy=bound(healthy, bar=bar), intended=intended, reduce="max",
        caught_by=("contract",), strength=bar, tags=("classic", "contract"),
        source="the usual domain error of sqrt, log and arccos at the edge of their range")
