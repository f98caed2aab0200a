from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.optimize import tabular as plan
from plaudit.tasks.tabular import TabularMDP, random_mdp


def small(seed=0, *, states=4, actions=2, discount=0.8, batch=(), ends=False):
    generator = torch.Generator().manual_seed(seed)
    mdp = random_mdp(states=states, actions=actions, discount=discount, batch=batch, seed=seed)
    reward = torch.randn((*batch, states, actions, states), generator=generator, dtype=torch.float64)
    if not ends:
        return mdp.with_reward(reward)
    transition = mdp.transition.clone()
    transition[..., -1, :, :] = torch.eye(states, dtype=torch.float64)[-1]
    reward[..., -1, :, :] = 0
    return TabularMDP(transition=transition, reward=reward, initial=mdp.initial, discount=discount,
                      terminal=torch.eye(states)[-1].bool())


def all_policies(mdp):
    return [torch.tensor(p) for p in itertools.product(range(mdp.A), repeat=mdp.S)]


def brute_value(mdp, policy, rounds=2000):
    """The Bellman expectation backup with plain loops over numpy."""
    T, R = mdp.transition.numpy(), mdp.reward.numpy()
    value = np.zeros(mdp.S)
    for _ in range(rounds):
        value = np.array([sum(T[s, policy[s], t] * (R[s, policy[s], t] + mdp.discount * value[t])
                              for t in range(mdp.S)) for s in range(mdp.S)])
    return value


@pytest.mark.parametrize("ends", [False, True])
def test_evaluation_solves_the_bellman_equation(ends):
    mdp = small(1, ends=ends)
    policy = torch.tensor([0, 1, 1, 0])
    expected = brute_value(mdp, policy.tolist(), rounds=200)
    assert np.allclose(plan.evaluate(mdp, policy).numpy(), expected, atol=1e-10)
    assert torch.allclose(plan.evaluate(mdp.to_sparse(), policy), plan.evaluate(mdp, policy), atol=1e-12)


def test_optimum_equals_the_best_of_all_policies():
    for seed in range(5):
        mdp = small(seed, states=4, ends=seed % 2 == 1)
        returns = torch.stack([plan.expected_return(mdp, p) for p in all_policies(mdp)])
        worst, best = plan.return_range(mdp)
        assert torch.allclose(best, returns.max(), atol=1e-10)
        assert torch.allclose(worst, returns.min(), atol=1e-10)


def test_value_iteration_and_policy_iteration_agree_dense_batched_and_sparse():
    mdp = small(3, states=12, actions=3, batch=(4,), discount=0.95)
    exact = plan.policy_iteration(mdp)
    assert torch.allclose(plan.value_iteration(mdp).value, exact.value, atol=1e-7)
    for b in range(4):
        one = TabularMDP(transition=mdp.transition[b], reward=mdp.reward[b], initial=mdp.initial,
                         terminal=mdp.terminal, discount=mdp.discount)
        assert torch.allclose(plan.policy_iteration(one).value, exact.value[b], atol=1e-10)
        assert torch.allclose(plan.policy_iteration(one.to_sparse()).value, exact.value[b], atol=1e-10)
        assert torch.allclose(plan.value_iteration(one.to_sparse()).value, exact.value[b], atol=1e-7)


def test_one_world_with_many_rewards_is_planned_reward_by_reward():
    mdp = small(5, states=6)
    rewards = torch.randn(3, 6, 2, 6, dtype=torch.float64)
    many = plan.policy_iteration(mdp.with_reward(rewards))
    sparse = mdp.to_sparse()
    row, column = sparse.entries()
    aligned = rewards.reshape(3, -1, 6)[:, row, column]
    for r in range(3):
        assert torch.allclose(plan.policy_iteration(mdp.with_reward(rewards[r])).value, many.value[r], atol=1e-10)
    assert torch.allclose(plan.policy_iteration(sparse.with_reward(aligned)).value, many.value, atol=1e-10)
    expected = torch.einsum("sat,rsat->rsa", mdp.transition, rewards)
    values = plan.evaluate_rewards(mdp, expected, mdp.uniform_policy())
    assert torch.allclose(values, plan.evaluate(mdp.with_reward(rewards), mdp.uniform_policy()), atol=1e-10)
    assert torch.allclose(plan.evaluate_rewards(sparse, expected, mdp.uniform_policy()), values, atol=1e-10)


