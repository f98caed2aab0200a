"""Reward vectors of MO-Gymnasium's environments as named terms of a plaudit reward."""

from __future__ import annotations

import difflib
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
OBJECTIVES = "objectives"
"""Where `NamedTerms` puts the same numbers under their names, before any weight: `info["objectives"]["time"]`."""


class NamedTerms(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """An environment with a reward vector as one whose scalar is the weighted sum of named terms.

    `info` gets the terms as they are paid (`reward_NAME`), which `EnvReward` and every audit read, the whole vector
    (`vector_reward`), and its entries by name (`objectives`), which `objectives` reads; `reward_*` of the environment
    itself become `env_reward_*`.

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
        values = np.asarray(vector, dtype=np.float64)
        paid = self.weights * values
        terms = {f"reward_{name}": float(x) for name, x in zip(self.names, paid, strict=True)}
        told = {VECTOR: np.array(vector), OBJECTIVES: dict(zip(self.names, values.tolist(), strict=True))}
        return obs, float(paid.sum()), terminated, truncated, {**moved(info), **terms, **told}


class Objective(Reward):
    """One objective of a reward vector, before any weight: see `objectives`.

    Args:
        name: The objective's name.
        names: All that were named with it, in order, for vectors without names.
    """

    def __init__(self, name: str, names: Sequence[str]) -> None:
        self.name, self.names, self.needs = name, tuple(names), Needs(fields=frozenset({"info"}))

    def evaluate(self, episodes: Episodes) -> Score:
        info, mask = episodes.info, episodes.mask
        known = [key.removeprefix(f"{OBJECTIVES}.") for key in info if key.startswith(f"{OBJECTIVES}.")]
        if self.name in known:
            return Score.of(info[f"{OBJECTIVES}.{self.name}"], mask=mask)
        if known:
            near = difflib.get_close_matches(self.name, known, 1)
            return Score.unknown(mask, f"there is no objective {self.name!r}; " + (
                f"did you mean {near[0]!r}?" if near else f"the environment names {', '.join(known)}"))
        if VECTOR not in info:
            return Score.unknown(mask, f"{self.name} reads info:{VECTOR}, which these episodes lack")
        width = info[VECTOR].shape[-1]
        if width != len(self.names):
            return Score.unknown(mask, f"the environment names none of its {width} objectives, and "
                                       f"{', '.join(self.names)} are not as many; put NamedTerms around it")
        return Score.of(info[VECTOR][..., self.names.index(self.name)], mask=mask)


def objectives(*names: str) -> list[Objective]:
    """The objectives of an environment behind `NamedTerms` or MO-Gymnasium's `LinearReward`, each a Reward.

    Behind `NamedTerms` they are found by name, in any order and number; a name that it does not have is unknown.
    `LinearReward` has no names: there all objectives have to be named, in the order of the vector.

    Raises:
        BadInput: when a name comes twice.

    Example:
        >>> treasure, time = objectives("treasure", "time")
        >>> (treasure + 0.1 * time).name
        'sum'
    """
    if len(set(names)) < len(names):
        raise BadInput("names", expected="different names", received=list(names))
    return [Objective(name, names) for name in names]
