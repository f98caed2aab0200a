"""What every environment looks like to plaudit: a task makes batches, a batch steps all its rows at once.

The one convention that matters: `Step.next_obs` is what the action led to, also at the end of an
episode; `Step.obs` is what to act on next (the first observation of a new episode where one ended).
So the reward of a step always reads (obs, action, next_obs) of one and the same episode.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.core.errors import Unsupported
from plaudit.core.tree import Tree


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of all rows: tensors [B, ...] on the batch's device."""

    next_obs: Tree
    terminated: Bool[Tensor, "B"]
    truncated: Bool[Tensor, "B"]
    env_reward: Float[Tensor, "B"]
    obs: Tree
    """What to act on next: `next_obs`, or the first observation of a new episode where one ended."""
    info: Mapping[str, Tensor] = field(default_factory=dict)
    """Numeric entries of the environment's info, [B, ...], the same names at every step."""

    @property
    def done(self) -> Bool[Tensor, "B"]:
        return self.terminated | self.truncated


class Batch(ABC):
    """`num_envs` running environments. Row b depends on its own seed and actions alone, never on other rows."""

    num_envs: int
    autoreset: bool = True
    """False: a row whose episode ended stays where it ended, and what its further steps give means nothing."""

    @abstractmethod
    def reset(self, seeds: Sequence[int]) -> Tree:
        """Starts a first episode in every row, row b from `seeds[b]`; returns obs [B, ...].

        The n-th episode that row b begins afterwards is a function of (seeds[b], n).
        """

    def episode_seeds(self) -> list[int]:
        """The seed of each row's present episode: a reset with it begins the same episode again."""
        raise Unsupported(f"{type(self).__name__} does not number its episodes")

    @abstractmethod
    def step(self, action: Tensor) -> Step:
        """Acts in all rows; rows whose episode ended begin a new one."""

    def render(self, row: int = 0) -> np.ndarray | None:
        """An RGB image [H, W, 3] (uint8) of one row, or None where the task draws nothing."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """The exact state of all rows, so that a resumed run goes on as if it had not stopped."""
        raise Unsupported(f"{type(self).__name__} cannot be saved in mid-episode")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        raise Unsupported(f"{type(self).__name__} cannot be restored in mid-episode")

    def close(self) -> None:  # noqa: B027  (most batches hold nothing)
        """Frees what the rows hold."""


class Task(ABC):
    """What an agent does: spaces, a time limit, and how to make a batch of it."""

    name: str
    obs_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    horizon: int
    """The number of steps after which an episode is truncated."""
    limited: bool = True
    """Whether the environment or the user names that number; False where it is only a guess."""

    @abstractmethod
    def make(self, num_envs: int, *, device: str = "cpu", render: bool = False) -> Batch:
        """A batch of `num_envs` rows; call its `reset` before its `step`."""

    def spec(self) -> dict[str, Any]:
        """JSON from which `plaudit.tasks.from_spec` makes the same task again (for witnesses and checkpoints)."""
        raise Unsupported(f"{type(self).__name__} has no spec")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"
