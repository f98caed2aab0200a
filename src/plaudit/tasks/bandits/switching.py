"""Last-switch-dependent bandits: what an arm pays depends on how long it has rested, or been pulled in a row.

An arm's state is n > 0 where it has been idle for n rounds, and -j where the last j rounds pulled it, both up to D.
Payoffs [A, 2D] are listed in the order -D, ..., -1, 1, ..., D and read before the pull; they are monotone where rest
helps and repetition hurts. Recharging bandits are the case where all negative states pay like a rest of 0.

Letters: R runs, A arms (one more action idles), D the longest rest or run that counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.tasks.bandits.protocol import Array, Bandit, Ints, Pull, as_numbers, positive

FLOOR = 1 - 1 / math.e
"""The share of the relaxation's value that rounding reaches on monotone payoffs."""


def column(state: int, longest: int) -> int:
    """Where a state stands in a row of payoffs.

    Example:
        >>> [column(s, 3) for s in (-3, -1, 1, 3)]
        [0, 2, 3, 5]
    """
    if state == 0 or abs(state) > longest:
        raise BadInput("state", expected=f"-{longest} to -1 (pulled) or 1 to {longest} (idle)", received=state)
    return state + longest - (state > 0)


def moved(column_: Ints, pulled: np.ndarray, longest: int) -> Ints:
    """The columns one round later.

    Example:
        >>> moved(np.array([0, 2, 3, 5]), np.array([True, True, True, True]), 3).tolist()  # one longer, or a first
        [0, 1, 2, 2]
        >>> moved(np.array([0, 2, 3, 5]), np.array([False] * 4), 3).tolist()
        [3, 3, 4, 5]
    """
    idle = column_ >= longest
    played = np.where(idle, longest - 1, np.maximum(column_ - 1, 0))
    rested = np.where(idle, np.minimum(column_ + 1, 2 * longest - 1), longest)
    return np.where(pulled, played, rested)


def as_payoffs(payoffs: ArrayLike, *, monotone: Literal["refuse", "project", "allow"] = "refuse") -> Array:
    """Payoffs [A, 2D], checked.

    Args:
        payoffs: in the order -D, ..., -1, 1, ..., D.
        monotone: what happens to payoffs that fall where they should rise.

    Raises:
        BadInput: for an odd number of states, or payoffs that are not monotone and may not be projected.
    """
    p_AS = as_numbers("payoffs", payoffs, ndim=2)
    if p_AS.shape[1] % 2:
        raise BadInput("payoffs", expected="an even number of states (-D to -1 and 1 to D; there is no state 0)",
                       received=f"{p_AS.shape[1]} states")
    falls = np.diff(p_AS, axis=1) < -1e-12
    if monotone == "allow" or not falls.any():
        return p_AS
    projected, gap = project(p_AS)
    if monotone == "project":
        return projected
    arm, at = np.argwhere(falls)[0]
    raise BadInput(f"payoffs[{arm}]", expected="numbers that never fall from state -D to D (rest helps)",
                   received=f"{p_AS[arm, at]:g} then {p_AS[arm, at + 1]:g}",
                   fix=f"monotone='project' takes the nearest monotone payoffs (they differ by up to {gap:.3g}, and so "
                       "may what is promised); monotone='allow' keeps these, without a guarantee")


def project(payoffs: ArrayLike, weights: ArrayLike | None = None) -> tuple[Array, float]:
    """The nearest payoffs (least squares) that never fall, and the largest change that this took.

    Example:
        >>> project([[0.0, 0.4, 0.2, 1.0]])
        (array([[0. , 0.3, 0.3, 1. ]]), 0.1)
    """
    from scipy.optimize import isotonic_regression

    p_AS = as_numbers("payoffs", payoffs, ndim=2)
    w_AS = np.ones_like(p_AS) if weights is None else np.asarray(weights, dtype=np.float64)
    out = np.stack([isotonic_regression(p, weights=w).x for p, w in zip(p_AS, w_AS, strict=True)])
    return out, round(float(np.abs(out - p_AS).max()), 12)


