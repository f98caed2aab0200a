"""Tasks that are array code: one body of pure functions that runs on NumPy arrays and on torch tensors alike.

Letters: B rows, K numbers of state, D observation features. A state is an array [K, B], so that the
functions of a task read like its textbook: `x, x_dot, theta, theta_dot = state`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.seeds import counter_uniform
from plaudit.tasks.base import Batch, Step, Task

_AHEAD = 16
"""First states are worked out for so many episodes at once: one call for all costs little more than one for one."""

Array = Any
"""A NumPy array or a torch tensor: whatever `xp` makes."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What one step of the dynamics gives, arrays [B] but for the state [K, B]."""

    state: Array
    reward: Array
    terminated: Array
    info: Mapping[str, Array] = field(default_factory=dict)


class ArrayTask(Task):
    """A task given by pure functions of arrays; `xp` is the module `numpy` or `torch`."""

    reset_dims: int
    """How many uniform numbers a first state needs."""
    step_dims: int = 0
    """How many uniform numbers a step needs; 0 where the dynamics are deterministic."""

    @abstractmethod
    def initial(self, uniform_KB: Array, xp: ModuleType) -> Array:
        """The first state [K, B] from uniform numbers [reset_dims, B]."""

    @abstractmethod
    def advance(self, state_KB: Array, action_B: Array, uniform_KB: Array | None, xp: ModuleType) -> Moved:
        """One step of all rows. Must not write into its arguments, and `info` must not share memory with the state."""

    @abstractmethod
    def observe(self, state_KB: Array, xp: ModuleType) -> Array:
        """The observation [B, D], float32."""

    def draw(self, state_K: np.ndarray, action: np.ndarray | None) -> np.ndarray | None:
        """An RGB image of one row's state; `action` is the last one, None after a reset."""
        return None

    def make(self, num_envs: int, *, device: str = "cpu", render: bool = False) -> ArrayBatch:
        return ArrayBatch(self, num_envs, device=device)


