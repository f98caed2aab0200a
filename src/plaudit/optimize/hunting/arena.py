"""Where hunters try candidates: one task, one reward, one count of the steps spent.

Letters: K candidates, e episodes of each, B = K * e rows, F features.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import PlauditError, Unsupported
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.core.tree import tree_map
from plaudit.optimize.behaviours import Origin, features
from plaudit.optimize.evolve.families import Lens
from plaudit.optimize.rl.spaces import ActionMap, ObsEncoder
from plaudit.tasks.arrays import ArrayTask
from plaudit.tasks.base import Batch, Task
from plaudit.tasks.policy import Policy
from plaudit.tasks.rollouts import rollout

_UNKNOWN = -1e30


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidate:
    """A behaviour that a hunter proposes, before its evaluation."""

    name: str
    origin: Origin
    policy: Policy
    effort: int
    score: float
    """The mean return that the hunter saw; NaN where unknown."""
    feature_F: Float[Tensor, "F"] | None = None
    length: float | None = None
    """Steps of an episode, as far as the hunter saw them end; None where they may last to the horizon."""
    keep: bool = False
    """Must be evaluated: a baseline, or a stage of a run that the curve needs."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Trial:
    """What K candidates earned."""

    score_K: Float[Tensor, "K"]
    """Mean returns, NaN where any episode's return is unknown."""
    rank_K: Float[Tensor, "K"]
    """The same, but unknown ones far below all others, ordered by how many of their steps are known."""
    feature_KF: Float[Tensor, "K F"]
    length_K: list[float | None]
    """Mean steps of an episode; None where one was cut."""
    episodes: Episodes


class Arena:
    """Plays candidates in batches, scores them with the reward, and counts the steps.

    Args:
        task: where to act.
        reward: what pays.
        steps: the budget; it is an error of the hunters to exceed it.
        horizon: episodes are cut after so many steps.
        seeds: the root of the search's randomness.
        batch_cost: what a step of a batch is charged beyond its rows; 0 charges only the steps that happen.
        device: where learners live; everything else is played on the CPU.
    """

    def __init__(self, task: Task, reward: Reward, *, steps: int, horizon: int, seeds: Seeds,
                 batch_cost: int = 0, device: str = "cpu") -> None:
        self.batch_cost, self.device = batch_cost, device
        self.task, self.reward, self.steps, self.horizon, self.seeds = task, reward, steps, horizon, seeds
        self.cheap = isinstance(task, ArrayTask)
        self.actions = ActionMap(task.action_space)
        self.blind = ""
        try:
            encoder = ObsEncoder(task.obs_space)
        except Unsupported as error:
            encoder, self.blind = None, str(error)
        if encoder is not None and encoder.pictures:
            encoder, self.blind = None, "what is seen are pictures, which only learners read"
        self.lens = Lens(encoder)
        self.spent = 0
        """Steps that happened."""
        self.work = 0
        """Steps as they are charged to the hunters: never less than those that happened."""
        self.ends_early = False
        """Whether random episodes mostly end before half of the horizon."""
        self._pool = _Pool(task)

    @property
    def left(self) -> int:
        """Steps that may still be spent."""
        return self.steps - self.spent

    def refocus(self, *episodes: Episodes) -> None:
        """A new lens, scaled by what these episodes saw; policies made with the old one keep it."""
        lens = Lens(self.lens.encoder)
        lens.focus(torch.cat([lens.encode(tree_map(lambda x, e=e: x[e.mask], e.next_obs)) for e in episodes]))
        self.lens = lens

    def episode_seeds(self, n: int, *path: str | int) -> list[int]:
        """Seeds of first states."""
        return self.seeds.child("episodes", *path).integers(n)

    def play(self, policy: Policy, seeds: Sequence[int], *, horizon: int | None = None) -> Episodes:
        """Episodes, counted. The worst case (every row to the horizon) must be affordable."""
        horizon = self.horizon if horizon is None else min(horizon, self.horizon)
        if len(seeds) * horizon > self.left:
            raise PlauditError(f"{len(seeds)} episodes of up to {horizon} steps do not fit into {self.left} steps")
        with torch.no_grad():
            episodes = rollout(self._pool, policy, seeds=seeds, max_steps=horizon)
        happened = int(episodes.mask.sum())
        self.charge(happened, work=self.work_of(episodes.B, episodes.T) if self.batch_cost else 0)
        return episodes

    def work_of(self, rows: int, horizon: int) -> int:
        """What so many rows are charged at most; ended rows of a batch cost as much as others, if batches cost."""
        return horizon * (rows + self.batch_cost)

    def charge(self, steps: int, *, work: int = 0) -> None:
        """Counts steps that happened, and the work that they were (at least as much)."""
        self.spent += steps
        self.work += max(steps, work)

    def score(self, episodes: Episodes, each: int) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """Returns (NaN where unknown) and the share of known steps of every row.

        A reward that reads across the batch sees the rows of one candidate at a time.
        """
        alone = self.reward.needs.across == "row"
        parts = [episodes] if alone else [episodes[i:i + each] for i in range(0, episodes.B, each)]
        scores = [self.reward.score(part) for part in parts]
        returns = torch.cat([s.returns()[0].double() for s in scores])
        known = torch.cat([(s.known & s.mask).sum(-1) / s.mask.sum(-1).clamp(min=1) for s in scores])
        return returns, known.double()

    def judge(self, policy: Policy, K: int, each: int, seeds: Sequence[int], *, horizon: int | None = None) -> Trial:
        """Plays K candidates on the same `each` first states and scores them."""
        episodes = self.play(policy, list(seeds) * K, horizon=horizon)
        returns, known = self.score(episodes, each)
        score = returns.reshape(K, each).mean(-1)
        rank = torch.where(torch.isnan(score), _UNKNOWN * (2 - known.reshape(K, each).mean(-1)), score)
        feature = features(episodes, self.lens).reshape(K, each, -1).mean(1)
        ended = (episodes.terminated.any(-1)).reshape(K, each).all(-1).tolist()
        steps = episodes.lengths.double().reshape(K, each).mean(-1).tolist()
        length = [n if end else None for n, end in zip(steps, ended, strict=True)]
        return Trial(score_K=score, rank_K=rank, feature_KF=feature, length_K=length, episodes=episodes)

    def reset_seconds(self, rows: int, n: int) -> float:
        """Wall time of beginning an episode in each of so many rows."""
        batch, seeds = self._pool.make(rows), self.episode_seeds(rows, "resets", n)
        begun = time.perf_counter()
        batch.reset(seeds)
        return time.perf_counter() - begun

    def close(self) -> None:
        """Frees the batches."""
        self._pool.close_all()


