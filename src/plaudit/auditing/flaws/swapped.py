"""An unreachable reward: row and column are swapped, so that the prize lies inside a wall."""

from __future__ import annotations

from typing import Any

from plaudit.auditing.flaws.flaw import Flaw, bound
from plaudit.auditing.flaws.maps import at, where
from plaudit.tasks.gridworld import GridWorld

MAP = """
##########
#S...#...#
#.##...#.#
#.##.###.#
#......#G#
##########
""".strip()
_GOAL = where(MAP, "G")
_SWAPPED = (_GOAL[1], _GOAL[0])


def task() -> GridWorld:
    """A small maze."""
    from plaudit.tasks.features import Goal

    return GridWorld(MAP, [Goal(reward=0.0)], horizon=80, name="Small maze")


def reward(next_obs: Any, *, goal: float = 1.0) -> Any:
    """Pays `goal` at (column, row) of the goal: a cell that does not exist."""
    return goal * at(next_obs, _SWAPPED, MAP)


def healthy(next_obs: Any, *, goal: float = 1.0) -> Any:
    """Pays `goal` at the goal."""
    return goal * at(next_obs, _GOAL, MAP)


def intended(next_obs: Any) -> Any:
    """1 for reaching the goal."""
    return 1.0 * at(next_obs, _GOAL, MAP)


def unreachable_prize(*, goal: float = 1.0) -> Flaw:
    """A sparse reward for a place that cannot be reached."""
    return Flaw(
        name="swapped", kind="no signal", statement="the agent reaches the goal",
        wrong="row and column are swapped, so the reward is 0 wherever the agent can go",
        make=task, flawed=bound(reward, goal=goal), healthy=bound(healthy, goal=goal), intended=intended, reduce="any",
        caught_by=("scale",), strength=goal, tags=("grid", "sparse"),
        source="the usual mistake between (x, y) and (row, column)")
