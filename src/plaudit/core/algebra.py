"""Rewards made of rewards: sums, clips, gates, fallbacks, ensembles, shaping, vectors made scalar.

Each node derives its needs, range, terms and members from its parts, and follows the truth table
of the unknown (`plaudit.core.score`). Terms keep the values their own reward gave; the weights
multiply through, so `score.contribution(term)` is what a term paid.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Int
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.joining import join_members, join_terms, join_why, over_value, put_together
from plaudit.core.needs import Needs, Reads
from plaudit.core.reward import UNBOUNDED, Carry, Range, Reward
from plaudit.core.schedules import Controller, LagrangeMultiplier, Schedule, number_of, of_member, value_of
from plaudit.core.score import Score

Weight = float | Schedule | Controller


def as_reward(thing: Reward | float | Callable[..., Any]) -> Reward:
    """A reward as it is, a number as a constant reward, a plain function as `plaudit.reward` reads it."""
    if isinstance(thing, Reward):
        return thing
    number = number_of(thing)
    if number is not None:
        return Constant(number)
    if not callable(thing):
        refuse_no_reward("reward", thing)
    from plaudit.core.functions import reward

    return reward(cast("Callable[..., Any]", thing))


def refuse_no_reward(name: str, thing: object) -> None:
    """Raises `BadInput` where something is no Reward."""
    if not isinstance(thing, Reward):
        raise BadInput(name, expected="a Reward",
                       received="None" if thing is None else f"{type(thing).__name__} {repr(thing)[:60]}",
                       fix="plaudit.reward(fn) makes one of a function" if callable(thing) else "")


class Node(Reward):
    """A reward made of others. Subclasses implement `combine`; streaming and state come for free."""

    def __init__(self, parts: Sequence[Reward], *, name: str) -> None:
        self.parts: tuple[Reward, ...] = tuple(parts)
        self.name = name
        for i, part in enumerate(self.parts):
            refuse_no_reward(f"part {i} of {name}", part)
        self.needs = reduce(Needs.__or__, (p.needs for p in self.parts), Needs())

    @abstractmethod
    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        """The score of the whole from the scores of the parts."""

    def evaluate(self, episodes: Episodes) -> Score:
        return self._whole([part.score(episodes) for part in self.parts], episodes)

    def _whole(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        """`combine`, with what controllers inside the parts follow."""
        score = self.combine(scores, episodes)
        measured = {name: values for s in scores for name, values in s.measured.items()}
        return replace(score, measured={**measured, **score.measured}) if measured else score

    def children(self) -> Sequence[Reward]:
        return self.parts

    def start(self, rows: int) -> Carry:
        return [part.start(rows) for part in self.parts]

    def stream(self, step: Episodes, carry: Carry) -> tuple[Score, Carry]:
        pairs = [part.stream(step, c) for part, c in zip(self.parts, carry, strict=True)]
        scores = [score for score, _ in pairs]
        return self.scored(step, lambda: self._whole(scores, step)), [c for _, c in pairs]

    def restart(self, carry: Carry, rows: Tensor) -> Carry:
        return [part.restart(c, rows) for part, c in zip(self.parts, carry, strict=True)]


class Constant(Reward):
    """The same number at every step.

    Example:
        >>> from plaudit.core.episodes import Episodes
        >>> e = Episodes.of_steps(obs=torch.zeros(2, 1), action=torch.zeros(2), next_obs=torch.zeros(2, 1))
        >>> Constant(0.5)(e).tolist()
        [[0.5, 0.5]]
    """

    def __init__(self, value: float) -> None:
        if not math.isfinite(value):
            raise BadInput("value", expected="a finite number", received=value)
        self.value, self.name, self.range = value, "constant", (value, value)

    @property
    def reads(self) -> Reads:
        return Reads()

    def evaluate(self, episodes: Episodes) -> Score:
        return Score.of(torch.full(episodes.mask.shape, self.value, device=episodes.device), mask=episodes.mask)


class Sum(Node):
    """A weighted sum; weights may be schedules or controllers. Unknown where a term that counts is unknown."""

    def __init__(self, terms: Sequence[tuple[Weight, Reward]], *, name: str = "sum") -> None:
        super().__init__([reward for _, reward in terms], name=name)
        self.factors: tuple[Weight, ...] = tuple(_as_weight(weight) for weight, _ in terms)
        self._set_weights([value_of(f, 0.0) for f in self.factors])

    def _set_weights(self, weights: list[float]) -> None:
        self.weights = weights
        ends = [(w * p.range[0], w * p.range[1]) if w else (0.0, 0.0)
                for w, p in zip(weights, self.parts, strict=True)]
        self.range = (sum(min(e) for e in ends), sum(max(e) for e in ends))

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        counted = [(w, s) for w, s in zip(self.weights, scores, strict=True) if w != 0]
        zero = torch.zeros(episodes.mask.shape, device=episodes.device)
        value = sum((w * s.value for w, s in counted), zero)
        terms, weights = join_terms([(w, p.name, s) for w, p, s in zip(self.weights, self.parts, scores, strict=True)])
        return Score.of(value, mask=episodes.mask, terms=terms, weights=weights, why=join_why(s for _, s in counted),
                        members=join_members([s for _, s in counted], lambda xs: sum(
                            (w * x for (w, _), x in zip(counted, xs, strict=True)), zero)))

    def advance(self, progress: float, metrics: Mapping[str, float] | None = None) -> None:
        super().advance(progress, metrics)
        for factor in self.factors:
            if isinstance(factor, Controller):
                factor.update(progress, metrics or {})
        self._set_weights([value_of(f, progress) for f in self.factors])

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        moving = {str(i): f.state_dict() for i, f in enumerate(self.factors) if isinstance(f, Controller)}
        if any(not isinstance(f, int | float) for f in self.factors):
            state |= {"weights": self.weights, "controllers": moving}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        for i, controller in state.get("controllers", {}).items():
            factor = self.factors[int(i)]
            if isinstance(factor, Controller):
                factor.load_state_dict(controller)
        self._set_weights([float(w) for w in state.get("weights", self.weights)])

    def __repr__(self) -> str:
        return " + ".join(f"{w:g} * {p.name}" for w, p in zip(self.weights, self.parts, strict=True))


def total(terms: Sequence[tuple[Weight, Reward]], *, name: str = "sum") -> Reward:
    """A weighted sum, nested sums flattened where their weights are plain numbers.

    Example:
        >>> total([(2.0, Constant(1.0)), (0.5, Constant(4.0))]).range
        (4.0, 4.0)
    """
    flat: list[tuple[Weight, Reward]] = []
    for weight, reward in terms:
        if isinstance(reward, Sum) and reward.name == "sum" and isinstance(weight, int | float):
            if weight == 1:
                flat += zip(reward.factors, reward.parts, strict=True)
                continue
            if all(isinstance(f, int | float) for f in reward.factors):
                flat += [(weight * float(f), p) for f, p in zip(reward.factors, reward.parts, strict=True)]  # type: ignore[arg-type]
                continue
        flat.append((weight, reward))
    return Sum(flat, name=name)


class Clip(Node):
    """Each step's value limited to [min, max]; terms stay as they were."""

    def __init__(self, inner: Reward, *, min: float = -math.inf, max: float = math.inf) -> None:
        if not min <= max:
            raise BadInput("min, max", expected="min <= max", received=(min, max))
        super().__init__([inner], name=inner.name)
        self.min, self.max = min, max
        low, high = inner.range
        self.range = (_limit(low, min, max), _limit(high, min, max))

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        return over_value(scores[0], lambda x: x.clamp(self.min, self.max))


