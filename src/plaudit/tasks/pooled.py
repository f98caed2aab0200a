"""Environments that envpool runs in C++ (Weng et al. 2022) as a Task: MiniGrid and highway at many times the speed.

`make("envpool:CartPole-v1")`, extra `envpool`. What differs from the other tasks:

- Seeds give other streams than Gymnasium's of the same number.
- A row's first episode is a function of its seed alone, in any pool and at any place in it. The episodes after it go
  on with the row's own stream, so they also depend on what was done before; they cannot be begun again by themselves,
  and a batch cannot be saved in mid-episode.
- At the step after the end of an episode envpool acts for nobody: it gives the first observation of the next episode
  and the reward 0. Here rows that ended are reset by name at once, so that no such step is ever seen.
"""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.extras import require
from plaudit.core.tree import Tree, tree_map
from plaudit.tasks.arrays import check_seeds
from plaudit.tasks.base import Batch, Step, Task
from plaudit.tasks.info import numbers
from plaudit.tasks.spaces import batch_tensors, tensor_space

PREFIX = "envpool:"
_SEEDS = 2**31
_OWN = frozenset({"env_id", "elapsed_step", "players.env_id"})


class PooledTask(Task):
    """One of envpool's environments, by its id there.

    Entries of `info` become tensors as those of `GymTask` do; reward terms keep envpool's names, which are not always
    Gymnasium's.

    Args:
        env_id: Its id, without `envpool:`.
        kwargs: Handed to envpool; `num_threads` is how many threads step the rows (the cores, by default).
        horizon: Truncate after so many steps; None takes the environment's own limit.

    Raises:
        BadInput: when the id is unknown, or the arguments do not fit.
        MissingExtra: when envpool is not installed.
        Unsupported: when tensors cannot hold its observations.
    """

    def __init__(self, env_id: str, kwargs: Mapping[str, Any] | None = None, *, horizon: int | None = None) -> None:
        if horizon is not None and horizon < 1:
            raise BadInput("horizon", expected="at least 1", received=horizon)
        for name in ("seed", "num_envs", "batch_size"):
            if name in (kwargs or {}):
                raise BadInput(f"{env_id} arguments", expected=f"no {name}, which the batch decides", received=kwargs)
        self.env_id, self.kwargs, self._asked = env_id, dict(kwargs or {}), horizon
        self.name = f"{PREFIX}{env_id}"
        pool = self.pool([0])
        try:
            with warnings.catch_warnings():  # their bounds lose precision
                warnings.simplefilter("ignore")
                self.obs_space, self.action_space = tensor_space(pool.observation_space), pool.action_space
            self.horizon = int(pool.spec.config.max_episode_steps)
        finally:
            pool.close()

    def pool(self, seeds: Sequence[int]) -> Any:
        """An envpool with one row for each seed."""
        envpool = require("envpool", extra="envpool")
        options = {"num_threads": min(len(seeds), os.cpu_count() or 1), **self.kwargs}
        if self._asked is not None:
            options["max_episode_steps"] = self._asked
        known = envpool.list_all_envs()
        if self.env_id not in known:
            near = difflib.get_close_matches(self.env_id, known, n=3, cutoff=0.5)
            raise BadInput("env", expected="an id that envpool knows", received=self.env_id,
                           fix=f"did you mean {', '.join(near)}?" if near else "see envpool.list_all_envs()")
        try:
            return envpool.make_gymnasium(self.env_id, num_envs=len(seeds), seed=[s % _SEEDS for s in seeds], **options)
        except (TypeError, AssertionError, RuntimeError) as error:
            raise BadInput(f"{self.env_id} arguments", expected="arguments that envpool takes",
                           received=f"{options} ({error})") from error

    def make(self, num_envs: int, *, device: str = "cpu", render: bool = False) -> PooledBatch:
        return PooledBatch(self, num_envs, device=device)

    def spec(self) -> dict[str, Any]:
        return {"kind": "envpool", "id": self.env_id, "kwargs": self.kwargs, "horizon": self._asked}


