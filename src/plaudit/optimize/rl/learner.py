"""What PPO, SAC, TD3 and DQN share: an `Actor` that turns observations into actions, and the `Learner` contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.normalise import RunningMoments
from plaudit.core.seeds import Seeds
from plaudit.core.tree import Tree, tree_map
from plaudit.optimize.rl.collect import Collector
from plaudit.optimize.rl.heads import Head
from plaudit.optimize.rl.networks import PopulationMLP
from plaudit.optimize.rl.optimiser import MemberNoise
from plaudit.optimize.rl.scoring import Scorer
from plaudit.optimize.rl.spaces import ActionMap, ObsEncoder
from plaudit.tasks.base import Task

Metrics = dict[str, Tensor]
"""Numbers of one update by name, each [P]."""


class Actor:
    """Observations to actions for a population: encoder, normaliser, network, head, action map.

    Args:
        encoder: Observations to numbers.
        net: The policy network (or the values of a DQN).
        head: What its outputs mean.
        action_map: Raw actions to the task's.
        moments: Running moments [P, D] of the observations, or None.
    """

    def __init__(self, *, encoder: ObsEncoder, net: PopulationMLP, head: Head, action_map: ActionMap,
                 moments: RunningMoments | None = None) -> None:
        self.encoder, self.net, self.head, self.action_map, self.moments = encoder, net, head, action_map, moments

    @property
    def P(self) -> int:
        """The number of members."""
        return self.net.P

    def encode(self, obs: Tree) -> Float[Tensor, "P N D"]:
        """Observations [P * N, ...], rows grouped by member, as normalised numbers."""
        x = self.encoder(obs).reshape(self.P, -1, self.encoder.size)
        return x if self.moments is None else self.moments.normalise(x)

    def encode_steps(self, obs: Tree) -> Float[Tensor, "P M D"]:
        """Observations [P * N, T, ...] likewise, M = N * T."""
        return self.encode(tree_map(lambda x: x.reshape(-1, *x.shape[2:]), obs))

    def to_env(self, raw: Tensor) -> Tensor:
        """Raw actions [P, N, K] as the task's [P * N, ...]."""
        return self.action_map.to_env(raw.reshape(-1, raw.shape[-1]))

    @torch.no_grad()
    def act(self, obs: Tree, noise: Float[Tensor, "P N K"] | None = None) -> Tensor:
        """Actions [P * N, ...] in the task's units; the most probable ones without noise."""
        out = self.net(self.encode(obs))
        return self.to_env(self.head.mode(out) if noise is None else self.head.sample(out, noise))

    def select(self, members: Sequence[int]) -> Actor:
        """The actor of some members alone, as a copy."""
        moments = None
        if self.moments is not None:
            moments = RunningMoments(self.encoder.size, population=len(members), device=self.net.flat.device)
            moments.load_state_dict({k: v[list(members)] if isinstance(v, Tensor) else v
                                     for k, v in self.moments.state_dict().items()})
        return Actor(encoder=self.encoder, net=self.net.select(members), head=self.head, action_map=self.action_map,
                     moments=moments)

    def state_dict(self) -> dict[str, Any]:
        """Parameters (stacked, by name) and moments."""
        return {"net": self.net.named(self.net.flat.detach()),
                "moments": None if self.moments is None else self.moments.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        load_named(self.net, state["net"])
        if self.moments is not None:
            self.moments.load_state_dict(state["moments"])


class Learner(ABC):
    """One algorithm for a population. `iterate` collects, learns and says how it went.

    Args:
        config: The options.
        task: What to learn.
        seeds: One tree for each member.
        device: Where networks and data live.
    """

    actor: Actor
    config: Any

    def __init__(self, config: Any, task: Task, *, seeds: Sequence[Seeds], device: str = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        self.P, self.N = len(seeds), int(config.num_envs)
        self.noise = MemberNoise([s.child("noise") for s in seeds], device=device)
        self.init_generators = [s.child("init").torch() for s in seeds]
        self.encoder = ObsEncoder(task.obs_space)
        self.action_map = ActionMap(task.action_space, device=device)

    def prepare(self, scorer: Scorer, *, planned_steps: int) -> None:
        """Looks at the rewards before any work; off-policy learners size their memory here.

        Raises:
            Unsupported: when the learner cannot honour what a reward needs.
        """
        self.planned_steps = planned_steps

    @property
    @abstractmethod
    def steps_per_iteration(self) -> int:
        """How many steps each member makes in one `iterate`."""

    @abstractmethod
    def iterate(self, collector: Collector, *, progress: float) -> Metrics:
        """Collects a piece of experience and learns from it; `progress` in [0, 1]."""

    @abstractmethod
    def forget_episodes(self) -> None:
        """All rows begin new episodes: what was kept of the old ones must not reach into them."""

    @abstractmethod
    def parts(self) -> Mapping[str, Any]:
        """Everything that must be saved, as objects with `state_dict` and `load_state_dict`, or tensors."""

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on exactly."""
        return {name: part.detach() if isinstance(part, Tensor) else part.state_dict()
                for name, part in {"noise": self.noise, "actor": self.actor, **self.parts()}.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        for name, part in {"noise": self.noise, "actor": self.actor, **self.parts()}.items():
            if isinstance(part, Tensor):
                part.copy_(state[name])
            else:
                part.load_state_dict(state[name])


def load_named(net: PopulationMLP, saved: Mapping[str, Tensor]) -> None:
    """Copies parameters by name into a network.

    Raises:
        BadInput: when they are those of another network.
    """
    mine = net.named(net.flat.detach())
    wanted, given = ({name: list(x.shape) for name, x in parts.items()} for parts in (mine, saved))
    if wanted != given:
        raise BadInput("task", expected=f"spaces whose network has the parameters {given}", received=wanted,
                       fix="pass the task that was learnt")
    for name, part in mine.items():
        part.copy_(saved[name])
