"""Small transformers of characters that read a prompt and an answer: the reward models of all arms side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from plaudit.core.seeds import Seeds
from plaudit.core.stacked_adam import MemberNoise, PopulationAdam
from plaudit.feedback.records import Preference
from plaudit.learn.losses import pair_loss
from plaudit.zoo.tree_reward_world import ALPHABET, LONGEST

Row = tuple[str, str]
"""A prompt and an answer."""
NUMBER = {c: i + 1 for i, c in enumerate(ALPHABET)}
WIDTH = 3 + LONGEST
"""Characters of a prompt and of the longest answer."""


def encoded(rows: Sequence[Row]) -> Int[Tensor, "N T"]:
    """Characters by number, 0 behind the end."""
    out = np.zeros((len(rows), WIDTH), dtype=np.int64)
    for n, (prompt, answer) in enumerate(rows):
        ids = [NUMBER[c] for c in prompt + answer]
        out[n, :len(ids)] = ids
    return torch.from_numpy(out)


@dataclass(eq=False)
class Population:
    """P transformers with one block each, as in Vaswani et al. (2017) with the normalisation before each part.

    The reward is a linear function of the sum of what stands at the places of the answer, as answers are worth sums.
    """

    flat: Float[Tensor, "P W"]
    dim: int
    heads: int

    @staticmethod
    def shapes(dim: int) -> dict[str, tuple[int, ...]]:
        return {"letters": (len(ALPHABET) + 1, dim), "places": (WIDTH, dim), "qkv": (dim, 3 * dim), "out": (dim, dim),
                "up": (dim, 2 * dim), "up_bias": (1, 2 * dim), "down": (2 * dim, dim), "down_bias": (1, dim),
                "gain_1": (1, dim), "gain_2": (1, dim), "gain_3": (1, dim), "head": (dim, 1)}

    @staticmethod
    def make(P: int, seeds: Seeds, *, dim: int, heads: int, device: str = "cpu") -> Population:
        """All begin alike: what differs is what they are trained on."""
        generator, parts = seeds.torch(), list[Tensor]()
        for name, shape in Population.shapes(dim).items():
            if name.startswith("gain"):
                parts.append(torch.ones(shape))
            elif name.endswith("bias"):
                parts.append(torch.zeros(shape))
            else:
                size = 0.5 if name == "letters" else 0.1 if name in ("places", "head") else shape[0] ** -0.5
                parts.append(torch.randn(shape, generator=generator) * size)
        flat = torch.cat([p.flatten() for p in parts]).to(device)
        return Population(flat.repeat(P, 1).requires_grad_(), dim, heads)

    def __call__(self, ids: Int[Tensor, "P N T"]) -> Float[Tensor, "P N"]:
        shapes = self.shapes(self.dim)
        pieces = torch.split(self.flat, [math.prod(s) for s in shapes.values()], -1)
        w = {name: piece.view(-1, *shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
        P, N, T = ids.shape
        there = ids > 0
        letter = (ids + torch.arange(P, device=ids.device).view(P, 1, 1) * (len(ALPHABET) + 1)).flatten()
        x = F.embedding(letter, w["letters"].flatten(0, 1)).view(P, N, T, -1) + w["places"].unsqueeze(1)
        x = x.view(P, N * T, self.dim)
        qkv = torch.bmm(F.layer_norm(x, (self.dim,)) * w["gain_1"], w["qkv"])
        q, k, v = qkv.view(P * N, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        score = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        score = score.masked_fill(~there.view(P * N, 1, 1, T), -torch.inf)
        seen = (score.softmax(-1) @ v).transpose(1, 2).reshape(P, N * T, self.dim)
        x = x + torch.bmm(seen, w["out"])
        inner = F.gelu(torch.baddbmm(w["up_bias"], F.layer_norm(x, (self.dim,)) * w["gain_2"], w["up"]))
        x = x + torch.baddbmm(w["down_bias"], inner, w["down"])
        x = F.layer_norm(x, (self.dim,)) * w["gain_3"]
        answer = there & (torch.arange(T, device=ids.device) >= 3)
        total = (x.view(P, N, T, -1) * answer.unsqueeze(-1)).sum(2) / 8
        return torch.bmm(total, w["head"])[..., 0]

    @torch.no_grad()
    def score(self, rows: Sequence[Row], *, block: int = 256) -> Float[Tensor, "P N"]:
        """The rewards of every model, on the host."""
        ids, P = encoded(rows).to(self.flat.device), len(self.flat)
        return torch.cat([self(ids[i:i + block].expand(P, -1, -1)) for i in range(0, len(ids), block)], 1).cpu()


def fit(data: Sequence[Sequence[Preference]], seeds: Seeds, *, dim: int, heads: int, steps: int, batch: int, lr: float,
        decay: float, device: str = "cpu") -> Population:
    """One model for each preference set: the same start, draws, updates and step size for all (Bradley-Terry)."""
    P = len(data)
    sets = [encoded([(str(r.context), str(o)) for r in some for o in r.options]).view(len(some), 2, -1).to(device)
            for some in data]
    labels = [torch.tensor([r.label for r in some], device=device) for some in data]
    model = Population.make(P, seeds.child("init"), dim=dim, heads=heads, device=device)
    adam, noise = PopulationAdam([model.flat], eps=1e-8), MemberNoise([seeds.child("batch")] * P, device=device)
    for step in range(steps):
        rows = [(u * len(y)).long() for u, y in zip(noise.uniform(batch), labels, strict=True)]
        ids = torch.stack([x[i] for x, i in zip(sets, rows, strict=True)])
        label = torch.stack([y[i] for y, i in zip(labels, rows, strict=True)])
        value = model(ids.flatten(1, 2)).view(P, batch, 2)
        pair_loss(value[..., 0] - value[..., 1], label).mean(1).sum().backward()
        rate = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        adam.step(lr=torch.full((P,), rate, device=device), max_norm=torch.ones(P, device=device))
        with torch.no_grad():
            model.flat.mul_(1 - rate * decay)
    return model
