from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.optimize.paths import likeliest_path, maximum_mean_cycle
from plaudit.tasks.tabular import TabularMDP, random_mdp


def graph(edges, S, *, terminal=(), start=0, discount=0.9):
    """A deterministic world from (state, next state, reward); missing actions repeat the first edge of a state."""
    out = {s: [e for e in edges if e[0] == s] for s in range(S)}
    A = max(len(e) for e in out.values())
    rows = [(s, a, *((es[a] if a < len(es) else es[0])[1:] if es else (s, -100.0)))
            for s, es in out.items() for a in range(A)]
    s, a, t, r = zip(*rows, strict=True)
    ends = np.isin(np.arange(S), list(terminal))
    return TabularMDP.of_transitions(state=s, action=a, next_state=t, probability=np.ones(len(rows)), reward=r,
                                     states=S, actions=A, initial=np.eye(S)[start], terminal=ends, discount=discount)


def brute_force(mdp):
    """The best mean over all simple cycles of reachable non-terminal states."""
    T, R = mdp.transition.numpy(), mdp.reward.numpy()
    weight = np.where(T == 1.0, R, -np.inf).max(1)
    live = (mdp.reachable() & ~mdp.terminal).numpy().nonzero()[0]
    best = -np.inf
    for k in range(1, live.size + 1):
        for loop in itertools.permutations(live, k):
            best = max(best, np.mean([weight[loop[i], loop[(i + 1) % k]] for i in range(k)]))
    return best


@pytest.mark.parametrize("seed", range(25))
def test_best_loop_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    S, A = 6, int(rng.integers(1, 4))
    target = rng.integers(0, S, (S, A))
    reward = rng.integers(-3, 4, (S, A)).astype(float) if seed % 2 else rng.normal(size=(S, A))
    ends = rng.random(S) < 0.2
    ends[0] = False
    mdp = TabularMDP.of_transitions(
        state=np.repeat(np.arange(S), A), action=np.tile(np.arange(A), S), next_state=target.ravel(),
        probability=np.ones(S * A), reward=reward.ravel(), states=S, actions=A, initial=np.eye(S)[0], terminal=ends,
        discount=0.9)
    best = brute_force(mdp)
    found = maximum_mean_cycle(mdp)
    if found is None:
        assert best == -np.inf
        return
    assert found.mean_reward == pytest.approx(best, abs=1e-9)
    for i, (s, a) in enumerate(zip(found.states, found.actions, strict=True)):
        t = found.states[(i + 1) % len(found.states)]
        assert float(mdp.transition[s, a, t]) == 1.0
        assert float(mdp.reward[s, a, t]) == found.rewards[i]


def test_loop_of_greatest_sum_is_not_the_loop_of_greatest_mean():
    """The broken variant that ranks loops by what one round pays would take the long one."""
    mdp = graph([(0, 1, 1.0), (1, 2, 1.0), (2, 0, 1.0), (0, 3, 0.0), (3, 0, 2.5)], 4)
    loop = maximum_mean_cycle(mdp)
    assert sorted(loop.states) == [0, 3]
    assert loop.mean_reward == pytest.approx(1.25)


def test_unreachable_and_terminal_loops_do_not_count():
    mdp = graph([(0, 1, 0.5), (1, 0, 0.5), (0, 3, 9.0), (2, 2, 50.0)], 4, terminal=[3])
    assert maximum_mean_cycle(mdp).mean_reward == pytest.approx(0.5)
    assert maximum_mean_cycle(graph([(0, 1, 0.5), (1, 2, 0.5)], 3, terminal=[2])) is None


def test_noisy_transitions_count_only_if_asked_for():
    mdp = random_mdp(states=6, actions=2, seed=1).with_reward(torch.ones(6, 2, 6))
    assert maximum_mean_cycle(mdp) is None
    assert maximum_mean_cycle(mdp, min_probability=0.05).mean_reward == pytest.approx(1.0)


def test_large_grid_loop_is_found_quickly():
    n = 60
    cell = np.arange(n * n).reshape(n, n)
    moves = [np.roll(cell, shift, axis).ravel() for axis in (0, 1) for shift in (1, -1)]
    reward = np.full((n * n, 4), -1.0)
    reward[cell[40, 40], 3] = 5.0
    mdp = TabularMDP.of_transitions(
        state=np.tile(cell.ravel(), 4), action=np.repeat(np.arange(4), n * n), next_state=np.concatenate(moves),
        probability=np.ones(4 * n * n), reward=reward.T.ravel(), states=n * n, actions=4,
        initial=np.eye(1, n * n)[0], discount=0.99)
    assert maximum_mean_cycle(mdp).mean_reward == pytest.approx(2.0)


def test_likeliest_path_beats_the_shorter_unsure_one():
    args = {"state": [0, 0, 0, 1, 1], "action": [0, 0, 1, 0, 1], "next_state": [2, 0, 1, 2, 2],
            "probability": [0.5, 0.5, 1.0, 1.0, 1.0], "reward": [5.0, 0, 1.0, 1.0, 1.0], "states": 3, "actions": 2,
            "initial": [1.0, 0, 0], "terminal": [False, False, True], "discount": 0.5}
    for sparse in (False, True):
        mdp = TabularMDP.of_transitions(**args, sparse=sparse)
        path = likeliest_path(mdp, mdp.terminal)
        assert (path.states, path.actions, path.probability) == ((0, 1, 2), (1, 0), 1.0)
        assert path.discounted_return(0.5) == 1.5


def test_path_is_none_where_the_goal_cannot_be_reached():
    mdp = graph([(0, 0, 0.0), (1, 2, 0.0)], 3, terminal=[2])
    assert likeliest_path(mdp, mdp.terminal) is None
    assert likeliest_path(mdp, mdp.terminal, start=1).states == (1, 2)


def test_path_of_no_steps_when_the_start_is_the_goal():
    mdp = graph([(0, 1, 1.0), (1, 0, 1.0)], 2)
    assert likeliest_path(mdp, torch.tensor([True, False])).states == (0,)


def test_processes_with_leading_axes_are_refused():
    mdp = random_mdp(states=3, actions=2, batch=(2,))
    with pytest.raises(BadInput, match="one process"):
        maximum_mean_cycle(mdp)
    with pytest.raises(BadInput, match="goal"):
        likeliest_path(random_mdp(states=3, actions=2), torch.zeros(3))
