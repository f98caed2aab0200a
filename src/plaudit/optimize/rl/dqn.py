"""Deep Q-learning with double targets (Mnih et al. 2015, van Hasselt et al. 2016) for a population."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.seeds import Seeds
from plaudit.core.tree import Tree
from plaudit.optimize.rl.heads import Greedy
from plaudit.optimize.rl.learner import Actor, Metrics
from plaudit.optimize.rl.losses import double_dqn_target, huber, weighted_mean
from plaudit.optimize.rl.networks import Activation
from plaudit.optimize.rl.offpolicy import OffPolicy, OffPolicyConfig
from plaudit.optimize.rl.optimiser import PerMember, PopulationAdam, per_member
from plaudit.optimize.rl.relabel import Relabel
from plaudit.optimize.rl.replay import Sample
from plaudit.optimize.rl.vision import population_net
from plaudit.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class DQNConfig(OffPolicyConfig):
    """Options of DQN.

    Example:
        >>> DQNConfig(n_step=3).n_step
        3
    """

    num_envs: int = 8
    """Environments of each member."""
    collect: int = 4
    """Steps of each environment between two rounds of updates."""
    update_ratio: float = 0.25
    """Gradient updates for each transition that is collected."""
    rounds: int = 16
    """Rounds of collecting and updating between two lines of the log (and checkpoints, callbacks)."""
    capacity: int = 100_000
    """The largest number of transitions of each member that are remembered."""
    batch: int = 128
    """Transitions of each member in an update."""
    lr: PerMember = 1e-3
    """Step size of Adam."""
    max_grad_norm: PerMember = 10.0
    """The largest norm of each member's gradient."""
    target_every: int = 100
    """Updates between two copies of the network to the target network."""
    epsilon: tuple[float, float] = (1.0, 0.05)
    """The share of random actions at the start and in the end."""
    epsilon_share: float = 0.3
    """The share of the run in which it falls, linearly."""
    clip_error: bool = True
    """Huber's loss, as in the paper; it leans towards the median where rewards or ends are random, squares do not."""
    double: bool = True
    """Whether the action is chosen by the network itself and only valued by the target network."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""
    activation: Activation = "relu"
    """What lies between the layers."""
    layer_norm: bool = False
    """Whether hidden layers are normalised."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= e <= 1 for e in self.epsilon) or not 0 < self.epsilon_share <= 1:
            raise BadInput("config.epsilon", expected="shares in [0, 1]", received=(self.epsilon, self.epsilon_share))
        if self.target_every < 1:
            raise BadInput("config.target_every", expected="an integer >= 1", received=self.target_every)


class DQN(OffPolicy):
    """Double DQN with an epsilon-greedy policy; see `DQNConfig`."""

    config: DQNConfig

    def __init__(self, config: DQNConfig, task: Task, *, seeds: Sequence[Seeds], device: str = "cpu",
                 relabel: Relabel | None = None) -> None:
        super().__init__(config, task, seeds=seeds, device=device, relabel=relabel)
        if self.action_map.choices is None or self.action_map.actions != 1:
            raise Unsupported(f"dqn makes one choice, and {task.name} takes {task.action_space}; use ppo"
                              + ("" if self.action_map.choices else " or sac"))
        head = Greedy(self.action_map.choices)
        net = population_net(self.encoder.pictures, (self.encoder.size, *config.hidden, head.outputs),
                             generators=self.init_generators, activation=config.activation,
                             layer_norm=config.layer_norm, device=device)
        self.actor = Actor(encoder=self.encoder, net=net, head=head, action_map=self.action_map)
        self.target = net.flat.detach().clone()
        """The target network's parameters."""
        self.adam = PopulationAdam([net.flat], eps=1e-8)
        self.lr = per_member("config.lr", config.lr, self.P, device=device)
        self.max_grad_norm = per_member("config.max_grad_norm", config.max_grad_norm, self.P, device=device)
        self.updates = torch.zeros((), dtype=torch.long)

    def parts(self) -> Mapping[str, Any]:
        return {**super().parts(), "target": self.target, "adam": self.adam, "updates": self.updates}

    def epsilon(self, progress: float) -> float:
        """The share of random actions at `progress` in [0, 1]."""
        start, end = self.config.epsilon
        return start + (end - start) * min(1.0, progress / self.config.epsilon_share)

    def explore(self, obs: Tree, *, random: bool, progress: float) -> Tensor:
        coin, which = self.noise.uniform(self.N, 2).split(1, -1)
        values = self.actor.net(self.actor.encode(obs))
        chance = self.actor.head.sample(values, which)
        return chance if random else torch.where(coin < self.epsilon(progress), chance, self.actor.head.mode(values))

    def gradient_step(self, sample: Sample) -> Metrics:
        net = self.actor.net
        x, next_x, raw = self.inputs(sample)
        with torch.no_grad():
            if int(self.updates) % self.config.target_every == 0:
                self.target.copy_(net.flat)
            far = net(next_x, self.target)
            target = double_dqn_target(reward=sample.reward, discount=sample.discount, next_q_target=far,
                                       next_q=net(next_x) if self.config.double else far)
        q = net(x).gather(-1, raw.long()).squeeze(-1)
        error = huber(q - target) if self.config.clip_error else 0.5 * (q - target).square()
        loss = weighted_mean(error, sample.weight)
        loss.sum().backward()
        norm = self.adam.step(lr=self.lr, max_norm=self.max_grad_norm)
        self.updates += 1
        return {"loss/value": loss.detach(), "value/mean": q.detach().mean(-1), "grad/norm": norm}
