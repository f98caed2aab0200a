"""What the checks share: the task, the reward, the intent, and the behaviours that a search found, each made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.auditing.intent import Intent
from plaudit.core.episodes import Episodes
from plaudit.core.errors import PlauditError, Unsupported
from plaudit.core.jobs import Kept
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.optimize.behaviours import Behaviour, Budget, Found
from plaudit.optimize.maximise import maximise
from plaudit.tasks.base import Task
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout
from plaudit.tasks.tabular import TabularMDP

if TYPE_CHECKING:
    from plaudit.core.cluster import Cluster

Progress = Callable[[float, str], None]
"""Called with the share done in [0, 1] and a few words."""

SHARES = {"reward": 0.58, "intent": 0.24, "fix": 0.18}
"""How the budget of steps is divided between searching the reward, the intent, and a repaired reward."""


LONGEST = 1000
"""Random episodes are cut after so many steps."""


def no_progress(done: float, text: str) -> None:
    """Says nothing."""


@dataclass(kw_only=True)
class AuditContext:
    """Handed to every check. The searches are lazy: the first check that asks starts them, the others share them."""

    task: Task
    reward: Reward
    intent: Intent | None
    reference: Reward | None = None
    budget: Budget = Budget(steps=200_000)
    """The environment steps (or seconds) of all searches together."""
    seed: int = 0
    discount: float = 0.99
    given: Sequence[Behaviour] = ()
    """Logged episodes and trained policies that the user brought."""
    progress: Progress = no_progress
    episodes_each: int = 8
    """Evaluation episodes of each behaviour."""
    spent: dict[str, int] = field(default_factory=dict)
    """The environment steps that each search took."""
    memo: dict[str, Any] = field(default_factory=dict)
    """Numbers that one check leaves for a later one or for the report's figures."""
    ray: Cluster | None = None
    """Workers for the searches; None searches in this process."""
    kept: Kept | None = None
    """Where the parts of a search that are finished are kept."""
    device: str = "cpu"
    """Where learners live."""

    @property
    def seeds(self) -> Seeds:
        return Seeds(self.seed)

    @cached_property
    def random(self) -> Episodes:
        """Episodes of random actions."""
        seeds = self.seeds.child("random").integers(16)
        policy = RandomPolicy(self.task.action_space, seeds=self.seeds.child("random actions").integers(16))
        return rollout(self.task, policy, seeds=seeds, max_steps=min(self.task.horizon, LONGEST))

    @property
    def wandering(self) -> Behaviour:
        """Those episodes as a behaviour, for a witness."""
        return Behaviour(name="random actions", origin="random", policy=None, episodes=self.random,
                         seeds=self.seeds.child("random").integers(16))

    @cached_property
    def mdp(self) -> TabularMDP | None:
        """The exact decision process with this reward, where the task can write itself out."""
        return self.tabulate(self.reward)

    def tabulate(self, reward: Reward) -> TabularMDP | None:
        """The exact decision process with some reward; None where the task or the reward has none."""
        write_out = getattr(self.task, "tabular", None)
        if write_out is None or reward.needs.time != "step" or reward.needs.state != "none":
            return None
        return write_out(reward=reward, discount=self.discount)

    def _process(self, reward: Reward) -> TabularMDP | None:
        """The exact process, where it has one without unknown steps."""
        try:
            return self.tabulate(reward)
        except PlauditError:
            return None

    def search(self, reward: Reward, *, share: str, plan_for: Reward | None = None) -> Found:
        """The behaviours that optimising `reward` finds with a share of the budget.

        `plan_for` is the reward that exact planning pursues on tabular tasks, where it is another one.
        """
        def search(ray: Cluster | None, kept: Kept | None) -> Found:
            return maximise(reward, self.task, self._part(share), seed=self.seed, discount=self.discount,
                            episodes=self.episodes_each, tabular=self._process(plan_for or reward), ray=ray,
                            device=self.device, kept=kept,
                            on_progress=lambda done, text: self.progress(done, f"searching the {share}: {text}"))

        try:
            found = search(self.ray, self.kept)
        except Unsupported as error:  # what cannot be written down is searched here, in one go: the same numbers
            if self.ray is None and self.kept is None:
                raise
            if self.ray is not None:
                self.progress(0.0, f"searching the {share} in this process: {error}")
            found = search(None, None)
        if self.budget.steps is None and found.budget.steps is not None:
            self.budget = Budget.of(round(found.budget.steps / SHARES[share]))
        self.spent[share] = self.spent.get(share, 0) + found.steps
        return found

    def spend(self, what: str, episodes: Episodes) -> None:
        """Counts the steps of episodes that were played beside the searches."""
        self.spent[what] = self.spent.get(what, 0) + int(episodes.mask.sum())

    def _part(self, share: str) -> Budget:
        """A share of the budget; seconds are turned into steps by the first search, once for the whole audit."""
        if self.budget.steps is None:
            assert self.budget.seconds is not None
            return replace(self.budget, seconds=self.budget.seconds * SHARES[share])
        return replace(self.budget, steps=max(1, round(self.budget.steps * SHARES[share])))

    @cached_property
    def found(self) -> Found:
        """What optimising the reward under audit leads to."""
        return self.search(self.reward, share="reward")

    @cached_property
    def intended(self) -> Found | None:
        """What optimising the intent itself leads to: how well the task can be done."""
        if self.intent is None:
            return None
        found = self.search(self.intent.as_reward(), share="intent", plan_for=self.intent.per_step)
        taken = {b.name for b in self.found.behaviours}
        apart = [replace(b, name=f"{b.name}, for the intent") if b.name in taken else b for b in found.behaviours]
        return replace(found, behaviours=apart)

    @cached_property
    def behaviours(self) -> list[Behaviour]:
        """All of them: given by the user, found for the reward, found for the intent."""
        return [*self.given, *self.found.behaviours, *(self.intended.behaviours if self.intended else ())]

    def paid(self, behaviour: Behaviour, reward: Reward | None = None) -> Float[Tensor, "E"]:
        """Undiscounted return of each evaluation episode; NaN where unknown."""
        return (reward or self.reward).score(behaviour.episodes).returns()[0].double()

    def meant(self, behaviour: Behaviour) -> Float[Tensor, "E"]:
        """The intent of each evaluation episode (NaN without an intent)."""
        if self.intent is None:
            return torch.full((behaviour.episodes.B,), torch.nan, dtype=torch.float64)
        return self.intent.of(behaviour.episodes).double()
