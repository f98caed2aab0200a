"""What LunarLander's observation says, and when it has landed."""

from __future__ import annotations

from typing import Any

import numpy as np

ENV = "LunarLander-v3"


def landed(obs: Any, terminated: Any) -> Any:
    """Whether the episode ended at rest between the flags, on the legs (the hull lies lower)."""
    obs = np.asarray(obs)
    asleep = (abs(obs[..., 2:4]).sum(-1) + abs(obs[..., 5]) < 1e-4) & (abs(obs[..., 0]) < 0.4) & (obs[..., 1] > -0.02)
    return np.asarray(terminated, dtype=bool) & asleep


def crashed(obs: Any, terminated: Any) -> Any:
    """Whether the episode ended otherwise."""
    return np.asarray(terminated, dtype=bool) & ~landed(obs, terminated)


def missing(obs: Any) -> Any:
    """How far from a landing: the distance to the pad, the speed and the tilt, as Gymnasium weighs them."""
    obs = np.asarray(obs)
    return (np.sqrt((obs[..., :2] ** 2).sum(-1)) + np.sqrt((obs[..., 2:4] ** 2).sum(-1)) + abs(obs[..., 4]))