def recharging(delays: ArrayLike) -> Array:
    """Payoffs of arms that pay q(d) when the last pull was d rounds ago, d = 1 to D + 1: [A, D + 1] -> [A, 2D].

    Example:
        >>> recharging([[0.0, 0.5, 1.0]]).tolist()
        [[0.0, 0.0, 0.5, 1.0]]
    """
    q = as_numbers("delays", delays, ndim=2)
    D = q.shape[1] - 1
    if D < 1:
        raise BadInput("delays", expected="payoffs for a delay of 1 and 2 rounds at least", received=f"{D + 1}")
    return np.concatenate([np.repeat(q[:, :1], D, 1), q[:, 1:]], 1)


def trap() -> Array:
    """Greedy's trap: arm 0 always pays .05; arm 1 pays .06 until it has rested 3 rounds, then .95."""
    return np.array([[0.05] * 8, [0.06] * 6 + [0.95] * 2])


def tight(arms: int) -> Array:
    """Equal arms that pay 1 only after `arms` - 1 rounds of rest: the family where rounding falls to 1 - 1/e.

    Example:
        >>> tight(3)[0].tolist()
        [0.0, 0.0, 0.0, 1.0]
    """
    D = arms - 1
    if D < 1:
        raise BadInput("arms", expected="at least 2", received=arms)
    return np.repeat(np.eye(2 * D)[-1:], arms, 0)


def random_monotone(arms: int, longest: int, *, seed: int) -> Array:
    """Sorted uniform payoffs of arms of different worth."""
    rng = Seeds(seed).child("payoffs").numpy()
    return np.sort(rng.random((arms, 2 * longest)), 1) * rng.random((arms, 1))


# --- the relaxation ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Relaxation:
    """What the linear program says: rates of cycles, and a value that no schedule exceeds in the long run."""

    value: float
    rate_AND: Array
    """[A, n - 1, k - 1]: how often in a round arm A begins the cycle "rest n rounds, then pull k in a row"."""
    always_A: Array
    """The share of time that an arm is pulled without end."""


def cycle_payoffs(payoffs: ArrayLike) -> Array:
    """R[A, n - 1, k - 1] = p(n) + p(-1) + ... + p(-(k - 1)): what a cycle pays."""
    p_AS = np.asarray(payoffs, dtype=np.float64)
    D = p_AS.shape[1] // 2
    again = np.concatenate([np.zeros((len(p_AS), 1)), p_AS[:, D - 1:0:-1].cumsum(1)], 1)  # pulls after the first
    return p_AS[:, D:, None] + again[:, None, :]