def test_policy_that_is_not_optimal_is_told_apart():
    """The broken variant: greedy for the next reward alone."""
    mdp = TabularMDP.of_transitions(
        state=[0, 0, 1, 1], action=[0, 1, 0, 1], next_state=[0, 1, 1, 1], probability=[1.0] * 4,
        reward=[1.0, 0.0, 2.0, 2.0], states=2, actions=2, initial=[1.0, 0.0], discount=0.9)
    myopic = mdp.expected_reward().argmax(-1)
    assert float(plan.expected_return(mdp, myopic)) == pytest.approx(10.0)
    assert float(plan.policy_iteration(mdp).expected_return) == pytest.approx(18.0)


def test_occupancy_is_dual_to_value():
    mdp = small(7, states=5, ends=True)
    policy = torch.tensor([1, 0, 1, 0, 1])
    visits = plan.occupancy(mdp, policy)
    assert float(visits.sum()) == pytest.approx(1 / (1 - mdp.discount))
    assert torch.allclose((visits * mdp.expected_reward()).sum(), plan.expected_return(mdp, policy), atol=1e-12)
    assert torch.allclose(plan.occupancy(mdp.to_sparse(), policy), visits, atol=1e-12)
    assert float(plan.occupancy(mdp, policy, normalise=True).sum()) == pytest.approx(1.0)


def test_finite_horizon_without_discount_matches_enumeration():
    mdp = small(9, states=3, actions=2)
    best = -np.inf
    for policies in itertools.product(all_policies(mdp), repeat=2):
        value = torch.zeros(3, dtype=torch.float64)
        for policy in reversed(policies):
            q = mdp.expected_reward() + torch.einsum("sat,t->sa", mdp.transition, value)
            value = q.gather(-1, policy[:, None]).squeeze(-1)
        best = max(best, float((mdp.initial * value).sum()))
    found = plan.finite_horizon(mdp, 2, discount=1.0)
    assert float(found.expected_return) == pytest.approx(best)
    assert found.policy.shape == (2, 3)


def test_long_horizon_tends_to_the_discounted_optimum():
    mdp = small(11, batch=(2,))
    assert torch.allclose(plan.finite_horizon(mdp, 150).value[..., 0, :], plan.policy_iteration(mdp).value, atol=1e-10)


def test_ties_do_not_make_policy_iteration_cycle():
    mdp = random_mdp(states=30, actions=5, discount=0.99, seed=2)
    settled = plan.policy_iteration(mdp.with_reward(torch.full((30, 5, 30), 1 / 3)))
    assert torch.allclose(settled.value, torch.tensor(1 / 3 / 0.01, dtype=torch.float64))


@pytest.mark.parametrize("unit", [1e-15, 1e15])
def test_optimal_policy_does_not_depend_on_the_unit(unit):
    mdp = small(13, states=9, actions=4, discount=0.95)
    scaled = mdp.with_reward(unit * mdp.reward)
    assert torch.equal(plan.policy_iteration(scaled).policy, plan.policy_iteration(mdp).policy)


@pytest.mark.parametrize(("call", "text"), [
    (lambda m: plan.evaluate(m, torch.ones(4, 2)), "sum to 1"),
    (lambda m: plan.evaluate(m, torch.tensor([0, 1, 2, 0])), "indices"),
    (lambda m: plan.evaluate(m, torch.ones(3, 2) / 2), "probabilities"),
    (lambda m: plan.finite_horizon(m, 0), "horizon"),
    (lambda m: plan.finite_horizon(m, 3, discount=1.5), "discount"),
    (lambda m: m.with_discount(1.0), "finite horizon"),
])
def test_bad_input_is_named(call, text):
    with pytest.raises(BadInput, match=text):
        call(small())


def test_large_sparse_world_is_evaluated_exactly():
    """A corridor of 20,000 cells: the value of walking right is discount to the power of what is left to walk."""
    S = 20_000
    cells = np.arange(S - 1)
    mdp = TabularMDP.of_transitions(
        state=np.repeat(cells, 2), action=np.tile([0, 1], S - 1),
        next_state=np.stack([np.maximum(cells - 1, 0), cells + 1], 1).ravel(), probability=np.ones(2 * (S - 1)),
        reward=np.stack([np.zeros(S - 1), cells == S - 2], 1).ravel(), states=S, actions=2, initial=np.eye(1, S)[0],
        terminal=np.arange(S) == S - 1, discount=0.999)
    assert mdp.sparse
    right = plan.evaluate(mdp, torch.ones(S, dtype=torch.int64))
    assert torch.allclose(right[:-1], 0.999 ** torch.arange(S - 2, -1, -1, dtype=torch.float64), atol=1e-12)
