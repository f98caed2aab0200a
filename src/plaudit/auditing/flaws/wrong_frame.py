"""The wrong frame: the goal is looked for in `obs`, but the episode ends with `next_obs`, so it is never paid."""

from __future__ import annotations

from typing import Any

from plaudit.auditing.flaws.flaw import Flaw, bound
from plaudit.tasks.base import Task
from plaudit.tasks.making import make

FLAG = 0.45


def task() -> Task:
    """MountainCarContinuous-v0 with episodes of 300 steps."""
    return make("MountainCarContinuous-v0", horizon=300)


def reward(obs: Any, action: Any, *, goal: float = 100.0) -> dict[str, Any]:
    """`goal` where the car was at the flag before the step, less the effort."""
    return {"goal": goal * (obs[..., 0] >= FLAG), "effort": -0.1 * action[..., 0] ** 2}


def healthy(action: Any, next_obs: Any, *, goal: float = 100.0) -> dict[str, Any]:
    """`goal` where the step leads to the flag, less the effort: Gymnasium's own reward."""
    return {"goal": goal * (next_obs[..., 0] >= FLAG), "effort": -0.1 * action[..., 0] ** 2}


def intended(next_obs: Any) -> Any:
    """1 for reaching the flag."""
    return 1.0 * (next_obs[..., 0] >= FLAG)


def goal_in_the_wrong_frame(*, goal: float = 100.0) -> Flaw:
    """A goal bonus of `goal` that no step can earn."""
    return Flaw(
        name="wrong_frame", kind="no signal", statement="the car reaches the flag",
        wrong="the goal is read off the observation before the step, so only effort is left and doing nothing is best",
        make=task, flawed=bound(reward, goal=goal), healthy=bound(healthy, goal=goal), intended=intended, reduce="any",
        caught_by=("scale", "exploit"), strength=goal, tags=("classic", "sparse", "terms"),
        source="the usual mistake between r(s, a) and r(s, a, s')")
