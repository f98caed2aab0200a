"""EPIC and DARD by asking rewards about transitions that never happened.

Both add means over actions and states to the reward of a transition. The same (A, S') serve all transitions,
so that the noise they carry does not shrink with more transitions: DARD takes all actions where there are few,
and intervals draw the (A, S') again. Letters: N compared transitions, M mean samples (columns), R rewards,
K bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import gymnasium
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.auditing.distances.basis import Basis, blocks, flat, one_hot, solve_regression
from plaudit.core.episodes import Episodes
from plaudit.core.errors import Unsupported
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.core.tree import Tree, leaves, tree_map
from plaudit.tasks.base import Task

COMPARED = 1024
"""EPIC and DARD compare over at most this many transitions: each asks the reward M times or more."""
_CHUNK = 65_536
_TRIVIAL = 1e-6
_ASKABLE = {"obs", "action", "next_obs", "terminated", "truncated"}

Model = Callable[[Tree, Tensor], Tree]
"""The next observation [N, ...] for observations and actions [N, ...]."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Resampled:
    """Canonical rewards over some transitions, in parts, so that the means can be taken again over other columns."""

    own: Float[Tensor, "N R"]
    terms: Float[Tensor, "N M R"]
    """What is added for each column: one action, or one action and state; NaN where unknown."""
    again: Float[Tensor, "N L"] | None
    """Terms of the first reward for twice as many other columns; None where the columns are all actions there are."""
    block: Tensor
    model_r2: float | None

    @cached_property
    def values(self) -> Float[Tensor, "N R"]:
        return _without_trivial(self.own + self.terms.nanmean(1), self.own)

    @cached_property
    def _trivial(self) -> Bool[Tensor, "R"]:
        return _is_trivial(self.own + self.terms.nanmean(1), self.own)

    def pair(self, index: int, weight_MK: Float[Tensor, "M K"]) -> Float[Tensor, "2 N K"]:
        """Rewards 0 and `index`, K times over, with weights on the columns."""
        each = (_weighted(self.own[:, r], self.terms[:, :, r], weight_MK) for r in (0, index))
        return torch.stack([0 * x if self._trivial[r] else x for r, x in zip((0, index), each, strict=True)])

    def twins(self, times: int) -> Float[Tensor, "times N 2"]:
        """Two estimates of the first reward from columns that they do not share, for so many ways to divide them."""
        if self.again is None:
            return self.values[:, [0, 0]].expand(times, -1, -1)
        terms = torch.cat([self.terms[:, :, 0], self.again], 1)
        generator = torch.Generator().manual_seed(0)
        M, own = self.terms.shape[1], self.own[:, :1].expand(-1, 2)
        order = [torch.randperm(terms.shape[1], generator=generator) for _ in range(times)]
        return torch.stack([_without_trivial(own + torch.stack([terms[:, at[:M]].nanmean(1),
                                                                terms[:, at[M: 2 * M]].nanmean(1)], -1), own)
                            for at in order])


def canonical_by_resampling(rewards: Sequence[Reward], drawn: Episodes, pool: Episodes, task: Task, *,
                            kind: Literal["epic", "dard"], discount: float, seeds: Seeds, model: Model | None,
                            mean_samples: int | None) -> Resampled:
    """Canonical rewards over transitions of `pool`; states and actions of the means come from `drawn`.

    DARD takes its means over all actions where they are no more than the mean samples.

    Raises:
        Unsupported: for rewards that read the past, or what only the environment can tell.
    """
    for reward in rewards:
        _check_askable(reward, kind)
    flat_pool, flat_drawn = pool.transitions(), drawn.transitions()
    generator = seeds.child(kind).torch()
    at = torch.randperm(flat_pool.B, generator=generator)[:COMPARED].sort().values
    here = flat_pool[at]
    r2 = None
    if kind == "dard" and model is None:
        model, r2 = fitted_model(flat_drawn, task, seeds)
    M = mean_samples or (128 if kind == "epic" else 32)
    space = task.action_space
    choices = space if kind == "dard" and isinstance(space, gymnasium.spaces.Discrete) and space.n <= M else None

    def columns(of: Sequence[Reward], many: int) -> Float[Tensor, "N M R"]:
        pick = torch.randint(flat_drawn.B, (2, many), generator=generator)
        action = flat_drawn.action[pick[0], 0]
        if kind == "epic":
            return _epic(of, here, action, tree_map(lambda x: x[pick[1], 0], flat_drawn.obs), discount)
        assert model is not None
        if choices is not None:
            action = (torch.arange(int(choices.n)) + int(choices.start)).to(action.dtype)
        return _dard(of, here, action, model, discount)

    own = torch.stack([_ask(r, here) for r in rewards], -1)
    terms = columns(rewards, M)
    again = None if choices is not None else columns(rewards[:1], 2 * M)[:, :, 0]
    return Resampled(own=own, terms=terms, again=again, block=blocks(pool.mask, 32)[at], model_r2=r2)


