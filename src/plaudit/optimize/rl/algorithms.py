"""The algorithms by name."""

from __future__ import annotations

from typing import Any, Literal

from plaudit.core.errors import BadInput
from plaudit.optimize.rl.learner import Learner

Algo = Literal["ppo", "sac", "td3", "dqn"]


def algorithm(name: str) -> tuple[type[Learner], type[Any]]:
    """The learner and the type of its config.

    Raises:
        BadInput: when there is no such algorithm.

    Example:
        >>> algorithm("ppo")[1].__name__
        'PPOConfig'
    """
    if name == "ppo":
        from plaudit.optimize.rl.ppo import PPO, PPOConfig

        return PPO, PPOConfig
    if name == "sac":
        from plaudit.optimize.rl.sac import SAC, SACConfig

        return SAC, SACConfig
    if name == "td3":
        from plaudit.optimize.rl.td3 import TD3, TD3Config

        return TD3, TD3Config
    if name == "dqn":
        from plaudit.optimize.rl.dqn import DQN, DQNConfig

        return DQN, DQNConfig
    raise BadInput("algo", expected="ppo, sac, td3 or dqn", received=name)
