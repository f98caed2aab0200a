"""A VecEnv of stable-baselines3, wrappers included, as a plaudit Task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plaudit.adapters.sb3.ends import ends
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.tree import Tree
from plaudit.tasks.base import Batch, Step, Task
from plaudit.tasks.info import InfoColumns
from plaudit.tasks.spaces import batch_tensors, tensor_space, unstack


class VecEnvTask(Task):
    """Environments that only exist as a VecEnv: stacked frames, normalised observations, a simulator's own batch.

    The first episode of row b is `reset` with `seeds[b]`; a VecEnv resets later ones by itself, without a seed. Where
    a plain environment is at hand, `plaudit.make(lambda: env)` is better: it repeats every episode.

    Args:
        make: Makes a VecEnv of so many rows, such as `lambda n: VecFrameStack(make_vec_env("Pong", n), 4)`.
        horizon: The number of steps after which its episodes are cut.
        name: How it is called in reports.

    Raises:
        BadInput: when the horizon is not positive, or `make` gives another number of rows.
    """

    def __init__(self, make: Callable[[int], Any], *, horizon: int, name: str = "VecEnv") -> None:
        if horizon < 1:
            raise BadInput("horizon", expected="at least 1", received=horizon)
        self.make_vec, self.horizon, self.name = make, horizon, name
        self.columns = InfoColumns()
        one = make(1)
        self.obs_space, self.action_space = tensor_space(one.observation_space), one.action_space
        one.close()

    def make(self, num_envs: int, *, device: str = "cpu", render: bool = False) -> VecEnvBatch:
        if device != "cpu":
            raise Unsupported("a VecEnv runs on the CPU")
        return VecEnvBatch(self, num_envs)


class VecEnvBatch(Batch):
    """The rows of one VecEnv."""

    def __init__(self, task: VecEnvTask, num_envs: int) -> None:
        self.task, self.num_envs, self.venv = task, num_envs, task.make_vec(num_envs)
        if self.venv.num_envs != num_envs:
            raise BadInput("make", expected=f"a VecEnv of {num_envs} rows", received=self.venv.num_envs)

    def reset(self, seeds: Sequence[int]) -> Tree:
        if len(seeds) != self.num_envs:
            raise BadInput("seeds", expected=f"{self.num_envs} seeds", received=len(seeds))
        self.venv.unwrapped._seeds = [int(s) % 2**32 for s in seeds]  # `seed()` knows one for all rows only
        self._age = torch.zeros(self.num_envs, dtype=torch.int64)
        return batch_tensors(self.task.obs_space, self.venv.reset())

    def step(self, action: Tensor) -> Step:
        obs, reward, dones, infos = self.venv.step(np.array(unstack(self.task.action_space, action, self.num_envs)))
        now = batch_tensors(self.task.obs_space, obs)
        reached, terminated, truncated = ends(self.task.obs_space, now, dones, infos)
        self._age = torch.where(terminated | truncated, 0, self._age + 1)
        if bool((self._age > self.task.horizon).any()):
            raise BadInput("horizon", expected="at least the VecEnv's own time limit", received=self.task.horizon)
        return Step(next_obs=reached, obs=now, terminated=terminated, truncated=truncated,
                    env_reward=torch.from_numpy(np.array(reward, dtype=np.float32)),
                    info=self.task.columns.gather(infos))

    def close(self) -> None:
        self.venv.close()