class Gate(Node):
    """The second reward where the first is above zero. A gate known to be shut gives 0 whatever lies behind it."""

    def __init__(self, gate: Reward, inner: Reward) -> None:
        super().__init__([gate, inner], name=inner.name)
        self.range = (min(0.0, inner.range[0]), max(0.0, inner.range[1]))

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        gate, inner = scores
        shut = gate.known & (gate.value <= 0)

        def through(x: Tensor) -> Tensor:
            return torch.where(shut, 0.0, torch.where(gate.known, x, torch.nan))

        return Score.of(through(inner.value), mask=episodes.mask, weights=inner.weights,
                        terms={n: through(t) for n, t in inner.terms.items()},
                        why=join_why([gate, inner]), members=None if inner.members is None else through(inner.members))


class Fallback(Node):
    """The first reward where it is known, else the second."""

    def __init__(self, first: Reward, second: Reward) -> None:
        super().__init__([first, second], name=first.name)
        self.range = (min(first.range[0], second.range[0]), max(first.range[1], second.range[1]))

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        first, second = scores
        value = torch.where(first.known, first.value, second.value)
        terms = {self.parts[0].name: torch.where(first.known, first.value, 0.0),
                 f"{self.parts[1].name} (fallback)": torch.where(first.known, 0.0, second.value)}
        return Score.of(value, mask=episodes.mask, terms=terms, why=join_why([first, second]),
                        members=join_members(scores, lambda xs: torch.where(first.known, xs[0], xs[1])))


