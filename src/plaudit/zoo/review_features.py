"""What an expert would name of a summary of reviews, computed by a rule parser that makes mistakes.

The parser knows two of three nouns of an aspect and four of five words of praise or blame, and besides misses some
mentions and misreads some opinions, always the same ones of a text. The hardened one reads only sentences with a verb.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial

from plaudit.learn.text.features import Better, Feature, FeatureSet
from plaudit.zoo.review_world import ASPECTS, FILLERS, GOOD, POOR, REVIEWS, SAYS

NOUNS = {noun: aspect for aspect, nouns in ASPECTS.items() for noun in nouns[:2]}
WORDS = {**dict.fromkeys(GOOD[:4], True), **dict.fromkeys(POOR[:4], False)}
VERBS = {"is", "was", "find", "been", "found", "turned", "has"}
MISSED, MISREAD = 0.05, 0.04
"""How often a mention is missed, and an opinion misread."""
NEAR = 4
"""Words between an aspect and what is said of it, at most."""
MAIN = ("hallucination", "faithfulness")
"""The two that go most with the worth (correlations of -0.4 and 0.3 over summaries, the others' are at most 0.3); the
honest boundary is a model without them."""
_WORD = re.compile(r"[a-z]+")
KNOWN = set(_WORD.findall(" ".join([*NOUNS, *ASPECTS, *(n for ns in ASPECTS.values() for n in ns), *GOOD, *POOR,
                                    *SAYS, *FILLERS, *REVIEWS]).lower()))


def _chance(*parts: str) -> float:
    """A number in [0, 1) that is always the same for the same words."""
    return zlib.crc32("|".join(parts).encode()) % 9973 / 9973


@lru_cache(maxsize=100_000)
def opinions(text: str, hardened: bool = False) -> dict[str, bool | None]:
    """The aspects that a text mentions, and whether it likes them; None where it does not say.

    Example:
        >>> opinions("The battery is great. Keywords great price.", hardened=True)
        {'battery': True}
    """
    votes: dict[str, list[bool]] = {}
    for part in re.split(r"[.!?/]", text.lower()):
        words = _WORD.findall(part)
        if hardened and not VERBS & set(words):
            continue
        said = [(i, WORDS[w]) for i, w in enumerate(words) if w in WORDS]
        for i, noun in enumerate(words):
            aspect = NOUNS.get(noun)
            if aspect is None or _chance("missed", text, aspect) < MISSED:
                continue
            near = sorted((abs(i - k), liked) for k, liked in said if abs(i - k) <= NEAR)
            wrong = _chance("misread", text, aspect) < MISREAD
            votes.setdefault(aspect, []).extend(liked != wrong for _, liked in near[:1])
    return {a: (sum(v) * 2 >= len(v)) if v else None for a, v in votes.items()}


def coverage(prompt_text: str, completion_text: str, hardened: bool = False) -> float | None:
    """Which share of the reviewed aspects is mentioned."""
    asked = opinions(prompt_text)
    return len(asked.keys() & opinions(completion_text, hardened).keys()) / len(asked) if asked else None


def opinion_coverage(prompt_text: str, completion_text: str, hardened: bool = False) -> float | None:
    """Which share of the reviewed aspects is given with the opinion of the reviews."""
    asked, said = opinions(prompt_text), opinions(completion_text, hardened)
    return sum(said.get(a) is liked for a, liked in asked.items() if liked is not None) / len(asked) if asked else None


def faithfulness(prompt_text: str, completion_text: str, hardened: bool = False) -> float | None:
    """Which share of the opinions agrees with the reviews; None where none can be compared."""
    asked, said = opinions(prompt_text), opinions(completion_text, hardened)
    same = [asked[a] is liked for a, liked in said.items() if liked is not None and asked.get(a) is not None]
    return sum(same) / len(same) if same else None


def hallucination(prompt_text: str, completion_text: str, hardened: bool = False) -> int | None:
    """How many aspects are mentioned that no review names."""
    asked = opinions(prompt_text)
    return len(opinions(completion_text, hardened).keys() - asked.keys()) if asked else None


def wordiness(prompt_text: str, completion_text: str) -> float:
    """Words for each aspect that was reviewed."""
    return len(completion_text.split()) / max(1, len(opinions(prompt_text)))


def relevance(prompt_text: str, completion_text: str) -> float | None:
    """The cosine of the words of the summary and those of the reviews."""
    a, b = (Counter(_WORD.findall(t.lower())) for t in (prompt_text, completion_text))
    size = math.sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values()))
    return sum(n * b[w] for w, n in a.items()) / size if size else None


def language(completion_text: str) -> float | None:
    """Which share of the words is English that stands where it may: known, and not the same as the one before."""
    words = _WORD.findall(completion_text.lower())
    return sum(w in KNOWN and (i == 0 or words[i - 1] != w) for i, w in enumerate(words)) / len(words) if words \
        else None


def feature_set(*, hardened: bool = False) -> FeatureSet:
    """The seven features of the paper, with the directions that an expert declares."""
    def of(fn: Callable[..., float | None]) -> Callable[..., float | None]:
        return partial(fn, hardened=True) if hardened else fn

    rows: tuple[tuple[str, Callable[..., float | None], Better, tuple[float, float]], ...] = (
        ("coverage", of(coverage), "more", (0, 1)), ("faithfulness", of(faithfulness), "more", (0, 1)),
        ("opinion coverage", of(opinion_coverage), "more", (0, 1)), ("wordiness", wordiness, "less", (0, 1e4)),
        ("relevance", relevance, "more", (0, 1)), ("hallucination", of(hallucination), "less", (0, 100)),
        ("language", language, "more", (0, 1)))
    return FeatureSet([Feature(name, fn, better=better, range=range) for name, fn, better, range in rows])
