"""From reward to policy: exact planning where the world is written out, learners and searches elsewhere.

Example:
    >>> from plaudit.optimize import PPOConfig, train
    >>> trained = train("ppo", "CartPole-v1", steps=1024, progress=False, config=PPOConfig(lr=3e-4))
    >>> trained.evaluate(episodes=2).shape
    torch.Size([1, 2])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plaudit.core.lazy import attribute_of

if TYPE_CHECKING:
    from plaudit.optimize.rl.callbacks import Callback as Callback
    from plaudit.optimize.rl.callbacks import EvalCallback as EvalCallback
    from plaudit.optimize.rl.dqn import DQNConfig as DQNConfig
    from plaudit.optimize.rl.logging import read_log as read_log
    from plaudit.optimize.rl.ppo import PPOConfig as PPOConfig
    from plaudit.optimize.rl.sac import SACConfig as SACConfig
    from plaudit.optimize.rl.td3 import TD3Config as TD3Config
    from plaudit.optimize.rl.train import train as train
    from plaudit.optimize.rl.trained import Trained as Trained
    from plaudit.optimize.rl.wandb_log import WandbLog as WandbLog

_HOME = {"Callback": "rl.callbacks", "EvalCallback": "rl.callbacks", "DQNConfig": "rl.dqn", "PPOConfig": "rl.ppo",
         "SACConfig": "rl.sac", "TD3Config": "rl.td3", "Trained": "rl.trained", "WandbLog": "rl.wandb_log",
         "read_log": "rl.logging", "train": "rl.train"}

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__ = attribute_of(__name__, _HOME)
