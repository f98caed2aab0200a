"""A plaudit reward in place of an environment's own, for any trainer that takes Gymnasium environments.

Both wrappers put each term as it was paid (weights applied, so that terms of a sum add up to it) into
`info["reward_TERM"]`, keep the environment's own reward in `info["env_reward"]`, and its own `reward_*`
entries as `env_reward_*`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.tree import Tree, tree_map
from plaudit.tasks.info import InfoColumns, numbers
from plaudit.tasks.spaces import batch_tensors, stack, tensor_space


class RewardWrapper(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Pays a plaudit reward, step by step; rewards that read the past are streamed.

    Args:
        env: the environment.
        reward: a Reward, or a function that `plaudit.reward` takes.
        on_unknown: `raise` an `UnknownReward`, or pay `nan`, where the reward has no number.

    Raises:
        Unsupported: when the reward needs whole episodes or other rows.

    Example:
        >>> env = RewardWrapper(gymnasium.make("CartPole-v1"), lambda next_obs: -next_obs[..., 0].abs())
        >>> obs, info = env.reset(seed=0)
        >>> obs, reward, terminated, truncated, info = env.step(1)
        >>> reward == -abs(float(obs[0])), info["env_reward"]
        (True, 1.0)
    """

    def __init__(self, env: gymnasium.Env[Any, Any], reward: Reward | Callable[..., Any], *,
                 on_unknown: str = "raise") -> None:
        RecordConstructorArgs.__init__(self, reward=reward, on_unknown=on_unknown)
        gymnasium.Wrapper.__init__(self, env)
        self.reward_fn, self.on_unknown = row_reward(reward), _known_choice(on_unknown)
        self._space = tensor_space(env.observation_space)
        self._columns = InfoColumns()
        self._carry = self.reward_fn.start(1)
        self._obs: Tree | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        self._obs, self._carry = stack(self._space, [obs]), self.reward_fn.start(1)
        return obs, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._obs is None:
            raise BadInput("env", expected="a call of reset() before step()", received="step()")
        taken = action_tensor(np.array(action)[None])
        obs, env_reward, terminated, truncated, info = self.env.step(action)
        now = stack(self._space, [obs])
        step = one_step(self._obs, taken, now, torch.tensor([bool(terminated)]), torch.tensor([bool(truncated)]),
                         torch.tensor([float(env_reward)]), torch.ones(1, dtype=torch.bool),
                         self._columns.gather([info]))
        score, self._carry = self.reward_fn.stream(step, self._carry)
        self._obs = now
        if self.on_unknown == "raise":
            score.require()
        paid = {f"reward_{term}": float(score.contribution(term)) for term in score.terms}
        return obs, float(score.value), terminated, truncated, {**moved(info), "env_reward": float(env_reward), **paid}


