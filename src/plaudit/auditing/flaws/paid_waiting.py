"""Paid waiting: 1 for each step, copied from a task that is about staying up, where the goal ends the episode."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from plaudit.auditing.flaws.flaw import Flaw, bound
from plaudit.auditing.flaws.locomotion import short

ENV = "MountainCar-v0"


def reward(terminated: Any, *, step: float = 1.0, goal: float = 10.0) -> dict[str, Any]:
    """`step` for each step, and `goal` for the one that reaches the goal, which ends the episode."""
    arrived = np.asarray(terminated, dtype=np.float32)
    return {"steps": step + 0.0 * arrived, "goal": goal * arrived}


def healthy(terminated: Any, *, step: float = -1.0, goal: float = 10.0) -> dict[str, Any]:
    """The same with Gymnasium's -1 for each step."""
    return reward(terminated, step=step, goal=goal)


def intended(terminated: Any) -> Any:
    """1 for reaching the goal, which alone ends the episode."""
    return 1.0 * (terminated != 0)


def paid_waiting(env_id: str = ENV, *, step: float = 1.0, goal: float = 10.0) -> Flaw:
    """A step pays `step` and the goal `goal`."""
    words = {"MountainCar-v0": "the car reaches the flag", "Acrobot-v1": "the tip swings above the bar"}
    return Flaw(
        name="paid_waiting", kind="paid survival", statement=words[env_id],
        wrong="every step pays and the goal ends the episode, so doing nothing until the time is up pays most",
        make=partial(short, env_id), flawed=bound(reward, step=step, goal=goal), healthy=bound(healthy, goal=goal),
        intended=intended, reduce="any", caught_by=("exploit", "incentives"), strength=step,
        tags=("classic", "episode-length", "sparse", "terms"),
        source="CartPole's +1 for each step in a task where the episode ends with success")
