"""One protocol for bandits, with memory or without, batched over runs: R runs of K arms, one pull each at a time.

Letters: R runs (the rows of the batch), K arms, D features of an arm, N rewards that arrive, T rounds.

A bandit is asked three things: what it shows before a pull (`arms_KD`, `context_RKD`), what a pull brings (`Pull`),
and what a pull is worth without noise beside the best that could have been had (`Pull.mean_R`, `Pull.best_R`), from
which regret is computed. What a learner hears may come late or from several rounds at once: `Pull.heard` lists it.
The random numbers of a run depend on its own seed alone, so a run is the same in a batch of any size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plaudit.core.errors import BadInput

Array: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class Heard:
    """Rewards that reach the learner in one round: N of them, from any run and of any earlier round."""

    row_N: Ints
    """The run that each belongs to."""
    arm_N: Ints
    """The arm that earned it."""
    reward_N: Array
    round_N: Ints
    """The round in which that arm was pulled, counted from 0."""
    x_ND: Array | None = None
    """The features that the arm had then, where they change; None where `arms_KD` has them."""
    seen_NM: Array | None = None
    """What else was observed in that round, M numbers, such as all nodes of a causal system."""


@dataclass(frozen=True, kw_only=True)
class Pull:
    """What one pull in each run brings."""

    reward_R: Array
    """The reward of this round; what it is where `known_R` is False means nothing."""
    known_R: Bools
    """Whether the learner hears this reward now."""
    mean_R: Array
    """The value of the pull without noise: what regret counts."""
    best_R: Array
    """What the comparator earns in this round (see `Bandit.comparator`)."""
    heard: Heard | None = None
    """What the learner hears in this round; None: the known rewards of this round."""
    info: Mapping[str, Array] = field(default_factory=dict)
    """Further numbers [R] by name, which become `info` of the episodes."""
    seen_RM: Array | None = None
    """What else the learner observes, M numbers, such as all nodes of a causal system."""

    def told(self, arm_R: Ints, round: int, x_RD: Array | None = None) -> Heard:
        """What the learner hears, written out."""
        if self.heard is not None:
            return self.heard
        rows = np.flatnonzero(self.known_R & ~np.isnan(self.reward_R))
        return Heard(row_N=rows, arm_N=arm_R[rows], reward_N=self.reward_R[rows],
                     round_N=np.full(len(rows), round), x_ND=None if x_RD is None else x_RD[rows],
                     seen_NM=None if self.seen_RM is None else self.seen_RM[rows])


class Bandit(ABC):
    """R bandits of one kind that are played side by side.

    Subclasses set the attributes, draw from `self.noise` (made by `reset`) and implement `pull`.

    Example:
        >>> from plaudit.tasks.bandits.stochastic import Bernoulli
        >>> bandit = Bernoulli([0.2, 0.9])
        >>> bandit.reset([1, 2, 3])
        >>> pull = bandit.pull(np.array([0, 1, 1]))
        >>> pull.mean_R.tolist(), pull.best_R.tolist()
        ([0.2, 0.9, 0.9], [0.9, 0.9, 0.9])
    """

    name: str = "bandit"
    K: int
    """How many arms there are."""
    arms_KD: Array | None = None
    """The features of the arms, where they have any that stay."""
    comparator: str = "optimum"
    """What regret is counted against, in words: the optimum, 0.632 of the LP, the best fixed arm, ..."""
    note: str = ""
    """What has to be known of its numbers, such as that payoffs were changed to fit."""
    noise_kind: Literal["normal", "uniform"] = "normal"
    noise_k: int = 1
    """How many random numbers a run needs in a round."""
    noise: Noise
    """The random numbers of this reset."""
    runs: int = 0
    round: int = 0
    """How many pulls there were since the reset."""

    def reset(self, seeds: Sequence[int]) -> None:
        """R fresh runs, one for each seed."""
        if len(seeds) == 0:
            raise BadInput("seeds", expected="one for each run, at least one", received="none")
        self.runs, self.round = len(seeds), 0
        self.noise = Noise(seeds, self.noise_k, self.noise_kind)
        self.begin()

    def begin(self) -> None:  # noqa: B027
        """Sets the state of `self.runs` fresh runs; nothing by default."""

    @abstractmethod
    def pull(self, arm_R: Ints) -> Pull:
        """Pulls one arm in each run and goes on to the next round."""

    @property
    def context_RKD(self) -> Array | None:
        """What is seen before this round's pull: the features of each arm in each run; None where none change."""
        return None

    @property
    def state(self) -> Mapping[str, Any]:
        """The hidden state, for planners, tests and plots: learners do not read it."""
        return {}

    def check(self, arm_R: Ints) -> Ints:
        """The arms of one pull, if they can be pulled.

        Raises:
            BadInput: before `reset`, for another number of runs, or for an arm that does not exist.
        """
        if self.runs == 0:
            raise BadInput("bandit", expected="reset(seeds) before the first pull", received="no runs")
        arm_R = np.asarray(arm_R)
        if arm_R.shape != (self.runs,) or arm_R.dtype.kind not in "iu":
            raise BadInput("arm_R", expected=f"{self.runs} whole numbers, one for each run",
                           received=f"{arm_R.dtype} of shape {arm_R.shape}")
        if len(arm_R) and not (0 <= arm_R.min() and arm_R.max() < self.K):
            raise BadInput("arm_R", expected=f"arms from 0 to {self.K - 1}", received=int(
                arm_R[(arm_R < 0) | (arm_R >= self.K)][0]))
        return arm_R


