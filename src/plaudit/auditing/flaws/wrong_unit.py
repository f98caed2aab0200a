"""Wrong unit: the angular speed enters in degrees per second, so that moving costs more than hanging down."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from plaudit.auditing.flaws.flaw import Flaw, bound
from plaudit.tasks.base import Task
from plaudit.tasks.making import make


def task() -> Task:
    """Pendulum-v1, episodes of 200 steps."""
    return make("Pendulum-v1")


def reward(action: Any, next_obs: Any, *, unit: float = 180.0 / math.pi) -> dict[str, Any]:
    """Pendulum's costs with the speed multiplied by `unit` (180 / pi: degrees per second)."""
    angle = np.arctan2(next_obs[..., 1], next_obs[..., 0])
    return {"angle": -(angle**2), "speed": -0.1 * (unit * next_obs[..., 2]) ** 2,
            "effort": -0.001 * action[..., 0] ** 2}


def healthy(action: Any, next_obs: Any) -> dict[str, Any]:
    """Pendulum's costs: the squared angle, 0.1 times the squared speed in rad/s, 0.001 times the squared torque."""
    return reward(action, next_obs, unit=1.0)


def intended(next_obs: Any) -> Any:
    """How high the pendulum stands, in [-1, 1], a 200th of it at each step."""
    return next_obs[..., 0] / 200


def speed_in_degrees(*, unit: float = 180.0 / math.pi) -> Flaw:
    """A speed cost that is `unit` squared times too large."""
    return Flaw(
        name="wrong_unit", kind="wrong unit", statement="the pendulum stands upright",
        wrong="the speed is in degrees per second, so its cost is 3283 times too large and hanging still is best",
        make=task, flawed=bound(reward, unit=unit), healthy=healthy, intended=intended, reduce="sum",
        caught_by=("scale", "exploit"), strength=unit, tags=("classic", "terms"),
        source="the loss of the Mars Climate Orbiter (1999) in small: a number without its unit")
