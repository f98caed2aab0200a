"""Hidden state: a cell pays the first time it is seen since the program began, whoever asks."""

from __future__ import annotations

from typing import Any

import numpy as np

from plaudit.auditing.flaws.flaw import Flaw
from plaudit.auditing.flaws.maps import at, where
from plaudit.tasks.gridworld import GridWorld

CAVE = """
##########
#S...#...#
#.##...#.#
#....#...#
#.##.###.#
#....#..G#
##########
""".strip()
_GOAL = where(CAVE, "G")


def task() -> GridWorld:
    """A cave with a goal."""
    from plaudit.tasks.features import Goal

    return GridWorld(CAVE, [Goal(reward=0.0)], horizon=60, name="Cave")


class FirstVisits:
    """Pays `bonus` for cells that this object has not seen yet, and 1 at the goal."""

    def __init__(self, bonus: float) -> None:
        self.bonus, self.seen = bonus, set[tuple[int, int]]()
        self.__name__ = "first_visits"

    def __call__(self, next_obs: Any) -> Any:
        rows = np.asarray(next_obs)[..., :2]
        new = np.zeros(rows.shape[:-1], dtype=np.float32)
        for i in np.ndindex(new.shape):
            cell = (int(round(float(rows[i][0]) * 100)), int(round(float(rows[i][1]) * 100)))
            new[i] = cell not in self.seen
            self.seen.add(cell)
        return self.bonus * new + np.asarray(at(rows, _GOAL, CAVE))


def healthy(next_obs: Any) -> Any:
    """Pays 1 at the goal."""
    return 1.0 * at(next_obs, _GOAL, CAVE)


def intended(next_obs: Any) -> Any:
    """1 for reaching the goal."""
    return 1.0 * at(next_obs, _GOAL, CAVE)


def remembered_novelty(*, bonus: float = 0.5) -> Flaw:
    """A bonus of `bonus` for cells that the reward function has not met before, in any episode."""
    return Flaw(
        name="first_visit", kind="hidden state", statement="the agent reaches the goal",
        wrong="the function remembers what it was asked, so the same step pays the first time and never again",
        make=task, flawed=FirstVisits(bonus), healthy=healthy, intended=intended, reduce="any",
        caught_by=("contract",), strength=bonus, tags=("grid", "contract"),
        source="Bellemare et al. (2016), Unifying count-based exploration (a bonus that fades is no fixed reward)")
