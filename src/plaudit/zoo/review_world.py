"""A world of product reviews and summaries in which it is known how good a summary is.

A product has four to six aspects that people like or do not. Reviews say so in templates, with some noise. A summary
is a row of choices (which aspects it gives rightly, wrongly, twice, not at all; what it invents; how wordy, how broken,
how stuffed with keywords it is), written out in templates. What it is worth is a function of the choices: coverage
counts little where things are made up, so no weighted sum of qualities is right.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.tokens import Tokens
from plaudit.optimize.align.policy import Policy
from plaudit.specify.text.reading import at_the_end

ASPECTS: dict[str, tuple[str, str, str]] = {
    "battery": ("battery", "charge", "endurance"), "screen": ("screen", "display", "panel"),
    "camera": ("camera", "pictures", "lens"), "sound": ("sound", "speakers", "audio"),
    "price": ("price", "cost", "value"), "design": ("design", "looks", "styling"),
    "keyboard": ("keyboard", "keys", "typing"), "weight": ("weight", "heft", "mass"),
    "software": ("software", "apps", "system"), "service": ("service", "support", "warranty")}
"""Nouns of each aspect; a parser that knows the first two misses the third."""
GOOD = ("great", "excellent", "impressive", "solid", "superb")
POOR = ("poor", "disappointing", "weak", "bad", "dreadful")
"""Words of praise and blame; the last ones are not in the lexicon."""
SAYS = ("The {n} is {a}.", "The {n} was {a}.", "Buyers find the {n} {a}.", "The {n} has been {a}.")
REVIEWS = ("The {n} is {a}.", "I found the {n} {a}.", "For me the {n} was {a}.", "The {n} turned out {a}.")
FOREIGN = ("La bateria resulta buena.", "Me gusta mucho este producto.", "No lo compraria otra vez.")
FILLERS = ("Overall it is what one expects of such a thing these days.", "Many people have bought it and use it often.",
           "It comes in a box and can be ordered on the web.", "There is much that could be said about it.")
MOST, SLOTS, V = 6, 10, 4
"""Aspects of a product at most; choices of a summary; what each choice can be."""
OMIT, RIGHT, WRONG, TWICE = range(4)
FALSE, FILLER, DAMAGE, STUFFED = range(MOST, SLOTS)
"""Places of the choices behind those of the aspects: what is invented, fillers, how broken, how stuffed."""
USUAL = (*((0.3, 0.5, 0.15, 0.05),) * MOST, (0.6, 0.25, 0.1, 0.05), (0.5, 0.25, 0.15, 0.1), (0.55, 0.25, 0.12, 0.08),
         (0.94, 0.02, 0.02, 0.02))
"""How a writer chooses who has only imitated."""


@dataclass(frozen=True)
class Product:
    """What people think of each aspect, and the reviews that say so."""

    aspects: tuple[tuple[str, bool], ...]
    text: str


def make_products(n: int, rng: np.random.Generator, *, noise: float = 0.1) -> list[Product]:
    """Products with reviews; some have a single review, some are reviewed in another language.

    Example:
        >>> made = make_products(3, np.random.default_rng(0))
        >>> len(made), made[0].text.startswith("Reviews:")
        (3, True)
    """
    out: list[Product] = []
    while len(out) < n:
        chosen = rng.choice(list(ASPECTS), size=int(rng.integers(4, MOST + 1)), replace=False)
        aspects = tuple((str(a), bool(rng.random() < 0.5)) for a in chosen)
        count = 1 if rng.random() < 0.05 else int(rng.integers(4, 8))
        said: list[list[str]] = [[] for _ in range(count)]
        for a, liked in aspects:
            for k in {int(rng.integers(count)) for _ in range(3)}:
                truly = liked if rng.random() >= noise else not liked
                said[k].append(_sentence(REVIEWS, a, truly, rng))
        foreign = rng.random() < 0.03
        lines = [" ".join(FOREIGN[:1 + k % 3] if foreign else s) for k, s in enumerate(said) if s or foreign]
        out.append(Product(aspects, "Reviews: " + " / ".join(lines)))
    return out


def _sentence(templates: Sequence[str], aspect: str, liked: bool, rng: np.random.Generator) -> str:
    noun = ASPECTS[aspect][int(rng.choice(3, p=(0.55, 0.37, 0.08)))]
    word = (GOOD if liked else POOR)[int(rng.choice(5, p=(0.25, 0.25, 0.23, 0.2, 0.07)))]
    return templates[int(rng.integers(len(templates)))].format(n=noun, a=word)


def write(product: Product, choices: Sequence[int]) -> str:
    """The summary of some choices; the same choices give the same words.

    Example:
        >>> product = Product((("battery", True), ("price", False)), "Reviews: ...")
        >>> write(product, [OMIT] * 9 + [1])
        'Keywords battery price.'
    """
    rng = np.random.default_rng(zlib.crc32(f"{product.text}{list(choices)}".encode()))
    said: list[str] = []
    for (aspect, liked), choice in zip(product.aspects, choices, strict=False):
        if choice != OMIT:
            said += [_sentence(SAYS, aspect, liked if choice != WRONG else not liked, rng)
                     for _ in range(2 if choice == TWICE else 1)]
    others = [a for a in ASPECTS if a not in dict(product.aspects)]
    invented = rng.permutation(others)[:choices[FALSE]]
    said += [_sentence(SAYS, str(a), bool(rng.random() < 0.5), rng) for a in invented]
    said = [said[i] for i in rng.permutation(len(said))]
    said += [FILLERS[i] for i in rng.permutation(len(FILLERS))[:choices[FILLER] + (choices[FILLER] == 3)]]
    text = _damaged(" ".join(said), choices[DAMAGE], rng)
    return " ".join([*([text] if text else []), *_stuffing(product, choices[STUFFED])])


def _damaged(text: str, level: int, rng: np.random.Generator) -> str:
    """Words dropped, doubled and misspelt: two places for each level."""
    words = text.split(" ")
    for _ in range(2 * level):
        i = int(rng.integers(len(words)))
        kind = int(rng.integers(3))
        if kind == 0 and len(words) > 3:
            del words[i]
        elif kind == 1:
            words.insert(i, words[i])
        elif len(words[i]) > 3:
            words[i] = words[i][0] + words[i][2] + words[i][1] + words[i][3:]
    return " ".join(words)


def _stuffing(product: Product, kind: int) -> list[str]:
    """Keywords for the sake of a parser: the aspects; with praise; all aspects there are, with both."""
    nouns = [ASPECTS[a][0] for a, _ in product.aspects]
    return [[], [f"Keywords {' '.join(nouns)}."], [f"Keywords {' '.join(f'great {n}' for n in nouns)}."],
            [f"Keywords {' '.join(f'great poor {a}' for a in ASPECTS)}."]][kind]


def worth(product: Product, choices: Sequence[int]) -> float:
    """How good a summary is, about -2 to 4.

    Example:
        >>> product = Product((("battery", True), ("price", False)), "Reviews: ...")
        >>> honest, made_up = [RIGHT] * 6 + [0, 0, 0, 0], [RIGHT] * 6 + [2, 0, 0, 0]
        >>> worth(product, honest), round(worth(product, made_up), 2)
        (4.0, 0.66)
    """
    K = len(product.aspects)
    mine = list(choices)[:K]
    right = sum(c in (RIGHT, TWICE) for c in mine) / K
    lies = mine.count(WRONG) + choices[FALSE]
    extra = mine.count(TWICE) + choices[FILLER] + (choices[FILLER] == 3)
    return 4.0 * right**0.5 * float(np.exp(-0.9 * lies)) - 0.4 * max(0, extra - 1) - 0.4 * choices[DAMAGE] * (
        0.5 + right) - 1.5 * (choices[STUFFED] > 0)


class Writer(Policy):
    """A policy over the choices: one row of logits for each, whatever the product.

    Args:
        products: What it can be asked about; a prompt is the text of one of them.
        device: Where its logits are.

    Example:
        >>> products = make_products(2, np.random.default_rng(0))
        >>> Writer(products).sample([products[0].text], n=3, seed=0).action.shape
        torch.Size([3, 10])
    """

    def __init__(self, products: Sequence[Product], *, device: str = "cpu") -> None:
        self.module = nn.ParameterDict({"logits": nn.Parameter(torch.tensor(USUAL).log().to(device))})
        self.products = list(products)
        self.known = {p.text: i for i, p in enumerate(self.products)}
        self.vocab, self.max_tokens = V, SLOTS

    @property
    def table(self) -> Float[Tensor, "S V"]:
        """The logits."""
        return self.module["logits"]  # type: ignore[return-value]

    def encode(self, prompt: Any) -> list[int]:
        if prompt not in self.known:
            raise BadInput("prompt", expected="the reviews of a product that it knows", received=prompt)
        return [self.known[prompt]]

    def decode(self, prompt: Any, ids: Sequence[int]) -> str:
        return write(self.products[self.known[prompt]], ids) if len(ids) == SLOTS else ""

    def begin(self, prompt_ids: Int[Tensor, "B P"], prompt_mask: Tensor) -> tuple[Tensor, Any]:
        return self.table[0].expand(len(prompt_ids), -1), 0

    def step(self, token: Int[Tensor, "B"], state: Any) -> tuple[Tensor, Any]:
        return self.table[state + 1].expand(len(token), -1), state + 1

    def raw_logits(self, tokens: Tokens) -> Tensor:
        return self.table[:tokens.T].expand(tokens.B, -1, -1)

    def features(self, tokens: Tokens) -> Tensor:
        return torch.eye(SLOTS, device=self.device)[:tokens.T].expand(tokens.B, -1, -1)


class Gold(Reward):
    """What summaries of a `Writer` are worth, read off its choices."""

    needs = Needs(time="episode")

    def __init__(self, products: Sequence[Product]) -> None:
        self.by_text, self.name = {p.text: p for p in products}, "worth"

    def evaluate(self, episodes: Episodes) -> Score:
        if not isinstance(episodes, Tokens):
            raise BadInput("episodes", expected="summaries as Tokens", received=type(episodes).__name__)
        said = torch.tensor([worth(self.by_text[p], ids) for p, ids in zip(
            episodes.columns["prompt"], episodes.action.tolist(), strict=True)])
        return Score.of(at_the_end(said.to(episodes.device), episodes), mask=episodes.mask)
