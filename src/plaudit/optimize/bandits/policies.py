"""What chooses arms: one protocol for learners that play R bandits at once, and the two that learn nothing.

Letters: R runs, K arms, D features, N rewards heard in a round (see `plaudit.tasks.bandits.protocol`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from plaudit.core.errors import BadInput, Unsupported
from plaudit.tasks.bandits.protocol import Array, Bandit, Heard, Ints, Noise

_TIE = 1e-10


class Policy(ABC):
    """Chooses an arm in each of R runs, and hears what they paid.

    Subclasses implement `start`, `choose` and `update`; `begin` has set `runs`, `rounds`, `K`, `arms_KD` and
    `uniform` (one number in [0, 1) for each run in each round, from `uniform_R`) before `start` is called.

    Example:
        >>> from plaudit.optimize.bandits import FixedArm, play
        >>> from plaudit.tasks.bandits import Bernoulli
        >>> play(Bernoulli([0.2, 0.9]), FixedArm(1), rounds=5, runs=2, seed=0).regret_RT.sum().item()
        0.0
    """

    name: str = "policy"
    note: str = ""
    """What has to be known of its choices, such as that something was estimated that is told by default."""
    runs: int
    rounds: int
    K: int
    arms_KD: Array | None

    def begin(self, bandit: Bandit, *, rounds: int, seeds: Sequence[int]) -> None:
        """A fresh state for as many runs as there are seeds; the bandit has been reset.

        Raises:
            Unsupported: where the policy cannot play this bandit.
        """
        self.runs, self.rounds, self.K, self.arms_KD = len(seeds), rounds, bandit.K, bandit.arms_KD
        self.seeds = list(seeds)
        self._noise = Noise(seeds, 1, "uniform")
        self.start(bandit)

    def start(self, bandit: Bandit) -> None:  # noqa: B027
        """Makes the state; may read what a learner is allowed to know of the bandit."""

    @abstractmethod
    def choose(self, round: int, context_RKD: Array | None) -> Ints:
        """The arm of each run in this round, which is counted from 0."""

    def update(self, round: int, heard: Heard) -> None:  # noqa: B027
        """Takes in what is heard after the pull of this round."""

    def uniform_R(self) -> Array:
        """One random number for each run; call it once a round or never, so that runs stay reproducible."""
        return self._noise.next()[:, 0]

    def features(self, bandit: Bandit) -> Array:
        """The features of the arms.

        Raises:
            Unsupported: where the arms have none.
        """
        if bandit.arms_KD is None:
            raise Unsupported(f"{self.name} needs the features of the arms, and {bandit.name} has none; "
                              "give the arms features, or take a policy such as UCB1")
        return bandit.arms_KD


class FixedArm(Policy):
    """Always the same arm: the expert's allocation, or a yardstick.

    Args:
        arm: its number, counted from 0.
    """

    def __init__(self, arm: int) -> None:
        self.arm, self.name = arm, f"arm {arm}"

    def start(self, bandit: Bandit) -> None:
        if not 0 <= self.arm < self.K:
            raise BadInput("arm", expected=f"0 to {self.K - 1}", received=self.arm)

    def choose(self, round: int, context_RKD: Array | None) -> Ints:
        return np.full(self.runs, self.arm, dtype=np.int64)


class RandomArm(Policy):
    """Every arm with the same probability."""

    name = "random"

    def choose(self, round: int, context_RKD: Array | None) -> Ints:
        return np.minimum((self.uniform_R() * self.K).astype(np.int64), self.K - 1)


def first_best(index_RK: Array) -> Ints:
    """The first arm of those whose index is the largest, up to rounding.

    Indices that are equal on paper (orders of the same budgets) may differ in the last bit, differently in another
    loop; the tolerance keeps compiled loops and NumPy on the same arms.

    Example:
        >>> first_best(np.array([[0.1 + 0.2, 0.3, 0.0], [0.0, 1.0, 2.0]])).tolist()
        [0, 2]
    """
    top_R = index_RK.max(1)
    with np.errstate(invalid="ignore"):
        floor_R = np.where(np.isfinite(top_R), top_R - _TIE * np.maximum(np.abs(top_R), 1.0), top_R)
    return (index_RK >= floor_R[:, None]).argmax(1)


class Means:
    """Counts and mean rewards [R, K] of what was heard."""

    def __init__(self, runs: int, K: int) -> None:
        self.count_RK, self.sum_RK = np.zeros((runs, K)), np.zeros((runs, K))

    def add(self, heard: Heard, weight: float = 1.0) -> None:
        """Several rewards of one arm in one round count each."""
        at = heard.row_N, heard.arm_N
        np.add.at(self.count_RK, at, weight)
        np.add.at(self.sum_RK, at, weight * heard.reward_N)

    @property
    def mean_RK(self) -> Array:
        return self.sum_RK / np.maximum(self.count_RK, 1e-300)
