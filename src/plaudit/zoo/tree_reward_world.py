"""A language of short words with a strong prefix structure, whose answers are worth what their words are worth.

A word is a stem of two letters, an ending and a blank. Stems belong to topics and answers keep to theirs; endings
persist too, so the first words say much about the later ones. What a stem is worth depends on it alone; an ending is
worth something in one register, which the prompt's first letter decides, and costs as much in the other; to say the
same stem twice running costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from plaudit.core.seeds import Seeds
from plaudit.core.tokens import Tokens
from plaudit.optimize.align.policy import imitate
from plaudit.optimize.align.small import SmallPolicy

LETTERS, ENDINGS = "abcdef", "ghij"
ALPHABET = LETTERS + ENDINGS + " "
PROMPTS = ["".join(p) for p in product(LETTERS, repeat=3)]
WORDS = 5
"""The most words of an answer."""
TOPICS, STEMS = 3, 4
LONGEST = 4 * WORDS + 1
KEPT_TOPIC, KEPT_ENDING, STOP = 0.85, 0.6, 0.1


@dataclass(frozen=True, eq=False)
class World:
    """What is worth what; drawn anew for each seed."""

    stems: list[str]
    """Topic by topic."""
    stem_worth: dict[str, float]
    ending_worth: dict[str, float]

    @staticmethod
    def make(seeds: Seeds) -> World:
        rng = seeds.numpy()
        every = ["".join(p) for p in product(LETTERS, repeat=2)]
        stems = [every[i] for i in rng.permutation(len(every))[:TOPICS * STEMS]]
        topic = np.repeat(rng.permutation([-0.4, 0.0, 0.4]), STEMS)
        own = topic + rng.normal(0, 0.6, size=len(stems))
        endings = rng.permutation([-0.6, -0.2, 0.2, 0.6])
        return World(stems, dict(zip(stems, own.tolist(), strict=True)),
                     dict(zip(ENDINGS, endings.tolist(), strict=True)))

    def gold(self, prompt: str, answer: str) -> float:
        """The sum over words."""
        register = 1.0 if prompt[0] in LETTERS[:3] else -1.0
        total, before = 0.0, ""
        for word in answer.split():
            stem, ending = word[:2], word[2:]
            total += self.stem_worth.get(stem, -0.5) + register * self.ending_worth.get(ending, -0.5)
            total -= 0.5 * (stem == before)
            before = stem
        return total

    def written(self, rng: np.random.Generator) -> str:
        """An answer as the language has it."""
        topic, ending, out = int(rng.integers(TOPICS)), str(rng.choice(list(ENDINGS))), ""
        for k in range(WORDS):
            topic = topic if rng.random() < KEPT_TOPIC else int(rng.integers(TOPICS))
            ending = ending if rng.random() < KEPT_ENDING else str(rng.choice(list(ENDINGS)))
            out += self.stems[topic * STEMS + int(rng.integers(STEMS))] + ending + " "
            if k >= 2 and rng.random() < STOP:
                break
        return out

    def policy(self, seeds: Seeds, *, hidden: int, texts: int, updates: int, device: str = "cpu") -> SmallPolicy:
        """A recurrent model of characters that has learnt the language from scratch."""
        rng = seeds.child("texts").numpy()
        policy = SmallPolicy(ALPHABET, hidden=hidden, max_tokens=LONGEST, seed=seeds.child("policy"), device=device)
        prompts = [PROMPTS[int(i)] for i in rng.integers(len(PROMPTS), size=texts)]
        said = [policy.encode(self.written(rng)) for _ in prompts]
        rows: Tokens = policy.tokens_of(prompts, [[*s, policy.end][:LONGEST] for s in said])
        imitate(policy, rows, updates=updates, seed=seeds.child("imitate"))
        return policy

    def judge(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> list[float]:
        """By how much each first answer is better."""
        return [self.gold(p, a) - self.gold(p, b) for p, a, b in zip(prompts, first, second, strict=True)]
