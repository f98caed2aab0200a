"""Further losses that a learner adds to its own, such as predicting the reward from the policy's first layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from plaudit.optimize.rl.collect import Rollout
from plaudit.optimize.rl.networks import PopulationMLP

if TYPE_CHECKING:
    from plaudit.optimize.rl.ppo import PPO


class Auxiliary(ABC):
    """A loss beside PPO's own: `PPO(..., auxiliaries=[...])`, or `train("ppo", ..., auxiliaries=[...])`.

    Its gradient flows into its own parameters and into those of the policy or the value that it reads through
    `features`. All of them are clipped and moved together. It must keep all memory in its parameters, which are
    saved with the run.

    Example:
        >>> class PredictReward(Auxiliary):
        ...     name = "reward"
        ...     def start(self, ppo, generators):
        ...         self.net = ppo.actor.net
        ...         self.head = PopulationMLP((self.net.sizes[1], 1), generators=generators)
        ...         return [self.head.flat]
        ...     def targets(self, rollout, x):
        ...         return rollout.score.value.reshape(x.shape[0], -1, 1)
        ...     def loss(self, x, raw, target):
        ...         return (self.head(features(self.net, x, layers=1)) - target).square().squeeze(-1)
    """

    name: str
    """What the log calls it: `loss/auxiliary/<name>`. Different for each of a run."""

    @abstractmethod
    def start(self, ppo: PPO, generators: Sequence[torch.Generator]) -> Sequence[Float[Tensor, "P _"]]:
        """Called once, when the learner has its networks.

        Args:
            ppo: The learner; `ppo.actor.net` is the policy, `ppo.critic` the value.
            generators: One for each member, to initialise with; no other auxiliary draws from them.

        Returns:
            Its own parameters: leaves [P, ...] that require gradients, changed only in place.
        """

    @abstractmethod
    def targets(self, rollout: Rollout, x: Float[Tensor, "P M D"]) -> Float[Tensor, "P M E"]:
        """What it must know of every step, worked out once for each rollout without gradients.

        Args:
            rollout: [B, T]; reshape what it gives to [P, M, ...], M = B / P * T, rows first and then time.
            x: The encoded observations of the same steps.
        """

    @abstractmethod
    def loss(self, x: Float[Tensor, "P m D"], raw: Float[Tensor, "P m K"],
             target: Float[Tensor, "P m E"]) -> Float[Tensor, "P m"]:
        """The loss of each step of a minibatch, its weight included; steps of unknown reward are left out later.

        Args:
            x: Encoded observations.
            raw: The actions as the policy's head gave them (choices as numbers).
            target: What `targets` gave for these steps.
        """


def features(net: PopulationMLP, x: Float[Tensor, "P N D"], *, layers: int) -> Float[Tensor, "P N H"]:
    """What the first hidden layers of a network make of x, with gradients into them.

    Example:
        >>> from plaudit.core.seeds import Seeds
        >>> net = PopulationMLP((4, 8, 6, 2), generators=[Seeds(0).torch()])
        >>> features(net, torch.zeros(1, 5, 4), layers=2).shape
        torch.Size([1, 5, 6])
    """
    part = net.named()
    x = net.inputs(x, part)
    for i in range(layers):
        x = torch.baddbmm(part[f"bias_{i}"], x, part[f"weight_{i}"])
        if net.layer_norm:
            x = torch.addcmul(part[f"shift_{i}"], F.layer_norm(x, x.shape[-1:]), part[f"scale_{i}"])
        x = net._act(x)
    return x
