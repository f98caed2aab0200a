"""Two auxiliary tasks for PPO: rebuild the observation, and foresee the sign of the next reward.

Source: Moschopoulos et al. 2023 (Lucy-SKG, arXiv 2305.15801), who add w_SR * L_SR + w_RP * L_RP to the loss of PPO;
the reward task is that of UNREAL (Jaderberg et al. 2017), but on the data of the present rollout. Sizes of the heads
and the length of the sequence are not in the paper's text and are options.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from plaudit.core.errors import BadInput
from plaudit.optimize.rl.auxiliary import Auxiliary, features
from plaudit.optimize.rl.collect import Rollout
from plaudit.optimize.rl.networks import PopulationMLP

if TYPE_CHECKING:
    from plaudit.optimize.rl.ppo import PPO

Shared = Literal["actor", "critic", "both"]


class _OnSharedLayers(Auxiliary):
    """What both tasks share: which first layers of PPO they read, and their weight.

    Policy and value are separate networks here: `actor` shares the policy's first layers, `critic` the value's, `both`
    those of the two, side by side. `layers` counts hidden layers from the input.
    """

    def __init__(self, *, weight: float, shared: Shared | str, layers: int) -> None:
        if not weight >= 0:
            raise BadInput("weight", expected="a number >= 0", received=weight)
        if shared not in ("actor", "critic", "both"):
            raise BadInput("shared", expected="actor, critic or both", received=shared)
        if layers < 1:
            raise BadInput("layers", expected="an integer >= 1", received=layers)
        self.weight, self.shared, self.layers = weight, shared, layers

    def _share(self, ppo: PPO) -> int:
        """Finds the networks; returns how many features they give."""
        deepest = len(ppo.config.hidden)
        if self.layers > deepest:
            raise BadInput("layers", expected=f"at most the {deepest} hidden layers of the config",
                           received=self.layers)
        self.nets = {"actor": [ppo.actor.net], "critic": [ppo.critic],
                     "both": [ppo.actor.net, ppo.critic]}[self.shared]
        return sum(net.sizes[self.layers] for net in self.nets)

    def _features(self, x: Float[Tensor, "P m D"]) -> Float[Tensor, "P m F"]:
        parts = [features(net, x, layers=self.layers) for net in self.nets]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


class StateReconstruction(_OnSharedLayers):
    """Rebuilds the encoded observation from the shared layers: w_SR * mean squared error.

    Args:
        weight: w_SR.
        shared: Whose first layers are trained: `actor`, `critic` or `both`.
        layers: How many of them.
        hidden: Width of the decoder's one hidden layer.

    Example:
        >>> from plaudit.optimize import PPOConfig, train
        >>> trained = train("ppo", "CartPole-v1", steps=512, config=PPOConfig(epochs=1), progress=False,
        ...                 auxiliaries=[StateReconstruction(weight=0.1), RewardPrediction(weight=0.1)])
        >>> trained.steps
        512
    """

    name = "state"

    def __init__(self, *, weight: float = 1.0, shared: Shared | str = "both", layers: int = 1,
                 hidden: int = 32) -> None:
        super().__init__(weight=weight, shared=shared, layers=layers)
        self.hidden = hidden

    def start(self, ppo: PPO, generators: Sequence[torch.Generator]) -> Sequence[Float[Tensor, "P _"]]:
        self.decoder = PopulationMLP((self._share(ppo), self.hidden, ppo.encoder.size), generators=generators,
                                     device=ppo.device)
        return [self.decoder.flat]

    def targets(self, rollout: Rollout, x: Float[Tensor, "P M D"]) -> Float[Tensor, "P M E"]:
        return x[..., :0]

    def loss(self, x: Float[Tensor, "P m D"], raw: Float[Tensor, "P m K"],
             target: Float[Tensor, "P m E"]) -> Float[Tensor, "P m"]:
        return self.weight * (self.decoder(self._features(x)) - x).square().mean(-1)


class RewardPrediction(_OnSharedLayers):
    """Foresees from a few steps whether the next reward is negative, 0 or positive: w_RP * cross-entropy.

    An LSTM reads the shared features of the last `length` observations of the same episode. Classes are balanced by
    weights: each class that a member's rollout holds counts the same in total, which is the expectation of sampling
    them equally often.

    Args:
        weight: w_RP.
        shared: Whose first layers are trained: `actor`, `critic` or `both`.
        layers: How many of them.
        length: How many observations the sequence has, the present one included.
        hidden: Width of the LSTM.
        dead_zone: Rewards of at most this size count as 0.
    """

    name = "reward"

    def __init__(self, *, weight: float = 1.0, shared: Shared | str = "both", layers: int = 1, length: int = 3,
                 hidden: int = 16, dead_zone: float = 0.0) -> None:
        super().__init__(weight=weight, shared=shared, layers=layers)
        if length < 1 or hidden < 1:
            raise BadInput("length, hidden", expected="integers >= 1", received=(length, hidden))
        if not dead_zone >= 0:
            raise BadInput("dead_zone", expected="a number >= 0", received=dead_zone)
        self.length, self.hidden, self.dead_zone = length, hidden, dead_zone

    def start(self, ppo: PPO, generators: Sequence[torch.Generator]) -> Sequence[Float[Tensor, "P _"]]:
        width = self._share(ppo)
        self.gates = PopulationMLP((width + self.hidden, 4 * self.hidden), generators=generators, device=ppo.device)
        self.classes = PopulationMLP((self.hidden, 3), generators=generators, device=ppo.device)
        with torch.no_grad():  # the forget gate begins open (Jozefowicz et al. 2015)
            self.gates.named(self.gates.flat.detach())["bias_0"][..., self.hidden:2 * self.hidden] = 1.0
        return [self.gates.flat, self.classes.flat]

    def targets(self, rollout: Rollout, x: Float[Tensor, "P M D"]) -> Float[Tensor, "P M E"]:
        """The class, its weight, and the earlier observations, each with whether it is of the same episode."""
        P, M, D = x.shape
        e = rollout.episodes
        ended = e.terminated | e.truncated
        value = torch.nan_to_num(rollout.score.value.to(x.dtype))
        sign = torch.where(value.abs() <= self.dead_zone, 0.0, value.sign()).reshape(P, M).long() + 1
        known = rollout.score.known.reshape(P, M)
        parts = [sign.to(x.dtype).unsqueeze(-1), balance(sign, known).to(x.dtype).unsqueeze(-1)]
        x_BTD = x.reshape(e.B, e.T, D)
        here = torch.ones_like(ended)
        for back in range(1, self.length):
            before, past = torch.zeros_like(x_BTD), torch.zeros_like(here)
            before[:, back:] = x_BTD[:, :-back] if back < e.T else 0.0
            past[:, back:] = ~ended[:, :-back] if back < e.T else False
            here = here & past
            parts += [(before * here.unsqueeze(-1)).reshape(P, M, D), here.to(x.dtype).reshape(P, M, 1)]
        return torch.cat(parts, -1)

    def loss(self, x: Float[Tensor, "P m D"], raw: Float[Tensor, "P m K"],
             target: Float[Tensor, "P m E"]) -> Float[Tensor, "P m"]:
        logits = self.logits(x, target)
        error = F.cross_entropy(logits.flatten(0, 1), target[..., 0].flatten().long(), reduction="none")
        return self.weight * target[..., 1] * error.view(x.shape[:2])

    def logits(self, x: Float[Tensor, "P m D"], target: Float[Tensor, "P m E"]) -> Float[Tensor, "P m 3"]:
        """What the head thinks of negative, 0 and positive."""
        D = x.shape[-1]
        earlier = target[..., 2:].unflatten(-1, (self.length - 1, D + 1)) if self.length > 1 else None
        h = x.new_zeros(*x.shape[:2], self.hidden)
        c = torch.zeros_like(h)
        for back in range(self.length - 1, 0, -1):
            assert earlier is not None
            there = earlier[..., back - 1, D:]
            new_h, new_c = self._cell(self._features(earlier[..., back - 1, :D]), h, c)
            h, c = there * new_h, there * new_c
        return self.classes(self._cell(self._features(x), h, c)[0])

    def _cell(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """One step of an LSTM (Hochreiter and Schmidhuber 1997; gates input, forget, cell, output)."""
        i, f, g, o = self.gates(torch.cat([x, h], -1)).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


def balance(label_PM: Int[Tensor, "P M"], known_PM: Bool[Tensor, "P M"] | None = None, *,
            classes: int = 3) -> Float[Tensor, "P M"]:
    """Weights with mean 1 under which every class that a member has counts the same in total.

    Example:
        >>> balance(torch.tensor([[0, 2, 2, 2]])).tolist()
        [[2.0, 0.667, 0.667, 0.667]]
    """
    known = torch.ones_like(label_PM, dtype=torch.bool) if known_PM is None else known_PM
    count = torch.stack([((label_PM == k) & known).sum(-1) for k in range(classes)], -1).double()
    present = (count > 0).sum(-1, keepdim=True).clamp(min=1)
    weight = torch.where(count > 0, count.sum(-1, keepdim=True) / (present * count.clamp(min=1)), 0.0)
    return (weight.gather(-1, label_PM) * known).float()
