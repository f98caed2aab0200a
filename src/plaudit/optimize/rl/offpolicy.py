"""What SAC, TD3 and DQN share: acting into a replay, sampling with relabelled rewards, a ratio of updates to data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.misspelt import Options
from plaudit.core.seeds import Seeds
from plaudit.core.tree import Tree
from plaudit.optimize.rl.collect import Collector
from plaudit.optimize.rl.learner import Learner, Metrics
from plaudit.optimize.rl.optimiser import PerMember, per_member
from plaudit.optimize.rl.relabel import Relabel, RewardRelabel
from plaudit.optimize.rl.replay import Replay, Sample, info_of
from plaudit.optimize.rl.scoring import Meter, Scorer
from plaudit.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig(Options):
    """Options of learners with a replay. `float | Sequence[float]` takes one number, or one for each member."""

    num_envs: int = 1
    """Environments of each member."""
    collect: int = 1
    """Steps of each environment between two rounds of updates."""
    update_ratio: float = 1.0
    """Gradient updates for each transition that is collected."""
    rounds: int = 100
    """Rounds of collecting and updating between two lines of the log (and checkpoints, callbacks)."""
    warmup: int = 1000
    """Transitions of each member that are collected at random before the first update."""
    capacity: int = 1_000_000
    """The largest number of transitions of each member that are remembered."""
    batch: int = 256
    """Transitions of each member in an update."""
    discount: PerMember = 0.99
    """The discount."""
    n_step: int = 1
    """Steps whose rewards are summed before the value of what follows is trusted."""
    relabel: Literal["auto", "always", "never"] = "auto"
    """Whether sampled transitions are scored anew: `auto` where the reward moves while the run goes on."""

    def __post_init__(self) -> None:
        for name in ("num_envs", "collect", "rounds", "batch", "n_step"):
            if getattr(self, name) < 1:
                raise BadInput(f"config.{name}", expected="an integer >= 1", received=getattr(self, name))
        for name in ("update_ratio", "warmup"):
            if not getattr(self, name) >= 0:
                raise BadInput(f"config.{name}", expected="a number >= 0", received=getattr(self, name))
        if self.relabel not in ("auto", "always", "never"):
            raise BadInput("config.relabel", expected="auto, always or never", received=self.relabel)


class OffPolicy(Learner):
    """Collects into a replay and updates from it; subclasses say how to explore and what an update is."""

    config: OffPolicyConfig

    def __init__(self, config: OffPolicyConfig, task: Task, *, seeds: Sequence[Seeds], device: str = "cpu",
                 relabel: Relabel | None = None) -> None:
        super().__init__(config, task, seeds=seeds, device=device)
        self.relabel = relabel
        self.discount = per_member("config.discount", config.discount, self.P, device=device, high=1.0)
        self.owed = torch.zeros((), dtype=torch.float64)
        """Updates that the data collected so far allows and that have not been made."""
        self.replay: Replay

    @property
    def steps_per_iteration(self) -> int:
        return self.config.num_envs * self.config.collect * self.config.rounds

    def prepare(self, scorer: Scorer, *, planned_steps: int) -> None:
        super().prepare(scorer, planned_steps=planned_steps)
        reward = scorer.train
        moves = reward.needs.state != "none" or bool(reward.state_dict())
        if self.relabel is None and (self.config.relabel == "always" or (self.config.relabel == "auto" and moves)):
            if reward.needs.time != "step":
                raise Unsupported(f"{reward.name} reads the past and changes while learning; a memory of single "
                                  "transitions cannot score it anew. Use ppo, or config.relabel='never'")
            self.relabel = RewardRelabel(reward, population=self.P)
        info = frozenset() if self.relabel is None else info_of(reward.needs.fields)
        self.replay = Replay(population=self.P, rows=self.N, capacity=min(self.config.capacity, planned_steps),
                             info=info, device=self.device, member_ids=scorer.member_ids)

    @abstractmethod
    def explore(self, obs: Tree, *, random: bool, progress: float) -> Tensor:
        """Raw actions [P, N, K]; uniformly random ones on request."""

    @abstractmethod
    def gradient_step(self, sample: Sample) -> Metrics:
        """One update."""

    def parts(self) -> Mapping[str, Any]:
        return {"replay": self.replay, "owed": self.owed}

    def forget_episodes(self) -> None:
        self.replay.end_here()

    def iterate(self, collector: Collector, *, progress: float) -> Metrics:
        config, meter = self.config, Meter()
        found: dict[str, list[Tensor]] = {}
        for _ in range(config.rounds):
            random = collector.steps * self.N < config.warmup

            @torch.no_grad()
            def act(obs: Tree, t: int, random: bool = random) -> tuple[Tensor, dict[str, Tensor]]:
                return self.actor.to_env(self.explore(obs, random=random, progress=progress)), {}

            rollout = collector.collect(config.collect, act)
            self.replay.add(rollout.episodes, rollout.score)
            if collector.steps * self.N < config.warmup:
                continue
            self.owed += config.update_ratio * config.collect * self.N
            while self.owed >= 1:
                self.owed -= 1
                for name, value in self.gradient_step(self.sample()).items():
                    found.setdefault(name, []).append(value)
        for name, values in found.items():
            meter.mean(name, torch.stack(values, -1))
        return meter.flush()

    def sample(self) -> Sample:
        """A batch for every member."""
        return self.replay.sample(self.noise, self.config.batch, discount=self.discount, steps=self.config.n_step,
                                  relabel=self.relabel)

    def inputs(self, sample: Sample) -> tuple[Float[Tensor, "P n D"], Float[Tensor, "P n D"], Float[Tensor, "P n K"]]:
        """What the networks read of a sample: obs, next_obs, and raw actions."""
        raw = self.action_map.from_env(sample.action, 1)
        return (self.actor.encode(sample.obs), self.actor.encode(sample.next_obs),
                raw.to(torch.float32).reshape(self.P, -1, self.action_map.actions))
