"""What SAC and TD3 share: an ensemble of critics of (observation, action), its slow copy, an actor that climbs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.seeds import Seeds
from plaudit.core.tree import Tree
from plaudit.optimize.rl.heads import Head
from plaudit.optimize.rl.learner import Actor, Metrics
from plaudit.optimize.rl.losses import shares
from plaudit.optimize.rl.networks import Activation, Initialisation, Passes
from plaudit.optimize.rl.offpolicy import OffPolicy, OffPolicyConfig
from plaudit.optimize.rl.optimiser import PerMember, PopulationAdam, per_member
from plaudit.optimize.rl.relabel import Relabel
from plaudit.optimize.rl.replay import Sample
from plaudit.optimize.rl.spaces import ActionMap, ObsEncoder
from plaudit.optimize.rl.vision import population_net
from plaudit.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig(OffPolicyConfig):
    """Options of learners with an actor that climbs an ensemble of critics."""

    critics: int = 2
    """How many critics; the lowest is believed."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of actor and critics."""
    activation: Activation = "relu"
    """What lies between the layers."""
    layer_norm: bool = False
    """Whether the critics' hidden layers are normalised, which makes high update ratios stable (Ball et al. 2023)."""
    initialisation: Initialisation = "orthogonal"
    """How weights begin, see `PopulationMLP`: with `uniform` the first values are smaller; with `orthogonal` the first
    actions lie close to the middle of their range."""
    actor_lr: PerMember = 3e-4
    """Step size of the actor."""
    critic_lr: PerMember = 3e-4
    """Step size of the critics."""
    tau: PerMember = 0.005
    """How far the targets move towards the networks when they follow."""
    actor_every: int = 1
    """Critic updates for each update of the actor."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("critics", "actor_every"):
            if getattr(self, name) < 1:
                raise BadInput(f"config.{name}", expected="an integer >= 1", received=getattr(self, name))


class Critics:
    """H critics for each of P members, stacked as one network [P * H], and the targets that follow them.

    Args:
        encoder: What encodes observations.
        actions: The entries of a raw action.
        hidden: Widths of the hidden layers.
        count: H.
        generators: One for each member.
        lr: Step size of Adam.
        tau: How far the targets move towards the critics in an update.
    """

    def __init__(self, *, encoder: ObsEncoder, actions: int, hidden: Sequence[int], count: int,
                 generators: Sequence[torch.Generator], activation: Activation, layer_norm: bool, lr: PerMember,
                 tau: PerMember, initialisation: Initialisation = "orthogonal",
                 device: str | torch.device = "cpu") -> None:
        self.P, self.H = len(generators), count
        self.net = population_net(encoder.pictures, (encoder.size + actions, *hidden, 1), layer_norm=layer_norm,
                                  stack=count, generators=generators, activation=activation,
                                  initialisation=initialisation, device=device)
        self.passes = Passes(self.net)
        self.target = self.net.flat.detach().clone()
        """The target critics' parameters."""
        self.lr = per_member("config.critic_lr", lr, self.P, device=device).repeat_interleave(count)
        self.tau = per_member("config.tau", tau, self.P, device=device, high=1.0).repeat_interleave(count).unsqueeze(-1)
        self.adam = PopulationAdam([self.net.flat], eps=1e-8)

    @property
    def first(self) -> Float[Tensor, "P W"]:
        """The parameters of each member's first critic."""
        return self.net.flat.detach().view(self.P, self.H, -1)[:, 0]

    def q(self, x: Float[Tensor, "P n D"], raw: Float[Tensor, "P n K"],
          flat: Float[Tensor, "_ W"] | None = None) -> Float[Tensor, "P _ n"]:
        """The values of all critics, or of those with the parameters `flat`; what follows may differentiate them."""
        count = self.H if flat is None else flat.shape[0] // self.P
        pairs = torch.cat([x, raw], -1).unsqueeze(1).expand(-1, count, -1, -1).flatten(0, 1)
        return self.passes(pairs, flat, inputs=raw.shape[-1]).view(self.P, count, -1)

    def climb(self, grad: Float[Tensor, "P _ n"]) -> Float[Tensor, "P n K"]:
        """The gradient of the actions, from that of the values of the last `q`."""
        each = self.passes.input_gradient(grad.reshape(-1, grad.shape[-1], 1))
        return each.view(*grad.shape, -1).sum(1)

    def descend(self, sample: Sample, x: Float[Tensor, "P n D"], raw: Float[Tensor, "P n K"],
                target: Float[Tensor, "P n"]) -> Metrics:
        """One step on the squared errors of all critics."""
        q = self.q(x, raw)
        error, share = q - target.unsqueeze(1), shares(sample.weight).unsqueeze(1)
        self.passes.backward((2 * error * share).view(self.P * self.H, -1, 1))
        self.adam.step(lr=self.lr)
        return {"loss/critic": (error.square() * share).sum((1, 2)) / self.H, "value/mean": q.mean((1, 2))}

    @torch.no_grad()
    def follow(self) -> None:
        """Moves the targets towards the critics (Lillicrap et al. 2016, section 3)."""
        self.target.lerp_(self.net.flat, self.tau)

    def parts(self) -> Mapping[str, Any]:
        """What a checkpoint must hold."""
        return {"critic": self.net.flat, "target": self.target, "critic_adam": self.adam}


