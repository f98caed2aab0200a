"""Tiny worlds with a known answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import Unsupported
from plaudit.core.needs import Needs
from plaudit.core.reward import Carry, Reward
from plaudit.core.score import Score
from plaudit.core.seeds import counter_uniform
from plaudit.core.tree import Tree
from plaudit.tasks.base import Batch, Step, Task


class TinyTask(Task):
    """Obs is one uniform number of the row's counter; subclasses say what an action earns and when it ends."""

    name = "Tiny"
    horizon = 10
    obs_space: gymnasium.Space[Any] = gymnasium.spaces.Box(0.0, 1.0, (1,))
    action_space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(2)
    saveable = True

    def see(self, uniform: Tensor) -> Tree:
        return uniform

    def pay(self, uniform: Tensor, action: Tensor) -> Tensor:
        raise NotImplementedError

    def info(self, uniform: Tensor, action: Tensor) -> Mapping[str, Tensor]:
        return {}

    def terminates(self, time: Tensor, action: Tensor) -> Tensor:
        return torch.zeros_like(time, dtype=torch.bool)

    def make(self, num_envs: int, *, device: str = "cpu", render: bool = False) -> TinyBatch:
        return TinyBatch(self, num_envs)


class TinyBatch(Batch):
    def __init__(self, task: TinyTask, num_envs: int) -> None:
        self.task, self.num_envs = task, num_envs

    def reset(self, seeds: Sequence[int]) -> Tree:
        self.seeds = torch.tensor(list(seeds))
        self.draws = torch.zeros(self.num_envs, dtype=torch.long)
        self.time = torch.zeros(self.num_envs, dtype=torch.long)
        return self._look()

    def _look(self) -> Tree:
        self.uniform = counter_uniform(self.seeds, self.draws, 1).float()
        return self.task.see(self.uniform)

    def step(self, action: Tensor) -> Step:
        assert action.shape[0] == self.num_envs
        reward, info = self.task.pay(self.uniform, action), self.task.info(self.uniform, action)
        self.time = self.time + 1
        terminated = self.task.terminates(self.time, action)
        truncated = ~terminated & (self.time >= self.task.horizon)
        self.draws = self.draws + 1
        following = self._look()
        done = terminated | truncated
        self.draws, self.time = self.draws + done, torch.where(done, 0, self.time)
        return Step(next_obs=following, terminated=terminated, truncated=truncated, env_reward=reward,
                    obs=self._look(), info=info)

    def render(self, row: int = 0) -> np.ndarray:
        return np.full((8, 8, 3), int(255 * float(self.uniform[row, 0])), dtype=np.uint8)

    def state_dict(self) -> dict[str, Any]:
        if not self.task.saveable:
            raise Unsupported("this world cannot be saved in mid-episode")
        return {"seeds": self.seeds, "draws": self.draws, "time": self.time}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seeds, self.draws, self.time = state["seeds"], state["draws"], state["time"]
        self._look()


class CopyTheBit(TinyTask):
    """1 if the action is the bit that the observation shows."""

    name = "CopyTheBit"

    def see(self, uniform: Tensor) -> Tree:
        return (uniform > 0.5).float()

    def pay(self, uniform: Tensor, action: Tensor) -> Tensor:
        return ((uniform[:, 0] > 0.5).long() == action).float()

    def info(self, uniform: Tensor, action: Tensor) -> Mapping[str, Tensor]:
        return {"reward_match": self.pay(uniform, action), "is_success": self.pay(uniform, action)}


class CopyTwoBits(TinyTask):
    """The share of two choices that are right, from nested observations."""

    name = "CopyTwoBits"
    obs_space = gymnasium.spaces.Dict({"bit": gymnasium.spaces.Discrete(2), "number": gymnasium.spaces.Box(0, 1, (1,))})
    action_space = gymnasium.spaces.MultiDiscrete([2, 3])

    def see(self, uniform: Tensor) -> Tree:
        return {"bit": (uniform[:, 0] > 0.5).long(), "number": uniform}

    def pay(self, uniform: Tensor, action: Tensor) -> Tensor:
        bit = (uniform[:, 0] > 0.5).long()
        return 0.5 * (action[:, 0] == bit).float() + 0.5 * (action[:, 1] == 2 - bit).float()


class Quadratic(TinyTask):
    """One step: -(action - target)^2, target 1.5 * obs in a box [-1, 3]; the best action is the target."""

    name = "Quadratic"
    horizon = 1
    action_space = gymnasium.spaces.Box(-1.0, 3.0, (1,))

    def pay(self, uniform: Tensor, action: Tensor) -> Tensor:
        return -(action[:, 0] - 1.5 * uniform[:, 0]).square()

    def terminates(self, time: Tensor, action: Tensor) -> Tensor:
        return torch.ones_like(time, dtype=torch.bool)


class PayPerStep(TinyTask):
    """1 a step whatever one does, for `horizon` steps; `ends` says whether the world ends then, or we stop looking."""

    name = "PayPerStep"

    def __init__(self, *, horizon: int = 5, ends: bool = False) -> None:
        self.horizon, self.ends = horizon, ends

    def see(self, uniform: Tensor) -> Tree:
        return torch.zeros_like(uniform)

    def pay(self, uniform: Tensor, action: Tensor) -> Tensor:
        return torch.ones_like(uniform[:, 0])

    def terminates(self, time: Tensor, action: Tensor) -> Tensor:
        return (time >= self.horizon) & self.ends


class Repeats(Reward):
    """1 if the action is that of the step before, 0 at the first step: reads the past through a carry."""

    name = "repeats"
    needs = Needs(time="prefix", fields=frozenset({"action"}))

    def start(self, rows: int) -> Carry:
        return torch.full((rows,), -1)

    def stream(self, step: Episodes, carry: Carry) -> tuple[Score, Carry]:
        now = step.action[:, 0]
        return Score.of((now == carry).float().unsqueeze(1), mask=step.mask), now

    def restart(self, carry: Carry, rows: Tensor) -> Carry:
        return torch.where(rows, -1, carry)

    def evaluate(self, episodes: Episodes) -> Score:
        before = torch.cat([torch.full_like(episodes.action[:, :1], -1), episodes.action[:, :-1]], 1)
        return Score.of((episodes.action == before).float(), mask=episodes.mask)
