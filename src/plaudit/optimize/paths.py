"""Walks through a finite process: the loop that pays most per step, and the surest way to a goal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from plaudit.core.errors import BadInput, PlauditError
from plaudit.tasks.tabular import TabularMDP

_TIE = 1e-9
_STEP_COST = 1e-6
"""Added to -log(probability) of each step, so that of two equally sure paths the shorter wins."""


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """A loop: `states[i]` is left by `actions[i]` towards the next, the last towards the first."""

    states: tuple[int, ...]
    actions: tuple[int, ...]
    rewards: tuple[float, ...]

    @property
    def mean_reward(self) -> float:
        """Reward per step."""
        return sum(self.rewards) / len(self.rewards)


@dataclass(frozen=True, kw_only=True)
class Path:
    """A walk: one more state than actions."""

    states: tuple[int, ...]
    actions: tuple[int, ...]
    rewards: tuple[float, ...]
    probability: float
    """That the world follows this path if these actions are taken (the first state included)."""

    def discounted_return(self, discount: float) -> float:
        """What the path pays."""
        return sum(r * discount**t for t, r in enumerate(self.rewards))


@dataclass(frozen=True, eq=False)
class _Edges:
    source: np.ndarray
    action: np.ndarray
    target: np.ndarray
    probability: np.ndarray
    reward: np.ndarray

    def keep(self, where: np.ndarray) -> _Edges:
        return _Edges(*(x[where] for x in (self.source, self.action, self.target, self.probability, self.reward)))


def maximum_mean_cycle(mdp: TabularMDP, *, min_probability: float = 1.0) -> Cycle | None:
    """The reachable loop with the most reward per step, by Howard's algorithm.

    Only transitions that happen with at least `min_probability` count, and only those between states that
    do not end the episode. None where no such loop exists.

    Args:
        mdp: one process (no leading axes), dense or sparse.
        min_probability: 1 asks for loops that the agent can surely run; lower it where the world is noisy.

    Raises:
        BadInput: when the process has leading axes.

    Example:
        >>> mdp = TabularMDP.of_transitions(state=[0, 0, 1, 1], action=[0, 1, 0, 1], next_state=[0, 1, 0, 0],
        ...     probability=[1.0] * 4, reward=[1.0, 0.0, 3.0, 2.0], states=2, actions=2, initial=[1.0, 0.0],
        ...     discount=0.9)
        >>> loop = maximum_mean_cycle(mdp)
        >>> (sorted(loop.states), loop.mean_reward)
        ([0, 1], 1.5)
    """
    edges = _edges(mdp)
    live = mdp.reachable().numpy() & ~mdp.terminal.numpy()
    edges = edges.keep((edges.probability >= min_probability - _TIE) & live[edges.source] & live[edges.target])
    edges = _without_dead_ends(edges, mdp.S)
    if not edges.source.size:
        return None
    order = np.argsort(edges.source, kind="stable")
    chosen = _howard(edges.keep(order), mdp.S)
    return Cycle(states=tuple(int(edges.source[order][e]) for e in chosen),
                 actions=tuple(int(edges.action[order][e]) for e in chosen),
                 rewards=tuple(float(edges.reward[order][e]) for e in chosen))


def likeliest_path(mdp: TabularMDP, goal: Tensor, *, start: int | None = None) -> Path | None:
    """The path to a goal state that the world follows most probably; of equals the shortest. None if there is none.

    Where the world is deterministic this is the shortest path.

    Args:
        mdp: one process (no leading axes).
        goal: bool [S], the states that count as success.
        start: the first state; by default the likeliest of `initial` together with its path.

    Example:
        >>> mdp = TabularMDP.of_transitions(state=[0, 0, 0], action=[0, 1, 1], next_state=[0, 0, 1],
        ...     probability=[1.0, 0.25, 0.75], reward=[0.0, 0.0, 1.0], states=2, actions=2, initial=[1.0, 0.0],
        ...     terminal=[False, True], discount=0.9)
        >>> path = likeliest_path(mdp, mdp.terminal)
        >>> (path.states, path.actions, path.probability)
        ((0, 1), (1,), 0.75)
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import dijkstra

    goal_S = torch.as_tensor(goal).numpy()
    if goal_S.shape != (mdp.S,) or goal_S.dtype != bool:
        raise BadInput("goal", expected=f"bool of shape [{mdp.S}]", received=f"{goal_S.dtype} {list(goal_S.shape)}")
    edges = _edges(mdp)
    edges = edges.keep((edges.probability > 0) & ~goal_S[edges.source])
    first = mdp.initial.numpy() if start is None else np.eye(mdp.S)[start]
    begins, ends = np.flatnonzero(first > 0), np.flatnonzero(goal_S)
    source, sink = mdp.S, mdp.S + 1
    best = _best_parallel(edges)
    rows = np.concatenate([edges.source[best], np.full(begins.size, source), ends])
    columns = np.concatenate([edges.target[best], begins, np.full(ends.size, sink)])
    cost = np.concatenate([-np.log(edges.probability[best]), -np.log(first[begins]), np.zeros(ends.size)]) + _STEP_COST
    graph = coo_array((cost, (rows, columns)), shape=(mdp.S + 2, mdp.S + 2)).tocsr()
    _, before = dijkstra(graph, indices=source, return_predecessors=True)
    if before[sink] < 0:
        return None
    states = [int(before[sink])]
    while before[states[-1]] != source:
        states.append(int(before[states[-1]]))
    states.reverse()
    index = {(int(edges.source[e]), int(edges.target[e])): e for e in best}
    steps = [index[pair] for pair in zip(states[:-1], states[1:], strict=True)]
    return Path(states=tuple(states), actions=tuple(int(edges.action[e]) for e in steps),
                rewards=tuple(float(edges.reward[e]) for e in steps),
                probability=float(first[states[0]]) * math.prod(float(edges.probability[e]) for e in steps))


