"""Exact planning in finite Markov decision processes: no sampling, no learning.

Dense processes are planned in batches (torch float64, any leading axes `*`); sparse ones one reward at a
time with scipy. A policy is [*, S, A] of probabilities or [*, S] of action indices. J is the discounted
return from the first state's distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from plaudit.core.errors import BadInput, PlauditError
from plaudit.optimize.paths import Cycle, Path, likeliest_path, maximum_mean_cycle
from plaudit.tasks.tabular import TabularMDP

__all__ = ["Cycle", "FinitePlan", "Path", "Plan", "evaluate", "evaluate_rewards", "expected_return", "finite_horizon",
           "likeliest_path", "maximum_mean_cycle", "occupancy", "policy_iteration", "q_values", "return_range",
           "value_iteration"]

_IMPROVEMENT = 1e-12
"""An action replaces another only if it is better by more than this share of the largest value."""
_MAX_ROUNDS = 1000


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """A deterministic policy and what it is worth."""

    value: Float[Tensor, "*b S"]
    policy: Int[Tensor, "*b S"]
    expected_return: Float[Tensor, "*b"]
    """J: the value averaged over the first state."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FinitePlan:
    """The best actions for each number of steps already taken."""

    value: Float[Tensor, "*b K S"]
    """`value[..., t, :]` is what the steps t, t + 1, ..., K - 1 are worth."""
    policy: Int[Tensor, "*b K S"]
    expected_return: Float[Tensor, "*b"]


def q_values(mdp: TabularMDP, value: Float[Tensor, "*b S"]) -> Float[Tensor, "*b S A"]:
    """One step of reward and then `value`: r(s, a) + discount * E[value(s')]."""
    return mdp.expected_reward() + mdp.discount * _next(mdp, value)


def evaluate(mdp: TabularMDP, policy: Tensor) -> Float[Tensor, "*b S"]:
    """The value of a policy, by the linear equations (I - discount * P) v = r.

    Args:
        mdp: dense, or sparse with one reward or many.
        policy: [*, S, A] probabilities or [*, S] indices; a sparse process takes one policy.

    Raises:
        BadInput: when the policy has another shape or is no distribution.

    Example:
        >>> mdp = TabularMDP.of_transitions(state=[0], action=[0], next_state=[0], probability=[1.0], reward=[1.0],
        ...                                 states=1, actions=1, initial=[1.0], discount=0.75)
        >>> float(evaluate(mdp, mdp.uniform_policy()))
        4.0
    """
    policy = _probabilities(mdp, policy)
    reward = (policy * mdp.expected_reward()).sum(-1)
    if isinstance(mdp.transition, Tensor):
        chain = _chain(policy, mdp.transition)
        return _solve(torch.eye(mdp.S, dtype=chain.dtype, device=chain.device) - mdp.discount * chain, reward)
    return _sparse_solve(mdp, policy, reward)


def evaluate_rewards(mdp: TabularMDP, expected_reward: Float[Tensor, "*b R S A"],
                     policy: Tensor) -> Float[Tensor, "*b R S"]:
    """The values of many rewards under one policy: the equations are factored once."""
    policy = _probabilities(mdp, policy)
    reward = (policy.unsqueeze(-3) * expected_reward).sum(-1)
    if isinstance(mdp.transition, Tensor):
        chain = _chain(policy, mdp.transition)
        left = torch.eye(mdp.S, dtype=chain.dtype, device=chain.device) - mdp.discount * chain
        right = reward.transpose(-1, -2)
        if left.device.type == "cpu":  # half the time where there are many small systems
            return torch.from_numpy(np.linalg.solve(left.numpy(), right.numpy())).transpose(-1, -2)
        return torch.linalg.solve(left, right).transpose(-1, -2)
    return _sparse_solve(mdp, policy, reward)


def expected_return(mdp: TabularMDP, policy: Tensor) -> Float[Tensor, "*b"]:
    """J of a policy."""
    return (mdp.initial * evaluate(mdp, policy)).sum(-1)


def occupancy(mdp: TabularMDP, policy: Tensor, *, normalise: bool = False) -> Float[Tensor, "*b S A"]:
    """The discounted number of visits to each state and action, which sum to 1 / (1 - discount).

    J is its inner product with the expected reward. `normalise=True` makes it a distribution.
    """
    policy = _probabilities(mdp, policy)
    if isinstance(mdp.transition, Tensor):
        chain = _chain(policy, mdp.transition)
        eye = torch.eye(mdp.S, dtype=chain.dtype, device=chain.device)
        visits = _solve(eye - mdp.discount * chain.transpose(-1, -2), mdp.initial)
    else:
        visits = _sparse_solve(mdp, policy, mdp.initial, transpose=True)
    out = visits.unsqueeze(-1) * policy
    return out * (1 - mdp.discount) if normalise else out


