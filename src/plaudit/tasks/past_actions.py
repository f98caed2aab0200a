"""A task whose observations also hold the last actions, as Lucy-SKG's agent sees its last five."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from plaudit.core.errors import BadInput
from plaudit.core.tree import Tree
from plaudit.tasks.base import Batch, Step, Task
from plaudit.tasks.entities import Entities

_SHOWN = ("goal", "own_goal", "ball_speed", "car_speed", "contact")
"""What games say of themselves, which is as true of the game with memory."""


class PastActions(Task):
    """Appends the last `length` actions to each observation, one-hot, the latest first; 0 before the episode's first.

    Args:
        task: One choice an action, one row of numbers an observation.
        length: How many actions.

    Raises:
        BadInput: for another task, or a length below 1.

    Example:
        >>> from plaudit.tasks.car_soccer import CarSoccer
        >>> PastActions(CarSoccer(), 5).obs_space.shape
        (88,)
    """

    def __init__(self, task: Task, length: int = 5) -> None:
        obs, action = task.obs_space, task.action_space
        if not (isinstance(obs, gymnasium.spaces.Box) and len(obs.shape) == 1
                and isinstance(action, gymnasium.spaces.Discrete)):
            raise BadInput("task", expected="observations in a Box [D] and actions in a Discrete space",
                           received=f"{obs} and {action}")
        if length < 1:
            raise BadInput("length", expected="an integer >= 1", received=length, fix="use the task itself for 0")
        self.task, self.length = task, length
        self.name, self.horizon, self.action_space = task.name, task.horizon, action
        self.choices, self.first = int(action.n), int(action.start)
        more = np.ones(length * self.choices, dtype=np.float32)
        self.obs_space = gymnasium.spaces.Box(np.concatenate([obs.low, 0 * more]).astype(np.float32),
                                              np.concatenate([obs.high, more]).astype(np.float32))
        D = obs.shape[0]
        self.past = tuple(range(D, D + len(more)))
        """The columns of the past actions."""
        for name in (n for n in _SHOWN if hasattr(task, n)):
            setattr(self, name, getattr(task, name))
        self.columns: Mapping[str, tuple[int, ...]] = {**getattr(task, "columns", {}), "past_actions": self.past}
        """Where each quantity lies in an observation."""
        self.units: Mapping[str, float] = {**getattr(task, "units", {}), "past_actions": 1.0}
        """What to multiply each quantity by."""

    @property
    def entities(self) -> Entities | None:
        """Those of the task, whose query knows the past actions; None where it names none."""
        inner = getattr(self.task, "entities", None)
        return replace(inner, query=inner.query + self.past) if isinstance(inner, Entities) else None

    def make(self, num_envs: int, *, device: str = "cpu", render: bool = False) -> PastActionsBatch:
        return PastActionsBatch(self, self.task.make(num_envs, device=device, render=render))

    def spec(self) -> dict[str, Any]:
        return {"kind": "past actions", "task": self.task.spec(), "length": self.length}


class PastActionsBatch(Batch):
    """The rows of a task, with what each did."""

    def __init__(self, task: PastActions, inner: Batch) -> None:
        self.task, self.inner, self.num_envs = task, inner, inner.num_envs

    @property
    def autoreset(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Batch.autoreset`."""
        return self.inner.autoreset

    @autoreset.setter
    def autoreset(self, value: bool) -> None:
        self.inner.autoreset = value

    def reset(self, seeds: Sequence[int]) -> Tensor:
        obs = _rows(self.inner.reset(seeds))
        self._past = torch.full((self.num_envs, self.task.length), -1, device=obs.device)
        return self._with_past(obs)

    def step(self, action: Tensor) -> Step:
        step = self.inner.step(action)
        chosen = (action.long() - self.task.first).to(self._past.device)
        self._past = torch.cat([chosen.unsqueeze(1), self._past[:, :-1]], 1)
        next_obs = self._with_past(_rows(step.next_obs))
        if self.autoreset:
            self._past = torch.where(step.done.unsqueeze(1), -1, self._past)
        return Step(next_obs=next_obs, obs=self._with_past(_rows(step.obs)), terminated=step.terminated,
                    truncated=step.truncated, env_reward=step.env_reward, info=step.info)

    def episode_seeds(self) -> list[int]:
        return self.inner.episode_seeds()

    def render(self, row: int = 0) -> np.ndarray | None:
        return self.inner.render(row)

    def state_dict(self) -> dict[str, Any]:
        return {"inner": self.inner.state_dict(), "past": self._past.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.inner.load_state_dict(state["inner"])
        self._past = state["past"].clone()

    def close(self) -> None:
        self.inner.close()

    def _with_past(self, obs: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        shown = F.one_hot(self._past + 1, self.task.choices + 1)[..., 1:].to(obs.dtype)
        return torch.cat([obs, shown.flatten(1)], 1)


def _rows(obs: Tree) -> Float[Tensor, "B D"]:
    assert isinstance(obs, Tensor)
    return obs
