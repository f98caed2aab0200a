"""Running environments: `Collector` steps all rows of all members at once and scores what happened."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.score import Score
from plaudit.core.seeds import Seeds
from plaudit.core.tree import Tree, from_leaves, leaves, tree_map
from plaudit.optimize.rl.scoring import Scorer
from plaudit.tasks.base import Step, Task

log = logging.getLogger(__name__)

Act = Callable[[Tree, int], tuple[Tensor, dict[str, Tensor]]]
"""(obs [B, ...], t) -> (action [B, ...] in the task's units, what else to remember of the step, each [B, ...])."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """T steps of all rows. A row goes on through the ends of episodes, so it may hold several."""

    episodes: Episodes
    """[B, T], row b of member b // (B / P)."""
    score: Score
    """What the train reward says, [B, T]."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """What `act` remembered, each [B, T, ...]."""


class Collector:
    """B = P * N environments, N for each member, that never stop: where an episode ends the next begins.

    Args:
        task: What to act in.
        seeds: One tree for each member; row n of a member starts from its child ("env", n).
        rows: N, the environments of one member.
        scorer: The rewards of the run.
        member_ids: What `Episodes.member` says of each member's rows.
        device: Where the environments live.

    Raises:
        BadInput: where the task plays on another device.
    """

    def __init__(self, task: Task, *, seeds: Sequence[Seeds], rows: int, scorer: Scorer,
                 member_ids: Sequence[int] | None = None, device: str = "cpu") -> None:
        self.task, self.scorer, self.seeds, self.N = task, scorer, list(seeds), rows
        self.P, self.B = len(seeds), len(seeds) * rows
        self.batch = task.make(self.B, device=device)
        ids = torch.as_tensor(list(member_ids if member_ids is not None else range(self.P)), device=device)
        self.member = ids.repeat_interleave(rows)
        self.obs: Tree = self.batch.reset([s.child("env", n).integer() for s in seeds for n in range(rows)])
        where = {leaf.device for _, leaf in leaves(self.obs)}
        if where != {self.member.device}:
            raise BadInput("task", expected=f"observations on {self.member.device}",
                           received=f"{', '.join(map(str, where))} from {task.name}",
                           fix="put what its reset and step give on the device that its make is told")
        self.steps = 0
        """Steps that each row has made."""
        self.began_anew = False
        """Whether all rows began new episodes where a run was resumed: no sum over steps may cross that seam."""
        self.on_rollout: list[Callable[[Rollout], None]] = []
        self._told = False
        self._mask = torch.ones(self.B, 1, dtype=torch.bool, device=device)

    def collect(self, T: int, act: Act) -> Rollout:
        """T steps of every row."""
        steps: list[Step] = []
        seen: list[Tree] = []
        actions: list[Tensor] = []
        extras: list[dict[str, Tensor]] = []
        for t in range(T):
            try:
                action, extra = act(self.obs, t)
                step = self.batch.step(action)
            except Exception:  # what a NaN does to a policy or an environment comes behind its cause
                seen_B1 = tree_map(lambda x: x.unsqueeze(1), self.obs)
                self._look(seen_B1, seen_B1, self.steps + t)
                raise
            seen.append(self.obs)
            actions.append(action)
            steps.append(step)
            extras.append(extra)
            if self.scorer.streaming:
                self.scorer.stream(self._episodes([self.obs], [action], [step]))
            self.obs = step.obs
        return self.record(self._episodes(seen, actions, steps),
                           {k: torch.stack([e[k] for e in extras], 1) for k in extras[0]})

    def record(self, episodes: Episodes, extras: Mapping[str, Tensor]) -> Rollout:
        """Scores steps that all rows have made and shows them to the hooks; `obs` and the batch are past them."""
        self._look(episodes.obs, episodes.next_obs, self.steps)
        self.steps += episodes.T
        rollout = Rollout(episodes=episodes, score=self.scorer.score(episodes), extras=extras)
        for hook in self.on_rollout:
            hook(rollout)
        return rollout

    def _look(self, before_BT: Tree, after_BT: Tree, steps: int) -> None:
        """Says once where an observation is no number; `steps` were made before."""
        found = None if self._told else broken(before_BT, after_BT, getattr(self.task, "obs_names", ()))
        if found is None:
            return
        self._told = True
        row, step, is_before, what = found
        who = f"environment {row % self.N}{f' of member {int(self.member[row])}' if self.P > 1 else ''} of "
        when = f"{'before' if is_before else 'after'} step {steps + step + 1:,}"
        log.warning("the observation of %s%s %s is %s: a policy answers with NaN, and one update on it ruins all "
                    "weights; mend the environment (it is said once)", who, self.task.name, when, what)

    def _episodes(self, obs: list[Tree], actions: list[Tensor], steps: list[Step]) -> Episodes:
        over_time = lambda *xs: torch.stack(xs, 1)  # noqa: E731
        return Episodes(
            obs=tree_map(over_time, *obs), action=torch.stack(actions, 1),
            next_obs=tree_map(over_time, *(s.next_obs for s in steps)),
            terminated=torch.stack([s.terminated for s in steps], 1),
            truncated=torch.stack([s.truncated for s in steps], 1), mask=self._mask.expand(-1, len(steps)),
            env_reward=torch.stack([s.env_reward for s in steps], 1),
            info={k: torch.stack([s.info[k] for s in steps], 1) for k in steps[0].info}, member=self.member)

    def state_dict(self) -> dict[str, Any]:
        """The environments in mid-episode (None where the task cannot be saved), what they show, the rewards."""
        try:
            batch = self.batch.state_dict()
        except Unsupported:
            batch = None
        return {"batch": batch, "obs": dict(leaves(self.obs)), "steps": self.steps, "scorer": self.scorer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave; new episodes begin where the task could not be saved."""
        self.steps = state["steps"]
        self.scorer.load_state_dict(state["scorer"])
        if state["batch"] is not None:
            self.batch.load_state_dict(state["batch"])
            device = self.member.device
            self.obs = from_leaves({name: leaf.to(device) for name, leaf in state["obs"].items()})
            return
        log.warning("%s cannot be saved in mid-episode: the resumed run begins new episodes and will differ from one "
                    "that was not interrupted", self.task.name)
        self.began_anew = True
        self.scorer.forget_episodes()
        self.obs = self.batch.reset([s.child("env", n, "resumed", self.steps).integer()
                                     for s in self.seeds for n in range(self.N)])

    def close(self) -> None:
        """Frees the environments."""
        self.batch.close()


def broken(before_BT: Tree, after_BT: Tree, names: Sequence[str] = ()) -> tuple[int, int, bool, str] | None:
    """The first NaN or infinity in observations: row, step, whether it was there before the step, and what it is.

    Args:
        before_BT: what was seen when each step began.
        after_BT: what each step led to.
        names: of the columns of a plain vector.

    Example:
        >>> seen = torch.zeros(1, 3, 2)
        >>> broken(seen, seen), broken(seen, torch.tensor([[[0, 0], [0, torch.nan], [0, 0]]]), ["x", "v"])
        (None, (0, 1, False, 'nan in v'))
    """
    for (leaf, before), (_, after) in zip(leaves(before_BT), leaves(after_BT), strict=True):
        if not before.is_floating_point() or math.isfinite(float(before.sum() + after.sum())):
            continue
        B, T = before.shape[:2]
        value_TB2D = torch.stack([before, after], 2).reshape(B, T, 2, -1).transpose(0, 1)
        found = (~value_TB2D.isfinite()).nonzero()
        if len(found):  # a sum may overflow where no number does
            step, row, which, place = found[0].tolist()
            column = _column(place, before.shape[2:], leaf, names)
            return row, step, which == 0, f"{float(value_TB2D[step, row, which, place])}{column}"
    return None


def _column(place: int, shape: Sequence[int], leaf: str, names: Sequence[str]) -> str:
    """Where the flat index of a number in an observation lies, in words."""
    if not leaf and len(shape) == 1 and place < len(names):
        return f" in {names[place]}"
    index = ", ".join(str(int(i)) for i in np.unravel_index(place, tuple(shape)))
    return (f" in column {index}" if index else "") + (f" of {leaf}" if leaf else "")
