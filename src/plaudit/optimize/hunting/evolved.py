"""Hunters that evolve: the cross-entropy method and random search over families of policies, and MAP-Elites."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.tree import tree_map
from plaudit.optimize.evolve.cem import AugmentedRandomSearch, CrossEntropy, Search
from plaudit.optimize.evolve.families import Family, FamilyPolicy, Lens, Network, Segments, families
from plaudit.optimize.evolve.map_elites import Archive
from plaudit.optimize.hunting.arena import Arena, Candidate, Purse, Trial

_STAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Generations after which the centre of a search is kept as a stage of the curve."""
_MANY = 20
"""Dear tasks: from so many parameters on, random search replaces the cross-entropy method."""


_SIZES = {True: ((128, 4), (64, 4), (64, 2), (32, 2), (32, 1), (16, 1)), False: ((16, 1),)}
"""Candidates and episodes of each in a generation, for cheap tasks and for dear ones."""
_GENERATIONS = 60
_GROWTH = {False: ((0.5, 0.125), (0.8, 0.35), (1.0, 1.0)), True: ((0.5, 0.25), (0.75, 0.5), (1.0, 1.0))}
"""Dear tasks: up to which share of the purse episodes have which share of the horizon; by whether they end early."""
_SHORTEST = 50
_TRIAL = 0.5
"""The share of the purse in which all families are tried; the best-paid one gets the rest."""
_SCOUT = 0.15


@dataclass(frozen=True, kw_only=True)
class Effort:
    """The size of a generation: K candidates, `each` episodes of at most `horizon` steps."""

    K: int
    each: int
    horizon: int


