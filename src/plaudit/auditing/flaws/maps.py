"""Reading positions off the observations of a grid world, and distances off its map."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np


def where(map: str, letter: str) -> tuple[int, int]:
    """Row and column of the only cell with this letter.

    Example:
        >>> where("S.G", "G")
        (0, 2)
    """
    rows = map.strip("\n").split("\n")
    (found,) = [(r, c) for r, row in enumerate(rows) for c, x in enumerate(row) if x == letter]
    return found


def at(obs: Any, cell: tuple[int, int], map: str) -> Any:
    """Whether observations [..., D] that begin with the scaled row and column show this cell."""
    rows = map.strip("\n").split("\n")
    row, column = obs[..., 0] * (len(rows) - 1), obs[..., 1] * (len(rows[0]) - 1)
    return (abs(row - cell[0]) < 0.5) & (abs(column - cell[1]) < 0.5)


def ways_to(map: str, letter: str) -> np.ndarray:
    """[H, W] number of steps to the cell with this letter, going round walls (`#`); -1 for cells without a way.

    Example:
        >>> ways_to("S.G", "G").tolist()
        [[2.0, 1.0, 0.0]]
    """
    rows = map.strip("\n").split("\n")
    steps = np.full((len(rows), len(rows[0])), -1.0)
    goal = where(map, letter)
    steps[goal] = 0.0
    queue = deque([goal])
    while queue:
        r, c = queue.popleft()
        for near in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
            inside = 0 <= near[0] < len(rows) and 0 <= near[1] < len(rows[0])
            if inside and rows[near[0]][near[1]] != "#" and steps[near] < 0:
                steps[near] = steps[r, c] + 1
                queue.append(near)
    return steps


def steps_left(obs: Any, ways: np.ndarray) -> np.ndarray:
    """`ways_to` at the cells that observations [..., D] show, [...] float32."""
    return lookup(obs, ways).astype(np.float32)


def cells(map: str, letter: str) -> list[tuple[int, int]]:
    """Row and column of every cell with this letter, row by row.

    Example:
        >>> cells("SG.G", "G")
        [(0, 1), (0, 3)]
    """
    rows = map.strip("\n").split("\n")
    return [(r, c) for r, row in enumerate(rows) for c, x in enumerate(row) if x == letter]


def on(obs: Any, letter: str, map: str) -> Any:
    """Whether observations [..., D] show a cell with this letter, [...] bool."""
    return lookup(obs, np.array([[x == letter for x in row] for row in map.strip("\n").split("\n")]))


def lookup(obs: Any, table: np.ndarray) -> np.ndarray:
    """The entries of a table [H, W] at the cells that observations [..., D] show."""
    obs = np.asarray(obs)
    size = np.maximum(np.array(table.shape) - 1, 1)
    row, column = (np.rint(obs[..., i] * size[i]).astype(int) for i in (0, 1))
    return table[row, column]


def flag(obs: Any, index: int = 0) -> np.ndarray:
    """The scaled value of a flag: observations are row, column, and then the flags."""
    return np.asarray(obs)[..., 2 + index]
