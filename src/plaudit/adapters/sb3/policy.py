"""A trained model of stable-baselines3 as a plaudit Policy, its observation statistics included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.extras import require
from plaudit.core.tree import Tree

ALGORITHMS = ("PPO", "SAC", "DQN", "TD3", "A2C", "DDPG")
STATISTICS = "vecnormalize.pkl"


class SB3Policy:
    """Acts as the model does.

    Args:
        model: What `PPO.load` and its like return.
        deterministic: Takes the most likely action.
        normalize: The `VecNormalize` that the model was trained behind; its statistics stay as they are.
    """

    def __init__(self, model: Any, *, deterministic: bool = True, normalize: Any = None) -> None:
        self.model, self.deterministic, self.normalize = model, deterministic, normalize

    def start(self, rows: int) -> None:
        return None

    def act(self, obs: Tree, carry: None, *, step: int) -> tuple[Tensor, None]:
        seen = _numpy(obs)
        if self.normalize is not None:
            seen = self.normalize.normalize_obs(seen)
        action, _ = self.model.predict(seen, deterministic=self.deterministic)
        return torch.as_tensor(np.asarray(action)), None


def load_sb3(path: str | Path, *, trust: bool, deterministic: bool = True) -> SB3Policy:
    """The policy in a zip that a model's `save` wrote.

    A file `vecnormalize.pkl` beside it, where `VecNormalize.save` put it, is used: a model that was trained behind it
    knows no other observations.

    Args:
        path: The zip.
        trust: Both files are unpickled, which can run code: whether you trust their author.
        deterministic: Takes the most likely action.

    Raises:
        BadInput: without `trust`, or when the file is no such model.
        MissingExtra: when stable-baselines3 is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput("policy", expected="a file that exists", received=str(path))
    if not trust:
        raise BadInput("policy", expected="your consent to load a stable-baselines3 file", received=str(path),
                       fix="loading it unpickles, which can run code: pass --trust (in Python: trust=True) if you "
                           "trust its author")
    sb3 = require("stable_baselines3", extra="sb3")
    failures: list[str] = []
    for name in ALGORITHMS:  # the zip does not name its algorithm
        try:
            model = getattr(sb3, name).load(path, device="cpu")
        except Exception as error:  # another algorithm's file: the next one is tried, and all reasons are told
            failures.append(f"{name}: {error}")
        else:
            return SB3Policy(model, deterministic=deterministic, normalize=_statistics(path.with_name(STATISTICS)))
    raise BadInput("policy", expected="a model of stable-baselines3", received=str(path),
                   fix="; ".join(failures)[:300])


def _statistics(path: Path) -> Any:
    if not path.is_file():
        return None
    found = require("stable_baselines3.common.save_util", extra="sb3").load_from_pkl(path)
    if not hasattr(found, "normalize_obs"):
        raise BadInput("policy", expected="what VecNormalize.save wrote", received=f"{path}: {type(found).__name__}")
    return found


def _numpy(obs: Tree) -> Any:
    return obs.cpu().numpy() if isinstance(obs, Tensor) else {k: _numpy(v) for k, v in obs.items()}
