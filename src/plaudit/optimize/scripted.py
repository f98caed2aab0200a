"""Behaviours that need no search: do always the same, do nothing, swing to and fro, repeat, follow one sign.

Flawed rewards are often paid for exactly these. They cost little and their names explain themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import gymnasium
import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.tree import Tree, tree_map
from plaudit.optimize.evolve.families import FamilyPolicy, Lens
from plaudit.optimize.rl.spaces import ActionMap
from plaudit.tasks.policy import Policy, RandomPolicy

PERIODS = (2, 4, 10, 20, 50, 100)
"""Steps of one swing to and fro."""
REPEATS = (2, 5, 10, 25)
"""How many steps a random action is held."""
_MOST = 40
"""At most so many actions of one kind (corners, choices, pairs) are tried."""


class Loop:
    """Repeats a list of actions [L, ...], whatever it sees.

    Example:
        >>> policy = Loop(torch.tensor([0, 1]))
        >>> [policy.act(torch.zeros(1, 2), policy.start(1), step=t)[0].item() for t in range(3)]
        [0, 1, 0]
    """

    def __init__(self, actions_L: Tensor) -> None:
        if not actions_L.ndim or not len(actions_L):
            raise BadInput("actions_L", expected="at least one action", received=list(actions_L.shape))
        self.actions_L = actions_L

    def start(self, rows: int) -> int:
        """The number of rows."""
        return rows

    def act(self, obs: Tree, carry: int, *, step: int) -> tuple[Tensor, int]:
        """The same action in all rows."""
        now = self.actions_L[step % len(self.actions_L)]
        return now.expand(carry, *now.shape), carry


class Sticky:
    """Random actions, each held for some steps; a row's actions depend on its seed and the step alone."""

    def __init__(self, space: gymnasium.Space[Any], seeds: Sequence[int] | int, *, hold: int) -> None:
        if hold < 1:
            raise BadInput("hold", expected="an integer >= 1", received=hold)
        self.random, self.hold = RandomPolicy(space, seeds), hold

    def start(self, rows: int) -> Tensor:
        """The seeds of the rows."""
        return self.random.start(rows)

    def act(self, obs: Tree, carry: Tensor, *, step: int) -> tuple[Tensor, Tensor]:
        """The random action of the last multiple of `hold`."""
        return self.random.act(obs, carry, step=step // self.hold)


class BangBang:
    """One of two actions, by whether a feature of the observation lies above its usual value."""

    def __init__(self, lens: Lens, feature: int, *, above: Tensor, below: Tensor) -> None:
        self.lens, self.feature, self.above, self.below = lens, feature, above, below

    def start(self, rows: int) -> int:
        """The number of rows."""
        return rows

    def act(self, obs: Tree, carry: int, *, step: int) -> tuple[Tensor, int]:
        """Actions [B, ...]."""
        up = self.lens(obs)[:, self.feature] > 0
        up = up.reshape(carry, *[1] * self.above.ndim)
        return torch.where(up, self.above, self.below), carry


class Together:
    """Several policies in one batch: the first `each` rows belong to the first, and so on.

    Example:
        >>> policy = Together([Loop(torch.tensor([0])), Loop(torch.tensor([1]))], each=2)
        >>> policy.act(torch.zeros(4, 3), policy.start(4), step=0)[0].tolist()
        [0, 0, 1, 1]
    """

    def __init__(self, policies: Sequence[Policy], *, each: int) -> None:
        self.each, self.rows = each, each * len(policies)
        self.groups = _grouped(policies)

    def start(self, rows: int) -> list[tuple[Tensor, Any]]:
        """Which rows each group has, and its carry."""
        if rows != self.rows:
            raise BadInput("rows", expected=f"{self.rows}, {self.each} for each policy", received=rows)
        offset = torch.arange(self.each)
        mine = [(torch.tensor(numbers).unsqueeze(-1) * self.each + offset).flatten() for _, numbers in self.groups]
        return [(rows, policy.start(len(rows))) for rows, (policy, _) in zip(mine, self.groups, strict=True)]

    def act(self, obs: Tree, carry: list[tuple[Tensor, Any]], *,
            step: int) -> tuple[Tensor, list[tuple[Tensor, Any]]]:
        """The actions of all, in order."""
        if len(carry) == 1:
            action, own = self.groups[0][0].act(obs, carry[0][1], step=step)
            return action, [(carry[0][0], own)]
        out: Tensor | None = None
        after: list[tuple[Tensor, Any]] = []
        for (policy, _), (rows, own) in zip(self.groups, carry, strict=True):
            action, own = policy.act(tree_map(lambda x, rows=rows: x[rows], obs), own, step=step)
            out = action.new_empty((self.rows, *action.shape[1:])) if out is None else out
            out[rows] = action
            after.append((rows, own))
        assert out is not None
        return out, after


def _grouped(policies: Sequence[Policy]) -> list[tuple[Policy, list[int]]]:
    """Candidates of one family act as one policy; the numbers say which they were."""
    groups: dict[int, tuple[Policy, list[int]]] = {}
    for i, policy in enumerate(policies):
        single = isinstance(policy, FamilyPolicy) and policy.theta_KN.shape[0] == 1
        key = id(policy.family) if isinstance(policy, FamilyPolicy) and single else -1 - i
        if key in groups:
            first, numbers = groups[key]
            assert isinstance(first, FamilyPolicy) and isinstance(policy, FamilyPolicy)
            groups[key] = first.family.policy(torch.cat([first.theta_KN, policy.theta_KN])), [*numbers, i]
        else:
            groups[key] = policy, [i]
    return list(groups.values())


def scripted(space: gymnasium.Space[Any], lens: Lens, *, seed: int, horizon: int,
             most: int | None = None) -> list[tuple[str, Policy]]:
    """Simple behaviours with their names; constant ones first.

    Args:
        space: the task's actions: choices or numbers.
        lens: how observations are seen, for those that follow a sign.
        seed: of those that are random.
        horizon: periods above it are left out.
        most: at most so many; the simplest are kept.

    Raises:
        Unsupported: when the action space is neither choices nor a box.

    Example:
        >>> from plaudit.optimize.rl.spaces import ObsEncoder
        >>> lens = Lens(ObsEncoder(gymnasium.spaces.Box(-1, 1, (1,))))
        >>> [name for name, _ in scripted(gymnasium.spaces.Discrete(2), lens, seed=0, horizon=3)]
        ['always action 0', 'always action 1', 'actions 0 and 1 in turn, period 2', 'random, held 2 steps',
         'action 1 while feature 0 is high, else 0', 'action 0 while feature 0 is high, else 1']
    """
    actions = ActionMap(space)
    points = _choices(actions) if actions.choices is not None else _box(actions)
    out: list[tuple[str, Policy]] = [(f"always {name}", Loop(action.unsqueeze(0))) for name, action in points]
    pairs = _pairs(actions, points)
    for period in (p for p in PERIODS if p <= max(2, horizon)):
        for (first, a), (second, b) in pairs:
            half = torch.cat([a.expand(period // 2, *a.shape), b.expand(period - period // 2, *b.shape)])
            out.append((f"{_joined(first, second)} in turn, period {period}", Loop(half)))
    out += [(f"random, held {k} steps", Sticky(space, seed, hold=k)) for k in REPEATS if k <= max(2, horizon - 1)]
    (first, a), (second, b) = pairs[0] if pairs else (points[0], points[-1])
    for feature in range(min(lens.size, _MOST // 2) if pairs else 0):
        out.append((f"{second} while feature {feature} is high, else {_short(first)}",
                    BangBang(lens, feature, above=b, below=a)))
        out.append((f"{first} while feature {feature} is high, else {_short(second)}",
                    BangBang(lens, feature, above=a, below=b)))
    return out if most is None or len(out) <= most else _spread(out, len(points), most)


def _spread(out: list[tuple[str, Policy]], constants: int, most: int) -> list[tuple[str, Policy]]:
    """Half of the places for constants, the rest evenly over the others."""
    first = out[:min(constants, max(1, most // 2))]
    rest, left = out[constants:], most - len(first)
    return first + [rest[i * len(rest) // left] for i in range(left)] if rest and left else first


def _choices(actions: ActionMap) -> list[tuple[str, Tensor]]:
    assert actions.choices is not None
    if len(actions.choices) == 1:
        n = actions.choices[0]
        env = actions.to_env(torch.arange(min(n, _MOST)).unsqueeze(-1))
        return [(f"action {int(a)}", a.reshape(actions.shape)) for a in env]
    many = itertools.islice(itertools.product(*(range(n) for n in actions.choices)), _MOST)
    return [(f"action {list(c)}", actions.to_env(torch.tensor(c))) for c in many]


def _box(actions: ActionMap) -> list[tuple[str, Tensor]]:
    K = actions.actions
    env = lambda *x: actions.to_env(torch.tensor(x, dtype=torch.float32))  # noqa: E731
    one = lambda k, v: [v if i == k else 0.0 for i in range(K)]  # noqa: E731
    full = [("the highest action", env(*[1.0] * K)), ("the lowest action", env(*[-1.0] * K))]
    if K > 1:
        full += [(f"number {k} at its {'highest' if v > 0 else 'lowest'}", env(*one(k, v)))
                 for k in range(min(K, _MOST // 2)) for v in (1.0, -1.0)]
    if 1 < K <= 3:
        full += [(f"full action {[int(v) for v in c]}", env(*c)) for c in itertools.product((-1.0, 1.0), repeat=K)
                 if len(set(c)) > 1]
    half = [("half of the highest action", env(*[0.5] * K)), ("half of the lowest action", env(*[-0.5] * K))]
    middle = actions.to_env(torch.zeros(K))
    zero = torch.minimum(torch.maximum(torch.zeros(K), actions.low), actions.high).reshape(actions.shape)
    still = [("zero action", zero)] + ([] if torch.equal(zero, middle) else [("the middle action", middle)])
    return still + full + half


def _pairs(actions: ActionMap, points: list[tuple[str, Tensor]]) -> list[tuple[tuple[str, Tensor], tuple[str, Tensor]]]:
    """The pairs of actions to swing between."""
    if actions.choices is None:
        by_name = dict(points)
        named = lambda name: (name, by_name[name])  # noqa: E731
        pairs = [(named("the lowest action"), named("the highest action"))]
        if 1 < actions.actions <= 3:
            pairs += [(named(f"number {k} at its lowest"), named(f"number {k} at its highest"))
                      for k in range(actions.actions)]
        return pairs
    ends = [(points[0], points[-1])] if len(points) > 1 else []
    every = list(itertools.combinations(points, 2))
    return ends + [p for p in every if p != ends[0]] if len(every) <= 10 else ends


def _joined(first: str, second: str) -> str:
    if first.startswith("action ") and second.startswith("action "):
        return f"actions {_short(first)} and {_short(second)}"
    return f"{first} and {second}"


def _short(name: str) -> str:
    return name.removeprefix("action ")


def least_moving(moved_K: Float[Tensor, "K"]) -> int:
    """Which of K constant behaviours changes what is seen the least (the first of equals)."""
    return int(torch.where(torch.isnan(moved_K), torch.inf, moved_K).argmin())
