"""From the outputs of a policy network to actions: categorical, Gaussian, squashed Gaussian, greedy.

Actions here are *raw*: [P, N, K], integers for choices and numbers in the policy's own units (about [-1, 1])
otherwise. `spaces.ActionMap` turns them into the environment's.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from plaudit.optimize.rl.optimiser import MemberNoise

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
_LOG_STD = (-20.0, 2.0)


class Head(ABC):
    """A family of distributions over raw actions, given by the outputs of a network."""

    outputs: int
    """How many numbers of the network describe one distribution."""
    actions: int
    """K, the number of entries of a raw action."""

    @abstractmethod
    def noise(self, source: MemberNoise, *shape: int) -> Float[Tensor, "P ... K"]:
        """The random numbers that `sample` turns into actions."""

    @abstractmethod
    def of_uniform(self, uniform: Float[Tensor, "... K"]) -> Float[Tensor, "... K"]:
        """The same noise made of uniform numbers in [0, 1)."""

    @abstractmethod
    def sample(self, out: Float[Tensor, "... O"], noise: Float[Tensor, "... K"]) -> Tensor:
        """Raw actions [..., K]."""

    @abstractmethod
    def mode(self, out: Float[Tensor, "... O"]) -> Tensor:
        """The most probable raw action (its centre for a squashed Gaussian)."""

    @abstractmethod
    def log_prob_and_entropy(self, out: Float[Tensor, "... O"], raw: Tensor) -> tuple[Tensor, Tensor]:
        """log pi(raw) and the entropy, both [...], in nats."""


class Categorical(Head):
    """One choice, or several independent ones (`MultiDiscrete`), from their logits.

    Example:
        >>> head = Categorical([2])
        >>> logp, entropy = head.log_prob_and_entropy(torch.zeros(1, 1, 2), torch.zeros(1, 1, 1))
        >>> logp.item(), entropy.item()
        (-0.693, 0.693)
    """

    def __init__(self, choices: Sequence[int]) -> None:
        self.choices = [int(n) for n in choices]
        self.outputs, self.actions = sum(self.choices), len(self.choices)

    def noise(self, source: MemberNoise, *shape: int) -> Float[Tensor, "P ... K"]:
        return source.uniform(*shape, self.actions)

    def of_uniform(self, uniform: Float[Tensor, "... K"]) -> Float[Tensor, "... K"]:
        return uniform

    def sample(self, out: Float[Tensor, "... O"], noise: Float[Tensor, "... K"]) -> Tensor:
        parts: list[Tensor] = []
        for k, logits in enumerate(self._split(out)):
            below = torch.softmax(logits, -1).cumsum(-1)[..., :-1]
            parts.append((noise[..., k:k + 1] >= below).sum(-1))
        return torch.stack(parts, -1)

    def mode(self, out: Float[Tensor, "... O"]) -> Tensor:
        return torch.stack([logits.argmax(-1) for logits in self._split(out)], -1)

    def log_prob_and_entropy(self, out: Float[Tensor, "... O"], raw: Tensor) -> tuple[Tensor, Tensor]:
        logps: list[Tensor] = []
        entropies: list[Tensor] = []
        for k, logits in enumerate(self._split(out)):
            log_p = torch.log_softmax(logits, -1)
            logps.append(log_p.gather(-1, raw[..., k:k + 1].long()).squeeze(-1))
            entropies.append(-(log_p.exp() * log_p).sum(-1))
        if len(logps) == 1:
            return logps[0], entropies[0]
        return torch.stack(logps).sum(0), torch.stack(entropies).sum(0)

    def _split(self, out: Tensor) -> Sequence[Tensor]:
        return (out,) if self.actions == 1 else out.split(self.choices, -1)


class Gaussian(Head):
    """Independent normals from their means and log standard deviations (the second half of the outputs)."""

    def __init__(self, actions: int) -> None:
        self.actions, self.outputs = actions, 2 * actions

    def noise(self, source: MemberNoise, *shape: int) -> Float[Tensor, "P ... K"]:
        return source.normal(*shape, self.actions)

    def of_uniform(self, uniform: Float[Tensor, "... K"]) -> Float[Tensor, "... K"]:
        return math.sqrt(2) * torch.erfinv((2 * uniform - 1).clamp(-1 + 1e-6, 1 - 1e-6))

    def sample(self, out: Float[Tensor, "... O"], noise: Float[Tensor, "... K"]) -> Tensor:
        mean, log_std = self._split(out)
        return mean + log_std.exp() * noise

    def mode(self, out: Float[Tensor, "... O"]) -> Tensor:
        return self._split(out)[0]

    def log_prob_and_entropy(self, out: Float[Tensor, "... O"], raw: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self._split(out)
        z = (raw - mean) * (-log_std).exp()
        logp = -(0.5 * z * z + log_std + _HALF_LOG_TAU).sum(-1)
        return logp, (log_std + 0.5 + _HALF_LOG_TAU).sum(-1)

    def _split(self, out: Tensor) -> tuple[Tensor, Tensor]:
        return out[..., :self.actions], out[..., self.actions:]


class SquashedGaussian(Gaussian):
    """tanh of a Gaussian, within (-1, 1) (Haarnoja et al. 2018, appendix C); log std limited to [-20, 2]."""

    def sample(self, out: Float[Tensor, "... O"], noise: Float[Tensor, "... K"]) -> Tensor:
        return torch.tanh(super().sample(out, noise))

    def mode(self, out: Float[Tensor, "... O"]) -> Tensor:
        return torch.tanh(super().mode(out))

    def sample_with_log_prob(self, out: Float[Tensor, "... O"],
                             noise: Float[Tensor, "... K"]) -> tuple[Tensor, Float[Tensor, "..."]]:
        """Reparameterised actions and log pi: the Gaussian's minus sum log(1 - tanh(u)^2), without cancellation."""
        mean, log_std = self._split(out)
        u = mean + log_std.exp() * noise
        gaussian = -(0.5 * noise * noise + log_std + _HALF_LOG_TAU).sum(-1)
        return torch.tanh(u), gaussian - (2 * (math.log(2) - u + F.logsigmoid(2 * u))).sum(-1)

    def sample_gradient(self, out: Float[Tensor, "... O"], noise: Float[Tensor, "... K"], *,
                        raw: Float[Tensor, "... K"], grad_raw: Float[Tensor, "... K"],
                        grad_logp: Float[Tensor, "..."]) -> Float[Tensor, "... O"]:
        """The gradient of the outputs, from those of the actions `raw` and of the log pi that were sampled.

        d raw / du = 1 - raw^2 and d log pi / du = 2 raw, where u = mean + std * noise; log pi also falls by log std.
        """
        log_std = super()._split(out)[1]
        grad_logp = grad_logp.unsqueeze(-1)
        grad_u = torch.addcmul(2 * raw * grad_logp, grad_raw, 1 - raw * raw)
        grad_log_std = grad_u * log_std.clamp(*_LOG_STD).exp() * noise - grad_logp
        inside = (log_std >= _LOG_STD[0]) & (log_std <= _LOG_STD[1])
        return torch.cat([grad_u, grad_log_std * inside], -1)

    def log_prob_and_entropy(self, out: Float[Tensor, "... O"], raw: Tensor) -> tuple[Tensor, Tensor]:
        """log pi(raw), and minus that as the one-sample estimate of the entropy, which has no closed form."""
        raw = raw.clamp(-1 + 1e-6, 1 - 1e-6)
        logp = super().log_prob_and_entropy(out, torch.atanh(raw))[0] - torch.log1p(-raw * raw).sum(-1)
        return logp, -logp

    def _split(self, out: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = super()._split(out)
        return mean, log_std.clamp(*_LOG_STD)


class Greedy(Categorical):
    """The choice of the largest value; what is sampled is uniformly random, for exploration."""

    def sample(self, out: Float[Tensor, "... O"], noise: Float[Tensor, "... K"]) -> Tensor:
        return super().sample(torch.zeros_like(out), noise)
