"""What the user brings to an audit: logged episodes and trained policies, as behaviours beside those we find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.extras import require
from plaudit.core.seeds import Seeds
from plaudit.core.tree import Tree
from plaudit.optimize.behaviours import Behaviour
from plaudit.tasks.base import Task
from plaudit.tasks.policy import Policy
from plaudit.tasks.rollout import rollout

EPISODES_EACH = 8


def load_given(task: Task, *, episodes: str | Path | None, policy: str | Path | None, seed: int,
               trust: bool) -> list[Behaviour]:
    """Reads what was named and plays the policy.

    Raises:
        BadInput: when a file is missing, is nothing of the kind, or may run code and `trust` is False.
    """
    out: list[Behaviour] = []
    if episodes is not None:
        logged = Episodes.load(episodes)
        out.append(Behaviour(name=f"logged in {Path(episodes).name}", origin="logged", policy=None, episodes=logged))
    if policy is not None:
        actor = load_policy(Path(policy), trust=trust)
        seeds = Seeds(seed).child("given").integers(EPISODES_EACH)
        out.append(Behaviour(name=f"your policy {Path(policy).name}", origin="given", policy=actor, seeds=seeds,
                             episodes=rollout(task, actor, seeds=seeds)))
    return out


def load_policy(path: Path, *, trust: bool) -> Policy:
    """A policy that `plaudit optimize` saved, or a zip of stable-baselines3 (which unpickles, hence `trust`)."""
    if not path.exists():
        raise BadInput("policy", expected="a file or folder that exists", received=str(path))
    if path.suffix == ".zip":
        if not trust:
            raise BadInput("policy", expected="your consent to load a stable-baselines3 file", received=str(path),
                           fix="loading it unpickles, which can run code: pass --trust if you trust its author")
        return StableBaselines(_load_zip(path))
    from plaudit.optimize.rl import Trained

    return Trained.load(path).policy(0)


class StableBaselines:
    """A trained stable-baselines3 model as a Policy (deterministic actions)."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def start(self, rows: int) -> None:
        return None

    def act(self, obs: Tree, carry: None, *, step: int) -> tuple[Tensor, None]:
        action, _ = self.model.predict(_numpy(obs), deterministic=True)
        return torch.as_tensor(np.asarray(action)), None


def _numpy(obs: Tree) -> Any:
    return obs.cpu().numpy() if isinstance(obs, Tensor) else {k: _numpy(v) for k, v in obs.items()}


def _load_zip(path: Path) -> Any:
    """The zip does not name its algorithm, so each is tried."""
    sb3 = require("stable_baselines3", extra="sb3")
    failures: list[str] = []
    for name in ("PPO", "SAC", "DQN", "TD3", "A2C", "DDPG"):
        try:
            return getattr(sb3, name).load(path, device="cpu")
        except Exception as error:  # another algorithm's file: the next one is tried, and all reasons are told
            failures.append(f"{name}: {error}")
    raise BadInput("policy", expected="a model of stable-baselines3", received=str(path),
                   fix="; ".join(failures)[:300])
