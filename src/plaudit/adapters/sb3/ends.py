"""How stable-baselines3 says that an episode ended: one flag, and what it led to in `infos`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plaudit.core.tree import Tree, tree_map
from plaudit.tasks.spaces import Space, stack


def ends(space: Space, now: Tree, dones: Any, infos: Sequence[Mapping[str, Any]]) -> tuple[Tree, Tensor, Tensor]:
    """What the step of a VecEnv led to, and how it ended: (observations, terminated [B], truncated [B]).

    A VecEnv resets by itself: `now` holds first observations of new episodes, and the terminal ones lie in
    `infos`. `TimeLimit.truncated` tells an episode that was cut from one that ended.

    Example:
        >>> from gymnasium.spaces import Box
        >>> infos = [{}, {"terminal_observation": np.ones(1), "TimeLimit.truncated": True}]
        >>> seen, ended, cut = ends(Box(0, 1, (1,)), torch.zeros(2, 1), [False, True], infos)
        >>> seen.tolist(), ended.tolist(), cut.tolist()
        ([[0.0], [1.0]], [False, False], [False, True])
    """
    done = torch.from_numpy(np.array(dones, dtype=bool))
    cut = done & torch.tensor([bool(info.get("TimeLimit.truncated", False)) for info in infos])
    rows = done.nonzero()[:, 0]
    if len(rows):
        final = stack(space, [infos[b]["terminal_observation"] for b in rows.tolist()])
        now = tree_map(lambda a, b: a.index_copy(0, rows, b.to(a.dtype)), now, final)
    return now, done & ~cut, cut