# --- internals -------------------------------------------------------------------------------------------


def _edges(mdp: TabularMDP) -> _Edges:
    if mdp.batch:
        raise BadInput("mdp", expected="one process", received=f"leading axes {list(mdp.batch)}",
                       fix="pick one: mdp[0]")
    one = mdp.to_sparse()
    row, column = (x.numpy() for x in one.entries())
    assert not isinstance(one.transition, Tensor)
    return _Edges(row // one.A, row % one.A, column, one.transition.data, one.reward.numpy())


def _best_parallel(edges: _Edges) -> np.ndarray:
    """Of several edges between two states, the likeliest (and of equals the best paid)."""
    order = np.lexsort((-edges.reward, -edges.probability, edges.target, edges.source))
    pair = np.stack([edges.source[order], edges.target[order]])
    new = np.ones(order.size, dtype=bool)
    new[1:] = (pair[:, 1:] != pair[:, :-1]).any(0)
    return order[new]


def _without_dead_ends(edges: _Edges, S: int) -> _Edges:
    while True:
        leaves = np.bincount(edges.source, minlength=S) > 0
        good = leaves[edges.target]
        if good.all():
            return edges
        edges = edges.keep(good)


def _howard(edges: _Edges, S: int) -> list[int]:
    """The edges of a cycle of greatest mean, for edges sorted by source where each target has edges of its own."""
    starts = np.searchsorted(edges.source, np.arange(S))
    nodes = np.unique(edges.source)
    policy = np.full(S, -1)
    policy[nodes] = _segment_argmax(edges.reward, starts[nodes])
    scale = 1.0 + np.abs(edges.reward).max()
    for _ in range(_limit(edges.source.size)):
        gain, bias, cycle = _policy_gain(edges, policy, nodes)
        offer = gain[edges.target]
        pick = _segment_argmax(offer, starts[nodes])
        better = offer[pick] > gain[nodes] + _TIE * scale
        if not better.any():
            value = np.where(np.abs(offer - gain[edges.source]) <= _TIE * scale,
                             edges.reward - gain[edges.source] + bias[edges.target], -np.inf)
            pick = _segment_argmax(value, starts[nodes])
            better = value[pick] > bias[nodes] + _TIE * scale
        if not better.any():
            return cycle
        policy[nodes[better]] = pick[better]
    raise PlauditError("the search for the best loop did not settle; the rewards differ by less than rounding allows")


def _limit(edges: int) -> int:
    return 1000 + 10 * edges


def _segment_argmax(x: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The index of the greatest entry of each segment; segments begin at `starts`."""
    lengths = np.diff(np.append(starts, x.size))
    top = np.repeat(np.maximum.reduceat(x, starts), lengths)
    where = np.where(x == top, np.arange(x.size), x.size)
    return np.minimum.reduceat(where, starts)


def _policy_gain(edges: _Edges, policy: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Mean reward of the loop each node runs into, its relative value, and the best of the loops (as edges)."""
    gain, bias = np.full(policy.size, -np.inf), np.zeros(policy.size)
    state = np.zeros(policy.size, dtype=np.int8)  # 0 new, 1 on the present walk, 2 known
    best_gain, best_cycle = -math.inf, []
    target, reward = edges.target, edges.reward
    for begin in nodes:
        walk, node = [], begin
        while state[node] == 0:
            state[node] = 1
            walk.append(node)
            node = target[policy[node]]
        if state[node] == 1:
            loop = walk[walk.index(node):]
            mean = float(np.mean([reward[policy[n]] for n in loop]))
            gain[node], bias[node], state[node] = mean, 0.0, 2
            if mean > best_gain:
                best_gain, best_cycle = mean, [int(policy[n]) for n in loop]
        for n in reversed(walk):
            if state[n] != 2:
                after = target[policy[n]]
                gain[n], state[n] = gain[after], 2
                bias[n] = reward[policy[n]] - gain[after] + bias[after]
    return gain, bias, best_cycle
