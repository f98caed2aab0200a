"""A saturated reward: tanh(50 * distance) is 1 from a few centimetres on, so coming closer pays nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from plaudit.auditing.flaws.flaw import Flaw, bound
from plaudit.tasks.base import Task
from plaudit.tasks.making import make


def task() -> Task:
    """Reacher-v5: an arm of two links, a target within 0.2 m of the base, episodes of 50 steps."""
    return make("Reacher-v5", horizon=50)


def _distance(obs: Any) -> Any:
    return np.sqrt((obs[..., 8:10] ** 2).sum(-1))


def reward(action: Any, next_obs: Any, *, steepness: float = 50.0) -> Any:
    """-tanh(`steepness` * distance in metres)."""
    return -np.tanh(steepness * _distance(next_obs))


def healthy(action: Any, next_obs: Any) -> Any:
    """Minus the distance in metres."""
    return -_distance(next_obs)


def intended(next_obs: Any) -> Any:
    """Minus the distance in metres."""
    return -_distance(next_obs)


def saturated_distance(*, steepness: float = 50.0) -> Flaw:
    """A distance squashed by tanh(`steepness` * distance)."""
    return Flaw(
        name="saturated", kind="saturation", statement="the fingertip ends close to the target",
        wrong="tanh(50 * distance) is flat beyond 6 cm, so almost everywhere the reward says nothing",
        make=task, flawed=bound(reward, steepness=steepness), healthy=healthy, intended=intended, reduce="last",
        caught_by=("scale",), strength=steepness, tags=("mujoco", "flat"),
        source="Hadfield-Menell et al. (2017), Inverse reward design (rewards that say nothing where it matters); "
               "dm_control's `tolerance` with too narrow a margin")
