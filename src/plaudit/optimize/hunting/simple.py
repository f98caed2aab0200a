"""The first hunters: random behaviour, which also shows what the observations look like, and simple scripts."""

from __future__ import annotations

from dataclasses import replace

import torch

from plaudit.core.episodes import Episodes
from plaudit.core.tree import tree_map
from plaudit.optimize.hunting.arena import Arena, Candidate, Purse
from plaudit.optimize.scripted import Together, least_moving, scripted
from plaudit.tasks.policy import RandomPolicy

RANDOM_ROWS = {True: 64, False: 8}
"""Random episodes, for cheap tasks and for dear ones."""
SCRIPTED_ROWS = {True: 512, False: 16}
_LONGEST_LOOK = 250
"""Scripts on dear tasks are first looked at for so many steps."""


def hunt_random(arena: Arena, purse: Purse) -> tuple[list[Candidate], Episodes]:
    """Random actions; sets the arena's lens.

    Returns:
        The candidate, and the episodes for whoever wants to see where random behaviour goes.
    """
    rows = max(1, purse.rows(RANDOM_ROWS[arena.cheap], horizon=arena.horizon))
    seeds = arena.episode_seeds(rows, "random")
    horizon = min(arena.horizon, max(1, purse.left // rows))
    episodes = arena.play(RandomPolicy(arena.task.action_space, seeds=seeds), seeds, horizon=horizon)
    arena.refocus(episodes)
    arena.ends_early = float(episodes.lengths.double().mean()) < 0.5 * horizon
    returns, _ = arena.score(episodes, rows)
    policy = RandomPolicy(arena.task.action_space, seeds=arena.seeds.child("random actions").integer())
    return [Candidate(name="random actions", origin="random", policy=policy, effort=arena.spent,
                      score=float(returns.mean()), keep=True)], episodes


def hunt_scripted(arena: Arena, purse: Purse) -> tuple[list[Candidate], list[Episodes]]:
    """Simple scripts, all of them in few batches; the one that moves least is the stand-still.

    Raises:
        Unsupported: when the action space is neither choices nor a box.
    """
    look = arena.horizon if arena.cheap or arena.reward.needs.time == "episode" else min(arena.horizon, _LONGEST_LOOK)
    each = 4 if purse.rows(200, horizon=look, each=4) >= 60 else 1
    most = purse.rows(200, horizon=look, each=each)
    if most < 1:
        return [], []
    tried = scripted(arena.task.action_space, arena.lens, seed=arena.seeds.child("scripted").integer(),
                     horizon=arena.horizon, most=most)
    seeds, found, seen = arena.episode_seeds(each, "scripted"), [], []
    moved: list[float] = []
    chunk = max(1, SCRIPTED_ROWS[arena.cheap] // each)
    while tried and purse.rows(1, horizon=look, each=each):
        part = tried[:purse.rows(min(chunk, len(tried)), horizon=look, each=each)]
        tried = tried[len(part):]
        trial = arena.judge(Together([p for _, p in part], each=each), len(part), each, seeds, horizon=look)
        found += [Candidate(name=name, origin="scripted", policy=policy, effort=arena.spent,
                            score=float(trial.score_K[i]), feature_F=trial.feature_KF[i], length=trial.length_K[i])
                  for i, (name, policy) in enumerate(part)]
        moved += _moved(arena, trial.episodes, len(part))
        seen.append(trial.episodes)
    return _with_still(found, moved), seen


def _moved(arena: Arena, episodes: Episodes, K: int) -> list[float]:
    """The mean change of what is seen from step to step, of each candidate."""
    if not arena.lens.size:
        return [0.0] * K
    mask = episodes.mask
    change = torch.zeros(mask.shape, dtype=torch.float64)
    now = episodes.transitions()
    look = lambda obs: arena.lens(tree_map(lambda x: x[:, 0], obs))  # noqa: E731
    change[mask] = (look(now.next_obs) - look(now.obs)).abs().mean(-1).double()
    return (change.sum(-1) / mask.sum(-1).clamp(min=1)).reshape(K, -1).mean(-1).tolist()


def _with_still(found: list[Candidate], moved: list[float]) -> list[Candidate]:
    """The zero action, or of the constant choices the one that moves least, is kept as the stand-still."""
    constant = [i for i, c in enumerate(found) if c.name.startswith("always ")]
    if not constant:
        return found
    zero = [i for i in constant if found[i].name == "always zero action"]
    still = zero[0] if zero else constant[least_moving(torch.tensor([moved[i] for i in constant]))]
    found[still] = replace(found[still], name=f"stand still ({found[still].name})", keep=True)
    return found
