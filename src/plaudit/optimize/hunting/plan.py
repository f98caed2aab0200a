"""Who gets how much: the shares of the hunters, and seconds turned into steps."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence

import gymnasium
import torch

from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.optimize.behaviours import Budget
from plaudit.optimize.evolve.families import Network
from plaudit.optimize.hunting.arena import Arena, Purse
from plaudit.optimize.hunting.simple import hunt_random
from plaudit.tasks.arrays import ArrayTask
from plaudit.tasks.base import Task
from plaudit.tasks.policy import Policy, RandomPolicy

log = logging.getLogger(__name__)

OPTIMISERS = ("random", "scripted", "planned", "ppo", "cem", "qd")
"""All hunters, in the order in which they are sent out."""

SHARES = {
    # task            random        scripted        ppo          cem          qd          evaluate
    "cheap":         {"random": 0.01, "scripted": 0.09, "ppo": 0.45, "cem": 0.22, "qd": 0.13, "evaluate": 0.10},
    "dear, choices": {"random": 0.02, "scripted": 0.06, "ppo": 0.42, "cem": 0.22, "qd": 0.08, "evaluate": 0.20},
    "dear, numbers": {"random": 0.02, "scripted": 0.06, "ppo": 0.16, "cem": 0.46, "qd": 0.08, "evaluate": 0.22},
    "planned":       {"random": 0.02, "scripted": 0.18, "ppo": 0.20, "cem": 0.15, "qd": 0.15, "evaluate": 0.30},
}
"""Shares of the time. Cheap tasks are batched array code, dear ones step one environment after the other; where exact
planning answers, the searches only cross-check it."""

RL_COST = {"cheap": 100.0, "dear, choices": 2.0, "dear, numbers": 2.0, "planned": 100.0}
"""What a step of PPO costs in plain steps: typical figures, the same on every machine."""
BATCH_COST = {"cheap": 500, "dear, choices": 0, "dear, numbers": 0, "planned": 500}
"""What a step of a batch costs beyond its rows, in plain steps: typical figures too."""
_BATCHES = 10_000
"""A small budget charges less for a batch, so that it pays for at least so many steps of one."""
USUAL_STEPS = {"cheap": 2_400_000, "dear, choices": 80_000, "dear, numbers": 80_000, "planned": 1_200_000}
"""The default effort of an audit: all its searches together take some 3 to 30 seconds of one core."""

LONGEST = 1000
"""Episodes of tasks without a nearer limit are cut after so many steps."""
FEW, FEWEST_EPISODES = 5, 3
"""Episodes are cut shorter where the evaluation could not pay for so many behaviours, so often each."""

_SAFETY = 0.9
"""The share of the seconds that is planned for; the rest is for what no step pays (set-up, choosing, merging)."""


def kind_of(task: Task, *, planned: bool = False) -> str:
    """The row of the table; `planned` where the decision process is written out, so that a plan needs no search.

    Example:
        >>> from plaudit.tasks.classic import CartPole
        >>> kind_of(CartPole())
        'cheap'
    """
    if isinstance(task, ArrayTask):
        return "planned" if planned else "cheap"
    return "dear, numbers" if isinstance(task.action_space, gymnasium.spaces.Box) else "dear, choices"


def chosen(needs: Needs, optimisers: Sequence[str] | None, *, tabular: bool) -> tuple[list[str], dict[str, str]]:
    """The optimisers that can honour what a reward needs, and why the others are left out.

    Raises:
        BadInput: when a name is unknown.

    Example:
        >>> chosen(Needs(time="episode"), None, tabular=False)[0]
        ['random', 'scripted', 'cem', 'qd']
    """
    wanted = list(OPTIMISERS) if optimisers is None else list(optimisers)
    unknown = [name for name in wanted if name not in OPTIMISERS]
    if unknown or not wanted:
        raise BadInput("optimisers", expected=f"names out of {', '.join(OPTIMISERS)}", received=unknown or "none")
    why: dict[str, str] = {}
    if "ppo" in wanted:
        if needs.time == "episode":
            why["ppo"] = "the reward reads whole episodes; only optimisers that score finished episodes honour that"
        elif needs.across == "group" or (needs.across == "batch" and needs.time == "prefix"):
            why["ppo"] = f"the reward reads across rows (across={needs.across}), which PPO cannot honour"
    if "planned" in wanted and not tabular:
        why["planned"] = "no exact decision process was given"
    return [name for name in OPTIMISERS if name in wanted and name not in why], why


def divide(steps: int, names: Sequence[str], *, kind: str, rl_cost: float) -> dict[str, int]:
    """The steps of each optimiser, so that their times have the shares of the table.

    Example:
        >>> divide(1000, ["random", "scripted"], kind="cheap", rl_cost=20.0)
        {'random': 50, 'scripted': 450, 'evaluate': 500}
    """
    table = {n: s for n, s in SHARES[kind].items() if n in names or n == "evaluate"}
    weight = {n: s / (rl_cost if n == "ppo" else 1.0) for n, s in table.items()}
    total = sum(weight.values())
    return {n: math.floor(steps * w / total) for n, w in weight.items()}


def typical(steps: int, kind: str, *, rl_cost: float | None = None, batch_cost: int | None = None) -> Budget:
    """A budget of steps with the typical figures of its kind.

    Example:
        >>> typical(30_000, "cheap").batch_cost, typical(9_000_000, "cheap").batch_cost
        (3, 500)
    """
    return Budget(steps=steps, rl_cost=rl_cost or RL_COST[kind],
                  batch_cost=batch_cost or min(BATCH_COST[kind], steps // _BATCHES))


def in_steps(budget: Budget, task: Task, reward: Reward, *, names: Sequence[str], horizon: int, seed: int,
             kind: str) -> tuple[Budget, dict[str, float]]:
    """The budget in steps, and what was measured (nothing where it was given in steps).

    Only one number is measured, the seconds of a plain step; what learning and batches cost beside it are the typical
    figures, so that the same number of steps is the same search on every machine.
    """
    if budget.steps is not None:
        return typical(budget.steps, kind, rl_cost=budget.rl_cost, batch_cost=budget.batch_cost), {}
    assert budget.seconds is not None
    begun = time.perf_counter()
    probe = Arena(task, reward, steps=10**12, horizon=horizon, seeds=Seeds(seed).child("probe"))
    try:
        plain = _plain_seconds(probe, BATCH_COST[kind])
    finally:
        probe.close()
    spent = time.perf_counter() - begun
    seconds = max(0.2 * budget.seconds, _SAFETY * budget.seconds - spent)
    rl_cost = budget.rl_cost or RL_COST[kind]
    table = {n: s for n, s in SHARES[kind].items() if n in names or n == "evaluate"}
    weight = sum(s / (rl_cost if n == "ppo" else 1.0) for n, s in table.items()) / sum(table.values())
    steps = max(1, int(float(f"{seconds / plain * weight:.2g}")))
    return typical(steps, kind, rl_cost=rl_cost), {"asked_s": budget.seconds, "probe_s": round(spent, 3),
                                                   "plain_step_s": plain, "probe_steps": probe.spent}


def _plain_seconds(arena: Arena, batch_cost: int) -> float:
    """Wall time of a plain step, scored by the reward; a step of a batch counts as its rows and `batch_cost` more."""
    horizon = min(arena.horizon, 200 if arena.cheap else 100)
    hunt_random(arena, Purse(arena, 64 * horizon))
    if not arena.cheap:
        return min(_dear_seconds(arena, 8, horizon, n) for n in range(2))
    rows = 256
    return min(s / T for s, T, _ in (_batch_seconds(arena, rows, horizon, n) for n in range(5))) / (rows + batch_cost)


def _dear_seconds(arena: Arena, rows: int, horizon: int, n: int) -> float:
    """Wall time of a step, with its part of a reset.

    Random episodes may be much shorter than those of a search, so a reset is spread over several times their length,
    and over a fifth of the horizon at least.
    """
    resets = arena.reset_seconds(rows, n)
    seconds, _, steps = _batch_seconds(arena, rows, horizon, n)
    length = min(arena.horizon, max(5 * steps / rows, 0.2 * arena.horizon))
    return max(0.2 * seconds, seconds - resets) / max(1, steps) + resets / (rows * length)


def _batch_seconds(arena: Arena, rows: int, horizon: int, n: int) -> tuple[float, int, int]:
    """Wall time of a batch of linear policies (random ones where there is nothing to see), its length, its steps."""
    seeds = arena.episode_seeds(rows, "timing", n)
    policy: Policy = RandomPolicy(arena.task.action_space, seeds=seeds)
    if arena.lens.size:
        family = Network(arena.lens, arena.actions)
        theta = arena.seeds.child("timing", n).numpy().standard_normal((rows, family.size)).astype("float32")
        policy = family.policy(torch.from_numpy(theta))
    begun, before = time.perf_counter(), arena.spent
    trial = arena.judge(policy, rows, 1, seeds[:1], horizon=horizon)
    return time.perf_counter() - begun, trial.episodes.T, arena.spent - before