class Purse:
    """The work that one hunter may do, out of the arena's steps."""

    def __init__(self, arena: Arena, steps: int) -> None:
        self.arena, self.limit, self._before = arena, max(0, min(steps, arena.left)), arena.work

    @property
    def worked(self) -> int:
        """The work that was charged since the purse was opened."""
        return self.arena.work - self._before

    @property
    def left(self) -> int:
        return max(0, self.limit - self.worked)

    @property
    def used(self) -> float:
        """The share that is used up."""
        return self.worked / self.limit if self.limit else 1.0

    def rows(self, wanted: int, *, horizon: int, each: int = 1) -> int:
        """How many candidates of `each` episodes fit (0 to `wanted`), every row reaching the horizon."""
        return max(0, min(wanted, (self.left // horizon - self.arena.batch_cost) // each))


class _Pool(Task):
    """The same task, whose batches are kept and used again."""

    def __init__(self, task: Task) -> None:
        self.task, self.name, self.horizon = task, task.name, task.horizon
        self.obs_space, self.action_space = task.obs_space, task.action_space
        self._kept: dict[int, _Kept] = {}

    def make(self, num_envs: int, *, device: str = "cpu", render: bool = False) -> Batch:
        if num_envs not in self._kept:
            self._kept[num_envs] = _Kept(self.task.make(num_envs, device=device))
        return self._kept[num_envs]

    def close_all(self) -> None:
        for kept in self._kept.values():
            kept.batch.close()
        self._kept.clear()


class _Kept(Batch):
    """A batch that stays open."""

    def __init__(self, batch: Batch) -> None:
        self.batch, self.num_envs = batch, batch.num_envs

    def reset(self, seeds: Sequence[int]) -> Any:
        self.batch.autoreset = self.autoreset
        return self.batch.reset(seeds)

    def step(self, action: Tensor) -> Any:
        return self.batch.step(action)

    def state_dict(self) -> dict[str, Any]:
        return self.batch.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.batch.load_state_dict(state)

