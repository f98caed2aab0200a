"""A world of short texts in which what is good is known: for experiments on reward models and on what they cost.

A prompt is two letters. A helpful reply uses both, a few times each, the first one before the second, without long runs
of one letter, and is neither short nor long. What is helpful saturates and turns: four uses are better than one, eight
are worse than four, which a model that has seen ordinary replies alone cannot know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.seeds import Seeds
from plaudit.core.tokens import Tokens
from plaudit.optimize.align.policy import imitate
from plaudit.optimize.align.small import SmallPolicy

ALPHABET = "abcdef"
LONGEST = 13
"""The most letters of a reply, less one for the end."""
PROMPTS = [a + b for a in ALPHABET for b in ALPHABET if a != b]
FEATURES = ("first", "second", "others", "where first", "where second", "run", "length", "distinct")


def read(prompt: str, reply: str) -> list[float]:
    """What can be seen of a reply, each of the order of 1.

    Example:
        >>> read("ab", "aab")[:3]  # twice the first letter, once the second, no other
        [0.5, 0.25, 0.0]
    """
    L = len(reply)
    counts = [reply.count(c) for c in prompt]
    where = [reply.find(c) if c in reply else LONGEST for c in prompt]
    run = longest = 0
    for i, c in enumerate(reply):
        run = run + 1 if i and c == reply[i - 1] else 1
        longest = max(longest, run)
    return [counts[0] / 4, counts[1] / 4, (L - sum(counts)) / 6, where[0] / 6, where[1] / 6, longest / 3, L / 8,
            len(set(reply)) / 4]


def features(prompts: Sequence[str], replies: Sequence[str]) -> Float[Tensor, "B D"]:
    """`read` of every row."""
    return torch.tensor([read(p, r) for p, r in zip(prompts, replies, strict=True)]).view(-1, len(FEATURES))


def helpfulness(z: Float[Tensor, "... D"]) -> Float[Tensor, "..."]:
    """How helpful a reply is, about 0 to 4 for ordinary ones and less without limit for absurd ones.

    Example:
        >>> said = features(["ab"] * 3, ["acabcbad", "c", "aaaaaaaaaaaa"])
        >>> [round(h, 1) for h in helpfulness(said).tolist()]
        [3.6, -0.0, -9.1]
    """
    first, second, _, before, after, run, length, _ = z.unbind(-1)
    use = sum(2 * x.clamp(max=2) - x.square() for x in (first, second))  # best at four uses of each
    order = 0.5 * ((before < after) & (after < LONGEST / 6)).float()
    return 0.6 + 1.5 * use + order - 0.6 * (run - 2 / 3).clamp(min=0) - 0.8 * (length - 1).square()


def replies(prompts: Sequence[str], seeds: Seeds, *, care: float = 0.55) -> list[str]:
    """Replies as people of mixed skill write them: letters of the prompt with probability `care`, else any."""
    rng = seeds.numpy()
    out: list[str] = []
    for prompt in prompts:
        length = int(np.clip(rng.normal(6.5, 2.0), 1, LONGEST - 1))
        mine = np.clip(care + rng.normal(0, 0.2), 0.05, 0.95)
        out.append("".join(prompt[rng.integers(2)] if rng.random() < mine else ALPHABET[rng.integers(len(ALPHABET))]
                           for _ in range(length)))
    return out


def writer(seeds: Seeds, *, hidden: int, updates: int, device: str = "cpu") -> SmallPolicy:
    """A policy that has learnt to write as the corpus does."""
    asked = [p for p in PROMPTS for _ in range(20)]
    policy = SmallPolicy(ALPHABET, hidden=hidden, max_tokens=LONGEST, seed=seeds.child("policy"), device=device)
    rows = policy.tokens_of(asked, [policy.ids_of(r) for r in replies(asked, seeds.child("corpus"))])
    imitate(policy, rows, updates=updates, batch=64, lr=5e-3, seed=seeds.child("imitate"))
    return policy


class OfFeatures(Reward):
    """A reward of what can be seen of a reply, paid at its last token.

    Args:
        fn: Features [B, D] to rewards [B], or to those of H members [H, B], whose mean is paid.
        name: Its name.

    Raises:
        BadInput: (as an unknown score) for episodes that are no replies.
    """

    needs = Needs(time="episode")

    def __init__(self, fn: Callable[[Tensor], Tensor], name: str) -> None:
        self.fn, self.name = fn, name

    def evaluate(self, episodes: Episodes) -> Score:
        if not isinstance(episodes, Tokens):
            raise BadInput("episodes", expected="replies as Tokens", received=type(episodes).__name__)
        with torch.no_grad():
            said = self.values(list(episodes.columns["prompt"]), list(episodes.columns["completion"]))
            said = said.to(episodes.device)
        last = torch.nn.functional.one_hot(episodes.last, episodes.T).bool()
        paid = torch.where(last, said.unsqueeze(-1).float(), 0.0)
        return Score.of(paid if said.ndim == 1 else paid.mean(0), mask=episodes.mask,
                        members=paid if said.ndim == 2 else None)

    def values(self, prompts: list[str], said: list[str]) -> Tensor:
        """[B], or [H, B]."""
        return self.fn(features(prompts, said))


GOLD = OfFeatures(helpfulness, "helpfulness").with_role("gold")