class ArrayBatch(Batch):
    """The rows of an `ArrayTask`: NumPy on the CPU (2 to 3 times faster there), torch tensors elsewhere.

    Args:
        task: the pure functions.
        num_envs: how many rows.
        device: where the tensors live.
        xp: `numpy` or `torch`; None chooses by the device.
    """

    def __init__(self, task: ArrayTask, num_envs: int, *, device: str = "cpu", xp: ModuleType | None = None) -> None:
        if num_envs < 1:
            raise BadInput("num_envs", expected="at least 1", received=num_envs)
        on_cpu = torch.device(device).type == "cpu"
        if xp is np and not on_cpu:
            raise BadInput("xp", expected="torch on a device that is not the CPU", received="numpy")
        self.task, self.num_envs, self.device = task, num_envs, device
        self.xp: ModuleType = xp or (np if on_cpu else torch)
        self._actions = _ActionReader(task.action_space, num_envs, self.xp, device)
        self._last: Array | None = None

    def reset(self, seeds: Sequence[int]) -> Tensor:
        self._root = self._array(check_seeds(seeds, self.num_envs))
        self._seed = self._root + 0
        self._episode = self._array([0] * self.num_envs)
        self._elapsed = self._array([0] * self.num_envs)
        self._last = None
        self._look_ahead()
        self._state = self._next_state[:, :, 0] + 0
        return self._tensor(self.task.observe(self._state, self.xp))

    def step(self, action: Tensor) -> Step:
        task, xp = self.task, self.xp
        chosen = self._actions(action)
        self._elapsed = self._elapsed + 1
        uniform = self._uniform(self._seed, self._elapsed, task.step_dims) if task.step_dims else None
        moved = task.advance(self._state, chosen, uniform, xp)
        truncated = self._elapsed >= task.horizon
        self._state, self._last = moved.state, chosen
        next_obs = obs = task.observe(self._state, xp)
        done = moved.terminated | truncated
        if self.autoreset and bool(done.any()):
            rows = done.nonzero()[0] if xp is np else done.nonzero()[:, 0]
            obs = next_obs.copy() if xp is np else next_obs.clone()
            obs[rows] = task.observe(self._begin(rows), xp)
        return Step(
            next_obs=self._tensor(next_obs), obs=self._tensor(obs), terminated=self._tensor(moved.terminated),
            truncated=self._tensor(truncated), env_reward=self._tensor(as_float32(moved.reward)),
            info={k: self._tensor(v) for k, v in moved.info.items()})

    def episode_seeds(self) -> list[int]:
        return self._seed.tolist()

    def render(self, row: int = 0) -> np.ndarray | None:
        state = np.asarray(self._tensor(self._state)[:, row].cpu())
        return self.task.draw(state, None if self._last is None else np.asarray(self._tensor(self._last)[row].cpu()))

    def state_dict(self) -> dict[str, Any]:
        arrays = {"root": self._root, "seed": self._seed, "episode": self._episode, "elapsed": self._elapsed,
                  "state": self._state, **({} if self._last is None else {"last": self._last})}
        return {k: self._tensor(v).clone() for k, v in arrays.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        rows = len(state["root"])
        if rows != self.num_envs:
            raise BadInput("state", expected=f"{self.num_envs} rows", received=rows)
        own = {k: v.numpy().copy() if self.xp is np else v.to(self.device).clone() for k, v in state.items()}
        self._root, self._seed, self._episode = own["root"], own["seed"], own["episode"]
        self._elapsed, self._state, self._last = own["elapsed"], own["state"], own.get("last")
        self._look_ahead()

    # --- compiled loops ------------------------------------------------------------------------------------

    def memory(self) -> tuple[Array, Array, Array, Array, Array]:
        """State [K, B], elapsed steps, numbers, roots and seeds of the episodes [B]: for loops that step all rows."""
        self._state = np.ascontiguousarray(self._state)
        return self._state, self._elapsed, self._episode, self._root, self._seed

    def moved(self, action: Tensor) -> None:
        """Says what the last action [B, ...] of such a loop was."""
        self._last = self._actions(action)

    # --- internals -----------------------------------------------------------------------------------------

    def _begin(self, rows: Array) -> Array:
        """Starts the next episode in some rows; returns their new states."""
        self._episode[rows] += 1
        self._elapsed[rows] = 0
        turn = self._episode[rows] - self._base[rows]
        if bool((turn >= _AHEAD).any()):
            self._look_ahead()
            turn = turn * 0
        self._seed[rows] = self._next_seed[rows, turn]
        self._state[:, rows] = fresh = self._next_state[:, rows, turn]
        return fresh

    def _look_ahead(self) -> None:
        """Works out the first states of the next episodes of all rows, this one included."""
        self._base = self._episode + 0
        offset = self._array(range(_AHEAD))
        episode = (self._base[:, None] + offset).reshape(-1)
        seed = episode_seed((self._root[:, None] + 0 * offset).reshape(-1), episode)
        fresh = self.task.initial(self._uniform(seed, 0, self.task.reset_dims), self.xp)
        self._next_seed = seed.reshape(-1, _AHEAD)
        self._next_state = fresh.reshape(fresh.shape[0], -1, _AHEAD)

    def _uniform(self, seed_B: Array, counter_B: Array | int, k: int) -> Array:
        return counter_uniform(seed_B, counter_B, k, xp=self.xp).T

    def _array(self, values: Sequence[int]) -> Array:
        return np.array(values, dtype=np.int64) if self.xp is np else torch.tensor(values, device=self.device)

    def _tensor(self, value: Array) -> Tensor:
        return torch.from_numpy(value) if self.xp is np else value


class _ActionReader:
    """Turns a tensor of actions into the array that the dynamics read, and refuses what is no action."""

    def __init__(self, space: gymnasium.Space[Any], rows: int, xp: ModuleType, device: str) -> None:
        self.discrete = isinstance(space, gymnasium.spaces.Discrete)
        self.n = int(space.n) if isinstance(space, gymnasium.spaces.Discrete) else 0
        self.space, self.xp, self.device = space, xp, device
        self.shape = (rows, *(space.shape or ()))

    def __call__(self, action: Tensor) -> Array:
        if not isinstance(action, Tensor) or tuple(action.shape) != self.shape:
            raise BadInput("action", expected=f"a tensor {list(self.shape)} for {self.space}",
                           received=list(action.shape) if isinstance(action, Tensor) else type(action).__name__)
        wanted = torch.int64 if self.discrete else torch.float64
        if action.dtype != wanted:
            if self.discrete and (action.is_floating_point() or action.is_complex()):
                raise BadInput("action", expected=f"integers for {self.space}", received=str(action.dtype))
            action = action.to(wanted)
        values: Array = action.detach().cpu().numpy() if self.xp is np else action.detach().to(self.device)
        if self.discrete and (values.min() < 0 or values.max() >= self.n):
            raise BadInput("action", expected=f"integers in [0, {self.n})", received=values.tolist())
        return values


def episode_seed(root_B: Array, episode_B: Array) -> Array:
    """The seed of the n-th episode of a row that was reset with `root`; episode 0 has the root itself.

    Example:
        >>> episode_seed(np.array([7, 7]), np.array([0, 1])).tolist()[0]
        7
    """
    u = counter_uniform(root_B, -1 - episode_B, 2)
    if isinstance(u, np.ndarray):
        mixed = ((u[:, 0] * 2.0**31).astype(np.int64) << 32) | (u[:, 1] * 2.0**32).astype(np.int64)
        return np.where(episode_B == 0, root_B, mixed)
    mixed = ((u[:, 0] * 2.0**31).to(torch.int64) << 32) | (u[:, 1] * 2.0**32).to(torch.int64)
    return torch.where(episode_B == 0, root_B, mixed)


def check_seeds(seeds: Sequence[int], rows: int) -> list[int]:
    """Seeds as plain integers, one for each row.

    Raises:
        BadInput: when their number is wrong, or one is no integer in [0, 2**63).
    """
    out = list(seeds)
    if len(out) != rows:
        raise BadInput("seeds", expected=f"one integer for each of the {rows} rows", received=f"{len(out)} of them")
    for seed in out:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
            raise BadInput("seeds", expected="integers in [0, 2**63)", received=seed)
    return [int(seed) for seed in out]


def as_float32(x: Array) -> Array:
    """The same numbers in single precision."""
    return x.astype(np.float32) if isinstance(x, np.ndarray) else x.to(torch.float32)


def columns(parts: Array, xp: ModuleType) -> Array:
    """Features [B], as a list or an array [D, B], side by side: [B, D], float32."""
    if xp is np:
        out = np.empty((len(parts[0]), len(parts)), dtype=np.float32)
        for i, part in enumerate(parts):
            out[:, i] = part
        return out
    return torch.stack(list(parts), -1).to(torch.float32)
