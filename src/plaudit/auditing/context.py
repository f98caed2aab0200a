"""What the checks share: the task, the reward, the intent, and the behaviours that a search found, each made once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.auditing.effort import SEARCHES, effort_kind
from plaudit.auditing.intent import Intent
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, PlauditError, Unsupported
from plaudit.core.jobs import Kept
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.optimize.behaviours import Behaviour, Budget, Found
from plaudit.optimize.hunting.plan import LONGEST
from plaudit.optimize.maximise import longest_episodes, maximise, measure
from plaudit.tasks.base import Task
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout
from plaudit.tasks.tabular import TabularMDP

if TYPE_CHECKING:
    from plaudit.core.cluster import Cluster

Progress = Callable[[float, str], None]
"""Called with the share done in [0, 1] and a few words."""


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
    repairs: bool = False
    """Whether a repaired reward will be searched too."""
    device: str = "cpu"
    """Where learners live."""
    chosen: bool = False
    """Whether the user chose among the checks."""

    @property
    def seeds(self) -> Seeds:
        return Seeds(self.seed)

    @cached_property
    def random(self) -> Episodes:
        """Episodes of random actions."""
        seeds = self.seeds.child("random").integers(16)
        policy = RandomPolicy(self.task.action_space, seeds=self.seeds.child("random actions").integers(16))
        return rollout(self.task, policy, seeds=seeds, max_steps=self.horizon)

    @cached_property
    def horizon(self) -> int:
        """After how many steps all episodes of the audit are cut: what its smallest search can afford.

        Returns of episodes of different lengths cannot be compared, so it is one number for random actions, for what
        the searches find, and for what is played again.
        """
        longest = [min(self.task.horizon, LONGEST)]
        if self.budget.steps is None:
            return longest[0]  # until the budget is settled
        searched = [("reward", self.reward)] + ([("fix", self.reward)] if self.repairs else [])
        if self.intent is not None:
            searched.append(("intent", self.intent.as_reward()))
        for share, reward in searched:
            exact = effort_kind(self.task, reward.needs) == "planned"  # asked without a call of the reward
            try:
                longest.append(longest_episodes(reward, self.task, self._part(share), episodes=self.episodes_each,
                                                tabular=exact))
            except BadInput:  # too little for a single evaluation: that search will say so
                continue
        return min(longest)

    @property
    def cut(self) -> str:
        """After how many steps what was found was cut before its end, in words; empty where it was played whole."""
        found = [f for f in (self.__dict__.get("found"), self.__dict__.get("intended")) if f is not None]
        longest = max((int(b.episodes.lengths.max()) for f in found for b in f.behaviours), default=0)
        if longest < self.horizon or self.horizon >= self.task.horizon:
            return ""
        limit = f"of {self.task.horizon:,} steps" if self.task.limited else "steps (the environment names no limit)"
        return f"episodes were cut after {self.horizon:,} {limit}"

    def rebudget(self, steps: int) -> None:
        """Another number of steps, before anything is searched; random episodes of another length are played anew."""
        before, self.budget = self.horizon, Budget.of(steps)
        self.__dict__.pop("horizon")
        if self.horizon != before:
            self.__dict__.pop("random", None)
            self.memo.pop("_random_score", None)

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
                            device=self.device, kept=kept, horizon=self.horizon,
                            on_progress=lambda done, text: self.progress(done, f"searching the {share}: {text}"))

        try:
            found = search(self.ray, self.kept)
        except Unsupported as error:  # what cannot be written down is searched here, in one go: the same numbers
            if self.ray is None and self.kept is None:
                raise
            if self.ray is not None:
                self.progress(0.0, f"searching the {share} in this process: {error}")
            found = search(None, None)
        self.spent[share] = self.spent.get(share, 0) + found.steps
        return found

    def spend(self, what: str, episodes: Episodes) -> None:
        """Counts the steps of episodes that were played beside the searches."""
        self.spent[what] = self.spent.get(what, 0) + int(episodes.mask.sum())

    def settle(self) -> None:
        """Turns a budget of seconds into steps, once for the whole audit, after the first look at the reward."""
        if self.budget.seconds is None:
            return
        reward = self.reward if self.reward.needs.state == "none" else copy.deepcopy(self.reward)
        part, exact = self.budget.seconds * SEARCHES["reward"], effort_kind(self.task, reward.needs) == "planned"

        def measured() -> int:
            steps = measure(reward, self.task, part, seed=self.seed, discount=self.discount, tabular=exact).steps
            assert steps is not None
            return round(steps / SEARCHES["reward"])

        self.rebudget(int((self.kept or Kept()).get_or("budget", measured)))

    def _part(self, share: str) -> Budget:
        """A share of the budget."""
        assert self.budget.steps is not None, "settle() comes first"
        return replace(self.budget, steps=max(1, round(self.budget.steps * SEARCHES[share])))

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
