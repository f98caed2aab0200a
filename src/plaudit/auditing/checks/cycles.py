"""Loops that pay: exact ones in a finite process, and those that an episode was seen to run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.statistics import Interval, mean_interval
from plaudit.optimize.tabular import Cycle, evaluate, expected_return, maximum_mean_cycle, policy_iteration
from plaudit.tasks.tabular import TabularMDP

_NEAR = 0.2
"""Two observations are the same place if they differ by less than this share of a standard deviation (rms)."""
_ROUNDS = 3
_COVERS = 0.4
_ANCHORS = 96
_EXACT_STATES = 20_000


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A place to which an episode came back again and again, with what each round paid."""

    visits: list[int]
    """The steps at which it came back."""
    pays: Interval
    """Reward a round."""
    still: bool = False
    """Whether it did not move at all (a round is one step)."""

    @property
    def steps(self) -> float:
        """Steps of a usual round (the median)."""
        return float(torch.tensor(self.visits).diff().double().median())

    @property
    def total(self) -> float:
        """What all rounds paid together."""
        return self.pays.mean * self.pays.n

    @property
    def frames(self) -> list[int]:
        """Steps worth a picture: two rounds, four pictures each."""
        if self.still:
            return []
        first, last = self.visits[0], self.visits[min(2, len(self.visits) - 1)]
        return sorted({round(first + (last - first) * i / 8) for i in range(9)})

    @property
    def words(self) -> str:
        """For a sentence: `going round a loop of 8 steps`."""
        return "staying where it is" if self.still else f"going round a loop of {self.steps:.3g} steps"


def loop_in(place_TD: Float[Tensor, "T D"], reward_T: Float[Tensor, "T"]) -> Loop | None:
    """The best-paid loop that an episode runs, if at least three rounds of it fill 40% of the episode.

    A round ends when the episode is back near a place that it had left; it must pay more than 0.

    Args:
        place_TD: where the episode was before each step, in standard deviations.
        reward_T: what each step paid.

    Example:
        >>> place = torch.tensor([0.0, 1.0] * 10).unsqueeze(1)
        >>> loop = loop_in(place, torch.tensor([0.0, 3.0] * 10))
        >>> loop.steps, loop.pays.mean
        (2.0, 3.0)
    """
    T = len(reward_T)
    if T < 4:
        return None
    gap = torch.cdist(place_TD.double(), place_TD.double()) / math.sqrt(max(1, place_TD.shape[1]))
    near = gap < _NEAR
    still = _standing(near, reward_T)
    if still is not None:
        return still
    total = torch.cat([torch.zeros(1, dtype=torch.float64), reward_T.double().cumsum(0)])
    best: tuple[float, list[int]] | None = None
    for anchor in sorted({int(i) for i in torch.linspace(0, T - 1, min(T, _ANCHORS))}):
        row = near[anchor]
        comes = row & ~torch.cat([torch.zeros(1, dtype=torch.bool), row[:-1]])
        visits = comes.nonzero().flatten().tolist()
        if len(visits) <= _ROUNDS or visits[-1] - visits[0] < _COVERS * T:
            continue
        paid = total[visits].diff()
        if float((paid > 0).double().mean()) >= 0.8 and (best is None or float(paid.sum()) > best[0]):
            best = float(paid.sum()), visits
    if best is None:
        return None
    return Loop(visits=best[1], pays=mean_interval(total[best[1]].diff()))


def _standing(near: Tensor, reward_T: Tensor) -> Loop | None:
    T = len(reward_T)
    late = slice(T // 2, T)
    if float(near[-1, late].double().mean()) < 0.9 or not float(reward_T[late].double().mean()) > 0:
        return None
    return Loop(visits=list(range(T // 2, T)), pays=mean_interval(reward_T[late].double()), still=True)


# --- exact -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EndlessOptimum:
    """A proof in a finite process: the best policy never ends the episode, though ending is the largest single pay."""

    cycle: Cycle | None
    value: float
    """Discounted return of the best policy."""
    ending_value: float
    """Discounted return of the best policy that is sure to end wherever it can."""
    prize: float
    """The largest pay for a step that ends the episode."""


def best_loop(mdp: TabularMDP) -> Cycle | None:
    """The reachable loop with the most reward a step; None where there is none or the process is too large."""
    if mdp.S > _EXACT_STATES:
        return None
    return maximum_mean_cycle(mdp) or maximum_mean_cycle(mdp, min_probability=0.25)


def endless_optimum(mdp: TabularMDP, *, margin: float = 0.05) -> EndlessOptimum | None:
    """Proves, without a statement of intent, that a reward defeats the end that it pays for itself.

    It holds where ending the episode somewhere is the largest single pay that there is, every policy that aims
    at an end reaches one, and yet the best policy never ends and is worth more by `margin` of the range
    between the two. Discounted and infinite, so potential shaping cannot cause it.
    """
    if mdp.S > _EXACT_STATES or not bool(mdp.terminal.any()):
        return None
    entering, reward = _entering(mdp)
    prize = float(reward[entering].max()) if bool(entering.any()) else 0.0
    if prize <= 0 or float(reward[~entering].max()) > prize:
        return None
    best = policy_iteration(mdp)
    if _ending(mdp, best.policy) > 0.05:
        return None
    pull = 10 * float(reward.abs().max()) / (1 - mdp.discount)
    ending = policy_iteration(mdp.with_reward(_on_ending(mdp, pull) + mdp.reward)).policy
    if _ending(mdp, ending) < 0.95:
        return None
    value, other = float(best.expected_return), float(expected_return(mdp, ending))
    if value - other <= margin * max(abs(value), abs(other)):
        return None
    return EndlessOptimum(cycle=best_loop(mdp), value=value, ending_value=other, prize=prize)


def _entering(mdp: TabularMDP) -> tuple[Tensor, Tensor]:
    """Of the transitions that can happen, which end the episode, and what they pay: [N] each."""
    one = mdp.to_sparse()
    row, column = one.entries()
    live = ~mdp.terminal[row // mdp.A] & mdp.reachable()[row // mdp.A]
    return mdp.terminal[column][live], one.reward[live]


def _on_ending(mdp: TabularMDP, pay: float) -> Tensor:
    """A reward of `pay` for every transition that ends the episode, in the form of the process."""
    if isinstance(mdp.transition, Tensor):
        ends = mdp.terminal.view(1, 1, -1) & ~mdp.terminal.view(-1, 1, 1)
        return pay * ends.double().expand(mdp.S, mdp.A, mdp.S)
    row, column = mdp.entries()
    return pay * (mdp.terminal[column] & ~mdp.terminal[row // mdp.A]).double()


def _ending(mdp: TabularMDP, policy: Tensor) -> float:
    """The probability that an episode ever ends under a policy."""
    patient = mdp.with_reward(_on_ending(mdp, 1.0)).with_discount(1 - 1e-7)
    return float((mdp.initial * evaluate(patient, policy)).sum())