class Extreme(Node):
    """The smallest (or largest) of several rewards at each step; unknown where any of them is."""

    def __init__(self, parts: Sequence[Reward], *, largest: bool) -> None:
        if not parts:
            raise BadInput("rewards", expected="at least one", received="none")
        super().__init__(parts, name="max" if largest else "min")
        self.largest = largest
        pick = max if largest else min
        self.range = (pick(p.range[0] for p in parts), pick(p.range[1] for p in parts))

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        pick = torch.amax if self.largest else torch.amin
        return Score.of(pick(torch.stack([s.value for s in scores]), 0), mask=episodes.mask,
                        terms=join_terms([(1.0, p.name, s) for p, s in zip(self.parts, scores, strict=True)])[0],
                        why=join_why(scores), members=join_members(scores, lambda xs: pick(torch.stack(xs), 0)))


def minimum(*rewards: Reward) -> Reward:
    """The smallest of several rewards at each step."""
    return Extreme(rewards, largest=False)


def maximum(*rewards: Reward) -> Reward:
    """The largest of several rewards at each step."""
    return Extreme(rewards, largest=True)


class Ensemble(Node):
    """Several opinions on one thing: the value is their mean, and `members` keeps them apart."""

    def __init__(self, members: Sequence[Reward], *, name: str = "ensemble") -> None:
        if not members:
            raise BadInput("members", expected="at least one reward", received="none")
        super().__init__(members, name=name)
        self.range = (min(p.range[0] for p in members), max(p.range[1] for p in members))

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        members = torch.stack([s.value for s in scores])
        return Score.of(members.mean(0), mask=episodes.mask, members=members, why=join_why(scores))


class OfMembers(Node):
    """A number computed at each step from the members [H, B, T] of an ensemble: their mean, std or worst."""

    STATISTICS: ClassVar[Mapping[str, Callable[[Tensor], Tensor]]] = {
        "mean": lambda x: x.mean(0), "std": lambda x: x.std(0, correction=0), "worst": lambda x: x.amin(0)}

    def __init__(self, inner: Reward, statistic: str, *, range: Range) -> None:
        super().__init__([inner], name=f"{statistic}({inner.name})")
        self.statistic, self.range = statistic, range

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        (inner,) = scores
        members = inner.value.unsqueeze(0) if inner.members is None else inner.members
        value = torch.where(inner.known, self.STATISTICS[self.statistic](members), torch.nan)
        return Score.of(value, mask=episodes.mask, why=inner.why)


def mean(reward: Reward) -> Reward:
    """The mean over the members of an ensemble (a single opinion is its own mean)."""
    return OfMembers(reward, "mean", range=reward.range)


def std(reward: Reward) -> Reward:
    """The spread over the members of an ensemble (population std, divided by H); 0 for a single opinion.

    `mean(e) - std(e)` is the pessimistic reward of the ensemble `e`.
    """
    return OfMembers(reward, "std", range=(0.0, math.inf))


def worst(reward: Reward) -> Reward:
    """The smallest opinion of an ensemble at each step."""
    return OfMembers(reward, "worst", range=reward.range)


