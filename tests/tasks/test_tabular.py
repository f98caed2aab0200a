from __future__ import annotations

import numpy as np
import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.tasks.tabular import TabularMDP, random_mdp


def chain(**changes):
    """Three states in a row; action 0 stays, action 1 moves right; the last one is terminal."""
    move = torch.tensor([[0.0, 1, 0], [0, 0, 1], [0, 0, 1]])
    fields = {
        "transition": torch.stack([torch.eye(3), move], 1), "reward": torch.zeros(3, 2, 3),
        "initial": torch.tensor([1.0, 0, 0]), "terminal": torch.tensor([False, False, True]), "discount": 0.9,
    }
    return TabularMDP(**{**fields, **changes})


def test_sizes_and_dtype():
    mdp = chain()
    assert (mdp.S, mdp.A, tuple(mdp.batch), mdp.sparse) == (3, 2, (), False)
    assert mdp.transition.dtype == mdp.reward.dtype == mdp.initial.dtype == torch.float64


@pytest.mark.parametrize(("changes", "text"), [
    ({"discount": 1.0}, "finite horizon"),
    ({"discount": -0.1}, "discount"),
    ({"transition": torch.ones(3, 2, 3)}, "sum"),
    ({"transition": torch.ones(3, 2, 4) / 4}, "shape"),
    ({"initial": torch.tensor([0.5, 0, 0])}, "initial"),
    ({"reward": torch.zeros(3, 2)}, "reward"),
    ({"reward": torch.full((3, 2, 3), float("nan"))}, "finite"),
    ({"reward": torch.ones(3, 2, 3)}, "terminal state that pays"),
    ({"terminal": torch.tensor([False, True, True])}, "can be left"),
    ({"terminal": torch.zeros(3)}, "bool"),
])
def test_bad_input_is_named(changes, text):
    with pytest.raises(BadInput, match=text):
        chain(**changes)


def test_rewards_may_carry_a_batch_that_the_dynamics_lack():
    mdp = random_mdp(states=4, actions=2, seed=0)
    many = mdp.with_reward(torch.randn(5, 4, 2, 4))
    assert tuple(many.batch) == (5,)
    assert many.expected_reward().shape == (5, 4, 2)


def test_random_mdp_follows_the_protocol():
    mdp = random_mdp(states=200, actions=4, seed=3)
    wide = (mdp.transition > 1e-6).double().mean()
    assert abs(float(wide) - 0.1587) < 0.01  # P(N(0, 1) > 1)
    assert torch.equal(mdp.initial, torch.full((200,), 1 / 200, dtype=torch.float64))
    assert torch.equal(mdp.transition, random_mdp(states=200, actions=4, seed=3).transition)


def test_sparse_and_dense_are_the_same_process():
    mdp = chain(reward=torch.arange(18.0).reshape(3, 2, 3) * torch.tensor([1.0, 1, 0])[:, None, None])
    sparse = mdp.to_sparse()
    assert sparse.sparse and sparse.A == 2
    assert torch.equal(sparse.dense().transition, mdp.transition)
    assert torch.allclose(sparse.expected_reward(), mdp.expected_reward())
    assert torch.equal(sparse.reachable(), mdp.reachable())


def test_transitions_named_twice_are_joined():
    args = {"state": [0, 0, 0, 1], "action": [0, 0, 0, 0], "next_state": [0, 1, 1, 1],
            "probability": [0.5, 0.25, 0.25, 1.0], "reward": [1.0, 2.0, 4.0, 7.0], "states": 2, "actions": 1,
            "initial": [1.0, 0.0], "discount": 0.5}
    for sparse in (False, True):
        mdp = TabularMDP.of_transitions(**args, sparse=sparse)
        assert mdp.sparse is sparse
        assert torch.allclose(mdp.expected_reward(), torch.tensor([[2.0], [7.0]], dtype=torch.float64))
        ended = TabularMDP.of_transitions(**args, terminal=[False, True], sparse=sparse)
        assert float(ended.expected_reward()[1, 0]) == 0.0


def test_sparse_rows_must_be_distributions_and_sorted():
    from scipy.sparse import csr_array

    args = {"initial": torch.tensor([1.0, 0.0]), "terminal": torch.zeros(2, dtype=torch.bool), "discount": 0.9}
    half = csr_array(np.array([[0.5, 0.0], [0.0, 1.0]]))
    with pytest.raises(BadInput, match="sum to 1"):
        TabularMDP(transition=half, reward=torch.zeros(2), **args)
    unsorted = csr_array((np.array([0.5, 0.5, 1.0]), np.array([1, 0, 1]), np.array([0, 2, 3])), shape=(2, 2))
    with pytest.raises(BadInput, match="sorted"):
        TabularMDP(transition=unsorted, reward=torch.zeros(3), **args)


def test_unreachable_states_are_found():
    mdp = chain(initial=torch.tensor([0.0, 1.0, 0.0]))
    assert mdp.reachable().tolist() == [False, True, True]


def test_float32_rows_are_made_exact():
    row = torch.rand(4, 2, 4)
    row /= row.sum(-1, keepdim=True)
    mdp = TabularMDP(transition=row, reward=torch.zeros(4, 2, 4), initial=torch.ones(4) / 4,
                     terminal=torch.zeros(4, dtype=torch.bool), discount=0.9)
    assert float((mdp.transition.sum(-1) - 1).abs().max()) < 1e-12


def test_one_of_many_processes_is_picked():
    mdp = random_mdp(states=4, actions=2, batch=(3,), seed=5).with_reward(torch.randn(3, 4, 2, 4))
    one, two = mdp[1], mdp[1:]
    assert tuple(one.batch) == () and tuple(two.batch) == (2,)
    assert torch.equal(one.transition, mdp.transition[1]) and torch.equal(two.reward, mdp.reward[1:])
    assert torch.equal(one.expected_reward(), mdp.expected_reward()[1])
    shared = random_mdp(states=4, actions=2).with_reward(torch.randn(3, 4, 2, 4))
    assert shared[2].transition.ndim == 3 and torch.equal(shared[2].reward, shared.reward[2])
    with pytest.raises(BadInput, match="leading axis"):
        chain()[0]
