"""Where reward models meet noise: replies of a tiny language model, what a frozen encoder sees of them, and gold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.core.seeds import Seeds
from plaudit.optimize.align.small import SmallPolicy
from plaudit.zoo.letters import PROMPTS, features, helpfulness, replies, writer

if TYPE_CHECKING:
    from plaudit.zoo.secrets_rlhf_rm import SecretsConfig

SHARE = 0.5
"""How much the language model's states count beside what can be read off a reply: they bring most of the numbers."""


@dataclass(frozen=True, eq=False)
class World:
    """A language model that has learnt to write, as a policy and as a frozen backbone."""

    policy: SmallPolicy
    center_D: Float[Tensor, "D"]
    scale_D: Float[Tensor, "D"]

    @staticmethod
    def make(config: SecretsConfig, seeds: Seeds, *, device: str = "cpu") -> World:
        """Trains the writer; the scale of the states comes from its own replies."""
        policy = writer(seeds, hidden=config.hidden, updates=config.pretrain, device=device)
        said = policy.sample(PROMPTS, n=8, seed=seeds.child("scale"))
        raw = _raw(policy, list(said.columns["prompt"]), list(said.columns["completion"]))
        return World(policy, raw.mean(0), raw.std(0).clamp(min=1e-3))

    def states(self, prompts: list[str], said: list[str]) -> Float[Tensor, "B D"]:
        """What reward heads read: the model's last and mean states, and what can be read off a reply."""
        z = (_raw(self.policy, prompts, said) - self.center_D) / self.scale_D
        z[:, :2 * self.policy.hidden] *= SHARE
        return z


@torch.no_grad()
def _raw(policy: SmallPolicy, prompts: list[str], said: list[str]) -> Float[Tensor, "B D"]:
    parts: list[Tensor] = []
    for start in range(0, len(said), 2048):
        asked, texts = prompts[start:start + 2048], said[start:start + 2048]
        tokens = policy.tokens_of(asked, [policy.ids_of(t)[:policy.max_tokens] for t in texts])
        h, mask = policy.features(tokens), tokens.mask.unsqueeze(-1)
        last = h[torch.arange(tokens.B, device=h.device), tokens.last]
        mean = (h * mask).sum(1) / mask.sum(1)
        parts.append(torch.cat([last, mean, features(asked, texts).to(h.device)], 1))
    return torch.cat(parts)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Two replies each to n prompts."""

    x_N2D: Float[Tensor, "N 2 D"]
    gold_N2: Float[Tensor, "N 2"]

    @property
    def truth_N(self) -> Bool[Tensor, "N"]:
        """Whether the first is better."""
        return self.gold_N2[:, 0] > self.gold_N2[:, 1]

    @property
    def gap_N(self) -> Float[Tensor, "N"]:
        """By how much."""
        return self.gold_N2[:, 0] - self.gold_N2[:, 1]


def people(world: World, n: int, seeds: Seeds, *, care: float = 0.55) -> Pairs:
    """Pairs of replies as people write them, with more or less care."""
    rng = seeds.child("prompts").numpy()
    asked = [PROMPTS[i] for i in rng.integers(len(PROMPTS), size=n)]
    said = [replies(asked, seeds.child("reply", k), care=care) for k in range(2)]
    return Pairs(torch.stack([world.states(asked, s) for s in said], 1),
                 torch.stack([helpfulness(features(asked, s)) for s in said], 1).to(world.policy.device))


def labels(gap_N: Float[Tensor, "N"], seeds: Seeds, *, temperature: float,
           flips: float) -> tuple[Float[Tensor, "N"], Bool[Tensor, "N"]]:
    """What annotators say, and which labels were turned round on top: more flips turn round the same and others.

    Example:
        >>> said, flipped = labels(torch.tensor([5.0, -5.0]), Seeds(0), temperature=0.1, flips=0.0)
        >>> said, flipped
        (tensor([1., 0.]), tensor([False, False]))
    """
    rng = seeds.numpy()
    drawn, turned = torch.from_numpy(rng.random((2, len(gap_N)))).to(gap_N.device)
    said, flipped = drawn < torch.sigmoid(gap_N.double() / temperature), turned < flips
    return (said ^ flipped).float(), flipped


@dataclass(frozen=True, eq=False)
class Pool:
    """All that the policy is taken to write: N replies to each of G prompts, of which a policy is a weighting."""

    x_GND: Float[Tensor, "G N D"]
    gold_GN: Float[Tensor, "G N"]


def pool(world: World, n: int, seeds: Seeds) -> Pool:
    """Samples of the writer."""
    tokens = world.policy.sample(PROMPTS, n=n, seed=seeds)
    asked, said = list(tokens.columns["prompt"]), list(tokens.columns["completion"])
    return Pool(world.states(asked, said).view(len(PROMPTS), n, -1),
                helpfulness(features(asked, said)).view(len(PROMPTS), n).to(world.policy.device))
