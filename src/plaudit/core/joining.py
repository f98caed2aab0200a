"""The scores of parts, or of different rows, as the score of the whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import Unsupported
from plaudit.core.score import Score

MOST = 256
"""Opinions of a step."""


def over_value(score: Score, fn: Callable[[Tensor], Tensor]) -> Score:
    """A score with `fn` of its value and of each opinion; terms stay as they were."""
    return Score.of(fn(score.value), mask=score.mask, terms=score.terms, weights=score.weights, why=score.why,
                    members=None if score.members is None else fn(score.members))


def put_together(parts: Sequence[tuple[Int[Tensor, "_"], Score]], episodes: Episodes, *, dtype: torch.dtype) -> Score:
    """One score out of those of different rows; terms as what they paid."""
    value = torch.zeros(episodes.mask.shape, dtype=dtype, device=episodes.device)
    why: dict[str, Tensor] = {}
    for rows, score in parts:
        value[rows] = score.value.to(dtype)
        for reason, mask in score.why.items():
            why.setdefault(reason, torch.zeros_like(episodes.mask))[rows] = mask
    lacking = torch.where(value.isfinite(), torch.zeros_like(value), torch.nan)
    terms: dict[str, Tensor] = {}
    for rows, score in parts:
        for term in score.terms:
            terms.setdefault(term, lacking.clone())[rows] = score.contribution(term).to(dtype)
    measured: dict[str, Tensor] = {}
    for rows, score in parts:
        for name, values in score.measured.items():
            measured.setdefault(name, torch.full_like(value, torch.nan))[rows] = values.to(dtype)
    members = equally_many([score for _, score in parts])
    if members is None:
        return replace(Score.of(value, mask=episodes.mask, terms=terms, why=why), measured=measured)
    opinions = value.new_zeros(len(members[0]), *value.shape)
    for (rows, _), own in zip(parts, members, strict=True):
        opinions[:, rows] = own.to(value.dtype)
    return replace(Score.of(value, mask=episodes.mask, terms=terms, why=why, members=opinions), measured=measured)


def equally_many(scores: Sequence[Score]) -> list[Tensor] | None:
    """The opinions [H, ...] of scores of different steps, repeated equally often; None where each has one only.

    Raises:
        Unsupported: for ensembles of sizes with so large a common multiple that nobody meant it.
    """
    if all(s.members is None for s in scores):
        return None
    sizes = [1 if s.members is None else s.members.shape[0] for s in scores]
    H = math.lcm(*sizes)
    if H > MOST:
        raise Unsupported(f"ensembles of sizes {sorted(set(sizes))} side by side need {H:,} opinions of each step; "
                          "give them the same size")
    return [(s.value.unsqueeze(0) if s.members is None else s.members).repeat(H // n, 1, 1)
            for s, n in zip(scores, sizes, strict=True)]


def join_why(scores: Iterable[Score]) -> dict[str, Bool[Tensor, "B T"]]:
    """The reasons of several scores for the same steps."""
    why: dict[str, Tensor] = {}
    for score in scores:
        for reason, mask in score.why.items():
            why[reason] = why[reason] | mask if reason in why else mask
    return why


def join_members(scores: Sequence[Score], fn: Callable[[list[Tensor]], Tensor]) -> Float[Tensor, "H B T"] | None:
    """What `fn` makes of the opinions of several scores, opinion by opinion; None where no score is an ensemble's.

    Raises:
        Unsupported: for ensembles of different sizes.
    """
    sizes = {s.members.shape[0] for s in scores if s.members is not None}
    if not sizes:
        return None
    if len(sizes) > 1:
        raise Unsupported(f"ensembles of different sizes {sorted(sizes)} cannot be combined member by member; "
                          "take mean(...) of one of them first")
    (H,) = sizes
    return fn([s.value.expand(H, *s.value.shape) if s.members is None else s.members for s in scores])


def join_terms(parts: Sequence[tuple[float, str, Score]]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Terms under their own names where these are unique, else with the reward's name in front."""
    names = [term for _, _, score in parts for term in score.terms]
    terms: dict[str, Tensor] = {}
    weights: dict[str, float] = {}
    for weight, owner, score in parts:
        for term, value in score.terms.items():
            key = term if names.count(term) == 1 or term == owner else f"{owner}.{term}"
            copies = 2
            while key in terms:
                key, copies = f"{term} ({copies})", copies + 1
            terms[key] = value
            weights[key] = weight * score.weights.get(term, 1.0)
    return terms, weights