class PotentialDifference(Node):
    """discount * potential(next_obs) - potential(obs), with potential 0 at true terminals (Ng, Harada, Russell 1999).

    Args:
        potential: A function of `obs` (or a Reward that reads `obs` alone).
        discount: The learner's discount; another one changes which policy is best.
    """

    def __init__(self, potential: Reward | Callable[..., Any], *, discount: float) -> None:
        if not 0 <= discount <= 1:
            raise BadInput("discount", expected="a number in [0, 1]", received=discount)
        inner = as_reward(potential)
        if inner.needs.time != "step" or not inner.needs.fields <= {"obs"}:
            raise Unsupported(f"a potential reads obs alone; {inner.name} reads {sorted(inner.needs.fields)} "
                              f"({inner.needs.time})")
        super().__init__([inner], name=f"shaping({inner.name})")
        self.discount = discount
        self.needs = self.needs.including("obs", "next_obs", "terminated")
        low, high = min(0.0, inner.range[0]), max(0.0, inner.range[1])
        self.range = (discount * low - high, discount * high - low) if math.isfinite(high - low) else UNBOUNDED

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        here = scores[0]
        there = self.parts[0].score(episodes.replace(obs=episodes.next_obs))
        after = torch.where(episodes.terminated, 0.0, there.value)
        return Score.of(self.discount * after - here.value, mask=episodes.mask, why=join_why([here, there]))


class Constrained(Node):
    """reward - multiplier * (cost - limit): the multiplier grows while the cost stays above its limit.

    The limit is per step (per token for texts). A learner measures the mean cost per step and hands it to `advance`
    under the name of the multiplier's metric; a name that the learner itself reports, such as `episode/watch/fuel`, is
    followed instead (Lagrangian relaxation, e.g. Tessler et al. 2019).

    Raises:
        BadInput: when the multiplier has another limit, or holds the cost above it.

    Example:
        >>> price = LagrangeMultiplier("cost", 0.1, rate=2.0)
        >>> within = Constrained(Constant(1.0), Constant(0.6), limit=0.1, multiplier=price)
        >>> within.advance(0.5, {"cost": 0.6}); price.value
        1.0
    """

    def __init__(self, reward: Reward, cost: Reward, *, limit: float, multiplier: LagrangeMultiplier) -> None:
        super().__init__([reward, cost], name=reward.name)
        if isinstance(multiplier.limit, int | float) and multiplier.limit != limit:
            raise BadInput("limit", expected=f"the limit of the multiplier, {multiplier.limit:g}", received=limit,
                           fix="give both the same")
        if multiplier.at_least:
            raise BadInput("multiplier", expected="one that holds the cost below its limit", received="at_least=True",
                           fix="constrain -1.0 * cost to be below -limit")
        self.limit, self.multiplier = limit, multiplier

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        reward, cost = scores
        price = self.multiplier.value
        measured = {**reward.measured, **cost.measured,
                    self.multiplier.metric: torch.where(episodes.mask, cost.value, torch.nan)}
        if price == 0:
            return replace(reward, measured=measured)
        terms, weights = join_terms([(1.0, self.parts[0].name, reward), (-price, self.parts[1].name, cost)])
        score = Score.of(reward.value - price * (cost.value - self.limit), mask=episodes.mask, terms=terms,
                         weights=weights, why=join_why(scores),
                         members=join_members(scores, lambda xs: xs[0] - price * (xs[1] - self.limit)))
        return replace(score, measured=measured)

    def advance(self, progress: float, metrics: Mapping[str, float] | None = None) -> None:
        super().advance(progress, metrics)
        self.multiplier.update(progress, metrics or {})

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"multiplier": self.multiplier.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.multiplier.load_state_dict(state["multiplier"])


def lexicographic(rewards: Sequence[Reward], *, resolution: Sequence[float], horizon: int = 1) -> Reward:
    """One scalar that ranks by the first reward, then the second, and so on: the visible last step of a vector.

    Weights are chosen so that a difference of `resolution[i]` in reward i outweighs everything below
    it over `horizon` steps; differences smaller than the resolution may be outweighed.

    Args:
        rewards: Most important first; all but the first need a finite `range`.
        resolution: The smallest difference of each reward's return that counts (one a reward).
        horizon: The longest episode, in steps.

    Raises:
        BadInput: when a lower reward has no finite range, or a resolution is not positive.
    """
    if len(resolution) != len(rewards) or any(r <= 0 for r in resolution):
        raise BadInput("resolution", expected=f"{len(rewards)} positive numbers", received=list(resolution))
    for i, reward in enumerate(rewards):
        refuse_no_reward(f"rewards[{i}]", reward)
    weights, below = [1.0], 0.0
    for i in range(len(rewards) - 1, 0, -1):
        low, high = rewards[i].range
        if not math.isfinite(high - low):
            raise BadInput(f"rewards[{i}].range", expected="finite, so that it can be outweighed",
                           received=(low, high), fix="declare it, or use .clip(min, max)")
        below += weights[0] * (high - low) * horizon
        weights.insert(0, 2.0 * below / resolution[i - 1] if below > 0 else 1.0)
    return Sum(list(zip(weights, rewards, strict=True)), name="lexicographic")


