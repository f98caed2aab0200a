"""Rounded away: the distance is rounded to whole metres in a task that is a few decimetres wide."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from plaudit.auditing.flaws.flaw import Flaw, bound
from plaudit.auditing.flaws.locomotion import far, short

ENV = "Reacher-v5"


def reward(action: Any, next_obs: Any, *, unit: float = 1.0, env_id: str = ENV) -> Any:
    """Minus the distance in whole `unit`s (m), rounded down."""
    return -unit * np.floor(far(next_obs, env_id) / unit)


def healthy(action: Any, next_obs: Any, *, env_id: str = ENV) -> Any:
    """Minus the distance."""
    return -far(next_obs, env_id)


def intended(next_obs: Any, *, env_id: str = ENV) -> Any:
    """Minus the distance."""
    return -far(next_obs, env_id)


def rounded_distance(env_id: str = ENV, *, unit: float = 1.0) -> Flaw:
    """A distance in whole `unit`s."""
    words = {"Reacher-v5": "the fingertip ends close to the target", "Pusher-v5": "the cylinder ends close to its goal"}
    return Flaw(
        name="rounded", kind="no signal", statement=words[env_id],
        wrong="integer division leaves whole metres, and everything here is nearer than one: the reward is always 0",
        make=partial(short, env_id), flawed=bound(reward, unit=unit, env_id=env_id),
        healthy=bound(healthy, env_id=env_id), intended=bound(intended, env_id=env_id), reduce="last",
        caught_by=("scale",), strength=unit, tags=("mujoco", "flat"),
        source="the usual mistake between / and //, or a cast to int")