class VectorRewardWrapper(VectorWrapper[Any, Any, Any, Any, Any]):
    """The same for a vector environment, in every autoreset mode.

    In the mode NEXT_STEP, the step that only resets a row pays 0 there and enters no reward; in SAME_STEP
    the reward reads the final observation and info, not those of the new episode. Terms are arrays [B] in
    `info`, with the mask of the rows that really stepped in `_reward_TERM`.

    Args:
        env: the vector environment; its `metadata["autoreset_mode"]` says how it resets.
        reward: a Reward, or a function that `plaudit.reward` takes.
        on_unknown: `raise` an `UnknownReward`, or pay `nan`, where the reward has no number.

    Raises:
        BadInput: when the environment does not say how it resets.
        Unsupported: when the reward needs whole episodes or other rows.

    Example:
        >>> envs = gymnasium.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
        >>> envs = VectorRewardWrapper(envs, lambda next_obs: -next_obs[..., 0].abs())
        >>> obs, info = envs.reset(seed=0)
        >>> obs, reward, terminated, truncated, info = envs.step(np.array([0, 1]))
        >>> bool((reward == -abs(obs[:, 0])).all()), info["env_reward"].tolist()
        (True, [1.0, 1.0])
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], reward: Reward | Callable[..., Any], *,
                 on_unknown: str = "raise") -> None:
        super().__init__(env)
        mode = env.metadata.get("autoreset_mode")
        if mode is None:
            raise BadInput("env", expected="a vector environment with metadata['autoreset_mode']", received=repr(env))
        self.mode = mode if isinstance(mode, AutoresetMode) else AutoresetMode(mode)
        self.reward_fn, self.on_unknown = row_reward(reward), _known_choice(on_unknown)
        self._space = tensor_space(env.single_observation_space)
        self._columns = InfoColumns()
        self._carry = self.reward_fn.start(env.num_envs)
        self._done = torch.zeros(env.num_envs, dtype=torch.bool)
        self._obs: Tree | None = None

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        chosen = (options or {}).get("reset_mask")
        rows = torch.ones(self.num_envs, dtype=torch.bool) if chosen is None else torch.from_numpy(np.array(chosen))
        obs, info = self.env.reset(seed=seed, options=options)
        if chosen is None:
            self._carry = self.reward_fn.start(self.num_envs)
        else:
            self._carry = self.reward_fn.restart(self._carry, rows)
        self._obs, self._done = batch_tensors(self._space, obs), self._done & ~rows
        return obs, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        if self._obs is None:
            raise BadInput("env", expected="a call of reset() before step()", received="step()")
        taken = action_tensor(np.array(actions))
        obs, env_reward, terminated, truncated, info = self.env.step(actions)
        now = batch_tensors(self._space, obs)
        ended = torch.from_numpy(np.array(terminated) | np.array(truncated))
        only_resets = self._done if self.mode is AutoresetMode.NEXT_STEP else torch.zeros_like(self._done)
        same_step = self.mode is AutoresetMode.SAME_STEP
        reached = self._with_final(now, info, ended) if same_step else now
        rows = [_row(info, b, final=same_step and bool(ended[b])) for b in range(self.num_envs)]
        step = one_step(
            self._obs, taken, reached, torch.from_numpy(np.array(terminated)), torch.from_numpy(np.array(truncated)),
            torch.from_numpy(np.array(env_reward, dtype=np.float32)), ~only_resets, self._columns.gather(rows))
        score, self._carry = self.reward_fn.stream(step, self._carry)
        begun = ended if same_step else only_resets
        if bool(begun.any()):
            self._carry = self.reward_fn.restart(self._carry, begun)
        self._obs, self._done = now, ended
        if self.on_unknown == "raise":
            score.require()
        return obs, score.value[:, 0].double().numpy(), terminated, truncated, _told(info, env_reward, score)

    def _with_final(self, now: Tree, info: Mapping[str, Any], ended: Tensor) -> Tree:
        """The observations that the step led to: the final ones where an episode ended."""
        rows = ended.nonzero()[:, 0]
        if not len(rows):
            return now
        if "final_obs" not in info:
            raise BadInput("env", expected="info['final_obs'] where an episode ended (autoreset mode SAME_STEP)",
                           received=sorted(info))
        final = stack(self._space, [_pick(info["final_obs"], b) for b in rows.tolist()])
        return tree_map(lambda a, b: a.index_copy(0, rows, b.to(a.dtype)), now, final)


def one_step(obs: Tree, action: Tensor, next_obs: Tree, terminated: Tensor, truncated: Tensor, env_reward: Tensor,
              mask: Tensor, info: Mapping[str, Tensor]) -> Episodes:
    """B rows of one step, from tensors [B, ...]."""
    up = lambda x: x.unsqueeze(1)  # noqa: E731
    return Episodes(obs=tree_map(up, obs), action=up(action), next_obs=tree_map(up, next_obs),
                    terminated=up(terminated), truncated=up(truncated), mask=up(mask), env_reward=up(env_reward),
                    info={k: up(v) for k, v in info.items()})


def action_tensor(values: np.ndarray) -> Tensor:
    """Actions [B, ...]: float32 where they are real numbers, else int64."""
    if values.dtype.kind not in "biuf":
        raise Unsupported("rewards read actions that are numbers; wrap the environment so that it takes Box, Discrete, "
                          "MultiDiscrete or MultiBinary actions")
    return torch.from_numpy(values.astype(np.float32 if values.dtype.kind == "f" else np.int64))


def _row(info: Mapping[str, Any], b: int, *, final: bool) -> dict[str, Any]:
    """The info dictionary of one row of a vector environment; the final step's where an episode ended."""
    source = info.get("final_info", info) if final else info
    if isinstance(source, np.ndarray):
        return dict(source[b] or {})
    out: dict[str, Any] = {}
    for key, values in source.items():
        if key.startswith("_") and key[1:] in source or key in ("final_obs", "final_info"):
            continue
        if isinstance(values, Mapping):
            out[key] = _row(values, b, final=False)
        elif f"_{key}" not in source or source[f"_{key}"][b]:
            out[key] = values[b] if np.ndim(values) else values
    return dict(numbers(out))


def _pick(values: Any, b: int) -> Any:
    if isinstance(values, Mapping):
        return {key: _pick(part, b) for key, part in values.items()}
    return tuple(_pick(part, b) for part in values) if isinstance(values, tuple) else values[b]


def moved(info: Mapping[str, Any]) -> dict[str, Any]:
    """The info with the environment's own `reward_*` renamed to `env_reward_*`, and its masks."""
    names = {k: f"env_{k}" for k in info if k.startswith("reward_")}
    names |= {k: f"_env{k}" for k in info if k.startswith("_reward_")}
    return {names.get(k, k): v for k, v in info.items()}


def _told(info: Mapping[str, Any], env_reward: Any, score: Score) -> dict[str, Any]:
    """The info of a vector environment with the terms and the environment's own reward."""
    out, stepped = moved(info), score.mask[:, 0].numpy()
    out["env_reward"], out["_env_reward"] = np.array(env_reward), np.ones(len(stepped), dtype=bool)
    for term in score.terms:
        out[f"reward_{term}"], out[f"_reward_{term}"] = score.contribution(term)[:, 0].numpy(), stepped.copy()
    return out


def row_reward(reward: Reward | Callable[..., Any]) -> Reward:
    """A Reward that a wrapper can pay: one that reads each row alone."""
    if not isinstance(reward, Reward):
        from plaudit.core.functions import reward as as_reward

        reward = as_reward(reward)
    if reward.needs.across != "row":
        raise Unsupported(f"{reward.name} reads other rows (across={reward.needs.across}), which a wrapper cannot "
                          "give; use a learner of plaudit, which scores whole batches")
    return reward


def _known_choice(on_unknown: str) -> str:
    if on_unknown not in ("raise", "nan"):
        raise BadInput("on_unknown", expected="raise or nan", received=on_unknown)
    return on_unknown