def policy_iteration(mdp: TabularMDP) -> Plan:
    """An optimal policy by Howard's policy iteration, exact up to rounding.

    Example:
        >>> mdp = TabularMDP.of_transitions(state=[0, 0], action=[0, 1], next_state=[0, 1], probability=[1.0, 1.0],
        ...     reward=[1.0, 5.0], states=2, actions=2, initial=[1.0, 0.0], terminal=[False, True], discount=0.9)
        >>> plan = policy_iteration(mdp)
        >>> (plan.policy[0].item(), round(plan.expected_return.item(), 6))
        (0, 10.0)
    """
    if mdp.sparse and mdp.batch:
        return _each(mdp, policy_iteration)
    reward = mdp.expected_reward()
    reward = reward.expand(*mdp.batch, *reward.shape[-2:])
    policy = reward.argmax(-1)
    for _ in range(_MAX_ROUNDS):
        value = _evaluate_indices(mdp, reward, policy)
        q = reward + mdp.discount * _next(mdp, value)
        best, action = q.max(-1)
        slack = _IMPROVEMENT * q.abs().amax((-1, -2), keepdim=True).squeeze(-1)
        better = best > q.gather(-1, policy.unsqueeze(-1)).squeeze(-1) + slack
        if not bool(better.any()):
            return Plan(value=value, policy=policy, expected_return=(mdp.initial * value).sum(-1))
        policy = torch.where(better, action, policy)
    raise PlauditError(f"policy iteration did not settle in {_MAX_ROUNDS} rounds; the rewards differ by less than "
                       "rounding allows: rescale them")


def value_iteration(mdp: TabularMDP, *, tolerance: float = 1e-8) -> Plan:
    """An optimal policy by value iteration; the returned value is within `tolerance` of the optimum.

    Slower than `policy_iteration` for discounts near 1, but it never factors a matrix.
    """
    if mdp.sparse and mdp.batch:
        return _each(mdp, lambda one: value_iteration(one, tolerance=tolerance))
    reward = mdp.expected_reward()
    value = torch.zeros((*mdp.batch, mdp.S), dtype=torch.float64, device=reward.device)
    largest = float(reward.abs().max()) + tolerance
    need = tolerance * (1 - mdp.discount)
    rounds = 2 + math.ceil(math.log(need / (2 * largest)) / math.log(mdp.discount)) if mdp.discount > 0 else 2
    q = reward
    for _ in range(rounds):
        q = reward + mdp.discount * _next(mdp, value)
        change, value = q.amax(-1) - value, q.amax(-1)
        if bool(change.abs().max() <= need):
            break
    return Plan(value=value, policy=q.argmax(-1).expand(value.shape), expected_return=(mdp.initial * value).sum(-1))


def finite_horizon(mdp: TabularMDP, horizon: int, *, discount: float | None = None) -> FinitePlan:
    """The best policy for a fixed number of steps, which may depend on the time.

    Args:
        mdp: the process.
        horizon: the number of steps K, at least 1.
        discount: replaces the process's own; 1 is allowed here.
    """
    gamma = mdp.discount if discount is None else discount
    if horizon < 1:
        raise BadInput("horizon", expected="at least 1 step", received=horizon)
    if not 0 <= gamma <= 1:
        raise BadInput("discount", expected="a number in [0, 1]", received=gamma)
    if mdp.sparse and mdp.batch:
        plans = [finite_horizon(one, horizon, discount=gamma) for one in _unstack(mdp)]
        return FinitePlan(value=_restack(mdp, [p.value for p in plans]),
                          policy=_restack(mdp, [p.policy for p in plans]),
                          expected_return=_restack(mdp, [p.expected_return for p in plans]))
    reward = mdp.expected_reward()
    value = torch.zeros((*mdp.batch, mdp.S), dtype=torch.float64, device=reward.device)
    values, policies = [], []
    for _ in range(horizon):
        value, action = (reward + gamma * _next(mdp, value)).max(-1)
        values.append(value)
        policies.append(action)
    return FinitePlan(value=torch.stack(values[::-1], -2), policy=torch.stack(policies[::-1], -2),
                      expected_return=(mdp.initial * value).sum(-1))


def return_range(mdp: TabularMDP) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """The least and the greatest J of any policy.

    Example:
        >>> mdp = TabularMDP.of_transitions(state=[0, 0], action=[0, 1], next_state=[1, 1], probability=[1.0, 1.0],
        ...     reward=[-1.0, 5.0], states=2, actions=2, initial=[1.0, 0.0], terminal=[False, True], discount=0.9)
        >>> [float(x) for x in return_range(mdp)]
        [-1.0, 5.0]
    """
    best = policy_iteration(mdp).expected_return
    worst = -policy_iteration(mdp.with_reward(-mdp.reward)).expected_return
    return worst, best


