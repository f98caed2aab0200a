"""The one idea: a reward reads a batch of episodes and returns one number per step."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import RAISED, BadInput, PlauditError, Unsupported
from plaudit.core.needs import Needs, Reads, Role
from plaudit.core.score import Score

if TYPE_CHECKING:
    from plaudit.core.schedules import Schedule

Range = tuple[float, float]
UNBOUNDED: Range = (-math.inf, math.inf)
Carry = Any
"""What a prefix reward remembers of the steps so far; None for a reward of single steps."""


class Reward(ABC):
    """A reward. Subclasses implement `evaluate`; callers use `score` or call the object.

    Rewards form an algebra: `0.7 * progress + 0.3 * touch.clip(max=1)`, `-cost`, `a - b`,
    `reward.gated_by(gate)`, `reward.shaped_by(potential, discount=0.99)`, ... is a Reward again,
    with its terms, needs, range and ensemble members derived.
    """

    name: str = "reward"
    needs: Needs = Needs()
    range: Range = UNBOUNDED
    """The smallest and largest value that a step may have, as far as it is known."""
    role: Role = "train"

    @abstractmethod
    def evaluate(self, episodes: Episodes) -> Score:
        """Computes the score; may raise (use `score`, which does not)."""

    def score(self, episodes: Episodes) -> Score:
        """The numbers with what is known of them: a failure of the reward is an unknown with its reason.

        Raises:
            BadInput: for something that is no `Episodes`.
        """
        if not isinstance(episodes, Episodes):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadInput("episodes", expected="Episodes", received=type(episodes).__name__,
                           fix="Episodes.of_transitions(obs=..., action=..., next_obs=...) makes them of tensors")
        return self.scored(episodes, lambda: self.evaluate(episodes))

    def scored(self, episodes: Episodes, evaluate: Callable[[], Score]) -> Score:
        """What `evaluate` gives, within the border: whatever it raises is an unknown with its reason."""
        missing = [f for f in sorted(self.needs.fields) if not _has(episodes, f)]
        if missing:
            return Score.unknown(episodes.mask, f"{self.name} reads {', '.join(missing)}, which these episodes lack")
        try:
            score = evaluate()
        except RAISED as error:
            return Score.unknown(episodes.mask, describe_failure(self.name, error))
        return score if score.terms else _with_own_term(score, self.name)

    def __call__(self, episodes: Episodes) -> Float[Tensor, "B T"]:
        """One number per step, 0 where the mask is False.

        Raises:
            UnknownReward: where any value is unknown.
        """
        return self.score(episodes).require()

    # --- streaming: rewards that read the past, one step at a time --------------------------------

    def start(self, rows: int) -> Carry:
        """The carry of `rows` fresh episodes."""
        if self.needs.time == "episode":
            raise Unsupported(f"{self.name} reads whole episodes, so it cannot be streamed step by step; "
                              "use a learner that scores finished episodes")
        return None

    def stream(self, step: Episodes, carry: Carry) -> tuple[Score, Carry]:
        """Scores one step ([B, 1]) given what is remembered, and returns what to remember next."""
        return self.score(step), carry

    def restart(self, carry: Carry, rows: Tensor) -> Carry:
        """The carry with the rows where `rows` ([B], bool) is True made fresh."""
        return carry

    # --- things that change while a run goes on ------------------------------------------------------

    def children(self) -> Sequence[Reward]:
        """The rewards that this one is made of."""
        return ()

    @property
    def reads(self) -> Reads:
        """Which columns of a data set it reads: those of its children; a reward that does not say may read any."""
        children = self.children()
        return reduce(Reads.__or__, (child.reads for child in children)) if children else Reads(anything=True)

    def advance(self, progress: float, metrics: Mapping[str, float] | None = None) -> None:
        """Tells schedules and controllers inside that the run is at `progress` in [0, 1]."""
        for child in self.children():
            child.advance(progress, metrics)

    def state_dict(self) -> dict[str, Any]:
        """Everything that moves (schedules, controllers, normalisers), as JSON values and tensors."""
        states = {str(i): child.state_dict() for i, child in enumerate(self.children())}
        return {k: v for k, v in states.items() if v}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        for i, child in enumerate(self.children()):
            child.load_state_dict(state.get(str(i), {}))

    # --- the algebra ------------------------------------------------------------------------------------

    def __add__(self, other: Reward | float) -> Reward:
        from plaudit.core import algebra

        return algebra.total([(1.0, self), (1.0, algebra.as_reward(other))])

    def __radd__(self, other: Reward | float) -> Reward:
        return self if isinstance(other, int | float) and other == 0 else self + other

    def __sub__(self, other: Reward | float) -> Reward:
        from plaudit.core import algebra

        return self + (-1.0 * algebra.as_reward(other) if not isinstance(other, int | float) else -other)

    def __rsub__(self, other: Reward | float) -> Reward:
        return -1.0 * self + other

    def __neg__(self) -> Reward:
        return -1.0 * self

    def __mul__(self, factor: float | Schedule) -> Reward:
        from plaudit.core import algebra

        return algebra.total([(factor, self)])

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Reward:
        if isinstance(divisor, Reward) or not divisor:
            raise BadInput("divisor", expected="a number that is not 0", received=divisor,
                           fix="for a quotient, divide in one function" if isinstance(divisor, Reward) else "")
        return self * (1.0 / divisor)

    def clip(self, min: float = -math.inf, max: float = math.inf) -> Reward:
        """Each step's value limited to [min, max]."""
        from plaudit.core import algebra

        return algebra.Clip(self, min=min, max=max)

    def gated_by(self, gate: Reward | Callable[..., Any]) -> Reward:
        """This reward where `gate` is above zero, else 0 (whatever lies behind a shut gate)."""
        from plaudit.core import algebra

        return algebra.Gate(algebra.as_reward(gate), self)

    def or_else(self, other: Reward) -> Reward:
        """This reward where it is known, else the other."""
        from plaudit.core import algebra

        return algebra.Fallback(self, other)

    def shaped_by(self, potential: Reward | Callable[..., Any], *, discount: float) -> Reward:
        """Adds discount * potential(next_obs) - potential(obs), which changes no optimal policy (Ng et al. 1999)."""
        from plaudit.core import algebra

        return self + algebra.PotentialDifference(potential, discount=discount)

    def named(self, name: str) -> Reward:
        """The same reward under another name."""
        out = copy.copy(self)
        out.name = name
        return out

    def with_role(self, role: Role | str) -> Reward:
        """The same reward as `train`, `watch` or `gold`."""
        if role not in ("train", "watch", "gold"):
            raise BadInput("role", expected="train, watch or gold", received=role)
        out = copy.copy(self)
        out.role = role
        return out

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


def describe_failure(name: str, error: BaseException) -> str:
    """One line for a log: which reward failed, and how."""
    text = str(error) if isinstance(error, PlauditError) else f"{name} raised {type(error).__name__}: {error}"
    return " ".join(text.split())[:300]


def _has(episodes: Episodes, need: str) -> bool:
    name, _, key = need.partition(":")
    value = getattr(episodes, name)
    return value is not None and (not key or key in episodes.info)


def _with_own_term(score: Score, name: str) -> Score:
    return replace(score, terms={name: score.value}, weights={name: 1.0})
