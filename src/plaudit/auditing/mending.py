"""Rewards made from a faulty one: a term scaled, taken out, paid once, or paid for at the end of an episode."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from plaudit.auditing.checks.potential import DENSE, flat_steps, paid_by
from plaudit.core.algebra import Node
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs
from plaudit.core.reward import Carry, Reward
from plaudit.core.score import Score

_GRAIN = 1e-4
"""Places that differ by less than this in every number are one place."""


class ScaledTerm(Node):
    """A reward with one of its terms multiplied by a factor: 0 takes it out, -1 turns its sign.

    Args:
        inner: the reward.
        term: one of its terms, or `DENSE` for all that is paid before the end.
        factor: what the term is multiplied by.

    Example:
        >>> from plaudit.core.functions import reward
        >>> both = reward(lambda next_obs: {"a": next_obs[..., 0], "b": 2 * next_obs[..., 0]})
        >>> e = Episodes.of_steps(obs=torch.zeros(2, 1), action=torch.zeros(2), next_obs=torch.ones(2, 1))
        >>> ScaledTerm(both, "b", 0.5)(e).tolist()
        [[2.0, 2.0]]
    """

    def __init__(self, inner: Reward, term: str, factor: float) -> None:
        super().__init__([inner], name=inner.name)
        self.term, self.factor = term, factor
        self.needs = self.needs.including("terminated")

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        (score,) = scores
        value = score.value + (self.factor - 1) * paid_by(score, self.term, episodes.terminated)
        weights = {**score.weights}
        if self.term != DENSE:
            weights[self.term] = self.factor * score.weights.get(self.term, 1.0)
        return Score.of(value, mask=score.mask, terms=score.terms if self.term != DENSE else {}, weights=weights,
                        why=score.why)


class AsPotential(Reward):
    """A term that reads one observation alone, as a potential: what it would pay for being at `obs`.

    Args:
        term: reads `next_obs` or `obs`, and nothing else of a step.
    """

    def __init__(self, term: Reward) -> None:
        self.term, self.name = term, term.name
        self.needs = Needs(fields=frozenset({"obs"}))

    def evaluate(self, episodes: Episodes) -> Score:
        never = torch.zeros_like(episodes.terminated)
        score = self.term.score(episodes.replace(next_obs=episodes.obs, terminated=never))
        return Score.of(score.value, mask=score.mask, why=score.why)


class OncePerPlace(Node):
    """A reward whose positive values are paid only the first time in an episode that `next_obs` is at a place.

    Example:
        >>> from plaudit.core.functions import reward
        >>> there = torch.tensor([[1.0], [2.0], [1.0]])
        >>> e = Episodes.of_steps(obs=there, action=torch.zeros(3), next_obs=there)
        >>> OncePerPlace(reward(lambda next_obs: next_obs[..., 0]))(e).tolist()
        [[1.0, 2.0, 0.0]]
    """

    def __init__(self, inner: Reward) -> None:
        super().__init__([inner], name=f"{inner.name}, once")
        self.needs = (inner.needs | Needs(time="prefix")).including("next_obs")
        self.range = (min(0.0, inner.range[0]), max(0.0, inner.range[1]))

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        (score,) = scores
        again = _seen_before(episodes, (score.value > 0) & score.mask)
        return Score.of(torch.where(again, 0.0, score.value), mask=score.mask, why=score.why)

    def start(self, rows: int) -> Carry:
        return [super().start(rows)[0], [set() for _ in range(rows)]]

    def stream(self, step: Episodes, carry: Carry) -> tuple[Score, Carry]:
        inner, seen = carry
        score, inner = self.parts[0].stream(step, inner)
        value = score.value.clone()
        places = _places(step).cpu()
        now = [set(s) for s in seen]
        for b in ((score.value > 0) & score.mask).any(-1).nonzero().flatten().tolist():
            place = tuple(places[b].tolist())
            if place in now[b]:
                value[b] = 0.0
            now[b].add(place)
        return self.scored(step, lambda: Score.of(value, mask=score.mask, why=score.why)), [inner, now]

    def restart(self, carry: Carry, rows: Tensor) -> Carry:
        inner, seen = carry
        return [self.parts[0].restart(inner, rows),
                [set() if fresh else s for fresh, s in zip(rows.tolist(), seen, strict=True)]]


def _places(episodes: Episodes) -> Tensor:
    """[B * T, D] integers: `next_obs` in grains."""
    return (flat_steps(episodes.next_obs, episodes.B, episodes.T).double() / _GRAIN).round().long()


def _seen_before(episodes: Episodes, pays_BT: Tensor) -> Tensor:
    """Whether a paying step leads to a place to which an earlier paying step of its row had led."""
    B, T = episodes.B, episodes.T
    where = pays_BT.flatten().nonzero().flatten()
    out = torch.zeros(B * T, dtype=torch.bool, device=pays_BT.device)
    if where.numel():
        key = torch.cat([(where // T).unsqueeze(1), _places(episodes)[where]], 1)
        _, name = key.unique(dim=0, return_inverse=True)
        first = torch.full((int(name.max()) + 1,), B * T, device=where.device).scatter_reduce(0, name, where, "amin")
        out[where] = where != first[name]
    return out.reshape(B, T)


class Absorbing(Node):
    """A reward that pays for the time after the end: so much for an end with success, so much for one without.

    An end that pays nothing more is worth as much as a state that pays 0 for ever: the best there is where
    steps cost, and the worst where they pay (Kostrikov et al. 2019, section 4.2).

    Args:
        inner: the reward.
        success: above 0 at a step that succeeds; None takes every end for a failure.
        for_success: added at a step that ends the episode and succeeds.
        for_failure: added at a step that ends the episode otherwise.
    """

    def __init__(self, inner: Reward, success: Reward | None, *, for_success: float = 0.0,
                 for_failure: float = 0.0) -> None:
        if success is None and for_success:
            raise BadInput("for_success", expected="0 where success is not known", received=for_success)
        super().__init__([inner] if success is None else [inner, success], name=inner.name)
        self.for_success, self.for_failure = for_success, for_failure
        self.needs = self.needs.including("terminated")

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        score = scores[0]
        end = episodes.terminated & score.mask
        won = torch.zeros_like(end) if len(scores) == 1 else scores[1].value > 0
        unknown = torch.zeros_like(end) if len(scores) == 1 else ~scores[1].known
        after = torch.where(end, torch.where(won, self.for_success, self.for_failure), 0.0)
        value = torch.where(end & unknown, torch.nan, score.value + after)
        why = {**score.why, **(scores[1].why if len(scores) > 1 else {})}
        return Score.of(value, mask=score.mask, terms={**score.terms, "after the end": after}, weights=score.weights,
                        why=why)
