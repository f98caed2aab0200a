"""Feedback that comes late: rewards told some rounds later, or spread out and added up without a name on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plaudit.core.errors import BadInput
from plaudit.tasks.bandits.protocol import Array, Bandit, Heard, Ints, Pull, as_numbers


class _Around(Bandit):
    """A bandit around another, which changes what is heard and nothing else."""

    def __init__(self, bandit: Bandit) -> None:
        self.inner = bandit
        self.K, self.arms_KD, self.comparator = bandit.K, bandit.arms_KD, bandit.comparator

    def reset(self, seeds: Sequence[int]) -> None:
        super().reset(seeds)
        self.inner.reset(seeds)

    @property
    def context_RKD(self) -> Array | None:
        return self.inner.context_RKD

    @property
    def state(self) -> Mapping[str, Any]:
        return self.inner.state


class Delayed(_Around):
    """Tells the reward of each round a random number of rounds later, with its arm and round.

    Args:
        bandit: what pays.
        chances: of a delay of 0, 1, 2, ... rounds; they add up to 1, or less: the rest is never told.

    Raises:
        BadInput: for chances that are negative or add up to more than 1.

    Example:
        >>> from plaudit.tasks.bandits import Gaussian
        >>> bandit = Delayed(Gaussian([1.0, 2.0], sigma=0.0), chances=[0.0, 1.0])
        >>> bandit.reset([3])
        >>> len(bandit.pull(np.array([0])).heard.row_N), bandit.pull(np.array([1])).heard.reward_N.tolist()
        (0, [1.0])
    """

    noise_kind = "uniform"

    def __init__(self, bandit: Bandit, *, chances: Sequence[float]) -> None:
        super().__init__(bandit)
        self.name = f"delayed {bandit.name}"
        self.chances = _parts("chances", chances, at_most=True)
        self.edges = self.chances.cumsum()
        if abs(self.edges[-1] - 1) < 1e-9:
            self.edges[-1] = 1.0

    def begin(self) -> None:
        self._waiting: dict[int, list[Heard]] = {}

    def pull(self, arm_R: Ints) -> Pull:
        context_RKD = self.inner.context_RKD
        pull = self.inner.pull(arm_R)
        x_RD = None if context_RKD is None else context_RKD[np.arange(self.runs), arm_R].copy()
        told = pull.told(arm_R, self.round, x_RD)
        delay_R = (self.noise.next()[:, :1] >= self.edges).sum(1)
        for delay in np.unique(delay_R[delay_R < len(self.chances)]):
            self._waiting.setdefault(self.round + int(delay), []).append(_part(told, delay_R[told.row_N] == delay))
        arrived = self._waiting.pop(self.round, [])
        self.round += 1
        nothing = _part(told, np.zeros(len(told.row_N), dtype=bool))
        return Pull(reward_R=pull.reward_R, known_R=np.zeros(self.runs, bool), mean_R=pull.mean_R, best_R=pull.best_R,
                    heard=_joined([nothing, *arrived]), info=pull.info)


class Aggregated(_Around):
    """Spreads each reward over the rounds that follow; what arrives in a round is added up and named by nobody.

    The learner hears one number a round and has only its own last pull to credit it to. Regret counts what was
    earned, whenever it is paid out.

    Args:
        bandit: what pays.
        shares: of a reward that arrive 0, 1, 2, ... rounds later; they add up to 1.

    Raises:
        BadInput: for shares that are negative or do not add up to 1.

    Example:
        >>> from plaudit.tasks.bandits import Gaussian
        >>> bandit = Aggregated(Gaussian([1.0, 2.0], sigma=0.0), shares=[0.5, 0.5])
        >>> bandit.reset([3])
        >>> [float(bandit.pull(np.array([k])).reward_R[0]) for k in (0, 1, 1)]
        [0.5, 1.5, 2.0]
    """

    def __init__(self, bandit: Bandit, *, shares: Sequence[float]) -> None:
        super().__init__(bandit)
        self.name = f"aggregated {bandit.name}"
        self.shares = _parts("shares", shares)

    def begin(self) -> None:
        self._coming = np.zeros((len(self.shares), self.runs))

    def pull(self, arm_R: Ints) -> Pull:
        pull = self.inner.pull(arm_R)
        self.round += 1
        self._coming += self.shares[:, None] * pull.reward_R
        arrived_R = self._coming[0].copy()
        self._coming = np.concatenate([self._coming[1:], np.zeros((1, self.runs))])
        return Pull(reward_R=arrived_R, known_R=pull.known_R, mean_R=pull.mean_R, best_R=pull.best_R,
                    info={**pull.info, "earned": pull.reward_R})


def _parts(name: str, given: Sequence[float], *, at_most: bool = False) -> Array:
    parts = as_numbers(name, given, ndim=1)
    total = parts.sum()
    if (parts < 0).any() or total > 1 + 1e-9 or not (at_most or total > 1 - 1e-9):
        raise BadInput(name, expected=f"numbers of 0 or more that add up to {'at most ' if at_most else ''}1",
                       received=parts.tolist())
    return parts


def _part(heard: Heard, use_N: np.ndarray) -> Heard:
    x = None if heard.x_ND is None else heard.x_ND[use_N]
    return Heard(row_N=heard.row_N[use_N], arm_N=heard.arm_N[use_N], reward_N=heard.reward_N[use_N],
                 round_N=heard.round_N[use_N], x_ND=x, seen_NM=None if heard.seen_NM is None else heard.seen_NM[use_N])


def _joined(parts: Sequence[Heard]) -> Heard:
    def one(name: str) -> np.ndarray:
        return np.concatenate([getattr(p, name) for p in parts])

    return Heard(row_N=one("row_N"), arm_N=one("arm_N"), reward_N=one("reward_N"), round_N=one("round_N"),
                 x_ND=None if parts[0].x_ND is None else one("x_ND"),
                 seen_NM=None if parts[0].seen_NM is None else one("seen_NM"))
