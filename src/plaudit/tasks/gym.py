"""Any Gymnasium environment as a Task.

The rows are stepped by a plain loop and not by `gymnasium.vector.SyncVectorEnv`, whose same-step mode resets
without a seed: the n-th episode of a row could not be replayed alone. Measured on one core with 8 rows and random
actions, thousand steps per CPU second, loop (seeds, tensors and info columns included) against SyncVectorEnv:
CartPole 67 and 103, HalfCheetah 15.2 and 15.6. What the loop loses is only seen where steps are that cheap, and
the cheap ones have batched classes of their own (`plaudit.tasks.classic`).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plaudit.core.errors import BadInput, PlauditError, Unsupported, warn
from plaudit.core.tree import Tree, leaves, tree_map
from plaudit.tasks.arrays import check_seeds, episode_seed
from plaudit.tasks.base import Batch, Step, Task
from plaudit.tasks.gym_making import Env, call_factory, make_env, render_frame, seen_horizon, time_limit
from plaudit.tasks.info import InfoColumns
from plaudit.tasks.spaces import outside, stack, tensor_space, unstack

DEFAULT_HORIZON = 1000
_PROBE, _AHEAD = 3, 32
log = logging.getLogger(__name__)


class GymTask(Task):
    """Gymnasium environments in rows: by id, class or factory.

    The first episode of row b is begun by `env.reset(seed=seeds[b] % 2**32)`, so rows with small seeds are
    the very episodes that Gymnasium gives. Numeric entries of `info` become tensors (see `InfoColumns`); text
    observations are left out (see `tensor_space`).

    Args:
        env: an id, an environment class, or a function that makes a new environment at each call.
        kwargs: handed to it.
        horizon: truncate after so many steps; handed to the environment too, where it has a parameter of that name.
            None takes the environment's own limit (a `TimeLimit`, an attribute `max_episode_steps` or `max_steps`, or
            an attribute `horizon` at which it is seen to truncate), or 1000 with a warning.

    Raises:
        BadInput: when the id is unknown, the arguments do not fit, or the factory gives no environment.
        MissingExtra: when the environment's package is not installed.
        Unsupported: when tensors cannot hold its observations or actions.

    Example:
        >>> task = GymTask("FrozenLake-v1", {"is_slippery": False})
        >>> batch = task.make(2)
        >>> batch.reset([1, 2]).tolist()
        [0, 0]
        >>> batch.step(torch.tensor([1, 2])).next_obs.tolist()
        [4, 1]
    """

    def __init__(self, env: str | Callable[..., Any], kwargs: Mapping[str, Any] | None = None, *,
                 horizon: int | None = None) -> None:
        if horizon is not None and horizon < 1:
            raise BadInput("horizon", expected="at least 1", received=horizon)
        self.env, self.kwargs, self._asked = env, dict(kwargs or {}), horizon
        self.name = env if isinstance(env, str) else getattr(env, "__name__", type(env).__name__)
        self.columns = InfoColumns()
        one = self.make_one()
        try:
            self.obs_space, self.action_space = tensor_space(one.observation_space), one.action_space
            limit = horizon or time_limit(one)
            self._probe(one)
            limit = limit or seen_horizon(one)
        finally:
            one.close()
        if limit is None:
            warn(f"{self.name} names no time limit: episodes are cut after {DEFAULT_HORIZON} steps; "
                 "pass horizon= to choose (on the command line --env-kwargs '{\"horizon\": 200}')")
        self.horizon, self.limited = limit or DEFAULT_HORIZON, limit is not None

    def make_one(self, *, render: bool = False) -> Env:
        """One environment of its own, as Gymnasium would give it."""
        if isinstance(self.env, str):
            return make_env(self.env, self.kwargs, horizon=self._asked, render=render)
        return call_factory(self.env, self.kwargs, horizon=self._asked, render=render)

    def make(self, num_envs: int, *, device: str = "cpu", render: bool = False) -> GymBatch:
        return GymBatch(self, num_envs, device=device, render=render)

    def spec(self) -> dict[str, Any]:
        if isinstance(self.env, str):
            return {"kind": "gym", "id": self.env, "kwargs": self.kwargs, "horizon": self._asked}
        name = getattr(self.env, "__qualname__", "<object>")
        file = _source_file(self.env)
        if file is None or "<" in name:
            raise Unsupported(f"{self.name} is made by code without a name in a file, so it cannot be written down; "
                              "use a class or function at the top of a module")
        return {"kind": "target", "target": f"{file}:{name}", "kwargs": self.kwargs, "horizon": self._asked}

    def _probe(self, env: Env) -> None:
        """Learns the names of the info entries; what fails here fails again, with its step, where it matters."""
        try:
            env.action_space.seed(0)
            env.reset(seed=0)
            for _ in range(_PROBE):
                *_, terminated, truncated, info = env.step(env.action_space.sample())
                self.columns.gather([info])
                if terminated or truncated:
                    break
        except Exception as error:  # the border to a user's environment
            log.debug("probing %s failed: %r", self.name, error)


class GymBatch(Batch):
    """B environments, stepped one after the other.

    Saved in mid-episode as the seeds and actions since each episode's beginning, and restored by acting them
    again, which is exact for every environment that is a function of its seed; others are refused.
    """

    def __init__(self, task: GymTask, num_envs: int, *, device: str = "cpu", render: bool = False) -> None:
        if num_envs < 1:
            raise BadInput("num_envs", expected="at least 1", received=num_envs)
        self.task, self.num_envs, self.device = task, num_envs, device
        self.envs: list[Env] = []
        self._render_failed = False
        try:
            for _ in range(num_envs):
                self.envs.append(task.make_one(render=render))
            if len({id(env) for env in self.envs}) < num_envs:
                raise BadInput(task.name, expected="a new environment at each call",
                               received="the same environment twice", fix="make it inside the factory")
        except BaseException:
            self.close()
            raise

    def reset(self, seeds: Sequence[int]) -> Tree:
        self._root = check_seeds(seeds, self.num_envs)
        self._episode, self._seed = [0] * self.num_envs, list(self._root)
        self._ahead: list[list[int]] = [[] for _ in self._root]
        self._count, self._age = [0] * self.num_envs, [0] * self.num_envs
        self._taken: list[Tensor] = []
        self._terminated, self._truncated = [False] * self.num_envs, [False] * self.num_envs
        self._obs = [self._reset(b) for b in range(self.num_envs)]
        return self._stack(self._obs)

    def step(self, action: Tensor) -> Step:
        reward = [0.0] * self.num_envs
        infos: list[Mapping[str, Any]] = [{}] * self.num_envs
        for b, act in enumerate(unstack(self.task.action_space, action, self.num_envs)):
            if self.autoreset or not (self._terminated[b] or self._truncated[b]):
                reward[b], infos[b] = self._step(b, act)
        self._remember(action)
        seen = begin = self._stack(self._obs)
        put = lambda x, dtype: torch.from_numpy(np.array(x, dtype=dtype)).to(self.device)  # noqa: E731
        terminated, truncated = put(self._terminated, bool), put(self._truncated, bool)
        ended = [b for b in range(self.num_envs) if self._terminated[b] or self._truncated[b]]
        if self.autoreset and ended:
            for b in ended:
                self._begin(b)
            begin = self._stack(self._obs)
        return Step(next_obs=seen, obs=begin, terminated=terminated, truncated=truncated,
                    env_reward=put(reward, np.float32),
                    info={k: v.to(self.device) for k, v in self.task.columns.gather(infos).items()})

    def episode_seeds(self) -> list[int]:
        return list(self._seed)

    def render(self, row: int = 0) -> np.ndarray | None:
        if self._render_failed:
            return None
        try:
            return render_frame(self.envs[row])
        except Exception as error:  # drawing must never stop a run
            log.warning("%s cannot be drawn: %s: %s", self.task.name, type(error).__name__, error)
            self._render_failed = True
            return None

    def state_dict(self) -> dict[str, Any]:
        taken = self._taken or [torch.zeros((self.num_envs, *(self.task.action_space.shape or ())))]
        obs = dict(leaves(tree_map(lambda x: x.cpu(), self._stack(self._obs)), "obs"))
        numbers = {"root": self._root, "episode": self._episode, "count": self._count, "age": self._age}
        return {**{k: torch.tensor(v) for k, v in numbers.items()}, "taken": torch.stack(taken), **obs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if len(state["root"]) != self.num_envs:
            raise BadInput("state", expected=f"{self.num_envs} rows", received=len(state["root"]))
        self.reset(state["root"].tolist())
        episodes, counts, ages = (state[k].tolist() for k in ("episode", "count", "age"))
        for b, (episode, count, age) in enumerate(zip(episodes, counts, ages, strict=True)):
            if episode:
                self._episode[b] = episode - 1
                self._begin(b)
            for action in state["taken"][len(state["taken"]) - age :, b][:count]:
                self._step(b, unstack(self.task.action_space, action[None], 1)[0])
        self._taken, self._age = list(state["taken"].unbind(0)) if any(ages) else [], ages
        for name, now in leaves(tree_map(lambda x: x.cpu(), self._stack(self._obs)), "obs"):
            if not torch.equal(now, state[name]):
                raise PlauditError(f"{self.task.name} did not repeat its episodes: it depends on more than its seed "
                                   "and actions, so a run on it cannot be resumed exactly")

    def close(self) -> None:
        for env in self.envs:
            env.close()

    def _remember(self, action: Tensor) -> None:
        """Keeps the actions since the beginning of the oldest episode that still runs."""
        self._taken.append(action.detach().to("cpu", copy=True))
        self._age = [age + 1 for age in self._age]
        if len(self._taken) > 2 * max(self._age) + 64:
            del self._taken[: len(self._taken) - max(self._age)]

    # --- one row -----------------------------------------------------------------------------------------

    def _begin(self, b: int) -> None:
        self._episode[b] += 1
        if not self._ahead[b]:
            n = np.arange(self._episode[b], self._episode[b] + _AHEAD)
            self._ahead[b] = episode_seed(np.full(_AHEAD, self._root[b]), n)[::-1].tolist()
        self._seed[b] = self._ahead[b].pop()
        self._count[b] = self._age[b] = 0
        self._terminated[b] = self._truncated[b] = False
        self._obs[b] = self._reset(b)

    def _reset(self, b: int) -> Any:
        try:
            result = self.envs[b].reset(seed=self._seed[b] % 2**32)
        except Exception as error:  # the border to a user's environment
            seed = self._seed[b] % 2**32
            raise PlauditError(f"{self.task.name}: reset(seed={seed}) raised {_said(error)}") from error
        if not isinstance(result, tuple) or len(result) != 2:
            raise PlauditError(f"{self.task.name}: reset must return (obs, info), it returned {type(result).__name__}")
        return result[0]

    def _step(self, b: int, action: Any) -> tuple[float, Mapping[str, Any]]:
        """Steps one environment; notes its observation and end, returns reward and info."""
        self._count[b] += 1
        try:
            result = self.envs[b].step(action)
        except Exception as error:  # the border to a user's environment
            raise PlauditError(f"{self._where(b)} raised {_said(error)}") from error
        if not isinstance(result, tuple) or len(result) != 5:
            raise PlauditError(f"{self._where(b)} must return (obs, reward, terminated, truncated, info), it returned "
                               f"{len(result) if isinstance(result, tuple) else type(result).__name__} values")
        self._obs[b], reward, terminated, truncated, info = result
        self._terminated[b] = bool(terminated)
        self._truncated[b] = bool(truncated) or self._count[b] >= self.task.horizon
        try:
            return float(reward), info
        except (TypeError, ValueError) as error:
            raise PlauditError(f"{self._where(b)} gave the reward {reward!r}, which is no single number; wrap the "
                               "environment so that it gives one (a vector: plaudit.adapters.mo.NamedTerms)") from error

    def _where(self, b: int) -> str:
        return f"{self.task.name}: step {self._count[b]} of row {b} (episode seed {self._seed[b]})"

    def _stack(self, observations: Sequence[Any]) -> Tree:
        try:
            out = stack(self.task.obs_space, observations)
            wrong = outside(self.task.obs_space, out)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise PlauditError(f"{self.task.name}: an observation is not of {self.task.obs_space}: "
                               f"{_said(error)}") from error
        if wrong is not None:
            row, said = wrong
            raise PlauditError(f"{self._where(row)} gave an observation outside its space: {said}")
        return out if self.device == "cpu" else tree_map(lambda x: x.to(self.device), out)


def _source_file(fn: Callable[..., Any]) -> str | None:
    """Where a function or class was written, also when its module is not in `sys.modules`."""
    parts = [fn, *vars(fn).values()] if isinstance(fn, type) else [fn]
    codes = [part.__code__ for part in parts if inspect.isfunction(part)]
    return codes[0].co_filename if codes else None


def _said(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
