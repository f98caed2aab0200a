"""Infinite at the goal: the logarithm of a distance that becomes zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from plaudit.auditing.flaws.flaw import Flaw, bound
from plaudit.auditing.flaws.maps import at, steps_left, ways_to, where
from plaudit.tasks.gridworld import GridWorld

YARD = """
########
#S.....#
#.##.#.#
#.#..#.#
#...#.G#
########
""".strip()
_GOAL = where(YARD, "G")
_WAYS = ways_to(YARD, "G")


def task() -> GridWorld:
    """A yard with a goal."""
    from plaudit.tasks.features import Goal

    return GridWorld(YARD, [Goal(reward=0.0)], horizon=40, name="Yard")


def reward(obs: Any, next_obs: Any, *, offset: float = 0.0) -> dict[str, Any]:
    """What the logarithm of the distance (plus `offset`) falls by, and 1 for arriving."""
    with np.errstate(divide="ignore"):
        near = [np.log(offset + steps_left(o, _WAYS)) for o in (obs, next_obs)]
    return {"progress": near[0] - near[1], "goal": 1.0 * at(next_obs, _GOAL, YARD)}


def healthy(obs: Any, next_obs: Any, *, offset: float = 1.0) -> dict[str, Any]:
    """The same with an offset of 1."""
    return reward(obs, next_obs, offset=offset)


def intended(next_obs: Any) -> Any:
    """1 for reaching the goal."""
    return 1.0 * at(next_obs, _GOAL, YARD)


def infinite_goal(*, offset: float = 0.0) -> Flaw:
    """The logarithm of a distance plus `offset`."""
    return Flaw(
        name="log_distance", kind="not a number", statement="the agent reaches the goal",
        wrong="log(0) is minus infinity, so arriving at the goal earns infinitely much, which no learner can use",
        make=task, flawed=bound(reward, offset=offset), healthy=healthy, intended=intended, reduce="any",
        caught_by=("contract",), tags=("grid", "contract", "terms"),
        source="the usual domain error of log and 1 / x where a distance becomes zero")
