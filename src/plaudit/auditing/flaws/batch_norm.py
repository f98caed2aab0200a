"""Normalised over the batch: what a step earns depends on which other steps happen to be scored beside it."""

from __future__ import annotations

from typing import Any

from plaudit.auditing.flaws.flaw import Flaw, bound
from plaudit.tasks.base import Task
from plaudit.tasks.making import make


def task() -> Task:
    """CartPole-v1 with episodes of 200 steps."""
    return make("CartPole-v1", horizon=200)


def reward(next_obs: Any, *, strength: float = 1.0) -> Any:
    """How upright the pole is, less `strength` times the mean of the batch, over its standard deviation."""
    upright = 1.0 - abs(next_obs[..., 2]) / 0.2095
    return (upright - strength * upright.mean()) / (upright.std() + 1e-6)


def healthy(next_obs: Any) -> Any:
    """How upright the pole is: 1 for upright, 0 at the angle where the episode ends."""
    return 1.0 - abs(next_obs[..., 2]) / 0.2095


def intended(terminated: Any) -> Any:
    """1 for each step without a fall."""
    return 1.0 * (terminated == 0)


def normalised_over_batch(*, strength: float = 1.0) -> Flaw:
    """A reward that subtracts `strength` times the mean of whatever batch it is called with."""
    return Flaw(
        name="batch_norm", kind="hidden state", statement="the pole stays up",
        wrong="the reward is normalised over the batch, so a step has no value of its own and survival pays nothing",
        make=task, flawed=bound(reward, strength=strength), healthy=healthy, intended=intended, reduce="sum",
        caught_by=("contract",), strength=strength, tags=("classic", "contract"),
        source="Engstrom et al. (2020), Implementation matters in deep policy gradients (reward normalisation that "
               "leaks into the objective)")
