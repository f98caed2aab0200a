"""Wrong sign: the distance is added where it should be subtracted, so the arm keeps away from its target."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from plaudit.auditing.flaws.flaw import Flaw, bound
from plaudit.auditing.flaws.locomotion import far, short, untouched

ENV = "Reacher-v5"


def reward(action: Any, next_obs: Any, *, weight: float = 1.0, env_id: str = ENV) -> dict[str, Any]:
    """`weight` times the distance, less a little effort."""
    return {"distance": weight * _apart(next_obs, env_id), "effort": -0.01 * (np.asarray(action) ** 2).sum(-1)}


def healthy(action: Any, next_obs: Any, *, weight: float = -1.0, env_id: str = ENV) -> dict[str, Any]:
    """Minus the distance, less a little effort."""
    return reward(action, next_obs, weight=weight, env_id=env_id)


def intended(next_obs: Any, *, env_id: str = ENV) -> Any:
    """Minus the distance (m)."""
    return -_apart(next_obs, env_id)


def _apart(obs: Any, env_id: str) -> Any:
    return far(obs, env_id) if env_id == ENV else untouched(obs)


def fleeing(env_id: str = ENV, *, weight: float = 1.0) -> Flaw:
    """An arm that is paid `weight` for each metre from its target (Pusher: from the cylinder)."""
    words = {"Reacher-v5": "the fingertip ends close to the target", "Pusher-v5": "the hand ends close to the cylinder"}
    return Flaw(
        name="fleeing", kind="wrong sign", statement=words[env_id],
        wrong="the distance is added, so keeping away from the target pays",
        make=partial(short, env_id), flawed=bound(reward, weight=weight, env_id=env_id),
        healthy=bound(healthy, weight=-weight, env_id=env_id), intended=bound(intended, env_id=env_id), reduce="last",
        caught_by=("exploit",), strength=weight, tags=("mujoco", "terms"),
        source="the usual mistake between a cost and a reward")
