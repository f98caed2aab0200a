"""What another policy would have earned, from a log: IPS, SNIPS and DR with intervals.

With w = pi(a | x) / p of the arm that was taken, p its logged propensity:

    IPS   = mean(w r)                                            unbiased
    SNIPS = sum(w r) / sum(w)                                    biased by O(1/N), less spread
    DR    = mean(sum_a pi(a|x) q(x, a) + w (r - q(x, a)))        unbiased, whatever q (fitted on the other rows)
    DM    = mean(sum_a pi(a|x) q(x, a))                          as good as q is; needs no propensities

Each is a mean of one number a row (SNIPS to first order; DM with the residuals of its fit, weighted by how often each
arm was taken), so its interval is Student's with rows in `clusters` kept together: a spell of one arm is one decision,
however many rows it has. Degrees of freedom are Satterthwaite's over the arms, as an arm that was taken three times
knows its spread from three rows, however long the log is. Few rows say little, and rows that are all the same do not
say that there is no other:

- where the weights leave fewer than two effective rows, all rewards of the log are 0, or q was fitted on rows without
  the arms that matter, the interval is infinite;
- an arm that paid the same m times may pay something else in a share of 1 - (a/2)^(1/m) of the rounds (Clopper and
  Pearson's bound at confidence 1 - a); the interval is widened by that share of the range of the log's rewards.

Source: Dudik, Erhan, Langford and Li (2014), Doubly Robust Policy Evaluation and Optimization; Swaminathan and
Joachims (2015), The Self-Normalized Estimator for Counterfactual Learning; Clopper and Pearson (1934), The Use of
Confidence or Fiducial Limits; Satterthwaite (1946), An Approximate Distribution of Estimates of Variance Components.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plaudit.core.errors import BadInput
from plaudit.core.intervals import Interval
from plaudit.tasks.bandits.logs import Log
from plaudit.tasks.bandits.protocol import Array

Estimator = Literal["ips", "snips", "dr", "dm"]
Target: TypeAlias = "str | ArrayLike | Callable[[Array], Array]"
"""The name of an arm that is always taken, probabilities [K] or [N, K], or a function of the context [N, D]."""
MOST_GUESSED = 0.25
"""The largest share of what a policy takes for which q may be a guess."""


def evaluate(log: Log, policy: Target, *, estimator: Estimator = "dr", clusters: ArrayLike | None = None,
             confidence: float = 0.95, clip: float | None = None) -> Interval:
    """The mean reward that a policy would have had in the log's rounds.

    Args:
        log: the decisions of another policy.
        policy: what is evaluated.
        estimator: `ips`, `snips`, `dr` or `dm`.
        clusters: labels [N] of rows that are not independent, such as `log.spell_N`.
        confidence: of the interval.
        clip: the largest weight; less spread for a bias towards 0 (or the model). None clips nothing.

    Raises:
        BadInput: for a policy that takes an arm that the log never took, probabilities that are none, or weights that
            cannot be computed because the log has no propensities.

    Example:
        >>> rng = np.random.default_rng(3)
        >>> arm = rng.integers(2, size=2000)
        >>> log = Log.of(arm=arm, reward=rng.random(2000) < np.where(arm == 1, 0.6, 0.2), propensity="uniform")
        >>> found = evaluate(log, "1", estimator="ips")
        >>> found.low < 0.6 < found.high
        True
    """
    return _interval(log, [_parts(log, policy, estimator, clip)], clusters, confidence)


def compare(log: Log, policy: Target, other: Target, *, estimator: Estimator = "dr", clusters: ArrayLike | None = None,
            confidence: float = 0.95, clip: float | None = None) -> Interval:
    """The value of one policy less that of another: paired, row by row.

    Takes and raises what `evaluate` does.

    Example:
        >>> log = Log.of(arm=["a", "b"] * 50, reward=[1.0, 0.0] * 50, propensity="uniform")
        >>> compare(log, "a", "b", estimator="snips").mean
        1.0
    """
    both = [_parts(log, policy, estimator, clip), _parts(log, other, estimator, clip)]
    return _interval(log, both, clusters, confidence)


def effective_rows(log: Log, policy: Target) -> float:
    """(sum w)^2 / sum w^2: as many rows drawn from the policy itself would know as much.

    Example:
        >>> effective_rows(Log.of(arm=["a", "b"] * 50, reward=[1.0, 0.0] * 50, propensity="uniform"), "a")
        50.0
    """
    return _effective(_weights(log, probabilities(log, policy), None))


def probabilities(log: Log, policy: Target) -> Array:
    """The policy's probabilities [N, K].

    Raises:
        BadInput: where they are none, or an arm has some that the log never took.
    """
    N, K = log.N, log.K
    if isinstance(policy, str):
        if policy not in log.arms:
            raise BadInput("policy", expected=f"an arm out of {', '.join(log.arms)}", received=policy)
        p_NK = np.zeros((N, K))
        p_NK[:, log.arms.index(policy)] = 1.0
    else:
        if callable(policy):
            if log.context_ND is None:
                raise BadInput("policy", expected="an arm or probabilities, as the log has no context",
                               received="a function", fix="name the columns: Log.read(..., context=[...])")
            policy = policy(log.context_ND)
        p_NK = np.asarray(policy, dtype=np.float64)
        p_NK = np.tile(p_NK, (N, 1)) if p_NK.ndim == 1 else p_NK
    if p_NK.shape != (N, K) or not (np.isfinite(p_NK).all() and (p_NK >= 0).all()) or (
            np.abs(p_NK.sum(1) - 1) > 1e-6).any():
        raise BadInput("policy", expected=f"probabilities of {K} arms, [K] or [N, K], that add up to 1",
                       received=f"shape {list(p_NK.shape)}")
    taken_K = np.bincount(log.arm_N, minlength=K) > 0
    if (p_NK[:, ~taken_K] > 0).any():
        name = log.arms[int(np.flatnonzero(~taken_K & (p_NK > 0).any(0))[0])]
        raise BadInput("policy", expected="arms that these rows of the log took", received=f"arm {name!r}",
                       fix="nothing can be said of an arm that was never tried; leave it out")
    return p_NK


def fitted(log: Log, *, ridge: float = 1.0, folds: int = 2) -> Array:
    """Rewards [N, K] that a ridge regression for each arm expects, fitted on the other folds.

    An arm that those never took is expected to pay what all rows of theirs paid on average.
    """
    N, K = log.N, log.K
    x_NF = np.ones((N, 1)) if log.context_ND is None else np.concatenate(
        [np.ones((N, 1)), (log.context_ND - log.context_ND.mean(0)) / (log.context_ND.std(0) + 1e-12)], 1)
    penalty = ridge * np.eye(x_NF.shape[1])
    penalty[0, 0] = 1e-9
    q_NK = np.zeros((N, K))
    fold_N = _folds(N, folds)
    for fold in range(folds):
        learn, use = fold_N != fold, fold_N == fold
        for k in range(K):
            rows = learn & (log.arm_N == k)
            x = x_NF[rows]
            if len(x) == 0:
                q_NK[use, k] = log.reward_N[learn].mean() if learn.any() else 0.0
            else:
                q_NK[use, k] = x_NF[use] @ np.linalg.solve(x.T @ x + penalty, x.T @ log.reward_N[rows])
    return q_NK


def _folds(N: int, folds: int = 2) -> NDArray[Any]:
    return np.random.default_rng(0).permutation(N) % folds


def _guessed(log: Log, p_NK: Array) -> float:
    """The share of what a policy takes of which q has seen no row."""
    fold_N = _folds(log.N)
    seen_FK = np.stack([np.bincount(log.arm_N[fold_N != f], minlength=log.K) > 0 for f in range(2)])
    return float((p_NK * ~seen_FK[fold_N]).sum() / log.N)


@dataclass(frozen=True)
class _Parts:
    """An estimate, and what its interval rests on."""

    value: float
    part_N: Array
    """A number for each row whose mean it is."""
    w_N: Array
    """How much each row weighs."""
    p_NK: Array
    """What the policy takes."""
    guessed: float = 0.0
    """The share of that for which the model had no row to learn from."""


def _parts(log: Log, policy: Target, estimator: str, clip: float | None) -> _Parts:
    if estimator not in ("ips", "snips", "dr", "dm"):
        raise BadInput("estimator", expected="ips, snips, dr or dm", received=estimator)
    p_NK = probabilities(log, policy)
    model_N, left_N = np.zeros(log.N), log.reward_N
    if estimator in ("dr", "dm"):
        q_NK = fitted(log)
        model_N, left_N = (p_NK * q_NK).sum(1), log.reward_N - q_NK[np.arange(log.N), log.arm_N]
        if estimator == "dm":
            w_N = p_NK[np.arange(log.N), log.arm_N] * log.N / np.bincount(log.arm_N, minlength=log.K)[log.arm_N]
            return _Parts(float(model_N.mean()), model_N + w_N * left_N, w_N, p_NK, _guessed(log, p_NK))
    w_N = _weights(log, p_NK, clip)
    if estimator == "snips":
        if w_N.sum() == 0:
            raise BadInput("policy", expected="an arm that these rows took at least once", received="none in common")
        value = float((w_N * log.reward_N).sum() / w_N.sum())
        return _Parts(value, value + w_N * (log.reward_N - value) / w_N.mean(), w_N, p_NK)
    part_N = model_N + w_N * left_N
    return _Parts(float(part_N.mean()), part_N, w_N, p_NK, _guessed(log, p_NK) if estimator == "dr" else 0.0)


def _weights(log: Log, p_NK: Array, clip: float | None) -> Array:
    if log.propensity_N is None:
        raise BadInput(f"{log.source}, column 'propensity'", expected="the probability of each choice",
                       received="none", fix="log it, pass propensity='uniform' if all arms were equally likely, or "
                       "take estimator='dm', which trusts its model")
    w_N = p_NK[np.arange(log.N), log.arm_N] / log.propensity_N
    return w_N if clip is None else np.minimum(w_N, clip)


def _interval(log: Log, parts: Sequence[_Parts], clusters: ArrayLike | None, confidence: float) -> Interval:
    """The first estimate, less the second where there are two."""
    if not 0 < confidence < 1:
        raise BadInput("confidence", expected="a number between 0 and 1", received=confidence, fix="pass 0.95")
    given: NDArray[Any] = np.arange(log.N) if clusters is None else np.asarray(clusters)
    if given.shape != (log.N,):
        raise BadInput("clusters", expected=f"{log.N} labels", received=f"shape {list(given.shape)}")
    label_N = np.unique(given, return_inverse=True)[1]
    signs = (1.0, -1.0)[:len(parts)]
    value = math.fsum(sign * one.value for sign, one in zip(signs, parts, strict=True))
    off_N = sum((sign * one.part_N for sign, one in zip(signs, parts, strict=True)), np.zeros(log.N)) - value
    off_C = np.bincount(label_N, weights=off_N)
    n = len(off_C)
    rows = min(_effective(np.bincount(label_N, weights=one.w_N)) for one in parts)
    scale = float(np.ptp(log.reward_N)) or float(np.abs(log.reward_N).max())
    if n < 2 or rows < 2 - 1e-9 or scale == 0 or max(one.guessed for one in parts) > MOST_GUESSED:
        return Interval(value, -math.inf, math.inf, n)
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]

    error = math.sqrt(n / (n - 1) * float((off_C**2).sum())) / log.N
    m_K = np.bincount(np.unique(log.arm_N.astype(np.int64) * n + label_N) // n, minlength=log.K)
    student = float(stdtrit(_freedom(log, off_N, m_K, n), (1 + confidence) / 2)) * error
    share_K = np.abs(sum((sign * one.p_NK for sign, one in zip(signs, parts, strict=True)), np.zeros((log.N, log.K)))
                     ).mean(0)
    half = math.hypot(student, *(share_K * _unseen(log, m_K, confidence) * scale))
    return Interval(value, value - half, value + half, n)


def _effective(w: NDArray[Any]) -> float:
    return float(w.sum() ** 2 / max((w**2).sum(), 1e-300))


def _freedom(log: Log, off_N: Array, m_K: NDArray[Any], n: int) -> float:
    """Satterthwaite's degrees of freedom: each arm knows its part of the variance from its own rows (or spells)."""
    part_K = np.bincount(log.arm_N, weights=off_N**2, minlength=log.K)
    if not part_K.any():
        return n - 1
    return float(np.clip(part_K.sum() ** 2 / (part_K**2 / np.maximum(m_K - 1, 0.5)).sum(), 1, n - 1))


def _unseen(log: Log, m_K: NDArray[Any], confidence: float) -> Array:
    """The share of rounds in which an arm that always paid the same may pay something else [K]; 0 for other arms."""
    out_K = np.zeros(log.K)
    for k in np.flatnonzero(m_K):
        if np.ptp(log.reward_N[log.arm_N == k]) == 0:
            out_K[k] = 1 - ((1 - confidence) / 2) ** (1 / m_K[k])
    return out_K
