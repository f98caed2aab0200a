"""Families of policies that a vector of N numbers describes, so that a search may work on the numbers alone.

Letters: K candidates, N parameters of one, B rows, D observation features, U hidden units, O outputs.
The rows of a batch belong to the candidates in order: e = B / K rows each.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.tree import Tree
from plaudit.optimize.rl.spaces import ActionMap, ObsEncoder

_CLIP = 10.0


class Lens:
    """Observations as comparable numbers: encoded, centred and scaled by what random behaviour saw.

    Where observations are images or text (no fixed number of features) there is nothing to see: D = 0.

    Args:
        encoder: observations to [B, D], or None.
    """

    def __init__(self, encoder: ObsEncoder | None) -> None:
        self.encoder = encoder
        self.size = 0 if encoder is None else encoder.size
        self.mean, self.scale = torch.zeros(self.size), torch.ones(self.size)

    def focus(self, obs_ND: Float[Tensor, "N D"]) -> None:
        """Measures centre and scale on encoded observations; features that hardly move keep the scale 1."""
        if not self.size:
            return
        spread = obs_ND.double().std(0, correction=0).float()
        self.mean = obs_ND.double().mean(0).float()
        self.scale = torch.where(spread > 1e-4 * (1 + self.mean.abs()), spread, 1.0)

    def encode(self, obs: Tree) -> Tensor:
        """Raw features [B, D]."""
        if self.encoder is None:
            leaf = obs
            while not isinstance(leaf, Tensor):
                leaf = next(iter(leaf.values()))
            return torch.zeros(leaf.shape[0], 0)
        return self.encoder(obs)

    def __call__(self, obs: Tree) -> Tensor:
        """Comparable features [B, D], limited to 10 scales from the centre (and to 0 where they are not finite)."""
        return torch.nan_to_num((self.encode(obs) - self.mean) / self.scale).clamp(-_CLIP, _CLIP)


class Family(ABC):
    """Policies [K, N] -> actions. `describe` is the phrase that names the family."""

    size: int
    """N."""
    describe: str

    def __init__(self, actions: ActionMap) -> None:
        self.actions = actions
        self.outputs = actions.actions if actions.choices is None else sum(actions.choices)

    @abstractmethod
    def raw(self, theta_KN: Tensor, obs: Tree, step: int, each: int) -> Tensor:
        """The outputs [K, e, O] for e = `each` rows of every candidate."""

    def policy(self, theta_KN: Float[Tensor, "K N"]) -> FamilyPolicy:
        """The K candidates side by side."""
        return FamilyPolicy(self, theta_KN)

    def to_env(self, out: Tensor) -> Tensor:
        """Outputs [K, e, O] to actions [K * e, ...] of the task: clipped numbers, or the largest of each choice."""
        out = out.reshape(-1, self.outputs)
        if self.actions.choices is None:
            return self.actions.to_env(out)
        if len(self.actions.choices) == 1:
            return self.actions.to_env(out.argmax(-1, keepdim=True))
        return self.actions.to_env(torch.stack([part.argmax(-1) for part in out.split(self.actions.choices, -1)], -1))


class FamilyPolicy:
    """K candidates of a family as one Policy; rows are shared out among them evenly, in order."""

    def __init__(self, family: Family, theta_KN: Float[Tensor, "K N"]) -> None:
        if theta_KN.ndim != 2 or theta_KN.shape[1] != family.size:
            raise BadInput("theta_KN", expected=f"shape [K, {family.size}]", received=list(theta_KN.shape))
        self.family, self.theta_KN = family, theta_KN

    def start(self, rows: int) -> int:
        """The rows of each candidate."""
        K = self.theta_KN.shape[0]
        if rows % K:
            raise BadInput("rows", expected=f"a multiple of the {K} candidates", received=rows)
        return rows // K

    def act(self, obs: Tree, carry: int, *, step: int) -> tuple[Tensor, int]:
        """Actions [K * e, ...]."""
        return self.family.to_env(self.family.raw(self.theta_KN, obs, step, carry)), carry


class Network(Family):
    """Affine policies of what is seen, or small networks with one hidden layer (tanh).

    Args:
        lens: how observations are seen.
        actions: outputs to actions.
        hidden: U, 0 for affine policies.

    Example:
        >>> import gymnasium
        >>> lens = Lens(ObsEncoder(gymnasium.spaces.Box(-1, 1, (3,))))
        >>> family = Network(lens, ActionMap(gymnasium.spaces.Discrete(2)))
        >>> policy = family.policy(torch.zeros(4, family.size))
        >>> family.size, policy.act(torch.zeros(8, 3), policy.start(8), step=0)[0].shape
        (4, torch.Size([8]))
    """

    def __init__(self, lens: Lens, actions: ActionMap, *, hidden: int = 0) -> None:
        super().__init__(actions)
        self.lens, self.hidden = lens, hidden
        self.two = actions.choices == [2]
        D, U, O = lens.size, hidden, 1 if self.two else self.outputs  # noqa: E741
        self.shapes = [(D, O), (1, O)] if not U else [(D, U), (1, U), (U, O), (1, O)]
        self.size = sum(math.prod(s) for s in self.shapes)
        self.describe = "linear policy" if not U else f"network of {U} units"

    def raw(self, theta_KN: Tensor, obs: Tree, step: int, each: int) -> Tensor:
        K = theta_KN.shape[0]
        parts = theta_KN.split([math.prod(s) for s in self.shapes], -1)
        weights = [p.reshape(K, *s) for p, s in zip(parts, self.shapes, strict=True)]
        x = self.lens(obs).reshape(K, each, self.lens.size)
        for i in range(0, len(weights), 2):
            x = torch.baddbmm(weights[i + 1], x, weights[i])
            if i < len(weights) - 2:
                x = torch.tanh(x)
        return torch.cat([torch.zeros_like(x), x], -1) if self.two else x


class Rhythm(Family):
    """Open loop, for numbers: each action a sine with its own centre, height and phase, all with one period.

    Parameters: the logarithm of the period, then centre, height and phase of each output.

    Args:
        actions: outputs to actions.
        longest: the longest period in steps, above 4.
    """

    def __init__(self, actions: ActionMap, *, longest: int = 100) -> None:
        super().__init__(actions)
        if actions.choices is not None:
            raise BadInput("actions", expected="a box; choices have Table", received=actions.space)
        self.longest = max(5, longest)
        self.size, self.describe = 1 + 3 * self.outputs, "rhythm without looking"

    def period(self, theta_KN: Tensor) -> Tensor:
        """Steps [K], from 2 to `longest`."""
        low, high = math.log(2.0), math.log(self.longest)
        return torch.exp(low + (high - low) * torch.sigmoid(theta_KN[:, 0]))

    def raw(self, theta_KN: Tensor, obs: Tree, step: int, each: int) -> Tensor:
        centre, height, phase = theta_KN[:, 1:].reshape(-1, 3, self.outputs).unbind(1)
        angle = (2 * math.pi * step) / self.period(theta_KN).unsqueeze(-1) + math.pi * phase
        return (centre + height * torch.sin(angle)).unsqueeze(1).expand(-1, each, -1)


class Table(Family):
    """Open loop, for choices: a table of `longest` steps that is repeated, its length a parameter too.

    Args:
        actions: outputs to actions.
        longest: the largest length in steps.
    """

    def __init__(self, actions: ActionMap, *, longest: int = 12) -> None:
        super().__init__(actions)
        self.longest = longest
        self.size, self.describe = 1 + longest * self.outputs, "repeated sequence"

    def raw(self, theta_KN: Tensor, obs: Tree, step: int, each: int) -> Tensor:
        length = (1 + torch.sigmoid(theta_KN[:, 0]) * self.longest).long().clamp(max=self.longest)
        table = theta_KN[:, 1:].reshape(-1, self.longest, self.outputs)
        now = table[torch.arange(table.shape[0]), step % length]
        return now.unsqueeze(1).expand(-1, each, -1)


class Segments(Family):
    """Open loop: a few stretches of one action each, the last of them held to the end. Walks somewhere and stays.

    Parameters: for each stretch its length (on a scale of logarithms) and its outputs.

    Args:
        actions: outputs to actions.
        segments: how many stretches.
        longest: the longest stretch but the last, in steps.
    """

    def __init__(self, actions: ActionMap, *, segments: int = 8, longest: int = 25) -> None:
        super().__init__(actions)
        self.segments, self.longest = segments, max(1, longest)
        self.size, self.describe = segments * (1 + self.outputs), f"{segments} stretches"

    def ends(self, theta_KN: Tensor) -> Tensor:
        """The step before which each stretch ends, [K, segments]."""
        share = torch.sigmoid(theta_KN[:, :self.segments] - 1.0)
        return torch.exp(share * math.log(self.longest + 1)).floor().cumsum(-1)

    def raw(self, theta_KN: Tensor, obs: Tree, step: int, each: int) -> Tensor:
        now = (self.ends(theta_KN) <= step).sum(-1).clamp(max=self.segments - 1)
        outputs = theta_KN[:, self.segments:].reshape(-1, self.segments, self.outputs)
        return outputs[torch.arange(len(outputs)), now].unsqueeze(1).expand(-1, each, -1)


def families(lens: Lens, actions: ActionMap, *, horizon: int) -> list[Family]:
    """The families that fit a task, the simplest first."""
    loop: Any = Rhythm(actions, longest=min(200, horizon)) if actions.choices is None else \
        Table(actions, longest=max(2, min(12, horizon)))
    seeing = [Network(lens, actions), Network(lens, actions, hidden=8)] if lens.size else []
    return [*seeing, loop, Segments(actions, longest=max(1, horizon // 4))]
