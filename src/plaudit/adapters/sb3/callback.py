"""The terms of a reward, what only watches, and what is unknown: as curves in stable-baselines3's own log."""

from __future__ import annotations

from typing import Any

from plaudit.adapters.sb3.vec_env import RewardVecEnv
from plaudit.core.errors import BadInput
from plaudit.core.extras import require

_callbacks = require("stable_baselines3.common.callbacks", extra="sb3")
WIDEST = 30
"""A name longer than this would be cut on the terminal, where two that are cut alike stop the run."""


class RewardCallback(_callbacks.BaseCallback):
    """Logs what the model's `RewardVecEnv` saw; tells schedules how far the run is, and constraints what they cost.

    The names are those of plaudit's own logs: `reward/ROLE/NAME` (mean of a step), `term/ROLE/NAME/TERM`,
    `episode/ROLE/NAME` (mean return of the episodes that ended) and `unknown/ROLE/NAME` (number of steps).

    Args:
        every: Steps of a VecEnv between two entries, for learners without rollouts of their own size.

    Raises:
        BadInput: when the model's environment has no `RewardVecEnv`.

    Example:
        >>> callback = RewardCallback(every=500)
        >>> # model.learn(10_000, callback=callback)
    """

    def __init__(self, *, every: int = 1000, verbose: int = 0) -> None:
        super().__init__(verbose)
        if every < 1:
            raise BadInput("every", expected="at least 1", received=every)
        self.every = every

    def _init_callback(self) -> None:
        self.wrapper = find_wrapper(self.training_env)

    def _on_step(self) -> bool:
        if self.n_calls % self.every == 0:
            self._write()
        return True

    def _on_rollout_end(self) -> None:
        if getattr(self.model, "n_steps", 0):  # on-policy: one entry for each rollout, whatever its length
            self._write()

    def _write(self) -> None:
        progress = 1.0 - float(self.model._current_progress_remaining)
        metrics = self.wrapper.meter.flush()
        for reward in self.wrapper.rewards:
            reward.advance(min(max(progress, 0.0), 1.0), metrics)
        for name, value in metrics.items():
            self.logger.record(name, value, exclude="stdout" if len(name) > WIDEST else None)


def find_wrapper(env: Any) -> RewardVecEnv:
    """The `RewardVecEnv` among the wrappers of a VecEnv.

    Raises:
        BadInput: when there is none.
    """
    while not isinstance(env, RewardVecEnv):
        env = getattr(env, "venv", None)
        if env is None:
            raise BadInput("env", expected="a model whose environment is wrapped in RewardVecEnv", received="none",
                           fix="model = PPO('MlpPolicy', RewardVecEnv(venv, reward))")
    return env
