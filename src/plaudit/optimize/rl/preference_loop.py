"""Learning a reward from comparisons beside an agent: collect, compare, fit, and give old data their new worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.misspelt import Options
from plaudit.core.seeds import Seeds
from plaudit.core.stacked_adam import MemberNoise
from plaudit.feedback.preferences import Annotator, Preferences
from plaudit.learn.bradley_terry import BradleyTerry, BradleyTerryConfig
from plaudit.learn.comparing import evidence, pair_data
from plaudit.learn.model import LearnedReward
from plaudit.optimize.rl.callbacks import Callback
from plaudit.optimize.rl.collect import Rollout

if TYPE_CHECKING:
    from plaudit.optimize.rl.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class LoopConfig(Options):
    """When agents' behaviour is compared, and how much of it.

    Raises:
        BadInput: when a number is out of its range.

    Example:
        >>> LoopConfig(fragment=25, fragments=8, batches=2).pairs
        56
    """

    start: int = 1000
    """Steps of each member before the first round."""
    every: int = 400
    """Steps of each member between two rounds."""
    fragment: int = 1
    """Steps of a fragment."""
    fragments: int = 16
    """Fragments in a batch; all of its pairs are compared."""
    batches: int = 16
    """Batches of fragments in a round."""
    updates: int = 16
    """Optimiser steps of the reward model in a round."""
    memory: int = 20_000
    """How many of the last steps of each environment fragments are drawn from."""
    remember: int = 1
    """Of how many rounds the answers are kept and trained on; 1 follows the present policy."""
    budget: int | None = None
    """The largest number of pairs of each member that the annotator is asked; None is no limit."""

    def __post_init__(self) -> None:
        for name in ("every", "fragment", "batches", "updates", "remember"):
            if getattr(self, name) < 1:
                raise BadInput(f"loop.{name}", expected="an integer >= 1", received=getattr(self, name))
        if self.fragments < 2:
            raise BadInput("loop.fragments", expected="at least 2, to be compared", received=self.fragments)
        if self.memory < 2 * self.fragment:
            raise BadInput("loop.memory", expected=f"at least two fragments of {self.fragment} steps",
                           received=self.memory)

    @property
    def pairs(self) -> int:
        """The pairs of each member in a round."""
        return self.batches * self.fragments * (self.fragments - 1) // 2


class StepMemory:
    """The last steps of every row as a ring, from which fragments of one episode are cut."""

    def __init__(self, slots: int) -> None:
        self.slots, self.written = slots, 0
        self.data: dict[str, Tensor] = {}
        """[B, slots, ...] by the path of the field."""

    def __len__(self) -> int:
        return min(self.written, self.slots)

    def add(self, episodes: Episodes) -> None:
        """Stores steps [B, T]."""
        fields = {k: v for k, v in episodes.tensors() if k not in ("group", "agent", "member")}
        if not self.data:
            self.data = {k: v.new_zeros((v.shape[0], self.slots, *v.shape[2:])) for k, v in fields.items()}
        elif self.data["terminated"].device != episodes.device:  # out of a checkpoint
            self.data = {k: v.to(episodes.device) for k, v in self.data.items()}
        T = episodes.T
        slots = (torch.arange(self.written, self.written + T) % self.slots)[-self.slots:]
        for name, value in fields.items():
            self.data[name][:, slots] = value[:, -self.slots:]
        self.written += T

    def end_here(self) -> None:
        """Marks the newest step of every row as truncated, where the world did not end: another episode follows."""
        if self.data:
            newest = (self.written - 1) % self.slots
            self.data["truncated"][:, newest] |= ~self.data["terminated"][:, newest]

    def slot(self, age: Tensor) -> Tensor:
        """The place of the step that is the age-th oldest, from 0."""
        return (age + (self.written % self.slots if self.written > self.slots else 0)) % self.slots

    def cut(self, row: Int[Tensor, "M"], age: Int[Tensor, "M"], length: int) -> Episodes:
        """Fragments [M, length] that begin at some ages."""
        at = self.slot(age.unsqueeze(1) + torch.arange(length))
        return Episodes.of_tensors({k: v[row.unsqueeze(1), at] for k, v in self.data.items()})

    def draw(self, noise: MemberNoise, count: int, length: int) -> tuple[Int[Tensor, "P M"], Int[Tensor, "P M"]]:
        """Rows and ages of random fragments for each member; after 50 tries one may hold the end of an episode."""
        P, B = len(noise.generators), next(iter(self.data.values())).shape[0]
        room = len(self) - length + 1
        done = self.data["terminated"] | self.data["truncated"]
        base = torch.arange(P).unsqueeze(1) * (B // P)
        row, age = base + noise.below(B // P, count), noise.below(room, count)
        for _ in range(50):
            bad = self._broken(done, row, age, length)
            if not bool(bad.any()):
                break
            row = torch.where(bad, base + noise.below(B // P, count), row)
            age = torch.where(bad, noise.below(room, count), age)
        return row, age

    def _broken(self, done: Tensor, row: Tensor, age: Tensor, length: int) -> Bool[Tensor, "P M"]:
        at = self.slot(age.unsqueeze(-1) + torch.arange(length - 1))
        return done[row.unsqueeze(-1), at].any(-1).cpu()

    def state_dict(self) -> dict[str, Any]:
        """What is stored."""
        return {"written": self.written, "data": dict(self.data)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.written, self.data = state["written"], dict(state["data"])


class PreferenceLoop(Callback):
    """Preference-based reinforcement learning as a hook into `train`.

    Each member of the population has a reward model (or an ensemble) of its own, fitted to comparisons of its own
    behaviour. Off-policy learners score what they sample with the reward as it is now; others score new data only.

    Args:
        reward: What is trained on, with `groups` for the members of the population (none for a single one).
        annotator: Who compares.
        config: When, and how much.
        fit: The options of loss and optimiser; its `standardise` keeps the size of the reward from drifting.
        seed: Of the choice of fragments.

    Example:
        >>> from plaudit.core.functions import EnvReward
        >>> from plaudit.feedback.oracles import Oracle
        >>> from plaudit.learn.features import StepFeatures
        >>> from plaudit.optimize import SACConfig, train
        >>> read = StepFeatures(("obs", "action"), (3, 1))
        >>> model = LearnedReward(read, hidden=(32,), groups=range(2), learning=True)
        >>> loop = PreferenceLoop(model, Oracle(EnvReward()), config=LoopConfig(start=100, every=100, fragment=5))
        >>> small = SACConfig(hidden=(16,), batch=16, warmup=100, rounds=50)
        >>> trained = train("sac", "Pendulum-v1", reward=model, callbacks=[loop], population=2, steps=300,
        ...                 config=small, progress=False)
        >>> loop.rounds, loop.asked
        (3, 5760)
    """

    def __init__(self, reward: LearnedReward, annotator: Annotator, *, config: LoopConfig | None = None,
                 fit: BradleyTerryConfig | None = None, seed: int = 0) -> None:
        if reward.needs.state != "learns":
            raise BadInput("reward", expected="a LearnedReward(..., learning=True), so that stored rewards are renewed",
                           received=repr(reward))
        self.reward, self.annotator, self.seed = reward, annotator, seed
        self.config = config or LoopConfig()
        self.trainer = BradleyTerry(reward, fit or BradleyTerryConfig(batch=120))
        self.memory = StepMemory(self.config.memory)
        self.answers: list[Preferences] = []
        self.steps = self.rounds = self.asked = 0
        """Steps seen of each member, rounds made, pairs of each member the annotator was shown."""
        self._due = self.config.start
        self._said: dict[str, Tensor] = {}

    def on_start(self, trainer: Trainer) -> None:
        if self.reward.groups and list(self.reward.groups) != list(trainer.members) or (
                not self.reward.groups and len(trainer.members) > 1):
            raise BadInput("reward.groups", expected=f"the members of the population, {trainer.members[:8]}",
                           received=list(self.reward.groups)[:8])
        if not hasattr(self, "noise"):
            self._begin(trainer.members)
        if trainer.collector.began_anew:
            self.memory.end_here()

    def _begin(self, members: list[int]) -> None:
        self.noise = MemberNoise([Seeds(self.seed).child("member", m, "preferences") for m in members])

    def on_rollout(self, rollout: Rollout, trainer: Trainer) -> None:
        self.memory.add(rollout.episodes)
        self.steps += rollout.episodes.T * (rollout.episodes.B // len(self.noise.generators))
        budget = self.config.budget
        if self.steps >= self._due and len(self.memory) > self.config.fragment and (
                budget is None or self.asked + self.config.pairs <= budget):
            self._due = self.steps + self.config.every
            self.round()

    def round(self) -> None:
        """Compares, and fits."""
        said = self.annotator(self.pairs())
        self.rounds += 1
        self.asked += self.config.pairs
        self._count(said)
        self.answers = [*self.answers, said][-self.config.remember:]
        joined = self.answers[0] if len(self.answers) == 1 else Preferences.cat(self.answers)
        c = self.trainer.config
        if not len(evidence(joined, c.ties)):
            return  # nobody could decide: the reward stays as it is
        data = pair_data(self.reward, joined, over=c.over, discount=c.discount, level_scale=c.level_scale, ties=c.ties)
        loss_K = self.trainer.updates(data, self.config.updates)
        self.trainer.standardise(data)
        self._said["preferences/loss"] = loss_K.view(self.reward.G, -1).mean(1)

    def pairs(self) -> Preferences:
        """The fragments of this round, all pairs of each batch, not labelled yet."""
        c, P = self.config, len(self.noise.generators)
        each = c.batches * c.fragments
        row, age = self.memory.draw(self.noise, each, c.fragment)
        store = self.memory.cut(row.flatten(), age.flatten(), c.fragment)
        inside = torch.triu_indices(c.fragments, c.fragments, offset=1).T
        index = (inside + torch.arange(P * c.batches)[:, None, None] * c.fragments).reshape(-1, 2)
        return Preferences.of_pairs(store, row=index, length=c.fragment,
                                    group=torch.arange(P).repeat_interleave(c.pairs))

    def _count(self, said: Preferences) -> None:
        share: Float[Tensor, "P n"] = said.known.float().view(self.reward.G, -1)
        self._said = {"preferences/decided": share.mean(1)}
        for level in said.levels():
            here = (said.known & (said.level == level)).float().view(self.reward.G, -1)
            self._said[f"preferences/level_{level}"] = here.mean(1)

    def on_update(self, metrics: dict[str, Tensor], trainer: Trainer) -> None:
        metrics.update(self._said)

    def state_dict(self) -> dict[str, Any]:
        asks = getattr(self.annotator, "state_dict", None)
        return {"memory": self.memory.state_dict(), "trainer": self.trainer.state_dict(),
                "noise": self.noise.state_dict(), "answers": [a.state_dict() for a in self.answers],
                "counts": [self.steps, self.rounds, self.asked, self._due], "said": dict(self._said),
                "annotator": asks() if asks else {}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._begin(list(self.reward.groups) or [0])
        self.memory.load_state_dict(state["memory"])
        self.trainer.load_state_dict(state["trainer"])
        self.noise.load_state_dict(state["noise"])
        self.answers = [Preferences.of_state(a) for a in state["answers"]]
        self.steps, self.rounds, self.asked, self._due = state["counts"]
        self._said = dict(state["said"])
        if state["annotator"]:
            restore: Any = self.annotator
            restore.load_state_dict(state["annotator"])
