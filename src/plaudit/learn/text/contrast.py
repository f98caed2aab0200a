"""Contrast instructions: prompts that are near in wording and ask for something else, each with its own answer.

A model that reads the prompt pays an answer more under its own instruction than under the other (instruction
consistency), and more than the answer to the other instruction (response consistency). What is found so can be
measured, and it can be trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from plaudit.core.errors import BadInput
from plaudit.core.intervals import Interval
from plaudit.core.statistics import bootstrap
from plaudit.feedback.records import Preference
from plaudit.learn.text.embedding import Encoder
from plaudit.learn.text.ranking import TIE_VALUE, Ties

BAND = (0.75, 0.9)
"""Cosines between which instructions are near in wording and, mostly, different in intent."""


@dataclass(frozen=True)
class Contrast:
    """Two instructions with the answer that was preferred under each.

    Example:
        >>> Contrast("name a fruit", "pear", "name a bird", "swan").turned().prompt
        'name a bird'
    """

    prompt: str
    preferred: str
    other_prompt: str
    other_preferred: str
    cosine: float = float("nan")
    """How near the encoder finds the instructions."""

    def turned(self) -> Contrast:
        """The same seen from the other instruction."""
        return Contrast(self.other_prompt, self.other_preferred, self.prompt, self.preferred, self.cosine)


def find_contrasts(prompts: Sequence[str], preferred: Sequence[str], encode: Encoder, *,
                   band: tuple[float, float] = BAND, differs: Callable[[int, int], bool] | None = None,
                   each: int = 1, block: int = 1024) -> list[Contrast]:
    """For each prompt the nearest ones whose cosine lies in the band; those with the same prompt or answer are dropped.

    Args:
        prompts: Instructions; the same may come more than once.
        preferred: The answer that was preferred under each.
        encode: A sentence encoder.
        band: Least and greatest cosine. Where it begins depends on encoder and domain (0.75 to 0.88 in the paper).
        differs: Whether two rows really ask for different things; without it, instructions that mean the same in other
            words (twins) get in, and there the label is wrong.
        each: At most how many of each prompt.
        block: How many rows are compared at once.

    Raises:
        BadInput: when the lengths differ, or the band is empty.

    Source:
        Shen et al. (2024), The Trickle-down Impact of Reward (In-)consistency on RLHF, section 3.1.
    """
    if len(prompts) != len(preferred):
        raise BadInput("preferred", expected=f"an answer for each of {len(prompts)} prompts", received=len(preferred))
    if not -1 <= band[0] < band[1] <= 1:
        raise BadInput("band", expected="two cosines, the smaller one first", received=band)
    prompts, preferred = list(prompts), list(preferred)
    unit_ND = encode(prompts)
    out, seen = list[Contrast](), set[tuple[str, str, str, str]]()
    for start in range(0, len(prompts), block):
        near = unit_ND[start:start + block] @ unit_ND.T
        near = torch.where((near >= band[0]) & (near <= band[1]), near, -torch.inf)
        for row, order in enumerate(near.argsort(descending=True, stable=True, dim=1).tolist()):
            i, taken = start + row, 0
            for j in order:
                cosine = float(near[row, j])
                if taken == each or cosine == -np.inf:
                    break
                key = (prompts[i], preferred[i], prompts[j], preferred[j])
                if prompts[i] == prompts[j] or preferred[i].strip() == preferred[j].strip() or key in seen or (
                        differs is not None and not differs(i, j)):
                    continue
                seen |= {key, key[2:] + key[:2]}
                out.append(Contrast(*key, cosine))
                taken += 1
    return out


def contrast_records(contrasts: Sequence[Contrast], *, sides: Sequence[Literal["response", "instruction"]] = (
        "response", "instruction"), joined: Callable[[str, str], Any] | None = None) -> list[Preference]:
    """What contrast fine-tuning adds to the pairs of a reward model, both ways round.

    `response`: R(I, r) > R(I, r'). `instruction`: R(I, r) > R(I', r): the options share no prompt, so each is whole: a
    conversation, or what `joined` makes of prompt and answer.

    Example:
        >>> [r.context for r in contrast_records([Contrast("a fruit", "pear", "a bird", "swan")], sides=["response"])]
        ['a fruit', 'a bird']
        >>> record = contrast_records([Contrast("a fruit", "pear", "a bird", "swan")], sides=["instruction"])[0]
        >>> [m["content"] for option in record.options for m in option]
        ['a fruit', 'pear', 'a bird', 'pear']
    """
    whole = joined or (lambda prompt, answer: [{"role": "user", "content": prompt},
                                               {"role": "assistant", "content": answer}])
    out = list[Preference]()
    for c in (way for pair in contrasts for way in (pair, pair.turned())):
        if "response" in sides:
            out.append(Preference(options=(c.preferred, c.other_preferred), context=c.prompt, label=1.0,
                                  provenance={"contrast": "response"}))
        if "instruction" in sides:
            out.append(Preference(options=(whole(c.prompt, c.preferred), whole(c.other_prompt, c.preferred)), label=1.0,
                                  provenance={"contrast": "instruction"}))
    return out


@dataclass(frozen=True, eq=False)
class Consistency:
    """What each contrast says, both ways round: 1, 0, or what a tie counts."""

    response: NDArray[np.float64]
    """[contrasts, 2]"""
    instruction: NDArray[np.float64]
    """[contrasts, 2]"""
    clusters: Sequence[Hashable]
    """Contrasts of one prompt go in or out of a bootstrap sample together."""

    @staticmethod
    def of_scores(own: ArrayLike, other_answer: ArrayLike, other_prompt: ArrayLike, both: ArrayLike, *,
                  clusters: Sequence[Hashable], ties: Ties = "half") -> Consistency:
        """C_res = mean 1[R(I, r) > R(I, r')] and C_ins = mean 1[R(I, r) > R(I', r)], both directions of each contrast.

        Args:
            own: R(I, r) of each contrast.
            other_answer: R(I, r').
            other_prompt: R(I', r).
            both: R(I', r').
            clusters: The prompt of each.
            ties: What equal rewards count; half, so that a constant reward is at chance.

        Raises:
            BadInput: when a score is not finite.

        Source:
            Shen et al. (2024), section 3.2.
        """
        ir, i_s, jr, js = value = np.array([own, other_answer, other_prompt, both], dtype=np.float64)
        if not np.isfinite(value).all():
            raise BadInput("score", expected="finite numbers",
                           received=f"{int((~np.isfinite(value)).sum())} that are not")

        def beats(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.where(x == y, TIE_VALUE[ties], (x > y).astype(np.float64))

        return Consistency(np.stack([beats(ir, i_s), beats(js, jr)], 1), np.stack([beats(ir, jr), beats(js, i_s)], 1),
                           clusters)

    @property
    def c_res(self) -> float:
        return float(self.response.mean())

    @property
    def c_ins(self) -> float:
        return float(self.instruction.mean())

    def interval(self, which: Literal["response", "instruction"], *, seed: int = 0) -> Interval:
        """A bootstrap over prompts."""
        value = getattr(self, which).mean(1)
        groups = dict.fromkeys(self.clusters)
        rows = [[i for i, c in enumerate(self.clusters) if c == g] for g in groups]
        table = np.array([[value[r].sum(), len(r)] for r in rows])
        return bootstrap(lambda x: x[..., 0].sum(-1) / x[..., 1].sum(-1), table, seed=seed, vectorised=True)


def consistency(score: Callable[[Sequence[str], Sequence[str]], Any], contrasts: Sequence[Contrast], *,
                ties: Ties = "half") -> Consistency:
    """Whether a reward tells near instructions apart, and the answers to them: see `Consistency.of_scores`.

    Args:
        score: Prompts and answers to numbers (`TextReward.score_texts`, for one).
        contrasts: What is asked.
        ties: What equal rewards count; half, so that a constant reward is at chance.

    Raises:
        BadInput: without contrasts, or when a score is not finite.

    Example:
        >>> birds = Contrast("a fruit", "pear", "a bird", "swan")
        >>> said = consistency(lambda prompts, answers: [len(a) for a in answers], [birds])
        >>> said.c_res, said.c_ins  # equal lengths: ties; the prompt is not read: ties
        (0.5, 0.5)
    """
    if not contrasts:
        raise BadInput("contrasts", expected="at least one", received=0)
    asked, other = [c.prompt for c in contrasts], [c.other_prompt for c in contrasts]
    r, s = [c.preferred for c in contrasts], [c.other_preferred for c in contrasts]
    value = np.asarray(torch.as_tensor(score(asked * 2 + other * 2, (r + s) * 2)).detach().cpu(), dtype=np.float64)
    return Consistency.of_scores(*value.reshape(4, len(contrasts)), clusters=asked, ties=ties)
