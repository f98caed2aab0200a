"""Linear bandits: LinUCB, D-LinUCB that forgets, and Thompson sampling of the weights.

Index of an arm u: <h, u> + beta_t ||u||, with the ridge estimate h = V^{-1} b, V = lam I + sum u u^T, b = sum u y.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np

from plaudit.core.errors import BadInput
from plaudit.optimize.bandits.policies import Policy, first_best
from plaudit.tasks.bandits.protocol import Array, Bandit, Heard, Ints, Noise, positive


class Ridge:
    """Ridge regression of R runs: V^{-1} [R, D, D] by rank-one updates, b and h [R, D]."""

    def __init__(self, runs: int, D: int, lam: float) -> None:
        self.inverse_RDD = np.tile(np.eye(D) / lam, (runs, 1, 1))
        self.b_RD, self.h_RD = np.zeros((runs, D)), np.zeros((runs, D))

    def add(self, row_N: Ints, x_ND: Array, reward_N: Array) -> None:
        """Takes in rewards; several of one run one after the other (Sherman-Morrison)."""
        while len(row_N):
            _, first = np.unique(row_N, return_index=True)
            self._add(row_N[first], x_ND[first], reward_N[first])
            left = np.ones(len(row_N), dtype=bool)
            left[first] = False
            row_N, x_ND, reward_N = row_N[left], x_ND[left], reward_N[left]

    def _add(self, row_N: Ints, x_ND: Array, reward_N: Array) -> None:
        inverse = self.inverse_RDD[row_N]
        moved_ND = np.einsum("nij,nj->ni", inverse, x_ND)
        scale_N = 1 / (1 + (moved_ND * x_ND).sum(1))
        inverse = inverse - moved_ND[:, :, None] * moved_ND[:, None, :] * scale_N[:, None, None]
        self.inverse_RDD[row_N] = inverse
        self.b_RD[row_N] += x_ND * reward_N[:, None]
        self.h_RD[row_N] = np.einsum("nij,nj->ni", inverse, self.b_RD[row_N])

    def index(self, x: Array, beta: float) -> Array:
        """<h, u> + beta ||u||_{V^-1} [R, K] of arms [K, D] or [R, K, D]."""
        x_RKD = np.broadcast_to(x, (len(self.h_RD), *x.shape[-2:]))
        width_RK = np.sqrt(np.maximum(np.einsum("rki,rij,rkj->rk", x_RKD, self.inverse_RDD, x_RKD), 0.0))
        return np.einsum("rki,ri->rk", x_RKD, self.h_RD) + beta * width_RK


class _Linear(Policy):
    """What linear policies share: the features that were heard, and the first arm at random."""

    D: int

    def start(self, bandit: Bandit) -> None:
        context_RKD = bandit.context_RKD
        shown = self.features(bandit) if context_RKD is None else context_RKD
        self.D = shown.shape[-1]
        self.longest = float(np.sqrt((shown**2).sum(-1)).max())
        self.fresh()

    @abstractmethod
    def fresh(self) -> None:
        """The estimates before the first round."""

    def shown(self, context_RKD: Array | None) -> Array:
        if context_RKD is not None:
            return context_RKD
        assert self.arms_KD is not None
        return self.arms_KD

    def heard_ND(self, heard: Heard) -> Array:
        if heard.x_ND is not None:
            return heard.x_ND
        assert self.arms_KD is not None
        return self.arms_KD[heard.arm_N]

    def random_R(self) -> Ints:
        return np.minimum((self.uniform_R() * self.K).astype(np.int64), self.K - 1)


class LinUCB(_Linear):
    """Optimism with the self-normalised confidence set; the first arm is drawn at random.

    beta_t = norm sqrt(lam) + sigma sqrt(2 log(1/delta) + D log(1 + t U^2 / (D lam))) after t rounds

    Args:
        norm: a bound on the norm of the weights, S.
        sigma: the noise is sigma-sub-Gaussian.
        lam: the ridge; "log" is log T.
        delta: the bound may fail with this probability; None is 1 / T.
        longest: a bound U on the norm of arms; None is that of the arms shown in the first round.
        scale: beta times this number. Below 1 there is no guarantee any more, and often far less regret.

    Source:
        Abbasi-Yadkori, Pal and Szepesvari (2011), theorem 2.

    Example:
        >>> from plaudit.optimize.bandits import play
        >>> from plaudit.tasks.bandits import Linear
        >>> bandit = Linear([[1.0, 0.0], [0.0, 1.0], [0.7, 0.7]], weights=[0.2, 0.9])
        >>> history = play(bandit, LinUCB(), rounds=500, runs=3, seed=0)
        >>> bool(((history.arm_RT[:, -50:] == 1).mean(1) > 0.8).all())
        True
    """

    name = "linucb"

    def __init__(self, *, norm: float = 1.0, sigma: float = 0.1, lam: float | str = 1.0, delta: float | None = None,
                 longest: float | None = None, scale: float = 1.0) -> None:
        self.norm, self.sigma = positive("norm", norm), positive("sigma", sigma, zero=True)
        self.lam, self.delta, self.bound, self.scale = check_ridge(lam), check_delta(delta), longest, scale

    def fresh(self) -> None:
        lam = ridge_of(self.lam, self.rounds)
        self.ridge = Ridge(self.runs, self.D, lam)
        t = np.arange(self.rounds, dtype=np.float64)
        U = self.bound or self.longest
        inside = 2 * math.log(1 / (self.delta or 1 / self.rounds)) + self.D * np.log1p(t * U**2 / (self.D * lam))
        self.beta_T = self.scale * (self.norm * math.sqrt(lam) + self.sigma * np.sqrt(inside))

    def choose(self, round: int, context_RKD: Array | None) -> Ints:
        if round == 0:
            return self.random_R()
        return first_best(self.ridge.index(self.shown(context_RKD), self.beta_T[round]))

    def update(self, round: int, heard: Heard) -> None:
        self.ridge.add(heard.row_N, self.heard_ND(heard), heard.reward_N)


class DLinUCB(_Linear):
    """LinUCB with weights that decay by `discount` a round, for weights that drift.

    V = lam I + sum discount^(t-s) u u^T, W = lam I + sum discount^(2(t-s)) u u^T, width ||u|| of V^{-1} W V^{-1},
    beta_t = norm sqrt(lam) + sigma sqrt(2 log(1/delta) + D log(1 + U^2 (1 - discount^2t) / (D lam (1 - discount^2))))

    Args:
        discount: in (0, 1).
        norm: a bound on the norm of the weights.
        sigma: the noise is sigma-sub-Gaussian.
        lam: the ridge; "log" is log T.
        delta: None is 1 / T.
        longest: a bound on the norm of arms; None is that of the arms shown in the first round.
        scale: beta times this number.

    Source:
        Russac, Vernade and Cappe (2019), Weighted Linear Bandits for Non-Stationary Environments, algorithm 1.

    Example:
        >>> DLinUCB(discount=1.5)
        Traceback (most recent call last):
        ...
        plaudit.core.errors.BadInput: discount: expected a number between 0 and 1, received 1.5; pass 0.999
    """

    name = "d-linucb"

    def __init__(self, *, discount: float = 0.999, norm: float = 1.0, sigma: float = 0.1, lam: float | str = 1.0,
                 delta: float | None = None, longest: float | None = None, scale: float = 1.0) -> None:
        if not 0 < discount < 1:
            raise BadInput("discount", expected="a number between 0 and 1", received=discount, fix="pass 0.999")
        self.discount, self.norm, self.sigma = discount, positive("norm", norm), positive("sigma", sigma, zero=True)
        self.lam, self.delta, self.bound, self.scale = check_ridge(lam), check_delta(delta), longest, scale

    def fresh(self) -> None:
        self.ridge_lam = ridge_of(self.lam, self.rounds)
        shape = (self.runs, self.D, self.D)
        self.v_RDD, self.w_RDD, self.b_RD = np.zeros(shape), np.zeros(shape), np.zeros(shape[:2])
        t, g2 = np.arange(self.rounds, dtype=np.float64), self.discount**2
        U = self.bound or self.longest
        inside = (2 * math.log(1 / (self.delta or 1 / self.rounds))
                  + self.D * np.log1p(U**2 * -np.expm1(t * math.log(g2)) / (self.D * self.ridge_lam * (1 - g2))))
        self.beta_T = self.scale * (self.norm * math.sqrt(self.ridge_lam) + self.sigma * np.sqrt(inside))

    def choose(self, round: int, context_RKD: Array | None) -> Ints:
        if round == 0:
            return self.random_R()
        x = self.shown(context_RKD)
        x_RKD = np.broadcast_to(x, (self.runs, *x.shape[-2:]))
        ridge = self.ridge_lam * np.eye(self.D)
        inverse = np.linalg.inv(self.v_RDD + ridge)
        h_RD = np.einsum("rij,rj->ri", inverse, self.b_RD)
        moved_RKD = np.einsum("rij,rkj->rki", inverse, x_RKD)
        width_RK = np.sqrt(np.maximum(np.einsum("rki,rij,rkj->rk", moved_RKD, self.w_RDD + ridge, moved_RKD), 0.0))
        return first_best(np.einsum("rki,ri->rk", x_RKD, h_RD) + self.beta_T[round] * width_RK)

    def update(self, round: int, heard: Heard) -> None:
        x_ND, rows = self.heard_ND(heard), heard.row_N
        outer = x_ND[:, :, None] * x_ND[:, None, :]
        for kept, rate in ((self.v_RDD, self.discount), (self.w_RDD, self.discount**2)):
            kept *= rate
            np.add.at(kept, rows, outer)
        self.b_RD *= self.discount
        np.add.at(self.b_RD, rows, x_ND * heard.reward_N[:, None])


class LinearThompson(_Linear):
    """Draws weights from N(h, spread^2 V^{-1}) in each round and takes the arm that is best under them.

    Args:
        spread: the scale of the posterior: the standard deviation of the noise for the exact posterior.
        lam: the ridge; "log" is log T.

    Source:
        Agrawal and Goyal (2013), Thompson Sampling for Contextual Bandits with Linear Payoffs, algorithm 1.

    Example:
        >>> from plaudit.optimize.bandits import play
        >>> from plaudit.tasks.bandits import Contextual
        >>> history = play(Contextual(3, weights=[1.0, -1.0]), LinearThompson(), rounds=300, runs=2, seed=0)
        >>> bool(history.regret_RT[:, -100:].mean() < 0.05)
        True
    """

    name = "linear-thompson"

    def __init__(self, *, spread: float = 0.1, lam: float | str = 1.0) -> None:
        self.spread, self.lam = positive("spread", spread), check_ridge(lam)

    def fresh(self) -> None:
        lam = ridge_of(self.lam, self.rounds)
        self.ridge = Ridge(self.runs, self.D, lam)
        self.normal = Noise(self.seeds, self.D, "normal")

    def choose(self, round: int, context_RKD: Array | None) -> Ints:
        root = np.linalg.cholesky(self.ridge.inverse_RDD)
        drawn_RD = self.ridge.h_RD + self.spread * np.einsum("rij,rj->ri", root, self.normal.next())
        return first_best(np.einsum("...ki,ri->rk" if context_RKD is None else "rki,ri->rk", self.shown(context_RKD),
                                    drawn_RD))

    def update(self, round: int, heard: Heard) -> None:
        self.ridge.add(heard.row_N, self.heard_ND(heard), heard.reward_N)


def check_ridge(lam: float | str) -> float | str:
    """A number above 0, or "log"."""
    if isinstance(lam, str):
        if lam != "log":
            raise BadInput("lam", expected="a number above 0, or 'log'", received=lam)
        return lam
    return positive("lam", lam)


def ridge_of(lam: float | str, rounds: int) -> float:
    """The ridge for so many rounds; "log" is log T, at least 1."""
    return max(1.0, math.log(rounds)) if isinstance(lam, str) else lam


def check_delta(delta: float | None) -> float | None:
    """A probability above 0 and below 1, or None."""
    if delta is not None and not 0 < delta < 1:
        raise BadInput("delta", expected="a probability between 0 and 1", received=delta, fix="leave it out for 1 / T")
    return delta
