"""One term drowns the rest: effort costs so much that the robot does best not to move."""

from __future__ import annotations

from functools import partial
from typing import Any

from plaudit.auditing.flaws.flaw import Flaw, bound
from plaudit.auditing.flaws.locomotion import runner
from plaudit.tasks.base import Task
from plaudit.tasks.making import make

ENV = "HalfCheetah-v5"
GENTLE = {"Swimmer-v5": 0.0001}
"""What effort costs in Gymnasium where it is not 0.1."""


def task(env_id: str = ENV) -> Task:
    """HalfCheetah-v5 with episodes of 200 steps (10 s)."""
    return make(env_id, horizon=runner(env_id).horizon)


def reward(action: Any, next_obs: Any, *, weight: float = 20.0, speed: int = 8) -> dict[str, Any]:
    """The forward speed less `weight` times the squared action."""
    return {"speed": next_obs[..., speed], "effort": -weight * (action**2).sum(-1)}


def healthy(action: Any, next_obs: Any, *, weight: float = 0.1, speed: int = 8) -> dict[str, Any]:
    """The forward speed less Gymnasium's 0.1 times the squared action."""
    return {"speed": next_obs[..., speed], "effort": -weight * (action**2).sum(-1)}


def intended(next_obs: Any, *, speed: int = 8, seconds: float = 0.05) -> Any:
    """Metres travelled in a step."""
    return seconds * next_obs[..., speed]


def drowning_effort(env_id: str = ENV, *, weight: float = 20.0) -> Flaw:
    """A runner whose effort costs `weight` instead of 0.1."""
    body = runner(env_id)
    return Flaw(
        name="drowned", kind="drowned term", statement="the robot travels far forward",
        wrong="the effort term is hundreds of times too large, so standing still beats every gait",
        make=task if env_id == ENV else partial(task, env_id), flawed=bound(reward, weight=weight, speed=body.speed),
        healthy=bound(healthy, weight=GENTLE.get(env_id, 0.1), speed=body.speed),
        intended=bound(intended, speed=body.speed, seconds=body.seconds),
        reduce="sum", caught_by=("scale", "exploit"), strength=weight, tags=("mujoco", "terms"),
        source="Booth et al. (2023), The perils of trial-and-error reward design (weights misjudged by orders)")