class ActorCritic(OffPolicy):
    """An actor and critics for a population; subclasses say what the actor's outputs mean and what an update is.

    Args:
        algo: Its name, for messages.
        head: Makes the head for a number of actions.
    """

    config: ActorCriticConfig
    head: Head

    def __init__(self, config: ActorCriticConfig, task: Task, *, algo: str, head: Callable[[int], Head],
                 seeds: Sequence[Seeds], device: str = "cpu", relabel: Relabel | None = None) -> None:
        super().__init__(config, task, seeds=seeds, device=device, relabel=relabel)
        require_bounded_box(algo, task, self.action_map)
        self.head = head(self.action_map.actions)
        shared: dict[str, Any] = {"generators": self.init_generators, "activation": config.activation, "device": device,
                                  "initialisation": config.initialisation}
        net = population_net(self.encoder.pictures, (self.encoder.size, *config.hidden, self.head.outputs),
                             output_gain=0.01, **shared)
        self.critics = Critics(encoder=self.encoder, actions=self.head.actions, hidden=config.hidden,
                               count=config.critics, layer_norm=config.layer_norm, lr=config.critic_lr, tau=config.tau,
                               **shared)
        self.actor = Actor(encoder=self.encoder, net=net, head=self.head, action_map=self.action_map)
        self.policy = Passes(net)
        """The actor's network, to be differentiated."""
        self.actor_lr = per_member("config.actor_lr", config.actor_lr, self.P, device=device)
        self.actor_adam = PopulationAdam([net.flat], eps=1e-8)
        self.updates = torch.zeros((), dtype=torch.long)

    def parts(self) -> Mapping[str, Any]:
        return {**super().parts(), **self.critics.parts(), "actor_adam": self.actor_adam, "updates": self.updates}

    def explore(self, obs: Tree, *, random: bool, progress: float) -> Tensor:
        if random:
            return 2 * self.noise.uniform(self.N, self.head.actions) - 1
        return self.head.sample(self.actor.net(self.actor.encode(obs)), self.head.noise(self.noise, self.N))


def require_bounded_box(algo: str, task: Task, action_map: ActionMap) -> None:
    """Refuses spaces that actions in [-1, 1] cannot be scaled to.

    Raises:
        Unsupported: for choices, and for numbers without bounds.
    """
    if action_map.choices is not None:
        raise Unsupported(f"{algo} chooses numbers in a box, and {task.name} takes {task.action_space}; use ppo, or "
                          "dqn for a single choice")
    if not bool(torch.isfinite(action_map.low + action_map.high).all()):
        raise Unsupported(f"{algo} needs bounds for every action, and {task.name} takes {task.action_space}; use ppo, "
                          "or bound the actions with gymnasium.wrappers.RescaleAction")
