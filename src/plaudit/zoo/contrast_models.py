"""Small reward models: prompt and answer as bags of words that are multiplied; all arms of a seed side by side."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from plaudit.core.seeds import Seeds
from plaudit.core.stacked import PopulationMLP
from plaudit.core.stacked_adam import MemberNoise, PopulationAdam
from plaudit.core.tokens import plain_text
from plaudit.feedback.records import Preference
from plaudit.learn.losses import pair_loss
from plaudit.zoo import contrast_world as world

if TYPE_CHECKING:
    from plaudit.zoo.contrast_instructions import ContrastConfig

Row = tuple[str, str]
"""A prompt and an answer."""
TOKEN = re.compile(r"\w+|\S")
UNSEEN = 32
"""Buckets of words that are not in the vocabulary, such as misspelt ones."""


def _vocabulary() -> dict[str, int]:
    said = [*world.PLACE, *world.COLOURS, *world.KINDS, *world.NUMBERS, *world.FORMS, *world.VERBS, *world.OPENINGS,
            *world.CLOSINGS, *world.REFUSALS, *world.NOISE, *world.SYNONYMS,
            *(w for some in world.SYNONYMS.values() for w in some), "- ."]
    return {w: i for i, w in enumerate(dict.fromkeys(w for text in said for w in TOKEN.findall(text.lower())))}


VOCABULARY = _vocabulary()
WIDTH = len(VOCABULARY) + UNSEEN


@lru_cache(maxsize=20_000)
def _ids(text: str) -> tuple[int, ...]:
    return tuple(VOCABULARY.get(w, len(VOCABULARY) + zlib.crc32(w.encode()) % UNSEEN)
                 for w in TOKEN.findall(text.lower()))


def counts(texts: Sequence[str]) -> Float[Tensor, "N V"]:
    """How often each word occurs."""
    out = np.zeros((len(texts), WIDTH), dtype=np.float32)
    for n, text in enumerate(texts):
        out[n] = np.bincount(_ids(text), minlength=WIDTH)
    return torch.from_numpy(out)


def sides(record: Preference) -> tuple[Row, Row]:
    """Better and worse row of a pair, whose prompts may differ where the options are whole conversations."""
    rows = [(plain_text(o[:1]), plain_text(o)) if isinstance(o, list) else (plain_text(record.context), plain_text(o))
            for o in record.options]
    return (rows[0], rows[1]) if (record.label or 0.0) >= 0.5 else (rows[1], rows[0])


@dataclass(eq=False)
class Readers:
    """P models: value = MLP(e(I) * e(r), e(r), e(I)), e = sum of the vectors of the words."""

    words: Tensor
    """[P, 2 V d]: the vectors of words in prompts and in answers."""
    net: PopulationMLP
    dim: int

    @staticmethod
    def make(P: int, seeds: Seeds, *, dim: int, hidden: int, device: str = "cpu") -> Readers:
        """All begin alike: what differs is what they are trained on."""
        one = torch.randn(2 * WIDTH * dim, generator=seeds.child("words").torch()) * 0.3
        net = PopulationMLP((3 * dim, hidden, 1), activation="tanh", device=device,
                            generators=[seeds.child("net").torch() for _ in range(P)])
        return Readers(one.to(device).repeat(P, 1).requires_grad_(), net, dim)

    def __call__(self, prompt: Float[Tensor, "P N V"], answer: Float[Tensor, "P N V"]) -> Float[Tensor, "P N"]:
        P = len(self.words)
        asked, said = self.words.view(P, 2, WIDTH, self.dim).unbind(1)
        e, f = torch.bmm(prompt, asked), torch.bmm(answer, said)
        return self.net(torch.cat([e * f, f, e], -1))[..., 0]

    @torch.no_grad()
    def score(self, rows: Sequence[Row], *, block: int = 512) -> Float[Tensor, "P N"]:
        """The rewards of every model, on the host."""
        P, out = len(self.words), list[Tensor]()
        for start in range(0, len(rows), block):
            part = rows[start:start + block]
            asked, said = (counts([row[k] for row in part]).to(self.words.device).expand(P, -1, -1) for k in (0, 1))
            out.append(self(asked, said))
        return torch.cat(out, 1).cpu()


def fit(config: ContrastConfig, data: Sequence[Sequence[Preference]], seeds: Seeds, *, device: str = "cpu") -> Readers:
    """One model for each data set: the same start, batches, updates and step size for all (Bradley-Terry)."""
    rows = [[sides(r) for r in records] for records in data]
    every = dict.fromkeys(t for some in rows for pair in some for row in pair for t in row)
    texts = {t: i for i, t in enumerate(every)}
    table = counts(list(texts)).to(device)
    places = [torch.tensor([[[texts[t] for t in row] for row in pair] for pair in some], device=device)
              for some in rows]
    P = len(data)
    model = Readers.make(P, seeds.child("init"), dim=config.dim, hidden=config.hidden, device=device)
    adam = PopulationAdam([model.words, model.net.flat], eps=1e-8)
    noise = MemberNoise([seeds.child("batch")] * P, device=device)
    for step in range(config.steps):
        uniform = noise.uniform(config.batch)
        chosen: Int[Tensor, "P b 2 2"] = torch.stack([x[(u * len(x)).long()]
                                                      for x, u in zip(places, uniform, strict=True)])
        asked, said = (table[chosen[..., k]].flatten(1, 2) for k in (0, 1))
        value = model(asked, said).view(P, config.batch, 2)
        gap = value[..., 0] - value[..., 1]
        decay = config.decay * (model.words.square().sum(1) + model.net.flat.square().sum(1))
        (pair_loss(gap, torch.ones_like(gap)).mean(1) + decay).sum().backward()
        rate = config.lr * 0.5 * (1 + np.cos(np.pi * step / config.steps))
        adam.step(lr=torch.full((P,), rate, device=device), max_norm=torch.ones(P, device=device))
    return model