class PerMember(Node):
    """A stacked population: row b is scored by the reward of its member, `episodes.member[b]`.

    Opinions of ensembles are kept; where rewards have different numbers of them (one that is no ensemble has 1), each
    is repeated until all have as many, so that mean, spread and worst of every row are those of its own reward.

    Its terms are those that any member has, each as what it paid (value times weight, since members may weigh the
    same term differently). A term that a row's own member lacks paid 0 there, and is unknown where the row is.

    A constraint of a member follows the cost of that member alone (`advance` reads it under `of_member`); controllers
    of other metrics see the mean of the population.

    Raises:
        BadInput: without a reward, or (inside `score`, so as the reason of an unknown) where rows have no member, or
            one that has no reward here.

    Example:
        >>> from plaudit.core.episodes import Episodes
        >>> e = Episodes.of_transitions(obs=torch.zeros(2, 1), action=torch.zeros(2), next_obs=torch.zeros(2, 1))
        >>> PerMember([Constant(1.0), Constant(2.0)])(e.replace(member=torch.tensor([1, 0]))).tolist()
        [[2.0], [1.0]]
    """

    def __init__(self, rewards: Sequence[Reward], *, name: str = "population") -> None:
        if not rewards:
            raise BadInput("rewards", expected="one for each member", received="none")
        super().__init__(rewards, name=name)
        self.range = (min(p.range[0] for p in rewards), max(p.range[1] for p in rewards))

    def evaluate(self, episodes: Episodes) -> Score:
        """Scores each row once, by its own member (`combine` would score every row by every member)."""
        own = [(rows, self.parts[m].score(episodes[rows])) for m, rows in self._rows(episodes)]
        return put_together(own, episodes, dtype=torch.float32)

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        own = [(rows, scores[m].rows(rows)) for m, rows in self._rows(episodes)]
        return put_together(own, episodes, dtype=reduce(torch.promote_types, (s.value.dtype for s in scores)))

    def advance(self, progress: float, metrics: Mapping[str, float] | None = None) -> None:
        known = metrics or {}
        for m, part in enumerate(self.parts):
            own = {name: known[of_member(name, m)] for name in known if of_member(name, m) in known}
            part.advance(progress, {**known, **own})

    def refuse_others(self, ids: Iterable[int], *, argument: str = "episodes.member") -> None:
        """Raises `BadInput` where an id has no reward here."""
        if others := sorted({i for i in ids if not 0 <= i < len(self.parts)}):
            raise BadInput(argument, expected=f"ids in 0..{len(self.parts) - 1}, since {self.name} has "
                           f"{len(self.parts)} rewards", received=others[:8],
                           fix="give one reward for each id, in the order of the ids from 0")

    def _rows(self, episodes: Episodes) -> list[tuple[int, Int[Tensor, "_"]]]:
        """The members that have rows here, each with the places of its rows."""
        if episodes.member is None:
            raise BadInput("episodes.member", expected="the index of each row's member", received=None)
        here = [int(m) for m in cast(Tensor, episodes.member.unique())]  # pyright: ignore[reportUnknownMemberType]
        self.refuse_others(here)
        return [(m, torch.where(episodes.member == m)[0]) for m in here]


# --- helpers -----------------------------------------------------------------------------------------


def _as_weight(weight: object) -> Weight:
    """A weight of a sum, numbers of other libraries as floats."""
    if isinstance(weight, Schedule | Controller):
        return weight
    expected = "a finite number, a Schedule or a Controller"
    if isinstance(weight, Reward):
        raise BadInput("weight", expected=expected, received=f"the reward {weight.name}",
                       fix="a.gated_by(b) pays a where b is above zero; for a product, multiply in one function")
    number = number_of(weight)
    if number is None or not math.isfinite(number):
        raise BadInput("weight", expected=expected, received=weight)
    return number


def _limit(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)
