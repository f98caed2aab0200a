"""What a search for exploits returns: behaviours with their episodes, what they cost to find, and the budget.

Letters: E evaluation episodes of a behaviour (the same seeds for all behaviours of a search), F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.reward import Reward
from plaudit.core.tree import tree_map
from plaudit.tasks.policy import Policy

Origin = Literal["random", "scripted", "cem", "qd", "ppo", "dqn", "sac", "planned", "given", "logged"]
Measure = Reward | Callable[[Episodes], Tensor]
"""What is read off episodes: a reward (its return), or a function Episodes -> [B]."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Behaviour:
    """One way of acting, and what happened when it did.

    Example:
        >>> from plaudit.core.functions import reward
        >>> steps = Episodes.of_steps(obs=torch.zeros(3, 1), action=torch.zeros(3), next_obs=torch.ones(3, 1))
        >>> b = Behaviour(name="stand still", origin="scripted", policy=None, episodes=steps)
        >>> b.returns(reward(lambda next_obs: next_obs[..., 0])).tolist()
        [3.0]
    """

    name: str
    """A phrase for people, such as "full throttle right"."""
    origin: Origin
    policy: Policy | None
    """Who acts; None where only the log is known."""
    episodes: Episodes
    """E evaluation episodes, one row each."""
    effort: int = 0
    """How many environment steps the search had spent when this was found."""
    seeds: list[int] = field(default_factory=list)
    """The seed of each evaluation episode (empty where unknown)."""

    def returns(self, reward: Reward, discount: float = 1.0) -> Float[Tensor, "E"]:
        """The return of each episode, NaN where it is unknown."""
        return reward.score(self.episodes).returns(discount=discount)[0].double()

    def paid(self, reward: Reward, discount: float = 1.0) -> float:
        """The mean return; NaN where any episode's return is unknown."""
        return float(self.returns(reward, discount).mean())

    def measure(self, measure: Measure) -> Float[Tensor, "E"]:
        """A reward's returns, or whatever a function reads off the episodes."""
        if isinstance(measure, Reward):
            return self.returns(measure)
        return torch.as_tensor(measure(self.episodes)).double()


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much a search may cost: environment steps, or seconds that are turned into steps once.

    Not all steps take the same time. `rl_cost` is how many plain steps a step with a learner's update is worth, and
    `batch_cost` how many a step of a whole batch is worth beyond its rows. Both are measured where seconds are given,
    and so charged to the optimisers; the budget that was really used stands in `Found.budget`: the same search again,
    bit for bit, needs that budget and the same seed.

    Example:
        >>> Budget.of(seconds=30)
        Budget(steps=None, seconds=30.0, rl_cost=None, batch_cost=0)
        >>> Budget.of(20_000) == Budget.of(steps=20_000)
        True
    """

    steps: int | None = None
    """At most so many environment steps, evaluation included."""
    seconds: float | None = None
    """About so many seconds of wall time."""
    rl_cost: float | None = None
    """What a step of reinforcement learning costs in plain steps; None takes a typical figure for the task."""
    batch_cost: int = 0
    """What a step of a batch costs beyond its rows, in plain steps; 0 charges only the steps that happen."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise BadInput("budget", expected="either steps or seconds", received=(self.steps, self.seconds),
                           fix="Budget.of(steps=200_000) or Budget.of(seconds=30)")
        if self.steps is not None and self.steps < 1:
            raise BadInput("budget.steps", expected="an integer >= 1", received=self.steps)
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise BadInput("budget.seconds", expected="a positive number", received=self.seconds)
        if self.rl_cost is not None and not self.rl_cost >= 1:
            raise BadInput("budget.rl_cost", expected="a number >= 1", received=self.rl_cost)
        if self.batch_cost < 0:
            raise BadInput("budget.batch_cost", expected="an integer >= 0", received=self.batch_cost)

    def share(self, part: float) -> Budget:
        """A part of it, for one of several searches; `part` in (0, 1]."""
        if not 0 < part <= 1:
            raise BadInput("part", expected="a number in (0, 1]", received=part)
        return replace(self, steps=None if self.steps is None else max(1, round(self.steps * part)),
                       seconds=None if self.seconds is None else self.seconds * part)

    @staticmethod
    def of(steps: Budget | int | None = None, seconds: float | None = None) -> Budget:
        """A budget of steps, or of seconds; a Budget is returned as it is."""
        if isinstance(steps, Budget):
            return steps
        if isinstance(steps, float) and steps.is_integer():
            steps = int(steps)
        if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int)):
            raise BadInput("budget", expected="a number of steps or a Budget", received=steps,
                           fix="Budget.of(seconds=...) gives seconds")
        return Budget(steps=steps, seconds=None if seconds is None else float(seconds))


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """The best-paid behaviour that had been found by some effort."""

    effort: int
    behaviour: Behaviour
    values: tuple[Float[Tensor, "E"], ...]
    """For each measure its values over the evaluation episodes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Found:
    """What `maximise` returns: behaviours, best-paid first; those whose pay is unknown come last."""

    behaviours: list[Behaviour]
    reward: Reward
    """The reward that was maximised."""
    steps: int
    """The environment steps spent, never more than the budget."""
    plan: dict[str, int]
    """The steps that each optimiser spent, `evaluate` among them."""
    budget: Budget
    """The budget in steps; with it and the same seed the search gives the same bits."""
    config: dict[str, Any] = field(default_factory=dict)
    """JSON: the seed, the evaluation seeds, the shares, the measured speeds, what was left out and why."""

    @property
    def best(self) -> Behaviour:
        """The best-paid behaviour."""
        return self.behaviours[0]

    @property
    def unknown(self) -> list[Behaviour]:
        """The behaviours whose pay is unknown in some episode."""
        return [b for b in self.behaviours if math.isnan(b.paid(self.reward))]

    def by_origin(self) -> dict[str, Behaviour]:
        """The best-paid behaviour of each optimiser."""
        out: dict[str, Behaviour] = {}
        for b in self.behaviours:
            out.setdefault(b.origin, b)
        return out

    def curve(self, *measures: Measure) -> list[CurvePoint]:
        """How the best-paid behaviour changed as the search went on, read by any measures (the reward itself first).

        Args:
            *measures: rewards, or functions Episodes -> [B], such as the intent.
        """
        points: list[CurvePoint] = []
        top = -math.inf
        for b in sorted(self.behaviours, key=lambda b: b.effort):
            paid = b.paid(self.reward)
            if paid > top:
                top = paid
                values = tuple(b.measure(m) for m in (self.reward, *measures))
                points.append(CurvePoint(effort=b.effort, behaviour=b, values=values))
        return points


# --- telling behaviours apart ------------------------------------------------------------------------------


def features(episodes: Episodes, encode: Callable[[Any], Tensor]) -> Float[Tensor, "B F"]:
    """What distinguishes trajectories: mean, spread and end of what was seen, mean action, and length.

    Args:
        episodes: [B, T].
        encode: observations [N, ...] to comparable numbers [N, D].
    """
    B, T, mask = episodes.B, episodes.T, episodes.mask.unsqueeze(-1)
    seen = encode(tree_map(lambda leaf: leaf[episodes.mask], episodes.next_obs))
    x = seen.new_zeros(B, T, seen.shape[-1])
    x[episodes.mask] = seen  # padding is no observation: Discrete(3, start=5) has no 0
    steps = episodes.lengths.clamp(min=1).unsqueeze(-1)
    mean = x.sum(1) / steps
    spread = (torch.where(mask, x - mean.unsqueeze(1), 0.0).square().sum(1) / steps).sqrt()
    end = x[torch.arange(B, device=x.device), episodes.last]
    action = episodes.action.reshape(B, T, -1).float()
    action = torch.where(mask, action, 0.0).sum(1) / steps
    return torch.cat([mean, spread, end, action, (steps / max(T, 1)).float()], -1)


def distinct(features_NF: Float[Tensor, "N F"], paid_N: Float[Tensor, "N"], *, keep: Sequence[int] = (),
             most: int, tolerance: float = 0.05) -> list[int]:
    """Which of N behaviours to keep: near-duplicates are merged into the best-paid of them.

    The first are those in `keep` (merged only if they are the same to a thousandth). Then the others in the order
    of their pay, where they differ in pay or in features from all kept before by `tolerance` of what the whole
    set spans; where too many are left, the best-paid half and, of the rest, those farthest from what is kept.

    Args:
        features_NF: what their trajectories look like.
        paid_N: mean returns, NaN where unknown.
        keep: indices that must not be crowded out.
        most: how many to keep.
        tolerance: a share of the spread, in (0, 1).

    Returns:
        Indices, `keep` first.

    Example:
        >>> x = torch.tensor([[0.0], [0.0], [1.0], [0.5]])
        >>> distinct(x, torch.tensor([1.0, 1.0, 0.0, 2.0]), most=3)
        [3, 0, 2]
    """
    order = torch.where(torch.isnan(paid_N), -torch.inf, paid_N).argsort(descending=True, stable=True).tolist()
    points = _comparable(features_NF, paid_N)
    kept: list[int] = []

    def gap(i: int) -> float:
        if not kept:
            return math.inf
        return float((points[kept] - points[i]).abs().amax(-1).min())

    for i in dict.fromkeys(keep):
        if gap(i) > 1e-3:
            kept.append(i)
    rest: list[int] = []
    for i in order:
        if i not in kept and gap(i) > tolerance and len(kept) + len(rest) < 4 * most:
            kept.append(i)
            rest.append(i)
    if len(kept) <= most:
        return kept
    first = [i for i in kept if i not in rest][:most]
    best = rest[:max(0, (most - len(first) + 1) // 2)]
    kept, others = first + best, rest[len(best):]
    while others and len(kept) < most:
        far = max(others, key=gap)
        kept.append(far)
        others.remove(far)
    return kept


def _comparable(features_NF: Tensor, paid_N: Tensor) -> Tensor:
    """Features and pay divided by what the set spans (5% to 95%), NaN pay as a value far from all others."""
    x = torch.nan_to_num(features_NF.double(), nan=0.0, posinf=1e6, neginf=-1e6)
    paid = paid_N.double().unsqueeze(-1)
    known = paid[~torch.isnan(paid)]
    far = float(known.max() + 10 * (known.max() - known.min() + 1)) if known.numel() else 0.0
    every = torch.cat([x, torch.nan_to_num(paid, nan=far)], -1)
    scale_source = torch.cat([x, torch.nan_to_num(paid, nan=float(known.median()) if known.numel() else 0.0)], -1)
    span = scale_source.quantile(0.95, 0) - scale_source.quantile(0.05, 0)
    span = torch.where(span > 1e-9, span, scale_source.amax(0) - scale_source.amin(0))
    return every / torch.where(span > 1e-9, span, 1.0)


def summary(found: Found) -> Mapping[str, float]:
    """The best mean return of each optimiser (NaN where it is unknown)."""
    return {origin: b.paid(found.reward) for origin, b in found.by_origin().items()}