def fitted_model(transitions: Episodes, task: Task, seeds: Seeds) -> tuple[Model, float]:
    """Regression of the change of the observation on (s, a), and the share it explains on held-out transitions.

    Raises:
        Unsupported: where observations are not vectors of numbers.
    """
    if not isinstance(task.obs_space, gymnasium.spaces.Box) or not isinstance(transitions.obs, Tensor):
        raise Unsupported("DARD needs the dynamics: pass model=(obs, action) -> next_obs, or kind='epic'")
    assert isinstance(transitions.next_obs, Tensor)
    obs, action = transitions.obs[:, 0], transitions.action[:, 0]
    change = flat(transitions.next_obs[:, 0]) - flat(obs)
    x = torch.cat([flat(obs), one_hot(action, task.action_space)], -1)
    basis = Basis.fit(x, generator=seeds.child("model").torch(), features=384)
    features = basis(x)
    held = torch.arange(len(x)) % 5 == 0
    trial = solve_regression(features[~held], change[~held])
    left = (change[held] - features[held] @ trial).square().sum()
    total = (change[held] - change[held].mean(0)).square().sum()
    weights = solve_regression(features, change)

    def model(obs: Tree, action: Tensor) -> Tree:
        assert isinstance(obs, Tensor)
        inputs = torch.cat([flat(obs), one_hot(action, task.action_space)], -1)
        return (obs.double() + (basis(inputs) @ weights).reshape(obs.shape)).to(obs.dtype)

    return model, float(1 - left / total) if float(total) > 0 else 1.0


# --- internals -------------------------------------------------------------------------------------------


def _epic(rewards: Sequence[Reward], here: Episodes, action_M: Tensor, other_M: Tree, discount: float) -> Tensor:
    """discount R(s', A, S') - R(s, A, S') for each (A, S').

    The constant -discount E[R(S, A, S')] cancels in a correlation.
    """
    def answers_from(obs: Tree) -> Tensor:
        return _answers(rewards, obs, action_M, lambda rows, columns: _pick(other_M, columns))

    return discount * answers_from(_now(here.next_obs)) - answers_from(_now(here.obs))


def _dard(rewards: Sequence[Reward], here: Episodes, action_M: Tensor, model: Model, discount: float) -> Tensor:
    """discount R(s', A, S'') - R(s, A, S') - discount R(S', A, S'') for each A.

    S' = model(s, A) and S'' = model(s', A).
    """
    s, t = _now(here.obs), _now(here.next_obs)
    after = lambda start: lambda rows, columns: model(_pick(start, rows), action_M[columns])  # noqa: E731
    leaving_t = _answers(rewards, t, action_M, after(t))
    leaving_s = _answers(rewards, s, action_M, after(s))
    crossing = _answers(rewards, s, action_M, after(t), begin=after(s))
    return discount * leaving_t - leaving_s - discount * crossing


def _answers(rewards: Sequence[Reward], obs_N: Tree, action_M: Tensor, end: Callable[[Tensor, Tensor], Tree], *,
           begin: Callable[[Tensor, Tensor], Tree] | None = None) -> Float[Tensor, "N M R"]:
    """R(s_n, a_m, end(n, m)), NaN where unknown."""
    N, M = next(leaves(obs_N))[1].shape[0], len(action_M)
    rows = torch.arange(N).repeat_interleave(M)
    columns = torch.arange(M).repeat(N)
    out = torch.empty(N * M, len(rewards), dtype=torch.float64)
    for first in range(0, N * M, _CHUNK):
        piece = slice(first, min(first + _CHUNK, N * M))
        i, j = rows[piece], columns[piece]
        start = _pick(obs_N, i) if begin is None else begin(i, j)
        asked = Episodes.of_transitions(obs=start, action=action_M[j], next_obs=end(i, j))
        out[piece] = torch.stack([_ask(r, asked) for r in rewards], -1)
    return out.reshape(N, M, -1)


def _weighted(own: Float[Tensor, "N"], terms: Float[Tensor, "N M"], weight: Float[Tensor, "M K"]) -> Tensor:
    """[N, K]: own values plus the weighted mean of the known terms."""
    known = torch.isfinite(terms)
    if bool(known.all()):
        return own[:, None] + terms @ weight / weight.sum(0)
    return own[:, None] + torch.where(known, terms, 0.0) @ weight / (known.double() @ weight)


def _ask(reward: Reward, transitions: Episodes) -> Float[Tensor, "N"]:
    score = reward.score(transitions)
    return torch.where(score.known, score.value.double(), torch.nan)[:, 0]


def _pick(tree: Tree, index: Tensor) -> Tree:
    return tree_map(lambda x: x[index], tree)


def _now(tree: Tree) -> Tree:
    return tree_map(lambda x: x[:, 0], tree)


def _without_trivial(values: Tensor, own: Tensor) -> Tensor:
    """Sets to their mean what varies little beside the reward it came from."""
    return torch.where(_is_trivial(values, own) & torch.isfinite(values), values.nanmean(0), values)


def _is_trivial(values: Float[Tensor, "N R"], own: Float[Tensor, "N R"]) -> Bool[Tensor, "R"]:
    spread = (values - values.nanmean(0)).square().nanmean(0).sqrt()
    return spread <= _TRIVIAL * own.square().nanmean(0).sqrt()


def _check_askable(reward: Reward, kind: str) -> None:
    if reward.needs.time != "step" or reward.needs.across != "row" or reward.needs.state != "none":
        raise Unsupported(f"{reward.name} reads more than one transition; {kind.upper()} asks about single ones; "
                          "use kind='starc'")
    unasked = sorted(f for f in reward.needs.fields if f not in _ASKABLE)
    if unasked:
        raise Unsupported(f"{reward.name} reads {', '.join(unasked)}, which only the environment can tell; "
                          f"{kind.upper()} asks about transitions that never happened; use kind='starc'")
