"""A reward that saturates too early: beyond a crawl more speed pays nothing, and it costs effort."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from plaudit.auditing.flaws.flaw import Flaw, bound
from plaudit.auditing.flaws.locomotion import runner, short

ENV = "HalfCheetah-v5"


def reward(action: Any, next_obs: Any, *, cap: float = 0.1, speed: int = 8) -> dict[str, Any]:
    """The forward speed up to `cap`, in units of `cap`, less the effort."""
    fast = np.asarray(next_obs)[..., speed]
    return {"speed": np.minimum(fast, cap) / cap, "effort": -0.5 * (np.asarray(action) ** 2).sum(-1)}


def healthy(action: Any, next_obs: Any, *, speed: int = 8) -> dict[str, Any]:
    """The forward speed, less the effort."""
    return {"speed": next_obs[..., speed], "effort": -0.5 * (action**2).sum(-1)}


def intended(next_obs: Any, *, speed: int = 8, seconds: float = 0.05) -> Any:
    """Metres travelled in a step."""
    return seconds * next_obs[..., speed]


def clipped_speed(env_id: str = ENV, *, cap: float = 0.1) -> Flaw:
    """A runner whose speed counts up to `cap` m/s."""
    body = runner(env_id)
    return Flaw(
        name="clipped_speed", kind="saturation", statement="the robot travels far forward",
        wrong="the speed is clipped far below what the body can do, so a steady crawl is paid more than a run",
        make=partial(short, env_id), flawed=bound(reward, cap=cap, speed=body.speed),
        healthy=bound(healthy, speed=body.speed), intended=bound(intended, speed=body.speed, seconds=body.seconds),
        reduce="sum", caught_by=("exploit", "scale"), strength=cap, tags=("mujoco", "flat", "terms"),
        source="van Hasselt et al. (2016), Learning values across many orders of magnitude (what clipping hides)")
