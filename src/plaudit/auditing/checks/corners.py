"""Points on the bounds of a task's spaces: where formulas break first."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.tasks.base import Task

_MOST_BITS = 6


def at_the_bounds(task: Task, like: Episodes) -> Episodes | None:
    """Single steps between visited points and corners of the observation space, with extreme actions.

    One coordinate of a visited observation at a time is moved to its finite lower or upper bound; the
    actions go to corners of their space. None where the observation has no finite bound.

    Args:
        task: whose spaces these are.
        like: visited episodes, from which the other coordinates are taken.

    Returns:
        Episodes [N, 1].

    Example:
        >>> from plaudit.tasks.classic import CartPole
        >>> from plaudit.tasks.policy import RandomPolicy
        >>> from plaudit.tasks.rollouts import rollout
        >>> task = CartPole()
        >>> seen = rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=[1])
        >>> points = at_the_bounds(task, seen)
        >>> bool((points.next_obs[:, 0, 0].abs() == 4.8).any())
        True
    """
    space = task.obs_space
    if not isinstance(space, gymnasium.spaces.Box) or not isinstance(like.obs, Tensor) or not len(space.shape) == 1:
        return None
    low, high = _bounds(space)
    finite = (torch.isfinite(low) & torch.isfinite(high)).nonzero()[:, 0].tolist()
    if not finite:
        return None
    points = _pushed(_visited(like.obs, like), low, high, finite)
    N = len(points)
    actions = _actions(task.action_space, like, N)
    zeros = torch.zeros(N, dtype=torch.bool)
    info = {k: v[like.mask][:1].expand(N, *v.shape[2:]) for k, v in like.info.items()}
    reward = None if like.env_reward is None else torch.zeros(N)
    return Episodes.of_transitions(obs=points, action=actions, next_obs=points.flip(0), terminated=zeros,
                                   truncated=zeros, env_reward=reward, info=info)


def bounded(task: Task) -> bool:
    """Whether no observation can leave a finite box (or a finite set).

    Example:
        >>> from plaudit.tasks.classic import CartPole, Pendulum
        >>> bounded(CartPole()), bounded(Pendulum())
        (False, True)
    """
    space = task.obs_space
    if isinstance(space, gymnasium.spaces.Box):
        return all(bool(torch.isfinite(b).all()) for b in _bounds(space))
    return isinstance(space, gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete | gymnasium.spaces.MultiBinary)


def _bounds(space: gymnasium.spaces.Box) -> tuple[Tensor, Tensor]:
    low, high = (torch.from_numpy(np.asarray(x, dtype=np.float32).copy()) for x in (space.low, space.high))
    far = 1e6  # gymnasium writes "no bound" as the largest float of the kind as well
    return torch.where(low.abs() < far, low, -torch.inf), torch.where(high.abs() < far, high, torch.inf)


def _visited(obs: Tensor, like: Episodes) -> Tensor:
    flat = obs[like.mask]
    return flat[torch.linspace(0, len(flat) - 1, 16).round().long()]


def _pushed(points: Tensor, low: Tensor, high: Tensor, finite: list[int]) -> Tensor:
    """Each coordinate alone, to each of its bounds."""
    out = []
    for i in finite:
        for bound in (low, high):
            moved = points.clone()
            moved[:, i] = bound[i]
            out.append(moved)
    return torch.cat(out)


def _actions(space: gymnasium.Space[Any], like: Episodes, N: int) -> Tensor:
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
        low, high = _bounds(space)
        low, high = torch.nan_to_num(low, neginf=-1.0), torch.nan_to_num(high, posinf=1.0)
        bits = list(itertools.product((0.0, 1.0), repeat=min(len(low), _MOST_BITS)))
        corner = torch.tensor(bits)[torch.arange(N) % len(bits)]
        share = corner.repeat(1, -(-len(low) // corner.shape[1]))[:, : len(low)]
        return (low + share * (high - low)).to(like.action.dtype)
    visited = like.action[like.mask]
    return visited[torch.arange(N) % len(visited)]