class Noise:
    """The random numbers of R runs, k in a round, each run from a generator of its own.

    Drawn in blocks, so that a round costs little; how many are drawn at once never changes them.

    Example:
        >>> one, many = Noise([5], 2, "normal"), Noise([4, 5, 6], 2, "normal")
        >>> bool((one.ahead(3)[0] == many.ahead(3)[1]).all())
        True
    """

    def __init__(self, seeds: Sequence[int], k: int, kind: Literal["normal", "uniform"]) -> None:
        self.k, self.kind = k, kind
        self._generators = [np.random.Generator(np.random.SFC64(int(seed))) for seed in seeds]
        self._block, self._at = self._drawn(0), 0

    def next(self) -> Array:
        """The numbers [R, k] of the next round."""
        if self._at >= self._block.shape[1]:
            self._block, self._at = self._drawn(_BLOCK), 0
        self._at += 1
        return self._block[:, self._at - 1]

    def ahead(self, rounds: int) -> Array:
        """The numbers [R, rounds, k] of the next rounds."""
        left = self._block[:, self._at:]
        if left.shape[1] == 0:
            return self._drawn(rounds)
        if left.shape[1] < rounds:
            left = np.concatenate([left, self._drawn(rounds - left.shape[1])], 1)
            self._block, self._at = left, 0
        self._at += rounds
        return left[:, :rounds]

    def _drawn(self, rounds: int) -> Array:
        out = np.empty((len(self._generators), rounds, self.k))
        for row, generator in zip(out, self._generators, strict=True):
            if self.kind == "normal":
                generator.standard_normal(out=row)
            else:
                generator.random(out=row)
        return out


# --- checks -------------------------------------------------------------------------------------------------


def as_numbers(name: str, x: Any, *, ndim: int) -> Array:
    """Finite numbers with so many axes, at least one number.

    Raises:
        BadInput: where they are not, with the place of the first NaN or infinity.
    """
    try:
        array = np.array(x, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadInput(name, expected=f"numbers in an array of {ndim} axes", received=type(x).__name__) from None
    if array.ndim != ndim or array.size == 0:
        raise BadInput(name, expected=f"an array of {ndim} axes, not empty", received=f"shape {list(array.shape)}")
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        where = ", ".join(map(str, wrong[0]))
        raise BadInput(f"{name}[{where}]", expected="a finite number", received=float(array[tuple(wrong[0])]))
    return array


def as_arms(name: str, x: Any, *, d: int | None = None) -> Array:
    """Arms [K, D] with different features.

    Raises:
        BadInput: when there are none, two are the same, or they do not have `d` features.
    """
    arms_KD = as_numbers(name, x, ndim=2)
    if d is not None and arms_KD.shape[1] != d:
        raise BadInput(name, expected=f"arms of {d} features", received=f"{arms_KD.shape[1]} features",
                       fix="arms are the rows [K, D]")
    _, first, count = np.unique(arms_KD, axis=0, return_index=True, return_counts=True)
    if (count > 1).any():
        one = arms_KD[first[count > 1][0]]
        same = np.flatnonzero((arms_KD == one).all(1)).tolist()
        raise BadInput(name, expected="arms that differ", received=f"arms {same} are all {one.tolist()}",
                       fix="pass np.unique(arms, axis=0)")
    return arms_KD


def positive(name: str, x: float, *, zero: bool = False) -> float:
    """A finite number above 0 (or 0, where it may be).

    Raises:
        BadInput: where it is not.
    """
    if not (np.isfinite(x) and (x > 0 or (zero and x == 0))):
        raise BadInput(name, expected=f"a number {'of 0 or more' if zero else 'above 0'}", received=x)
    return float(x)
