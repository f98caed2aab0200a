"""A plaudit reward in place of an environment's own, for the learners of stable-baselines3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from plaudit.adapters.sb3.ends import ends
from plaudit.adapters.sb3.meter import Meter
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.extras import require
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.tasks.info import InfoColumns
from plaudit.tasks.spaces import batch_tensors, tensor_space
from plaudit.tasks.wrappers import action_tensor, moved, one_step, row_reward

_vec_env = require("stable_baselines3.common.vec_env", extra="sb3")


class RewardVecEnv(_vec_env.VecEnvWrapper):
    """Pays a plaudit reward; `EnvReward() + bonus` adds to the environment's own.

    `infos` get each term as it was paid (`reward_TERM`), the environment's own reward (`env_reward`, its `reward_*` as
    `env_reward_*`), `others` as `ROLE_NAME`, and `unknown_reward` with the reason where there is one. Put it below
    `VecNormalize`, which it must not read, and below `VecMonitor`, which reads it.

    Args:
        venv: The environments.
        reward: A Reward of steps or of the past (those are streamed), or a function that `plaudit.reward` takes.
        others: Rewards with the roles `watch` and `gold`, which are only logged.
        on_unknown: `raise` an `UnknownReward`; pay the row's `last` known number; or a number to pay.

    Raises:
        Unsupported: for rewards of whole episodes and of other rows.
        BadInput: when an option is wrong, `VecNormalize` lies below, or one of `others` has the role `train`
            or another's name.
    """

    def __init__(self, venv: Any, reward: Reward | Callable[..., Any], *, others: Sequence[Reward] = (),
                 on_unknown: str | float = "raise") -> None:
        if _vec_env.unwrap_vec_normalize(venv) is not None:
            raise BadInput("venv", expected="environments whose observations and rewards are as they are",
                           received="VecNormalize", fix="put it on top: VecNormalize(RewardVecEnv(venv, reward))")
        super().__init__(venv)
        if on_unknown not in ("raise", "last") and (isinstance(on_unknown, str) or not np.isfinite(on_unknown)):
            raise BadInput("on_unknown", expected="raise, last, or a number to pay", received=on_unknown)
        self.rewards = [row_reward(reward), *(row_reward(r) for r in others)]
        names = [f"{r.role}_{r.name}" for r in others]
        if len(set(names)) < len(names) or any(r.role == "train" for r in others):
            raise BadInput("others", expected="watch and gold rewards of different names", received=names,
                           fix='use reward.with_role("watch").named("...")')
        self.on_unknown, self.meter = on_unknown, Meter(venv.num_envs)
        self._space, self._columns = tensor_space(venv.observation_space), InfoColumns()
        self._carries = [r.start(venv.num_envs) for r in self.rewards]
        self._last, self._obs = torch.full((venv.num_envs,), torch.nan).double(), None

    def reset(self) -> Any:
        obs = self.venv.reset()
        self._obs, self._carries = batch_tensors(self._space, obs), [r.start(self.num_envs) for r in self.rewards]
        self.meter.forget_episodes()
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        if self._obs is None:
            raise BadInput("env", expected="reset() before step()", received="step()")
        self._taken = action_tensor(np.array(actions))
        super().step_async(actions)

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        obs, env_reward, dones, infos = self.venv.step_wait()
        now = batch_tensors(self._space, obs)
        reached, terminated, truncated = ends(self._space, now, dones, infos)
        assert self._obs is not None
        step = one_step(self._obs, self._taken, reached, terminated, truncated,
                        torch.from_numpy(np.array(env_reward, dtype=np.float32)), torch.ones_like(terminated),
                        self._columns.gather(infos))
        self._obs = now
        scores = [self._score(i, step, terminated | truncated) for i in range(len(self.rewards))]
        return obs, self._paid(scores[0]), dones, [self._told(b, i, env_reward, scores) for b, i in enumerate(infos)]

    def _score(self, i: int, step: Episodes, done: torch.Tensor) -> Score:
        score, carry = self.rewards[i].stream(step, self._carries[i])
        self._carries[i] = self.rewards[i].restart(carry, done)
        self.meter.add(self.rewards[i], score, done)
        return score

    def _paid(self, score: Score) -> np.ndarray:
        instead = {"raise": torch.nan, "last": self._last}.get(str(self.on_unknown), self.on_unknown)
        value = self._last = torch.where(score.known[:, 0], score.value[:, 0].double(), instead)
        return (value if not bool(torch.isnan(value).any()) else score.require()[:, 0]).numpy().astype(np.float32)

    def _told(self, b: int, info: dict[str, Any], env_reward: Any, scores: Sequence[Score]) -> dict[str, Any]:
        out = {**moved(info), "env_reward": float(env_reward[b])}
        out |= {f"reward_{term}": float(scores[0].contribution(term)[b, 0]) for term in scores[0].terms}
        out |= {f"{r.role}_{r.name}": float(s.value[b, 0]) for r, s in zip(self.rewards[1:], scores[1:], strict=True)}
        why = [reason for reason, where in scores[0].why.items() if bool(where[b, 0])]
        return out | ({"unknown_reward": "; ".join(why)} if why else {})
