"""EPIC and DARD by asking rewards about transitions that never happened.

Both add means over actions and states to the reward of a transition. The same (A, S') serve all transitions,
so that what noise they carry is mostly common to both rewards. Letters: N compared transitions, M mean
samples, R rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import gymnasium
import torch
from jaxtyping import Float
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
    """Canonical rewards over some transitions; `twin` are two independent estimates of the first reward's."""

    values: Float[Tensor, "N R"]
    twin: Float[Tensor, "N 2"]
    block: Tensor
    model_r2: float | None


def canonical_by_resampling(rewards: Sequence[Reward], drawn: Episodes, pool: Episodes, task: Task, *,
                            kind: Literal["epic", "dard"], discount: float, seeds: Seeds, model: Model | None,
                            mean_samples: int | None) -> Resampled:
    """Canonical rewards over transitions of `pool`; states and actions of the means come from `drawn`.

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

    def once(of: Sequence[Reward]) -> Float[Tensor, "N R"]:
        pick = torch.randint(flat_drawn.B, (2, M), generator=generator)
        action = flat_drawn.action[pick[0], 0]
        if kind == "epic":
            terms = _epic(of, here, action, tree_map(lambda x: x[pick[1], 0], flat_drawn.obs), discount)
        else:
            assert model is not None
            terms = _dard(of, here, action, model, discount)
        own = torch.stack([_ask(r, here) for r in of], -1)
        return _without_trivial(own + terms, own)

    values = once(rewards)
    twin = torch.cat([once(rewards[:1]), once(rewards[:1])], -1)
    return Resampled(values=values, twin=twin, block=blocks(pool.mask, 32)[at], model_r2=r2)


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
    """E[discount R(s', A, S') - R(s, A, S')]; the constant -discount E[R(S, A, S')] cancels in a correlation."""
    def mean_from(obs: Tree) -> Tensor:
        return _means(rewards, obs, action_M, lambda rows, columns: _pick(other_M, columns))

    return discount * mean_from(_now(here.next_obs)) - mean_from(_now(here.obs))


def _dard(rewards: Sequence[Reward], here: Episodes, action_M: Tensor, model: Model, discount: float) -> Tensor:
    """E[discount R(s', A, S'') - R(s, A, S') - discount R(S', A, S'')], S' = model(s, A), S'' = model(s', A)."""
    s, t = _now(here.obs), _now(here.next_obs)
    after = lambda start: lambda rows, columns: model(_pick(start, rows), action_M[columns])  # noqa: E731
    leaving_t = _means(rewards, t, action_M, after(t))
    leaving_s = _means(rewards, s, action_M, after(s))
    crossing = _means(rewards, s, action_M, after(t), begin=after(s))
    return discount * leaving_t - leaving_s - discount * crossing


def _means(rewards: Sequence[Reward], obs_N: Tree, action_M: Tensor, end: Callable[[Tensor, Tensor], Tree], *,
           begin: Callable[[Tensor, Tensor], Tree] | None = None) -> Float[Tensor, "N R"]:
    """Mean over M of R(s_n, a_m, end(n, m)), unknown answers left out (NaN where all are)."""
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
    return out.reshape(N, M, -1).nanmean(1)


def _ask(reward: Reward, transitions: Episodes) -> Float[Tensor, "N"]:
    score = reward.score(transitions)
    return torch.where(score.known, score.value.double(), torch.nan)[:, 0]


def _pick(tree: Tree, index: Tensor) -> Tree:
    return tree_map(lambda x: x[index], tree)


def _now(tree: Tree) -> Tree:
    return tree_map(lambda x: x[:, 0], tree)


def _without_trivial(values: Tensor, own: Tensor) -> Tensor:
    """Sets to their mean what varies little beside the reward it came from."""
    mean = values.nanmean(0)
    spread = (values - mean).square().nanmean(0).sqrt()
    scale = own.square().nanmean(0).sqrt()
    return torch.where((spread <= _TRIVIAL * scale) & torch.isfinite(values), mean, values)


def _check_askable(reward: Reward, kind: str) -> None:
    if reward.needs.time != "step" or reward.needs.across != "row" or reward.needs.state != "none":
        raise Unsupported(f"{reward.name} reads more than one transition; {kind.upper()} asks about single ones; "
                          "use kind='starc'")
    unasked = sorted(f for f in reward.needs.fields if f not in _ASKABLE)
    if unasked:
        raise Unsupported(f"{reward.name} reads {', '.join(unasked)}, which only the environment can tell; "
                          f"{kind.upper()} asks about transitions that never happened; use kind='starc'")