# --- internals -------------------------------------------------------------------------------------------


def _next(mdp: TabularMDP, value: Float[Tensor, "*b S"]) -> Float[Tensor, "*b S A"]:
    if isinstance(mdp.transition, Tensor):
        return torch.einsum("...sat,...t->...sa", mdp.transition, value)
    flat = value.reshape(-1, mdp.S).numpy()
    return torch.from_numpy((mdp.transition @ flat.T).T.copy()).reshape(*value.shape[:-1], mdp.S, mdp.A)


def _probabilities(mdp: TabularMDP, policy: Tensor) -> Float[Tensor, "*b S A"]:
    policy = torch.as_tensor(policy)
    if not policy.is_floating_point():
        if policy.ndim < 1 or policy.shape[-1] != mdp.S or bool(((policy < 0) | (policy >= mdp.A)).any()):
            raise BadInput("policy", expected=f"indices [*, {mdp.S}] in [0, {mdp.A})", received=list(policy.shape))
        return torch.nn.functional.one_hot(policy.long(), mdp.A).to(torch.float64)
    if tuple(policy.shape[-2:]) != (mdp.S, mdp.A):
        raise BadInput("policy", expected=f"probabilities [*, {mdp.S}, {mdp.A}] or indices [*, {mdp.S}]",
                       received=list(policy.shape))
    if bool((policy < 0).any()) or not bool(((policy.sum(-1) - 1).abs() < 1e-6).all()):
        raise BadInput("policy", expected="probabilities that sum to 1 over the actions",
                       received=f"sums from {float(policy.sum(-1).min()):.6g} to {float(policy.sum(-1).max()):.6g}")
    return policy.to(torch.float64)


def _evaluate_indices(mdp: TabularMDP, reward: Tensor, policy: Tensor) -> Tensor:
    chosen = reward.gather(-1, policy.unsqueeze(-1)).squeeze(-1)
    if not isinstance(mdp.transition, Tensor):
        return _sparse_solve(mdp, _probabilities(mdp, policy), chosen)
    full = mdp.transition.expand(*policy.shape, *mdp.transition.shape[-2:])
    chain = torch.take_along_dim(full, policy[..., None, None], -2).squeeze(-2)
    return _solve(torch.eye(mdp.S, dtype=chain.dtype, device=chain.device) - mdp.discount * chain, chosen)


def _chain(policy: Float[Tensor, "*p S A"], transition: Float[Tensor, "*b S A S"]) -> Float[Tensor, "*c S S"]:
    """From state to state under a policy; the leading axes are broadcast."""
    if transition.device.type == "cpu":  # a third of the time of torch's
        return torch.from_numpy(np.einsum("...a,...at->...t", policy.numpy(), transition.numpy()))
    return torch.einsum("...sa,...sat->...st", policy, transition)


def _solve(left: Tensor, right: Tensor) -> Tensor:
    batch = torch.broadcast_shapes(left.shape[:-2], right.shape[:-1])
    right = right.expand(*batch, right.shape[-1])
    return torch.linalg.solve(left, right.unsqueeze(-1)).squeeze(-1)


def _sparse_solve(mdp: TabularMDP, policy: Tensor, right: Tensor, *, transpose: bool = False) -> Tensor:
    from scipy.sparse import csr_array, eye_array
    from scipy.sparse.linalg import splu

    if policy.ndim != 2:
        raise BadInput("policy", expected="one policy for a sparse process", received=f"shape {list(policy.shape)}",
                       fix="evaluate one policy at a time")
    index = np.arange(mdp.S * mdp.A)
    choose = csr_array((policy.reshape(-1).numpy(), (index // mdp.A, index)), shape=(mdp.S, mdp.S * mdp.A))
    left = (eye_array(mdp.S) - mdp.discount * (choose @ mdp.transition)).tocsc()
    flat = right.reshape(-1, mdp.S).numpy().T
    solved = splu(left).solve(np.ascontiguousarray(flat), trans="T" if transpose else "N")
    return torch.from_numpy(np.ascontiguousarray(solved.T)).reshape(right.shape)


def _unstack(mdp: TabularMDP) -> list[TabularMDP]:
    reward = mdp.reward.expand(*mdp.batch, mdp.reward.shape[-1])
    return [mdp.with_reward(r) for r in reward.reshape(-1, reward.shape[-1])]


def _restack(mdp: TabularMDP, parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).reshape(*mdp.batch, *parts[0].shape)


def _each(mdp: TabularMDP, solve: Any) -> Plan:
    plans = [solve(one) for one in _unstack(mdp)]
    return Plan(value=_restack(mdp, [p.value for p in plans]), policy=_restack(mdp, [p.policy for p in plans]),
                expected_return=_restack(mdp, [p.expected_return for p in plans]))
