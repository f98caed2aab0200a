"""Reward vectors of MO-Gymnasium's environments as named terms of a plaudit reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.tasks.wrappers import moved

VECTOR = "vector_reward"
"""Where MO-Gymnasium's own `LinearReward` puts the vector into `info`, and so do we."""


class NamedTerms(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """An environment with a reward vector as one whose scalar is the weighted sum of named terms.

    `info` gets the terms as they are paid (`reward_NAME`), which `EnvReward` and every audit read, and the whole
    vector, which `objectives` reads; `reward_*` of the environment itself become `env_reward_*`.

    Args:
        env: An environment of MO-Gymnasium.
        names: One for each objective, in its order.
        weights: Of the sum; 1 each.

    Raises:
        BadInput: when the environment has no reward vector, or another number of objectives.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], names: Sequence[str], weights: Sequence[float] | None = None
                 ) -> None:
        RecordConstructorArgs.__init__(self, names=names, weights=weights)
        gymnasium.Wrapper.__init__(self, env)
        space = getattr(env.unwrapped, "reward_space", None)
        if space is None:
            raise BadInput("env", expected="an environment with a reward_space, as MO-Gymnasium has it",
                           received=str(env))
        self.names, self.weights = tuple(names), np.ones(len(names)) if weights is None else np.array(weights, float)
        if space.shape != (len(self.names),) or len(set(self.names)) < len(self.names) or \
                self.weights.shape != space.shape:
            raise BadInput("names, weights", expected=f"one for each of {space.shape[0]} objectives, all different",
                           received=(list(self.names), self.weights.tolist()))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, vector, terminated, truncated, info = self.env.step(action)
        paid = self.weights * np.asarray(vector, dtype=np.float64)
        terms = {f"reward_{name}": float(x) for name, x in zip(self.names, paid, strict=True)}
        return obs, float(paid.sum()), terminated, truncated, {**moved(info), **terms, VECTOR: np.array(vector)}


class Objective(Reward):
    """One objective of a reward vector, before any weight: see `objectives`."""

    def __init__(self, name: str, index: int) -> None:
        self.name, self.index, self.needs = name, index, Needs(fields=frozenset({f"info:{VECTOR}"}))

    def evaluate(self, episodes: Episodes) -> Score:
        return Score.of(episodes.info[VECTOR][..., self.index], mask=episodes.mask)


def objectives(*names: str) -> list[Objective]:
    """The objectives of an environment behind `NamedTerms` or MO-Gymnasium's `LinearReward`, each a Reward.

    Example:
        >>> treasure, time = objectives("treasure", "time")
        >>> (treasure + 0.1 * time).name
        'sum'
    """
    return [Objective(name, i) for i, name in enumerate(names)]
