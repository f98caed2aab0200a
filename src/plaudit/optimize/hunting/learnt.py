"""The hunter that learns: a population of PPO agents with different tastes, and its checkpoints along the way."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from plaudit.core.reward import Reward
from plaudit.optimize.hunting.arena import Arena, Candidate, Purse
from plaudit.optimize.rl.callbacks import Callback
from plaudit.optimize.rl.learner import Actor
from plaudit.optimize.rl.ppo import PPOConfig
from plaudit.optimize.rl.train import train
from plaudit.optimize.rl.trained import LearnedPolicy

_STAGES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""Shares of the run after which the policies are kept."""
_MIN_UPDATES = 12
_WORTH_IT = 24
"""Below so many updates of a single agent nothing is learnt that the other hunters do not find sooner."""


@dataclass(frozen=True)
class Taste:
    """What one member of the population wants."""

    discount: float
    entropy: float
    lr: float


def tastes(discount: float, *, cheap: bool) -> list[Taste]:
    """The members: the caller's discount twice, then far-sighted, short-sighted, curious and greedy ones."""
    far = 1 - (1 - discount) / 5
    short = max(0.0, 1 - 10 * (1 - discount))
    own = Taste(discount, 0.003, 1e-3)
    if not cheap:
        return [own, Taste(far, 0.0, 5e-4)]
    return [own, Taste(discount, 0.03, 1e-3), Taste(far, 0.01, 1e-3), Taste(short, 0.01, 1e-3)]


def config_for(members: list[Taste], *, cheap: bool) -> PPOConfig:
    """The options of the run: observations and rewards are scaled, since nothing is known of their units."""
    return PPOConfig(
        num_envs=16 if cheap else 4, rollout=64 if cheap else 256, epochs=6, minibatches=4,
        lr=tuple(t.lr for t in members), discount=tuple(t.discount for t in members),
        entropy_coef=tuple(t.entropy for t in members), gae_lambda=0.95, normalise_obs=True, scale_reward=True,
        hidden=(64, 64), log_std=-0.5)


class _Stages(Callback):
    """Keeps copies of the policies, and what they earned, at the stages of a run."""

    def __init__(self, reward: str) -> None:
        self.key = f"episode/train/{reward}"
        self.kept: list[tuple[int, list[Actor], list[float]]] = []
        self._earned: Tensor | None = None

    def on_update(self, metrics: dict[str, Tensor], trainer: Any) -> bool | None:
        earned = metrics.get(self.key)
        if earned is not None:
            old = earned if self._earned is None else self._earned
            self._earned = torch.where(torch.isnan(earned), old, earned)
        at = {max(1, math.ceil(share * trainer.planned_updates)) for share in _STAGES}
        if trainer.updates in at:
            P = len(trainer.members)
            scores = [math.nan] * P if self._earned is None else self._earned.tolist()
            self.kept.append((trainer.steps, [trainer.learner.actor.select([m]) for m in range(P)], scores))
        return False


def smallest_purse(discount: float, *, cheap: bool) -> int:
    """The steps below which a run is not worth beginning."""
    members = tastes(discount, cheap=cheap)
    config = config_for(members, cheap=cheap)
    return _MIN_UPDATES * len(members) * config.num_envs * config.rollout


def ppo_steps(left: int, discount: float, *, cheap: bool) -> tuple[list[Taste], int] | None:
    """Who trains with so many steps, and for how many each; None where learning is not worth beginning."""
    members = tastes(discount, cheap=cheap)
    config = config_for(members, cheap=cheap)
    size = config.num_envs * config.rollout
    if left < _WORTH_IT * size:
        return None
    while left < _MIN_UPDATES * len(members) * size and len(members) > 1:
        members = members[:-1]
    return members, (left // (len(members) * size)) * size


def hunt_ppo(arena: Arena, purse: Purse, *, discount: float, progress: Any = None) -> list[Candidate]:
    """Trains the population once; the final policies and the stages of the best member are kept.

    Raises:
        Unsupported: when PPO cannot honour what the reward needs, or the task's spaces.
        UnknownReward: when nothing is known of the reward of a whole rollout.
    """
    planned = ppo_steps(purse.left, discount, cheap=arena.cheap)
    if planned is None:
        return []
    members, steps = planned
    config, P = config_for(members, cheap=arena.cheap), len(members)
    before = arena.spent
    stages = _Stages(arena.reward.name)
    callbacks: list[Callback] = [stages, *([] if progress is None else [_Tell(progress)])]
    train("ppo", arena.task, reward=_own_copy(arena.reward), population=P, steps=steps,
          seed=arena.seeds.child("ppo").integer(), progress=False, config=config, callbacks=callbacks,
          device=arena.device)
    arena.charge(P * steps)
    return _candidates(arena, stages, members, before)


def _candidates(arena: Arena, stages: _Stages, members: list[Taste], before: int) -> list[Candidate]:
    P, seed = len(members), arena.seeds.child("ppo actions").integer()
    last = [-math.inf if math.isnan(x) else x for x in stages.kept[-1][2]]
    best = max(range(P), key=lambda m: last[m])
    found: list[Candidate] = []
    for n, (steps, actors, scores) in enumerate(stages.kept):
        final = n == len(stages.kept) - 1
        for m in range(P) if final else (best,):
            name = (f"PPO, discount {members[m].discount:.4g}, entropy {members[m].entropy:g}, member {m}, "
                    f"at {P * steps:,} steps")
            found.append(Candidate(name=name, origin="ppo", policy=LearnedPolicy(actors[m]), effort=before + P * steps,
                                   score=scores[m], keep=True))
    _, actors, scores = stages.kept[-1]
    sampled = LearnedPolicy(actors[best], deterministic=False, seed=seed)
    return [*found, replace(found[-P + best], name=found[-P + best].name + ", sampled", policy=sampled)]


class _Tell(Callback):
    """Reports progress and nothing else."""

    def __init__(self, progress: Any) -> None:
        self.progress = progress

    def on_update(self, metrics: dict[str, Tensor], trainer: Any) -> bool | None:
        self.progress(trainer.progress)
        return False


def _own_copy(reward: Reward) -> Reward:
    """Training moves schedules and controllers; the caller's reward must stay as it is."""
    return copy.deepcopy(reward)
