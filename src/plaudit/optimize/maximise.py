"""The auditor's engine: what behaviours does a reward pay for, when something really tries?"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from plaudit.core.devices import check_device
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.jobs import Kept, one_thread
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.optimize.behaviours import Behaviour, Budget, Found, Origin, distinct, features
from plaudit.optimize.hunting.arena import Arena, Candidate, Purse
from plaudit.optimize.hunting.evolved import hunt_cem, hunt_qd
from plaudit.optimize.hunting.learnt import hunt_ppo
from plaudit.optimize.hunting.plan import (
    FEW,
    FEWEST_EPISODES,
    LONGEST,
    OPTIMISERS,
    SHARES,
    chosen,
    divide,
    in_steps,
    kind_of,
    typical,
)
from plaudit.optimize.hunting.planned import hunt_planned
from plaudit.optimize.hunting.simple import hunt_random, hunt_scripted
from plaudit.optimize.scripted import Together
from plaudit.tasks.base import Task
from plaudit.tasks.tabular import TabularMDP

if TYPE_CHECKING:
    from plaudit.core.cluster import Cluster

__all__ = ["OPTIMISERS", "SHARES", "Behaviour", "Budget", "Found", "maximise", "measure"]

log = logging.getLogger(__name__)
Progress = Callable[[float, str], None]

_MOST = 60
"""At most so many behaviours are returned."""
_ENOUGH = 24
"""The evaluation is sized so that so many behaviours can be evaluated; episodes are given up for that."""
_ROWS = {True: 512, False: 16}


def maximise(reward: Reward, task: Task, budget: Budget | int, *, seed: int = 0, discount: float = 0.99,
             episodes: int = 8, tabular: TabularMDP | None = None, optimisers: Sequence[str] | None = None,
             on_progress: Progress | None = None, horizon: int | None = None,
             ray: Cluster | str | bool | None = None, device: str = "cpu", kept: Kept | None = None) -> Found:
    """Searches for behaviours that a reward pays well, by all means that the budget and the reward allow.

    Random and simple scripted behaviour, PPO, the cross-entropy method, quality-diversity and (where the decision
    process is written out) exact planning share one budget of environment steps by a fixed table. All behaviours
    are then evaluated on the same first states. A reward of whole episodes or of the past is given only to
    optimisers that honour it; `Found.config["left_out"]` says which were not used, and why.

    What pays is the sum over the episode, without discount; `discount` is that of the learners and plans. A
    behaviour whose return is unknown in some episode is kept apart: it comes last, never as a zero.

    Args:
        reward: what is maximised.
        task: where.
        budget: steps, or `Budget.of(seconds=...)`. Seconds are turned into steps once, by timing the task, the
            reward and a learner's update; `Found.budget` holds the outcome, which repeats the search bit for bit.
        seed: the root of all randomness.
        discount: of the learners, in [0, 1).
        episodes: evaluation episodes of each behaviour, at most; fewer (down to 3) where the budget is small.
        tabular: the exact process with this reward; the task must have `index(obs)`.
        optimisers: names out of `OPTIMISERS`; None takes all that fit.
        on_progress: called with the share done in [0, 1] and a few words.
        horizon: episodes are cut after so many steps (the task's own limit, at most 1000, by default).
        ray: sends PPO and the evolving optimisers to workers, with the same numbers; as for
            `plaudit.core.jobs.run_jobs`.
        device: where PPO's networks and environments live; all else is searched and evaluated on the CPU.
        kept: what PPO and evolution brought is kept there, and found again by a search with the same arguments.

    Returns:
        Found: at most 60 behaviours, best-paid first, among them random behaviour, standing still and the stages of
        the best runs. Never more than `budget` steps are spent (the timing of a budget in seconds is extra:
        `config["measured"]["probe_steps"]`).

    Raises:
        BadInput: when an argument is out of range, or the budget is too small for a single evaluation.
        Unsupported: when the action space is neither choices nor a box; with `ray` or `kept`, when the task or the
            reward cannot be written down, or the reward changes while it is asked.

    Example:
        >>> from plaudit.core.functions import reward
        >>> from plaudit.tasks.classic import CartPole
        >>> right = reward(lambda next_obs: (next_obs[..., 0] > 1.0).float(), name="right")
        >>> found = maximise(right, CartPole(horizon=100), 400_000, optimisers=["random", "scripted", "cem"])
        >>> found.steps <= 400_000, found.best.paid(right) > 10
        (True, True)
    """
    _check(discount, episodes, horizon)
    device = check_device(device)
    budget = Budget.of(budget)
    if reward.needs.state != "none":
        reward = copy.deepcopy(reward)
    names, left_out = chosen(reward.needs, optimisers, tabular=tabular is not None)
    cut = min(task.horizon, LONGEST if horizon is None else horizon)
    begun = time.perf_counter()
    say = on_progress or (lambda done, text: None)
    say(0.0, "timing the task")
    kind = kind_of(task, planned="planned" in names)
    budget, measured = in_steps(budget, task, reward, names=names, horizon=cut, seed=seed, kind=kind)
    assert budget.steps is not None and budget.rl_cost is not None
    arena = Arena(task, reward, steps=budget.steps, horizon=cut, seeds=Seeds(seed).child("maximise"),
                  batch_cost=budget.batch_cost, device=device)
    plan = divide(budget.steps, names, kind=kind, rl_cost=budget.rl_cost)
    arena.horizon = _affordable_horizon(plan["evaluate"], min(episodes, FEWEST_EPISODES), cut)
    search = Search(arena, plan, names, left_out, discount=discount, tabular=tabular, say=say)
    try:
        with one_thread():  # a sum over two threads may differ in its last bit
            search.go(ray, kept)
            behaviours, each = search.evaluate(episodes)
    finally:
        arena.close()
    say(1.0, "done")
    config: dict[str, Any] = {
        "task": task.name, "reward": reward.name, "seed": seed, "discount": discount, "episodes": each,
        "episode_seeds": arena.episode_seeds(each, "evaluate"), "horizon": arena.horizon, "kind": kind,
        "shares": SHARES[kind], "planned_steps": plan, "left_out": left_out, "measured": measured,
        "candidates": len(search.candidates), "seconds": round(time.perf_counter() - begun, 2)}
    return Found(behaviours=behaviours, reward=reward, steps=arena.spent, plan=search.spent, budget=budget,
                 config=config)


def measure(reward: Reward, task: Task, seconds: float, *, seed: int = 0, discount: float = 0.99,
            tabular: bool = False, optimisers: Sequence[str] | None = None, horizon: int | None = None) -> Budget:
    """Turns seconds into steps once, for a caller who divides one budget among several searches.

    Returns:
        A Budget in steps, with the measured cost of a learner's step.
    """
    names, _ = chosen(reward.needs, optimisers, tabular=tabular)
    cut = min(task.horizon, LONGEST if horizon is None else horizon)
    kind = kind_of(task, planned="planned" in names)
    return in_steps(Budget.of(seconds=seconds), task, reward, names=names, horizon=cut, seed=seed, kind=kind)[0]


def longest_episodes(reward: Reward, task: Task, budget: Budget, *, episodes: int = 8, tabular: bool = False,
                     optimisers: Sequence[str] | None = None, horizon: int | None = None) -> int:
    """After how many steps a search with a budget in steps cuts its episodes, so that it can evaluate what it finds.

    For a caller who compares what several searches found: pass the smallest as the `horizon` of all.

    Raises:
        BadInput: when the budget is too small for a single evaluation.

    Example:
        >>> from plaudit.core.algebra import Constant
        >>> from plaudit.tasks.making import make
        >>> longest_episodes(Constant(1.0), make("Pendulum-v1", native=False), Budget.of(20_000))
        200
        >>> longest_episodes(Constant(1.0), make("Pendulum-v1", native=False), Budget.of(8_000))
        127
    """
    names, _ = chosen(reward.needs, optimisers, tabular=tabular)
    kind = kind_of(task, planned="planned" in names)
    assert budget.steps is not None
    plan = divide(budget.steps, names, kind=kind, rl_cost=typical(budget.steps, kind, rl_cost=budget.rl_cost).rl_cost
                  or 1.0)
    cut = min(task.horizon, LONGEST if horizon is None else horizon)
    return _affordable_horizon(plan["evaluate"], min(episodes, FEWEST_EPISODES), cut)


class Search:
    """One search: who was sent out, what they brought, what they spent."""

    def __init__(self, arena: Arena, plan: dict[str, int], names: Sequence[str], left_out: dict[str, str], *,
                 discount: float, tabular: TabularMDP | None, say: Progress) -> None:
        self.arena, self.plan, self.names, self.left_out = arena, plan, names, left_out
        self.discount, self.tabular, self.say = discount, tabular, say
        self.candidates: list[Candidate] = []
        self.seen: list[Episodes] = []
        self.spent: dict[str, int] = {}
        self.saved = 0

    def go(self, ray: Cluster | str | bool | None, kept: Kept | None) -> None:
        """Hunts in this process or on workers; what is finished is kept, where something keeps it."""
        from plaudit.optimize.hunting import branches

        if ray is not None and ray is not False:
            branches.hunt_on_ray(self, ray, kept)
        elif kept is not None:
            branches.hunt_kept(self, kept)
        else:
            self.hunt()

    def hunt(self) -> None:
        """Sends the hunters out, one after the other; plain steps that one does not need flow on to the next."""
        for name in OPTIMISERS:
            self.send_out(name)

    def send_out(self, name: str) -> None:
        """Sends one hunter out, if it was chosen (random behaviour always is)."""
        if name not in self.names and name != "random":
            return
        hunters: dict[str, Callable[[Purse], list[Candidate]]] = {
            "random": self._random, "scripted": self._scripted, "planned": self._planned, "ppo": self._ppo,
            "cem": lambda purse: hunt_cem(self.arena, purse, self.seen),
            "qd": lambda purse: hunt_qd(self.arena, purse, self.seen, known=self.candidates)}
        total, purse, before = max(1, sum(self.plan.values())), self.purse(name), self.arena.spent
        self.say(min(0.95, self.arena.spent / total), {"planned": "planning"}.get(name, f"searching by {name}"))
        try:
            self.candidates += hunters[name](purse)
        except PlauditError as error:
            if name == "random":
                raise
            self.left_out[name] = str(error)
            log.info("%s left out: %s", name, error)
        self.spent[name] = self.arena.spent - before
        self.saved = max(0, self.plan.get(name, 0) + self.saved - purse.worked)

    def purse(self, name: str) -> Purse:
        """What a hunter may spend now."""
        extra = self.saved if name in ("cem", "qd") else 0
        return Purse(self.arena, min(self.plan.get(name, 0) + extra, self.arena.left - self._reserve(name)))

    def book(self, name: str, steps: int) -> None:
        """Counts the steps of a hunter that is out elsewhere."""
        self.arena.charge(steps)
        self.saved = max(0, self.plan.get(name, 0) + self.saved - steps)

    def _reserve(self, name: str) -> int:
        """What later hunters and the evaluation have been promised."""
        later = OPTIMISERS[OPTIMISERS.index(name) + 1:]
        return self.plan["evaluate"] + sum(self.plan.get(n, 0) for n in later)

    def _random(self, purse: Purse) -> list[Candidate]:
        if purse.left < 1:
            purse = Purse(self.arena, max(1, self.arena.left // 100))
        found, episodes = hunt_random(self.arena, purse)
        self.seen.append(episodes)
        return found

    def _scripted(self, purse: Purse) -> list[Candidate]:
        found, seen = hunt_scripted(self.arena, purse)
        self.seen += seen
        if seen:
            self.arena.refocus(self.seen[0], *seen)
        return found

    def _planned(self, purse: Purse) -> list[Candidate]:
        assert self.tabular is not None
        return hunt_planned(self.arena, self.tabular, discount=self.discount)

    def _ppo(self, purse: Purse) -> list[Candidate]:
        total = max(1, sum(self.plan.values()))
        before, share = self.arena.spent / total, purse.limit / total
        return hunt_ppo(self.arena, purse, discount=self.discount,
                        progress=lambda done: self.say(min(0.95, before + share * done), "searching by ppo"))

    # --- evaluation --------------------------------------------------------------------------------------

    def evaluate(self, episodes: int) -> tuple[list[Behaviour], int]:
        """Plays the most promising candidates on the same first states, merges what is alike, best-paid first.

        Returns:
            The behaviours, and how many episodes of each there are.
        """
        arena, before = self.arena, self.arena.spent
        purse = Purse(arena, arena.left)
        queue = _order(self.candidates)
        lengths = [arena.horizon if c.length is None else min(arena.horizon, c.length + 1) for c in queue[:_ENOUGH]]
        each = max(min(episodes, FEWEST_EPISODES), min(episodes, int(arena.left / sum(lengths))))
        seeds = arena.episode_seeds(each, "evaluate")
        found: list[Behaviour] = []
        feature: list[torch.Tensor] = []
        chunk = max(1, _ROWS[arena.cheap] // each)
        while queue and len(found) < 2 * _MOST:
            n = purse.rows(min(chunk, len(queue)), horizon=arena.horizon, each=each)
            if n < 1:
                break
            part, queue = queue[:n], queue[n:]
            played = arena.play(Together([c.policy for c in part], each=each), seeds * n)
            look = features(played, arena.lens).reshape(n, each, -1).mean(1)
            for i, c in enumerate(part):
                rows = played[i * each:(i + 1) * each].steps(0, int(played.lengths[i * each:(i + 1) * each].max()))
                found.append(Behaviour(name=c.name, origin=c.origin, policy=c.policy, episodes=rows, effort=c.effort,
                                       seeds=list(seeds)))
                feature.append(look[i])
            self.say(0.95 + 0.05 * len(found) / (len(found) + len(queue)), "evaluating behaviours")
        self.spent["evaluate"] = arena.spent - before
        return self._choose(found, torch.stack(feature), each), each

    def _choose(self, found: list[Behaviour], feature_NF: torch.Tensor, each: int) -> list[Behaviour]:
        paid = torch.stack([self.arena.score(b.episodes, each)[0].mean() for b in found])
        must = {c.name for c in self.candidates if c.keep}
        best = torch.where(torch.isnan(paid), -torch.inf, paid).argsort(descending=True, stable=True).tolist()
        first = _best_of_each([found[i].origin for i in best])
        keep = [best[i] for i in first] + [i for i in best if found[i].name in must]
        kept = distinct(feature_NF, paid, keep=keep, most=_MOST)
        rank = {i: n for n, i in enumerate(best)}
        return [found[i] for i in sorted(kept, key=lambda i: rank[i])]


def _order(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Baselines first, then the best of each optimiser, the stages that the curve needs, and the rest by pay.

    Of the rest, near-duplicates by the features that the hunters saw come last.
    """
    value = lambda c: -math.inf if math.isnan(c.score) else c.score  # noqa: E731
    by_pay = sorted(candidates, key=lambda c: -value(c))
    baselines = [c for c in candidates if c.keep and c.origin in ("random", "scripted")]
    tops = [by_pay[i] for i in _best_of_each([c.origin for c in by_pay])]
    stages = [c for c in by_pay if c.keep]
    rest = [c for c in by_pay if c.feature_F is not None]
    spread: list[Candidate] = []
    if rest:
        feature = torch.stack([c.feature_F for c in rest if c.feature_F is not None])
        paid = torch.tensor([c.score for c in rest], dtype=torch.float64)
        spread = [rest[i] for i in distinct(feature, paid, most=_MOST)]
    ordered = {id(c): c for c in [*baselines, *tops, *stages, *spread, *by_pay]}
    return list(ordered.values())


def _best_of_each(origins: Sequence[Origin]) -> list[int]:
    """The first index of each origin."""
    first: dict[str, int] = {}
    for i, origin in enumerate(origins):
        first.setdefault(origin, i)
    return list(first.values())


def _affordable_horizon(steps: int, each: int, horizon: int) -> int:
    """The horizon at which `steps` allow at least a few behaviours to be evaluated."""
    few = FEW * each
    if steps < few:
        raise BadInput("budget", expected=f"at least {few} steps for the evaluation alone", received=steps,
                       fix="raise the budget")
    return max(1, min(horizon, steps // few))


def _check(discount: float, episodes: int, horizon: int | None) -> None:
    if not 0 <= discount < 1:
        raise BadInput("discount", expected="a number in [0, 1)", received=discount)
    if episodes < 1:
        raise BadInput("episodes", expected="an integer >= 1", received=episodes)
    if horizon is not None and horizon < 1:
        raise BadInput("horizon", expected="an integer >= 1", received=horizon)
