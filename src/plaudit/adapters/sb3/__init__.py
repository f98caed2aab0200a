"""stable-baselines3: rewards for its learners, its policies and environments for our audits.

Each name loads when it is first used, since stable-baselines3 takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plaudit.core.lazy import attribute_of

if TYPE_CHECKING:
    from plaudit.adapters.sb3.callback import RewardCallback as RewardCallback
    from plaudit.adapters.sb3.policy import SB3Policy as SB3Policy
    from plaudit.adapters.sb3.policy import load_sb3 as load_sb3
    from plaudit.adapters.sb3.relabel import RelabelBuffer as RelabelBuffer
    from plaudit.adapters.sb3.task import VecEnvTask as VecEnvTask
    from plaudit.adapters.sb3.vec_env import RewardVecEnv as RewardVecEnv

_HOME = {"RelabelBuffer": "relabel", "RewardCallback": "callback", "RewardVecEnv": "vec_env", "SB3Policy": "policy",
         "VecEnvTask": "task", "load_sb3": "policy"}
__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__ = attribute_of(__name__, _HOME)