class Arm:
    """One search over one family, restarted when it has converged."""

    def __init__(self, arena: Arena, family: Family, index: int) -> None:
        self.arena, self.family, self.index = arena, family, index
        self.worth, self.restarts = -math.inf, 0
        self.candidates: list[Candidate] = []
        self.played: Episodes | None = None
        """The last generation."""
        self.search = self._begin()

    def _begin(self) -> Search:
        rng = self.arena.seeds.child("cem", self.index, self.restarts).numpy()
        if not self.arena.cheap and self.family.size >= _MANY and isinstance(self.family, Network):
            return AugmentedRandomSearch(self.family.size, rng=rng)
        return CrossEntropy(self.family.size, rng=rng, elite=0.15 if self.arena.cheap else 0.25)

    def generation(self, effort: Effort) -> None:
        """One generation; its stages become candidates."""
        if self.search.converged:
            self._keep(self._last)
            self.restarts += 1
            self.search = self._begin()
        number = self.search.generation
        theta = self.search.ask(effort.K)
        seeds = self.arena.episode_seeds(effort.each, "cem", self.index, self.restarts, number)
        trial = self.arena.judge(self.family.policy(theta), len(theta), effort.each, seeds, horizon=effort.horizon)
        self.played = trial.episodes
        evolving = isinstance(self.search, CrossEntropy)
        self.search.tell(theta, trial.rank_K if evolving else trial.score_K)
        top = int(trial.rank_K.argmax())
        self._last = self._candidate(theta, trial, top)
        elites = trial.rank_K.sort(descending=True).values[:max(1, len(theta) // 4)]
        self.worth = max(self.worth, float(elites.mean()))
        if self.search.generation in _STAGES:
            self._keep(self._last)

    def finish(self) -> None:
        """Keeps where the search stands now: the best of the last generation, and the centre of the search."""
        if self.search.generation:
            self._keep(self._last)
            centre = self.family.policy(self.search.mean.unsqueeze(0).clone())
            self.candidates.append(replace(self._last, name=f"{self._last.name}, centre", policy=centre))

    def _candidate(self, theta: Tensor, trial: Trial, i: int) -> Candidate:
        kind = "random search" if isinstance(self.search, AugmentedRandomSearch) else "cross-entropy"
        run = f", run {self.restarts + 1}" if self.restarts else ""
        return Candidate(name=f"{kind}, {self.family.describe}{run}, generation {self.search.generation}", origin="cem",
                         policy=self.family.policy(theta[i:i + 1].clone()), effort=self.arena.spent,
                         score=float(trial.score_K[i]), feature_F=trial.feature_KF[i],
                         length=trial.length_K[i])

    def _keep(self, candidate: Candidate) -> None:
        if not self.candidates or self.candidates[-1].policy is not candidate.policy:
            self.candidates.append(candidate)


def hunt_cem(arena: Arena, purse: Purse, seen: Sequence[Episodes] = ()) -> list[Candidate]:
    """All families for the first part of the purse; for the rest the best-paid one and, in turn, the slow networks.

    The stages of the best-paid one are kept for the curve. Where random episodes end early they show a narrow world,
    and features scaled by it would saturate: a scout, a first linear search, then says what the others will see.
    """
    scouted = _scout(arena, purse, seen) if arena.ends_early and arena.lens.size else []
    every = families(arena.lens, arena.actions, horizon=arena.horizon)
    arms = [Arm(arena, f, i) for i, f in enumerate(every) if arena.cheap or _worth_its_steps(f)]
    begun = purse.used
    for i, arm in enumerate(arms):
        until = begun + (_TRIAL - begun) * (i + 1) / len(arms)
        while purse.used < until and (effort := _effort(arena, purse)) is not None:
            arm.generation(effort)
    order = sorted(arms, key=lambda a: -a.worth)
    late = [order[0], *(a for a in order[1:] if getattr(a.family, "hidden", 0))]
    turn = 0
    while (effort := _effort(arena, purse)) is not None:
        late[turn % len(late)].generation(effort)
        turn += 1
    for arm in arms:
        arm.finish()
    order.sort(key=lambda a: -a.worth)
    first = [replace(c, keep=True) for c in _first_run(order[0].candidates)]
    return [*first, *order[0].candidates[len(first):], *(c for arm in order[1:] for c in arm.candidates), *scouted]


def _worth_its_steps(family: Family) -> bool:
    """Dear tasks are searched by fewer families: linear policies, and open loops that suit the actions."""
    if isinstance(family, Network):
        return not family.hidden
    return not (isinstance(family, Segments) and family.actions.choices is None)


def _scout(arena: Arena, purse: Purse, seen: Sequence[Episodes]) -> list[Candidate]:
    """A short linear search whose episodes set the arena's lens anew."""
    arm = Arm(arena, Network(arena.lens, arena.actions), -1)
    while purse.used < _SCOUT and (effort := _effort(arena, purse)) is not None:
        arm.generation(effort)
    arm.finish()
    if arm.played is not None:
        arena.refocus(*seen, arm.played)
    return [replace(c, name=f"scout, {c.name}") for c in arm.candidates]


def _first_run(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The stages before the first restart."""
    return [c for c in candidates if ", run " not in c.name]


def _effort(arena: Arena, purse: Purse) -> Effort | None:
    """The size of the next generation, or None where the purse is too small for one.

    The largest size of which the whole purse pays for many generations, or for more than half as many as of the
    smallest (where batches cost more than rows, small ones save little).
    """
    horizon, sizes = _reach(arena, purse), _SIZES[arena.cheap]
    count = {s: purse.limit / arena.work_of(s[0] * s[1], horizon) for s in sizes}
    enough = min(_GENERATIONS, 0.6 * count[sizes[-1]])
    K, each = next(s for s in sizes if count[s] >= enough)
    rows = purse.rows(K, horizon=horizon, each=each)
    return Effort(K=rows - rows % 2, each=each, horizon=horizon) if rows >= min(K, 8) else None


def _reach(arena: Arena, purse: Purse) -> int:
    """How long the episodes of a generation are: on dear tasks short ones first, so that there are more generations."""
    if arena.cheap or arena.reward.needs.time == "episode":
        return arena.horizon
    share = next(share for until, share in _GROWTH[arena.ends_early] if purse.used < until or until == 1.0)
    return min(arena.horizon, max(_SHORTEST, math.ceil(arena.horizon * share)))


# --- quality-diversity ---------------------------------------------------------------------------------------


class Descriptor:
    """What tells behaviours apart without knowing the task: where two principal features go, and for how long.

    The principal features are those of what random and scripted behaviour has seen. The third number is the length of
    the episode where episodes end early, else how much the first feature moves about.
    """

    def __init__(self, lens: Lens, episodes: Sequence[Episodes], horizon: int) -> None:
        self.lens, self.horizon = lens, horizon
        seen = torch.cat([lens(tree_map(lambda x, e=e: x[e.mask], e.next_obs)) for e in episodes]).double()
        _, _, axes = torch.linalg.svd(seen[:: max(1, len(seen) // 5000)] - seen.mean(0), full_matrices=False)
        self.axes = axes[:2].float()
        signs = self.axes.gather(1, self.axes.abs().argmax(1, keepdim=True)).sign()
        self.axes = self.axes * signs
        lengths = torch.cat([e.lengths for e in episodes])
        self.ends_early = bool((lengths < horizon).float().mean() > 0.02)

    @property
    def bins(self) -> tuple[int, ...]:
        """Cells along each descriptor."""
        return (8,) * len(self.axes) + (8,)

    def __call__(self, episodes: Episodes, each: int) -> Tensor:
        """[K, M], the mean over the rows of each candidate."""
        flat = tree_map(lambda x: x.reshape(-1, *x.shape[2:]), episodes.next_obs)
        z = (self.lens(flat) @ self.axes.T).reshape(episodes.B, episodes.T, -1)
        mask, steps = episodes.mask.unsqueeze(-1), episodes.lengths.clamp(min=1).unsqueeze(-1)
        mean = torch.where(mask, z, 0.0).sum(1) / steps
        spread = (torch.where(mask, z - mean.unsqueeze(1), 0.0).square().sum(1) / steps).sqrt()
        third = steps / self.horizon if self.ends_early else spread[:, :1]
        return torch.cat([mean, third], -1).reshape(-1, each, mean.shape[1] + 1).mean(1)


def hunt_qd(arena: Arena, purse: Purse, episodes: Sequence[Episodes], *, known: Sequence[Candidate] = (),
            most: int = 24) -> list[Candidate]:
    """MAP-Elites over linear policies; gives the best and, of the rest, those that differ in pay and place.

    It begins with the linear policies among the `known` candidates that see through the same lens.
    """
    if not arena.lens.size:
        return []
    family = Network(arena.lens, arena.actions)
    describe = Descriptor(arena.lens, episodes, arena.horizon)
    archive = Archive(family.size, bins=describe.bins, rng=arena.seeds.child("qd").numpy())
    found: dict[int, Candidate] = {}
    number, seeds_SN = 0, _same_family(known, family)
    while (effort := _effort(arena, purse)) is not None:
        theta = archive.ask(effort.K)
        if number == 0 and seeds_SN:
            first = torch.cat(seeds_SN)[:effort.K // 2]
            theta[:len(first)] = first
        seeds = arena.episode_seeds(effort.each, "qd", number)
        trial = arena.judge(family.policy(theta), len(theta), effort.each, seeds, horizon=effort.horizon)
        place = describe(trial.episodes, effort.each)
        entered = archive.tell(theta, trial.score_K, descriptor_KM=place)
        cells = archive.cell(place).tolist()
        number += 1
        for i in entered.nonzero()[:, 0].tolist():
            found[cells[i]] = Candidate(
                name=f"one of many ways, cell {cells[i]}", origin="qd", policy=family.policy(theta[i:i + 1].clone()),
                effort=arena.spent, score=float(trial.score_K[i]), feature_F=trial.feature_KF[i],
                length=trial.length_K[i])
    ordered = sorted(found.values(), key=lambda c: -c.score)
    return ordered[:most // 2] + ordered[most // 2::max(1, len(ordered) // (most // 2))][:most - most // 2]


def _same_family(candidates: Sequence[Candidate], family: Network) -> list[Tensor]:
    """The parameters [1, N] of linear policies that see through the same lens, best-paid first."""
    own = [(c.score, c.policy.theta_KN) for c in candidates if isinstance(c.policy, FamilyPolicy)
           and isinstance(c.policy.family, Network) and c.policy.family.hidden == family.hidden
           and c.policy.family.lens is family.lens and not math.isnan(c.score)]
    return [theta for _, theta in sorted(own, key=lambda pair: -pair[0])]
