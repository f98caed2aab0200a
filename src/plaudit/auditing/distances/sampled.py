"""Distances between rewards on tasks too large to write out: STARC, EPIC and DARD from sampled transitions.

Expectations become means over the transitions of a random policy (or of episodes that the caller brings), L2
norms root mean squares, and the interval a bootstrap over stretches of episodes. Sampled canonical rewards
carry noise, which a norm can only add up: so every distance comes with its floor, the distance that the
reference has to itself when its canonical form is estimated twice from independent samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import gymnasium
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.auditing.distances.basis import (
    Basis,
    blocks,
    flat,
    one_hot,
    solve_potential,
    solve_regression,
    solve_values,
)
from plaudit.auditing.distances.resampled import Model, Resampled, canonical_by_resampling
from plaudit.core.algebra import as_reward
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, UnknownReward, Unsupported
from plaudit.core.intervals import Interval
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import bootstrap, percentile_interval
from plaudit.core.tree import tree_map
from plaudit.tasks.base import Task
from plaudit.tasks.making import make
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout

Kind = Literal["starc", "epic", "dard"]
SampledCanonical = Literal["auto", "val", "minimal"]
Dynamics = Literal["auto", "deterministic", "stochastic"]
TRIVIAL = 1e-4
"""A sampled canonical reward this small beside its reward is noise: it orders no policies."""
_ROUNDING = 1e-12
_FOLDS = 3
_BLOCK = 32
_REDRAWN, _AT_ONCE = 1000, 100
"""How many bootstrap samples an interval takes, and how many of EPIC and DARD are held at once."""
_TWINS = 8
"""Over how many pairs of independent estimates the floor of EPIC and DARD is averaged."""


@dataclass(frozen=True, kw_only=True)
class Distance:
    """A sampled distance: `value` in [0, 2] for STARC, [0, 1] for EPIC and DARD.

    Example:
        >>> d = Distance(value=1.25, interval=Interval(1.25, 1.11, 1.38, 60), floor=0.02, samples=2000, kind="starc")
        >>> print(d)
        starc 1.25 [1.11, 1.38], floor 0.020, 2000 transitions
    """

    value: float
    interval: Interval
    """From resampling stretches of episodes and, for EPIC and DARD, the actions and states of their means. It does
    not cover what is fitted: values (the floor shows those) and dynamics (see `model_r2`)."""
    floor: float
    """The distance of the reference to itself, its canonical form estimated twice independently; 0 for DARD where
    its means are over all actions."""
    samples: int
    """Transitions over which the rewards were compared."""
    kind: Kind
    unknown: int = 0
    """Transitions left out because one of the two rewards was unknown there."""
    model_r2: float | None = None
    """For DARD without a given model: how much of the change of the observation the fitted dynamics explain."""

    def __str__(self) -> str:
        lost = f", {self.unknown} unknown" if self.unknown else ""
        return f"{self.kind} {self.interval}, floor {self.floor:.3f}, {self.samples} transitions{lost}"


def distance(reward: Reward | Callable[..., Any], reference: Reward | Callable[..., Any], task: Task | str, *,
             kind: Kind = "starc", samples: int = 10_000, seed: int = 0, discount: float = 0.99,
             canonical: SampledCanonical = "auto", episodes: Episodes | None = None, dynamics: Dynamics = "auto",
             model: Model | None = None, mean_samples: int | None = None) -> Distance:
    """How far a reward can lead from a reference on a task.

    Args:
        reward: the one in doubt; a Reward or a function.
        reference: the one that is meant.
        task: where both are compared, or a Gymnasium id.
        kind: `starc` with L2 norm and metric; `epic` and `dard` in their Pearson form sqrt((1 - r) / 2).
        samples: random transitions to draw. EPIC and DARD compare over at most 1,024 of them.
        seed: of everything random.
        discount: in [0, 1).
        canonical: of STARC: `val` (the value of the random policy, by least-squares temporal differences on
            fixed features), `minimal` (the least norm over potentials in the span of the features: less
            noise, deterministic dynamics only), or `auto`: `minimal` where it can be.
        episodes: transitions to compare over besides the random ones, such as those of trained agents;
            values are fitted to random ones only.
        dynamics: whether s' is a function of (s, a). If `stochastic`, the mean over s' is a
            regression on (s, a); `auto` asks the task and otherwise takes it as deterministic.
        model: of `dard`; fitted by regression where none is given.
        mean_samples: of `epic` and `dard`: how many (A, S') or A each mean is taken over (128 and 32); DARD
            takes all actions where they are no more than that.

    Raises:
        BadInput: for a discount outside [0, 1) or unknown names.
        Unsupported: when EPIC or DARD meet a reward that cannot be asked about transitions that never happened.
        UnknownReward: when fewer than 100 transitions are known to both.

    Example:
        >>> import plaudit
        >>> from plaudit.tasks.classic import Pendulum
        >>> upright = plaudit.reward(lambda next_obs: next_obs[..., 0])
        >>> d = distance(-1.0 * upright, upright, Pendulum(), samples=1000)
        >>> round(d.value, 6)
        2.0
    """
    return distances([reward], reference, task, kind=kind, samples=samples, seed=seed, discount=discount,
                     canonical=canonical, episodes=episodes, dynamics=dynamics, model=model,
                     mean_samples=mean_samples)[0]


def distances(rewards: Sequence[Reward | Callable[..., Any]], reference: Reward | Callable[..., Any],
              task: Task | str, *, kind: Kind = "starc", samples: int = 10_000, seed: int = 0, discount: float = 0.99,
              canonical: SampledCanonical = "auto", episodes: Episodes | None = None,
              dynamics: Dynamics = "auto", model: Model | None = None,
              mean_samples: int | None = None) -> list[Distance]:
    """`distance` of several rewards to one reference, over the same transitions."""
    if not 0 <= discount < 1:
        raise BadInput("discount", expected="a number in [0, 1)", received=discount)
    for name, value, options in (("kind", kind, Kind), ("dynamics", dynamics, Dynamics),
                                 ("canonical", canonical, SampledCanonical)):
        if value not in get_args(options):
            raise BadInput(name, expected=f"one of {get_args(options)}", received=value)
    everyone = [as_reward(r) for r in (reference, *rewards)]
    if isinstance(task, str):
        task = make(task)
    seeds = Seeds(seed)
    drawn = random_episodes(task, samples, seed=seeds.child("episodes").integer())
    if kind == "starc":
        noisy = dynamics == "stochastic" or (dynamics == "auto" and getattr(task, "step_dims", 0) > 0)
        method = ("val" if noisy else "minimal") if canonical == "auto" else canonical
        if noisy and method == "minimal":
            raise Unsupported("canonical='minimal' cannot average over random next states; use canonical='val'")
        sample = _Sample.of(drawn, everyone, task, seeds, noisy=noisy, extra=episodes, discount=discount)
        values, twin = sample.canonical(method)
        return [_compare(values, i + 1, twin, sample.block, kind) for i in range(len(rewards))]
    pool = drawn if episodes is None else Episodes.cat([drawn, _alike(episodes, drawn)])
    parts = canonical_by_resampling(everyone, drawn, pool, task, kind=kind, discount=discount, seeds=seeds,
                                               model=model, mean_samples=mean_samples)
    return [_compare_resampled(parts, i + 1, kind) for i in range(len(rewards))]


def random_episodes(task: Task, samples: int, *, seed: int) -> Episodes:
    """Episodes of a random policy with at least `samples` transitions, from 16 first states or more."""
    if samples < 100:
        raise BadInput("samples", expected="at least 100", received=samples)
    seeds = Seeds(seed)
    limit = min(task.horizon, max(_BLOCK, samples // 16))
    rows = max(16, -(-samples // limit))
    parts, total = [], 0
    while total < samples:
        chunk = seeds.child("chunk", len(parts))
        policy = RandomPolicy(task.action_space, seeds=chunk.child("actions").integers(rows))
        parts.append(rollout(task, policy, seeds=chunk.child("resets").integers(rows), max_steps=limit))
        total += int(parts[-1].mask.sum())
        rows = min(512, max(16, round(rows * (samples - total) / total))) if total < samples else rows
    return parts[0] if len(parts) == 1 else Episodes.cat(parts)


# --- STARC -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class _Sample:
    """Flat transitions with their features, the rewards of all, and which of three folds each belongs to."""

    here: Float[Tensor, "N D"]
    there: Float[Tensor, "N D"]
    """0 where the episode terminated."""
    pair: Float[Tensor, "N E"] | None
    """Features of state and action together, where the next state is random."""
    reward: Float[Tensor, "N R"]
    fold: Tensor
    """[N], -1 for transitions that are compared over but not fitted to."""
    block: Tensor
    discount: float

    @staticmethod
    def of(drawn: Episodes, rewards: Sequence[Reward], task: Task, seeds: Seeds, *, noisy: bool,
           extra: Episodes | None, discount: float) -> _Sample:
        batches = [drawn] if extra is None else [drawn, _alike(extra, drawn)]
        reward = torch.cat([torch.stack([_scores(r, b) for r in rewards], -1) for b in batches])
        flats = [b.transitions() for b in batches]
        fold = torch.cat([_fold_of(drawn), *[torch.full((int(b.mask.sum()),), -1) for b in batches[1:]]])
        obs, next_obs = (torch.cat([flat(tree_map(lambda x: x[:, 0], getattr(b, f))) for b in flats])
                         for f in ("obs", "next_obs"))
        going_on = (~torch.cat([b.terminated[:, 0] for b in flats])).double().unsqueeze(-1)
        states = int(task.obs_space.n) if isinstance(task.obs_space, gymnasium.spaces.Discrete) else 0
        basis = Basis.fit(obs[fold >= 0], generator=seeds.child("basis").torch(), classes=states)
        pair = None
        if noisy:
            plain = torch.nn.functional.one_hot(obs[:, 0].long(), states).double() if states else obs
            both = torch.cat([plain, one_hot(torch.cat([b.action[:, 0] for b in flats]), task.action_space)], -1)
            pair = Basis.fit(both[fold >= 0], generator=seeds.child("pair basis").torch())(both)
        return _Sample(here=basis(obs), there=basis(next_obs) * going_on, pair=pair, reward=reward, fold=fold,
                       block=_blocks_of(batches), discount=discount)

    def canonical(self, kind: Literal["val", "minimal"]) -> tuple[Tensor, Tensor]:
        """Canonical rewards [N, R], each from the folds it is not in; and two independent ones of the first, [N, 2].

        NaN where a reward is unknown.
        """
        out, twin = torch.full_like(self.reward, torch.nan), torch.full_like(self.reward[:, :2], torch.nan)
        for k in range(-1, _FOLDS):
            where = self.fold == k
            if not bool(where.any()):
                continue
            for r in range(self.reward.shape[-1]):
                out[where, r] = self._shaped(kind, (self.fold >= 0) & (self.fold != k), where, r)
            for column, j in enumerate([j for j in range(_FOLDS) if j != k][:2]):
                twin[where, column] = self._shaped(kind, self.fold == j, where, 0)
        return self._without_trivial(out), self._without_trivial(twin, of=0)

    def _shaped(self, kind: str, fit: Tensor, where: Tensor, r: int) -> Float[Tensor, "n"]:
        """One reward over `where`, made canonical with what was fitted on `fit`."""
        known = torch.isfinite(self.reward[:, r])
        fit = fit & known
        if not bool(fit.any()):
            return torch.full((int(where.sum()),), torch.nan, dtype=torch.float64)
        solve = solve_values if kind == "val" else solve_potential
        w = solve(self.here[fit], self.there[fit], self.reward[fit, r: r + 1], discount=self.discount)
        shaped = self.reward[:, r] + ((self.discount * self.there - self.here) @ w)[:, 0]
        if self.pair is None:
            return shaped[where]
        mean = self.pair[where] @ solve_regression(self.pair[fit], shaped[fit].unsqueeze(-1))
        return torch.where(known[where], mean[:, 0], torch.nan)

    def _without_trivial(self, values: Tensor, *, of: int | None = None) -> Tensor:
        """Sets to 0 what is small beside the reward it came from."""
        reward = self.reward if of is None else self.reward[:, of: of + 1].expand_as(values)
        size, scale = _rms(values), _rms(reward)
        return torch.where((size <= TRIVIAL * scale) & torch.isfinite(values), 0.0, values)


def _scores(reward: Reward, episodes: Episodes) -> Float[Tensor, "N"]:
    """The reward of every step that happened, NaN where unknown."""
    score = reward.score(episodes)
    return torch.where(score.known, score.value.double(), torch.nan)[episodes.mask]


def _alike(extra: Episodes, drawn: Episodes) -> Episodes:
    """Brought episodes with the fields of the drawn ones, so that the two can stand side by side."""
    shared = {k: v for k, v in extra.info.items() if k in drawn.info}
    missing = {k: torch.zeros((*extra.mask.shape, *v.shape[2:]), dtype=v.dtype) for k, v in drawn.info.items()
               if k not in shared}
    return extra.replace(info={k: {**shared, **missing}[k] for k in drawn.info}, group=None, agent=None, member=None)


def _fold_of(episodes: Episodes) -> Tensor:
    """Whole episodes fall into one of three folds, in turn."""
    row = torch.arange(episodes.B)[:, None].expand(episodes.mask.shape)[episodes.mask]
    return row % _FOLDS


def _blocks_of(batches: Sequence[Episodes]) -> Tensor:
    parts, first = [], 0
    for batch in batches:
        parts.append(blocks(batch.mask, _BLOCK) + first)
        first = int(parts[-1].max()) + 1 if len(parts[-1]) else first
    return torch.cat(parts)


def _rms(x: Float[Tensor, "N R"]) -> Float[Tensor, "R"]:
    return x.square().nanmean(0).sqrt()


# --- comparing -------------------------------------------------------------------------------------------


def _compare(values: Float[Tensor, "N R"], index: int, twin: Float[Tensor, "N 2"], block: Tensor,
             kind: Kind) -> Distance:
    pair = torch.stack([values[:, 0], values[:, index]], -1)
    known = _known_to_both(pair)
    sums = _block_sums(pair[known], block[known])
    interval = bootstrap(lambda sets: _chord(sets.sum(1)), sums, seed=0, n=_REDRAWN, vectorised=True)
    same = torch.isfinite(twin).all(-1)
    floor = float(_chord(_block_sums(twin[same], block[same]).sum(0)[None])[0]) if bool(same.any()) else float("nan")
    return _distance(interval, 2.0, floor=floor, known=known, kind=kind)


def _compare_resampled(parts: Resampled, index: int, kind: Kind) -> Distance:
    """EPIC and DARD: what is redrawn for the interval are stretches of episodes and the columns of the means."""
    pair = parts.values[:, [0, index]]
    known = _known_to_both(pair)
    block = torch.unique(parts.block[known], return_inverse=True)[1]
    value = float(_pearson(_block_sums(pair[known], block).sum(0)[None])[0])
    rng = np.random.default_rng(0)
    n, M = int(block.max()) + 1, parts.terms.shape[1]
    drawn = []
    for _ in range(0, _REDRAWN, _AT_ONCE):
        rows = torch.from_numpy(rng.multinomial(n, np.full(n, 1 / n), size=_AT_ONCE).T)[block].double()
        columns = np.ones((_AT_ONCE, M)) if parts.again is None else \
            rng.multinomial(M, np.full(M, 1 / M), size=_AT_ONCE)
        x, y = parts.pair(index, torch.from_numpy(columns.T).double())[:, known]
        drawn.append(_pearson(_weighted_sums(x, y, rows)))
    least = n if parts.again is None else min(n, M)
    interval = percentile_interval(value, np.concatenate(drawn), n=least)
    twins = [t[torch.isfinite(t).all(-1)] for t in parts.twins(_TWINS)]
    squares = [float(_pearson(_block_sums(t, torch.zeros(len(t), dtype=torch.long)))[0]) ** 2 for t in twins if len(t)]
    floor = float(np.sqrt(np.mean(squares))) if squares else float("nan")
    return _distance(interval, 1.0, floor=floor, known=known, kind=kind, model_r2=parts.model_r2)


def _known_to_both(pair: Float[Tensor, "N 2"]) -> Tensor:
    known = torch.isfinite(pair).all(-1)
    if int(known.sum()) < 100:
        raise UnknownReward(f"only {int(known.sum())} of {len(known)} transitions are known to both rewards; at least "
                            "100 are needed: check both with plaudit.check, or draw more samples")
    return known


def _distance(interval: Interval, most: float, *, floor: float, known: Tensor, kind: Kind,
              model_r2: float | None = None) -> Distance:
    value = interval.mean
    return Distance(value=value, interval=Interval(value, max(0.0, interval.low), min(most, interval.high), interval.n),
                    floor=floor, samples=int(known.sum()), kind=kind, unknown=int((~known).sum()), model_r2=model_r2)


def _weighted_sums(x: Float[Tensor, "N K"], y: Float[Tensor, "N K"], weight: Float[Tensor, "N K"]) -> np.ndarray:
    """[K, 6]: the sums of `_block_sums` over rows that count so many times; rows unknown in one of K count 0."""
    known = torch.isfinite(x) & torch.isfinite(y)
    weight = torch.where(known, weight, 0.0)
    count = weight.sum(0)
    parts = []
    for z in (x, y):
        z = torch.where(known, z, 0.0)
        z = z - (weight * z).sum(0) / count
        size = ((weight * z * z).sum(0) / count).sqrt()
        parts.append(z / torch.where(size > 0, size, 1.0))
    x, y = parts
    columns = [torch.ones_like(x), x, y, x * x, y * y, (x - y) ** 2]
    return torch.stack([(weight * c).sum(0) for c in columns], -1).numpy()


def _block_sums(pair: Float[Tensor, "N 2"], block: Tensor) -> np.ndarray:
    """[blocks, 6]: count, x, y, x^2, y^2, (x - y)^2, summed in each block; x and y scaled to mean square 1."""
    x, y = pair.unbind(-1)
    size_x, size_y = x.square().mean().sqrt(), y.square().mean().sqrt()
    x, y = x / torch.where(size_x > 0, size_x, 1.0), y / torch.where(size_y > 0, size_y, 1.0)
    columns = torch.stack([torch.ones_like(x), x, y, x * x, y * y, (x - y) ** 2], -1)
    index = torch.unique(block, return_inverse=True)[1]
    return columns.new_zeros(int(index.max()) + 1, 6).index_add_(0, index, columns).numpy()


def _chord(sums: np.ndarray) -> np.ndarray:
    """||x/|x| - y/|y||| from sums [R, 6]; 1 where one of them is 0 everywhere, 0 where both are.

    By |x - y|^2 = (|x| - |y|)^2 + |x||y| d^2, which keeps its precision where d is small.
    """
    return _unit_distance(sums[:, 0], sums[:, 3], sums[:, 4], sums[:, 5], trivial=1.0)


def _pearson(sums: np.ndarray) -> np.ndarray:
    """sqrt((1 - r) / 2): half the chord of what is left after centring."""
    n, x, y, xx, yy, apart = sums.T
    centred = apart - (x - y) ** 2 / n
    return _unit_distance(n, xx - x * x / n, yy - y * y / n, centred, trivial=2**0.5) / 2


def _unit_distance(n: np.ndarray, xx: np.ndarray, yy: np.ndarray, apart: np.ndarray, *,
                   trivial: float) -> np.ndarray:
    none_x, none_y = xx <= _ROUNDING * n, yy <= _ROUNDING * n
    size = np.sqrt(np.where(none_x, 1.0, xx)), np.sqrt(np.where(none_y, 1.0, yy))
    squared = np.maximum(apart - (size[0] - size[1]) ** 2, 0.0) / (size[0] * size[1])
    return np.where(none_x & none_y, 0.0, np.where(none_x | none_y, trivial, np.sqrt(squared)))