def relax(payoffs: ArrayLike, *, pulls: int = 1, delay_only: bool = False) -> Relaxation:
    """max sum x R + sum y p(-D)  s.t.  sum (n + k) x + y <= 1 for each arm,  sum k x + sum y <= pulls.

    Longer runs than D are a cycle (n, D) and some time of "always", so the value bounds the best average of any
    schedule. (Foussoul, Goyal, Papadigenopoulos and Zeevi, ICML 2023; our derivation.)

    Args:
        payoffs: [A, 2D].
        pulls: how many arms may be pulled in a round.
        delay_only: cycles with one pull alone, as for recharging bandits: the ablation.

    Example:
        >>> round(relax(tight(4)).value, 9)
        1.0
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_array

    p_AS = as_numbers("payoffs", payoffs, ndim=2)
    A, D = len(p_AS), p_AS.shape[1] // 2
    if not 1 <= pulls <= A:
        raise BadInput("pulls", expected=f"1 to {A} arms in a round", received=pulls)
    rest, run = (x.ravel() + 1 for x in np.meshgrid(np.arange(D), np.arange(1 if delay_only else D), indexing="ij"))
    gain = cycle_payoffs(p_AS)[:, :, : run.max()].reshape(A, -1)
    C = len(rest)
    arm = np.repeat(np.arange(A), C + 1)
    length = np.tile(np.append(rest + run, 1), A)
    pulled = np.tile(np.append(run, 1), A)
    worth = np.concatenate([gain, np.full((A, 1), -np.inf) if delay_only else p_AS[:, :1]], 1).ravel()
    n = len(worth)
    table = csr_array((np.concatenate([length, pulled]).astype(np.float64),
                       (np.concatenate([arm, np.full(n, A)]), np.tile(np.arange(n), 2))), shape=(A + 1, n))
    found = linprog(-np.where(np.isfinite(worth), worth, 0.0), A_ub=table, b_ub=np.append(np.ones(A), pulls),
                    bounds=[(0, None) if np.isfinite(w) else (0, 0) for w in worth], method="highs")
    if not found.success:  # bounded and feasible at 0: a fault of the solver
        raise RuntimeError(f"the linear program was not solved: {found.message}")
    x = np.maximum(found.x, 0).reshape(A, C + 1)
    rate = np.zeros((A, D, D))
    rate[:, :, : run.max()] = x[:, :C].reshape(A, D, -1)
    return Relaxation(value=float(-found.fun), rate_AND=rate, always_A=x[:, C])


# --- the bandit ----------------------------------------------------------------------------------------------


class LastSwitch(Bandit):
    """A last-switch-dependent bandit; all arms start fully rested, and action A idles (it pays 0).

    Args:
        payoffs: mean payoffs [A, 2D] in the order -D, ..., -1, 1, ..., D.
        sigma: normal noise; None pays 0 or 1 with the payoff as probability.
        monotone: see `as_payoffs`.
        best: what regret is counted against in a round; (1 - 1/e) of the relaxation's value by default.
        comparator: that in words.

    Raises:
        BadInput: for payoffs that are not monotone, or no probabilities where sigma is None.

    Example:
        >>> bandit = LastSwitch(tight(2), sigma=0.0)
        >>> bandit.reset([1])
        >>> [float(bandit.pull(np.array([a])).mean_R[0]) for a in (0, 0, 1, 2, 1)]
        [1.0, 0.0, 1.0, 0.0, 1.0]
    """

    name = "switching"
    noise_kind = "uniform"

    def __init__(self, payoffs: ArrayLike, *, sigma: float | None = None, best: float | None = None,
                 comparator: str = "", monotone: Literal["refuse", "project", "allow"] = "refuse") -> None:
        self.payoffs_AS = as_payoffs(payoffs, monotone=monotone)
        moved_by = float(np.abs(self.payoffs_AS - np.asarray(payoffs, dtype=np.float64)).max())
        if moved_by > 0:
            self.note = (f"payoffs were projected to monotone ones, by up to {moved_by:.3g}: rewards, regret and the "
                         "guarantee are those of the projected payoffs")
        elif monotone == "allow" and (np.diff(self.payoffs_AS, axis=1) < -1e-12).any():
            self.note = "payoffs are not monotone: the share of 1 - 1/e is not guaranteed"
        self.A, self.longest = len(self.payoffs_AS), self.payoffs_AS.shape[1] // 2
        self.K = self.A + 1
        if sigma is None and not ((self.payoffs_AS >= 0) & (self.payoffs_AS <= 1)).all():
            raise BadInput("payoffs", expected="probabilities in [0, 1] where sigma is None",
                           received=f"{self.payoffs_AS.min():g} to {self.payoffs_AS.max():g}", fix="pass sigma=0.1")
        self.sigma = None if sigma is None else positive("sigma", sigma, zero=True)
        self.noise_kind = "uniform" if sigma is None else "normal"
        self.best = FLOOR * relax(self.payoffs_AS).value if best is None else float(best)
        self.comparator = comparator or ("0.632 of the relaxation" if best is None else "a given average")

    def begin(self) -> None:
        self.column_RA = np.full((self.runs, self.A), 2 * self.longest - 1)

    @property
    def state(self) -> Mapping[str, Any]:
        return {"column": self.column_RA}

    def pull(self, arm_R: Ints) -> Pull:
        arm_R, self.round = self.check(arm_R), self.round + 1
        idle_R = arm_R == self.A
        at = np.where(idle_R, 0, arm_R)
        where_R = self.column_RA[np.arange(self.runs), at]
        mean_R = np.where(idle_R, 0.0, self.payoffs_AS[at, where_R])
        noise_R = self.noise.next()[:, 0]
        reward_R = (noise_R < mean_R).astype(np.float64) if self.sigma is None else mean_R + self.sigma * noise_R
        self.column_RA = moved(self.column_RA, arm_R[:, None] == np.arange(self.A), self.longest)
        return Pull(reward_R=np.where(idle_R, 0.0, reward_R), known_R=np.ones(self.runs, bool), mean_R=mean_R,
                    best_R=np.full(self.runs, self.best), info={"column": where_R.astype(np.float64)})