class PooledBatch(Batch):
    """Rows of one envpool, made anew at each `reset`."""

    def __init__(self, task: PooledTask, num_envs: int, *, device: str = "cpu") -> None:
        if num_envs < 1:
            raise BadInput("num_envs", expected="at least 1", received=num_envs)
        self.task, self.num_envs, self.device = task, num_envs, device
        self._pool: Any = None
        self._columns: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}

    def reset(self, seeds: Sequence[int]) -> Tree:
        roots = check_seeds(seeds, self.num_envs)
        self.close()
        self._pool = self.task.pool(roots)
        self._alive = np.ones(self.num_envs, dtype=bool)
        self._ended = np.zeros((2, self.num_envs), dtype=bool)
        obs, info = self._pool.reset()
        self._columns = {name: (x.shape[1:], x.dtype) for name, x in _numbers(info)}
        self._obs = self._seen(obs)
        return self._out(self._obs)

    def step(self, action: Tensor) -> Step:
        if self._pool is None:
            raise BadInput("step", expected="a batch after its reset", received="a new one")
        rows = np.flatnonzero(self._alive).astype(np.int32)
        taken, everything = self._actions(action), len(rows) == self.num_envs
        reward = np.zeros(self.num_envs, dtype=np.float32)
        info: list[tuple[str, np.ndarray]] = []
        if len(rows):
            obs, paid, terminated, truncated, found = \
                self._pool.step(taken) if everything else self._pool.step(taken[rows], env_id=rows)
            self._obs = self._put(self._obs, self._seen(obs), rows)
            reward[rows] = paid
            self._ended[:, rows] = terminated, truncated & ~terminated
            info = _numbers(found)
        seen = begun = self._obs
        terminated, truncated = (torch.from_numpy(x.copy()).to(self.device) for x in self._ended)
        done = np.flatnonzero(self._ended.any(0) & self._alive).astype(np.int32)
        if len(done) and self.autoreset:
            obs, _ = self._pool.reset(env_id=done)
            begun = self._obs = self._put(self._obs, self._seen(obs), done)
            self._ended[:, done] = False
        elif len(done):
            self._alive[done] = False
        return Step(next_obs=self._out(seen), obs=self._out(begun), terminated=terminated, truncated=truncated,
                    env_reward=torch.from_numpy(reward).to(self.device), info=self._info(info, rows))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _actions(self, action: Tensor) -> np.ndarray:
        space = self.task.action_space
        shape = (self.num_envs, *(space.shape or ()))
        if tuple(action.shape) != shape:
            raise BadInput("action", expected=f"a tensor {list(shape)} for {space}", received=list(action.shape))
        values = action.detach().cpu().numpy()
        if isinstance(space, gymnasium.spaces.Box):
            return values.astype(space.dtype)
        if not isinstance(space, gymnasium.spaces.Discrete):
            raise Unsupported(f"actions of {space}; envpool's tasks are used with Box and Discrete actions")
        low, high = int(space.start), int(space.start) + int(space.n)
        if values.dtype.kind not in "biu" or values.min() < low or values.max() >= high:
            raise BadInput("action", expected=f"integers in [{low}, {high})", received=values.tolist())
        return values.astype(np.int32)

    def _seen(self, obs: Any) -> Tree:
        return batch_tensors(self.task.obs_space, obs)

    def _put(self, old: Tree, new: Tree, rows: np.ndarray) -> Tree:
        """`old` with some rows replaced, as new tensors."""
        where = torch.from_numpy(rows).long()
        return tree_map(lambda a, b: a.index_copy(0, where, b), old, new)

    def _out(self, obs: Tree) -> Tree:
        return tree_map(lambda x: x.to(self.device), obs)

    def _info(self, found: list[tuple[str, np.ndarray]], rows: np.ndarray) -> dict[str, Tensor]:
        """Columns of the same names at every step: NaN (False) in rows that were not stepped."""
        values = dict(found)
        out: dict[str, Tensor] = {}
        for name, (shape, dtype) in self._columns.items():
            column = np.zeros((self.num_envs, *shape), bool) if dtype.kind == "b" else np.full(
                (self.num_envs, *shape), np.nan, np.float32)
            if name in values:
                column[rows] = values[name]
            out[name] = torch.from_numpy(column).to(self.device)
        return out


def _numbers(info: Mapping[str, Any]) -> list[tuple[str, np.ndarray]]:
    return [(name, np.asarray(x)) for name, x in numbers(info) if name not in _OWN]
