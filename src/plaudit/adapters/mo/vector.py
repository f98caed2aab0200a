"""The terms of a plaudit reward as a reward vector, for the learners and wrappers of MO-Gymnasium."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from plaudit.core.errors import BadInput
from plaudit.core.reward import Reward
from plaudit.tasks.wrappers import RewardWrapper


class TermsEnv(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """An environment whose reward vector holds the terms of a plaudit reward, each as it is paid.

    So `LinearReward` with weights 1 pays a sum of terms itself; `info["scalar_reward"]` is what any reward pays. Terms
    are found by one step in the environment, or named. MO-Gymnasium asks `env.unwrapped` for the `reward_space`, so
    this is what `unwrapped` gives; the bare environment is `env.env.unwrapped`.

    Args:
        env: A Gymnasium environment.
        reward: What `RewardWrapper` takes.
        terms: Their names, in the order of the vector.
        on_unknown: As in `RewardWrapper`.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], reward: Reward | Callable[..., Any], *,
                 terms: Sequence[str] | None = None, on_unknown: str = "raise") -> None:
        RecordConstructorArgs.__init__(self, reward=reward, terms=terms, on_unknown=on_unknown)
        gymnasium.Wrapper.__init__(self, RewardWrapper(env, reward, on_unknown=on_unknown))
        self.terms = tuple(self._probed() if terms is None else terms)
        self.reward_space = gymnasium.spaces.Box(-np.inf, np.inf, (len(self.terms),), np.float32)

    @property
    def unwrapped(self) -> Any:
        return self

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, scalar, terminated, truncated, info = self.env.step(action)
        missing = [t for t in self.terms if f"reward_{t}" not in info]
        if missing:
            raise BadInput("terms", expected="terms of the reward", received=", ".join(missing))
        vector = np.array([info[f"reward_{t}"] for t in self.terms], dtype=np.float32)
        return obs, vector, terminated, truncated, {**info, "scalar_reward": scalar}

    def _probed(self) -> list[str]:
        self.env.reset(seed=0)
        *_, info = self.env.step(copy.deepcopy(self.env.action_space).sample())
        return [key.removeprefix("reward_") for key in info if key.startswith("reward_")]
