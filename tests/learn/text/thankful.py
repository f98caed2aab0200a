"""Users who thank for what is good and complain of what is bad: the planted truth of follow-up likelihoods."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from plaudit.feedback.records import Preference
from plaudit.feedback.text.spoken import SpokenFeedback
from plaudit.learn.text.follow_ups import FollowUps
from plaudit.learn.text.models import tiny_llama

SAID = FollowUps.of({"goodness": {"positive": ["Thanks, great.", "Yes, right."],
                                  "negative": ["No, wrong.", "That is bad."]},
                     "noise": {"positive": ["The sky is blue."], "negative": ["A dog is red."]}})
WORDS = ("red", "green", "blue", "cat", "dog", "house", "tree", "sky")


def base_model(folder: Path) -> Path:
    """A random Llama that knows these words as tokens."""
    corpus = [" ".join(WORDS) + " good bad Say thing. " + " ".join(SAID.texts)] * 3
    return tiny_llama(folder, hidden=32, vocab=420, corpus=corpus)


def words(rng: random.Random, word: str) -> str:
    said = [rng.choice(WORDS) for _ in range(rng.randint(1, 4))]
    said.insert(rng.randrange(len(said) + 1), word)
    return " ".join(said)


def spoken(n: int, seed: int = 0) -> list[SpokenFeedback]:
    rng = random.Random(seed)
    out = []
    for i in range(n):
        good = rng.random() < 0.5
        bank = SAID.banks["goodness"]
        out.append(SpokenFeedback(f"Say thing {i % 20}.", words(rng, "good" if good else "bad"),
                                  rng.choice(bank.positive if good else bank.negative)))
    return out


def pairs(n: int, seed: int = 1) -> list[Preference]:
    rng = random.Random(seed)
    return [Preference(options=(words(rng, "good"), words(rng, "bad")), context=f"Say thing {i % 20}.", label=1.0)
            for i in range(n)]


def accuracy(gap: torch.Tensor) -> float:
    return float(((gap > 0).double() + 0.5 * (gap == 0)).mean())
