"""Episodes from a task and a policy: one for each seed, the same ones every time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.tree import Tree, tree_map
from plaudit.tasks.base import Batch, Step, Task
from plaudit.tasks.policy import ActionSequence, Policy

Frames = Mapping[int, list[np.ndarray]]


def rollout(task: Task, policy: Policy, *, seeds: Sequence[int], max_steps: int | None = None,
            progress: Callable[[int, int], None] | None = None, frames: Frames | None = None,
            device: str = "cpu") -> Episodes:
    """Runs one episode for each seed, all in one batch, until the last of them has ended.

    Row b is a function of seeds[b] and the row's actions: the same seeds and actions give the same bits,
    alone or beside other rows.

    Args:
        task: where to act.
        policy: who acts.
        seeds: one for each episode, integers in [0, 2**63).
        max_steps: stop after so many steps at the latest (the task's horizon by default); a row that has
            not ended by then is marked as truncated.
        progress: called after each step with (rows that ended, rows).
        frames: lists to be filled with RGB images, by row: `frames={0: []}` films row 0, the first picture
            before the first step, the last one after the last.
        device: where the task runs.

    Returns:
        Episodes [B, T]; T is the length of the longest. Steps after a row's end are zeros with mask False.

    Raises:
        BadInput: when there are no seeds, or `frames` names a row that does not exist.

    Example:
        >>> from plaudit.tasks.classic import CartPole
        >>> from plaudit.tasks.policy import RandomPolicy
        >>> task = CartPole()
        >>> episodes = rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=[1, 2, 3])
        >>> episodes.B, bool(episodes.terminated.any(-1).all())
        (3, True)
    """
    rows = len(seeds)
    if rows == 0:
        raise BadInput("seeds", expected="at least one", received="none")
    if max_steps is not None and max_steps < 1:
        raise BadInput("max_steps", expected="at least 1", received=max_steps)
    film = {} if frames is None else dict(frames)
    if any(not 0 <= row < rows for row in film):
        raise BadInput("frames", expected=f"rows in [0, {rows})", received=sorted(film))
    batch = task.make(rows, device=device, render=bool(film))
    batch.autoreset = False
    try:
        return _run(batch, policy, seeds=seeds, limit=max_steps or task.horizon, progress=progress, film=film)
    finally:
        batch.close()


def replay(task: Task, actions: Tensor, seeds: Sequence[int], *, frames: Frames | None = None,
           device: str = "cpu") -> Episodes:
    """The episodes that logged actions [B, T, ...] lead to from these seeds.

    Example:
        >>> from plaudit.tasks.classic import CartPole
        >>> replay(CartPole(), torch.ones(1, 4, dtype=torch.int64), [3]).lengths.tolist()
        [4]
    """
    return rollout(task, ActionSequence(actions), seeds=seeds, max_steps=actions.shape[1], frames=frames, device=device)


def _run(batch: Batch, policy: Policy, *, seeds: Sequence[int], limit: int,
         progress: Callable[[int, int], None] | None, film: Frames) -> Episodes:
    rows = len(seeds)
    obs = batch.reset(seeds)
    carry = policy.start(rows)
    alive: Tensor | None = None
    record: list[tuple[Tree, Tensor, Step, Tensor]] = []
    _shoot(batch, film, range(rows))
    for t in range(limit):
        action, carry = policy.act(obs, carry, step=t)
        step = batch.step(action)
        if alive is None:
            alive = torch.ones_like(step.terminated)
        record.append((obs, action, step, alive))
        _shoot(batch, film, alive.nonzero()[:, 0].tolist())
        alive = alive & ~step.done
        obs = step.next_obs
        left = int(alive.sum())
        if progress is not None:
            progress(rows - left, rows)
        if left == 0:
            break
    assert alive is not None
    return _stack(record, unfinished=alive)


def _stack(record: list[tuple[Tree, Tensor, Step, Tensor]], *, unfinished: Tensor) -> Episodes:
    mask = torch.stack([alive for *_, alive in record], 1)

    def join(parts: Sequence[Tensor]) -> Tensor:
        out = torch.stack(list(parts), 1)
        return torch.where(mask.reshape(*mask.shape, *[1] * (out.ndim - 2)), out, out.new_zeros(()))

    def join_trees(parts: Sequence[Tree]) -> Tree:
        return tree_map(lambda *leaf: join(leaf), parts[0], *parts[1:])

    steps = [step for _, _, step, _ in record]
    truncated = join([s.truncated for s in steps])
    truncated[:, -1] |= unfinished
    return Episodes(
        obs=join_trees([o for o, *_ in record]), action=join([a for _, a, *_ in record]),
        next_obs=join_trees([s.next_obs for s in steps]), terminated=join([s.terminated for s in steps]),
        truncated=truncated, mask=mask, env_reward=join([s.env_reward for s in steps]), info=_stack_info(steps, join))


def _stack_info(steps: Sequence[Step], join: Callable[[Sequence[Tensor]], Tensor]) -> dict[str, Tensor]:
    """Info by name; a name that first came later is filled with NaN (False, 0 where it cannot hold NaN)."""
    last: dict[str, Tensor] = {name: value for step in steps for name, value in step.info.items()}
    out: dict[str, Any] = {}
    for name, pattern in last.items():
        missing = torch.full_like(pattern, torch.nan if pattern.is_floating_point() else 0)
        parts = [step.info.get(name, missing) for step in steps]
        kind = max((p.dtype for p in parts), key=lambda d: (d.is_floating_point, d != torch.bool))
        out[name] = join([p.to(kind) for p in parts])
    return out


def _shoot(batch: Batch, film: Frames, rows: Sequence[int]) -> None:
    for row in rows:
        if row in film:
            frame = batch.render(row)
            if frame is not None:
                film[row].append(frame)
