"""Exact distances between rewards in a finite process: STARC, EPIC, DARD, and the regret they predict.

A STARC distance is m(s(R1), s(R2)) with s(R) = c(R) / n(c(R)): make canonical, divide by the norm, take a
metric (Skalse et al. 2024, arXiv 2309.15257, definition 3). With L2 for both it lies in [0, 2]: 0 iff the
rewards order all policies alike, 2 for R against -R.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.auditing.distances.canonical import (
    Canonical,
    CanonicalRewards,
    States,
    Weighting,
    canonicalise,
    worth_compiling,
)
from plaudit.core.errors import BadInput
from plaudit.optimize import tabular as planning
from plaudit.tasks.tabular import TabularMDP

Norm = Literal["l1", "l2", "linf", "weighted_l1", "weighted_l2", "weighted_linf", "range"]
Metric = Literal["l1", "l2", "linf", "weighted_l1", "weighted_l2", "weighted_linf", "angle", "weighted_angle"]
Form = Literal["pearson", "l2"]

_EXACT = "donot_use_mm_for_euclid_dist"
_CHUNK = 2**19
"""Numbers of rewards that are handled at once where there are many worlds (4 MiB)."""
_ROUNDING = 1e3 * torch.finfo(torch.float64).eps


def trivial_below(mdp: TabularMDP) -> float:
    """A canonical reward this small beside the reward it came from is rounding: it orders no policies.

    Rounding leaves about eps / (1 - discount) of a constant reward. The threshold lies 1,000 times higher,
    and not at a flat 1e-8, because random worlds have transitions of probability 1e-10 that do order policies.
    """
    return _ROUNDING / (1 - mdp.discount)


def starc(rewards: Tensor, mdp: TabularMDP, *, to: Tensor | None = None, canonical: Canonical = "val",
          norm: Norm = "l2", metric: Metric = "l2", policy: Tensor | None = None, states: States = "all",
          trivial: float | None = None, compiled: bool | None = None,
          ) -> Float[Tensor, "*b R"] | Float[Tensor, "*b R R"]:
    """STARC distances between all pairs of rewards, or from each reward to its partner in `to`.

    Args:
        rewards: [*, R, S, A, S], where `*` are the leading axes of the dynamics; [R, N] for a sparse process.
        mdp: the dynamics and the discount; its own reward is not read.
        to: as many rewards again; then the result is [*, R].
        canonical: see `canonicalise`. Only `val` and `minimal` give the guarantees of the paper.
        norm: `l1`, `l2`, `linf`; `weighted_` sums with the transition probabilities (`weighted_linf`: the
            largest over possible transitions); `range` is max J - min J, which makes the bounds sharp.
        metric: the same names without `range`, or `angle` in [0, pi].
        policy: [S, A] of `val`; uniform by default.
        states: `reachable` gives no weight to states that no policy visits.
        trivial: a canonical reward smaller than this share of its reward counts as 0; rounding by default.
        compiled: whether `val` runs in compiled loops, as in `canonicalise`.

    Returns:
        Distances [*, R, R], or [*, R] with `to`. A trivial reward (constant after canonicalisation) lies
        at distance 0 from another trivial one; where norm and metric match, at 1 from all others.

    Raises:
        BadInput: for wrong shapes or unknown names.
        Unsupported: for what a sparse process cannot say.

    Example:
        >>> from plaudit.tasks.tabular import random_mdp
        >>> mdp = random_mdp(states=6, actions=2, seed=0)
        >>> reward = torch.randn(6, 2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        >>> potential = torch.arange(6.0, dtype=torch.float64)
        >>> shaped = 3 * reward + mdp.discount * potential - potential[:, None, None]
        >>> starc(torch.stack([reward, shaped, -reward]), mdp)[0].round(decimals=9).abs().tolist()
        [0.0, 0.0, 2.0]
    """
    _one_of("norm", norm, Norm)
    _one_of("metric", metric, Metric)
    rewards, to = _tensors(rewards, to)
    worlds = 0 if mdp.sparse else mdp.transition.ndim - 3
    fast = canonical == "val" and worth_compiling(compiled, rewards, mdp, policy)
    many = worlds and rewards.numel() > 2 * _CHUNK and len(rewards) > 1 and len(rewards) == len(mdp.transition)
    if many and not fast:
        size = max(1, _CHUNK * len(rewards) // rewards.numel())  # a few worlds at a time stay in the cache
        parts = [slice(i, i + size) for i in range(0, len(rewards), size)]
        world = mdp.with_reward(torch.zeros(1, 1, 1).expand(mdp.S, mdp.A, mdp.S))
        return torch.cat([starc(rewards[p], world[p], to=None if to is None else to[p], canonical=canonical, norm=norm,
                                metric=metric, policy=policy, states=states, trivial=trivial, compiled=False)
                          for p in parts])
    weighting = _weighting(metric if norm == "range" and mdp.sparse else norm)
    c = canonicalise(rewards, mdp, to=to, canonical=canonical, weighting=weighting, policy=policy, states=states,
                     compiled=fast)
    size = _norm(c, norm, mdp)
    share = trivial_below(mdp) if trivial is None else trivial
    tiny = share * c.scale * (1.0 if norm == "range" else _norm(_ones(c), norm, mdp))
    x = c.values * torch.where(size > tiny, 1 / size, 0.0).unsqueeze(-1)
    if to is None:
        return _distances(x, None, c, metric)
    first, second = x.chunk(2, -2)
    return _distances(first, second, c, metric)


def epic(rewards: Tensor, mdp: TabularMDP, *, to: Tensor | None = None, form: Form = "pearson",
         coverage: Weighting = "uniform", states: States = "all") -> Float[Tensor, "*b R"] | Float[Tensor, "*b R R"]:
    """EPIC distances (Gleave et al. 2021), with uniform states and actions inside the canonicalisation.

    Invariant to scale and shaping, not to redistribution over next states; reads impossible transitions.

    Args:
        rewards: as in `starc`; dense only.
        mdp: the dynamics and the discount.
        to: as in `starc`.
        form: `pearson` is sqrt((1 - r) / 2) in [0, 1], as in the EPIC literature (a constant reward counts as
            uncorrelated); `l2` is the distance of the canonical rewards divided by their L2 norms, in [0, 2].
        coverage: the distribution of transitions over which rewards are compared: uniform over S x A x S, or
            over states and actions with the next state as the world gives it.
        states: as in `starc`.

    Example:
        >>> from plaudit.tasks.tabular import random_mdp
        >>> mdp = random_mdp(states=6, actions=2, seed=0)
        >>> reward = torch.randn(6, 2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        >>> epic(torch.stack([reward, 2 * reward + 1, -reward]), mdp)[0].round(decimals=9).abs().tolist()
        [0.0, 0.0, 1.0]
    """
    _one_of("form", form, Form)
    _one_of("coverage", coverage, Weighting)
    return _correlation_distance("epic", rewards, mdp, to, form, coverage, states)


def dard(rewards: Tensor, mdp: TabularMDP, *, to: Tensor | None = None, form: Form = "pearson",
         coverage: Weighting = "uniform", states: States = "all") -> Float[Tensor, "*b R"] | Float[Tensor, "*b R R"]:
    """DARD distances (Wulfe et al. 2022): EPIC with next states drawn from the dynamics. Arguments as in `epic`."""
    _one_of("form", form, Form)
    _one_of("coverage", coverage, Weighting)
    return _correlation_distance("dard", rewards, mdp, to, form, coverage, states)


def regret(rewards: Tensor, mdp: TabularMDP, *, to: Tensor | None = None,
           ) -> Float[Tensor, "*b R"] | Float[Tensor, "*b R R"]:
    """What optimising one reward loses when judged by another, as a share of the judge's own range.

    Entry [i, j] is (max J_i - J_i(pi_j)) / (max J_i - min J_i) in [0, 1], with pi_j optimal for j (ties go
    to the action that policy iteration keeps). A judge that pays all policies alike regrets nothing: 0.

    Args:
        rewards: the judges, as in `starc`.
        mdp: the dynamics, the discount and the first state.
        to: the rewards that are optimised; then the result is [*, R], otherwise each is optimised in turn.
    """
    rewards, to = _tensors(rewards, to)
    judge = _expected(rewards, mdp)
    best, worst, visits = _plan(judge, mdp)
    if to is not None:
        visits = _plan(_expected(to, mdp), mdp)[2]
        got = (judge * visits).sum((-1, -2))
        lost = best - got
        span = best - worst
    else:
        got = torch.einsum("...isa,...jsa->...ij", judge, visits)
        lost, span = best.unsqueeze(-1) - got, (best - worst).unsqueeze(-1)
    size = judge.abs().amax((-1, -2)) / (1 - mdp.discount)
    trivial = span <= trivial_below(mdp) * (size if to is not None else size.unsqueeze(-1))
    return torch.where(trivial, 0.0, lost / torch.where(trivial, 1.0, span)).clamp(0.0, 1.0)


def mutual_regret(rewards: Tensor, mdp: TabularMDP, *, to: Tensor | None = None,
                  ) -> Float[Tensor, "*b R"] | Float[Tensor, "*b R R"]:
    """The mean of both directed regrets, which STARC distances are meant to predict."""
    if to is None:
        directed = regret(rewards, mdp)
        return (directed + directed.transpose(-1, -2)) / 2
    return (regret(rewards, mdp, to=to) + regret(to, mdp, to=rewards)) / 2


# --- internals -------------------------------------------------------------------------------------------


def _one_of(name: str, value: str, kind: object) -> None:
    if value not in get_args(kind):
        raise BadInput(name, expected=f"one of {get_args(kind)}", received=value)


def _tensors(rewards: Any, to: Any) -> tuple[Tensor, Tensor | None]:
    """Arrays as tensors; `to` must hold as many rewards."""
    rewards, to = torch.as_tensor(rewards), None if to is None else torch.as_tensor(to)
    _check_pairs(rewards, to)
    return rewards, to


def _check_pairs(rewards: Tensor, to: Tensor | None) -> None:
    if to is not None and rewards.shape != to.shape:
        raise BadInput("to", expected=f"as many rewards: shape {list(rewards.shape)}", received=list(to.shape))


def _weighting(name: str) -> Weighting:
    return "transition" if name.startswith("weighted_") else "uniform"


def _power(name: str) -> float:
    return {"l1": 1.0, "l2": 2.0, "linf": torch.inf, "angle": 2.0}[name.removeprefix("weighted_")]


def _ones(c: CanonicalRewards) -> CanonicalRewards:
    return replace(c, values=torch.ones_like(c.values))


def _norm(c: CanonicalRewards, norm: Norm, mdp: TabularMDP) -> Float[Tensor, "*b R"]:
    if norm == "range":
        best, worst, _ = _plan(c.expected, mdp)
        return best - worst
    weight, p = c.weight(_weighting(norm)), _power(norm)
    if p == torch.inf:
        return (c.values.abs() * (weight > 0)).amax(-1)
    return (weight * c.values.abs() ** p).sum(-1) ** (1 / p)


def _distances(x: Tensor, to: Tensor | None, c: CanonicalRewards, metric: Metric) -> Tensor:
    weight, p = c.weight(_weighting(metric)), _power(metric)
    root = (weight > 0).double() if p == torch.inf else weight ** (1 / p)
    u = x * root
    v = None if to is None else to * root
    if not metric.endswith("angle"):
        return _apart(u, v, p)
    u, v = _unit(u), None if v is None else _unit(v)
    together = torch.cdist(u, -u, compute_mode=_EXACT) if v is None else _apart(u, -v, 2.0)
    angle = 2 * torch.atan2(_apart(u, v, 2.0), together)  # precise near 0 and pi, where arccos is not
    flat_u = (u == 0).all(-1)
    flat_v = flat_u if v is None else (v == 0).all(-1)
    one, other = (flat_u.unsqueeze(-1), flat_v.unsqueeze(-2)) if v is None else (flat_u, flat_v)
    return torch.where(one & other, 0.0, torch.where(one | other, torch.pi / 2, angle))


def _apart(u: Tensor, v: Tensor | None, p: float) -> Tensor:
    """||u_i - u_j|| for all pairs, or ||u_i - v_i||."""
    if v is None:
        return torch.cdist(u, u, p=p, compute_mode=_EXACT)
    return torch.linalg.vector_norm(u - v, ord=p, dim=-1)


def _unit(u: Tensor) -> Tensor:
    size = torch.linalg.vector_norm(u, dim=-1, keepdim=True)
    return torch.where(size > 0, u / torch.where(size > 0, size, 1.0), 0.0)


def _correlation_distance(kind: Canonical, rewards: Any, mdp: TabularMDP, to: Any, form: Form,
                          coverage: Weighting, states: States) -> Tensor:
    if form == "l2":
        name: Norm = "weighted_l2" if coverage == "transition" else "l2"
        return starc(rewards, mdp, to=to, canonical=kind, norm=name, metric=name, states=states)

    rewards, to = _tensors(rewards, to)
    c = canonicalise(rewards, mdp, to=to, canonical=kind, states=states)
    weight = c.weight(coverage)
    weight = weight / weight.sum(-1, keepdim=True)
    centred = (c.values - (weight * c.values).sum(-1, keepdim=True)) * weight.sqrt()
    size = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    unit = torch.where(size > trivial_below(mdp) * c.scale.unsqueeze(-1), centred / size, 0.0)
    u, v = (unit, None) if to is None else unit.chunk(2, -2)
    half = _apart(u, v, 2.0) / 2  # sqrt((1 - r) / 2) without the cancellation in 1 - r
    flat_u = (u == 0).all(-1)
    flat_v = flat_u if v is None else (v == 0).all(-1)
    one, other = (flat_u.unsqueeze(-1), flat_v.unsqueeze(-2)) if v is None else (flat_u, flat_v)
    return torch.where(one & other, 0.0, torch.where(one | other, 0.5**0.5, half))


def _expected(rewards: Tensor, mdp: TabularMDP) -> Float[Tensor, "*b R S A"]:
    return canonicalise(rewards, mdp, canonical="none").expected


def _plan(expected: Float[Tensor, "*b R S A"], mdp: TabularMDP) -> tuple[Tensor, Tensor, Tensor]:
    """Greatest J, least J [*, R] and the optimal policy's visits [*, R, S, A] under each expected reward."""
    nothing_ends = torch.zeros(mdp.S, dtype=torch.bool)
    if isinstance(mdp.transition, Tensor):
        many = replace(mdp, transition=mdp.transition.unsqueeze(-4), initial=mdp.initial.unsqueeze(-2),
                       reward=expected.unsqueeze(-1).expand(*expected.shape, mdp.S), terminal=nothing_ends)
        best = planning.policy_iteration(many)
        visits = planning.occupancy(many, best.policy)
    else:
        row, _ = mdp.entries()
        many = replace(mdp, reward=expected.flatten(-2)[..., row], terminal=nothing_ends)
        best = planning.policy_iteration(many)
        visits = torch.stack([planning.occupancy(many, policy) for policy in best.policy])
    worst = planning.policy_iteration(many.with_reward(-many.reward))
    return best.expected_return, -worst.expected_return, visits
