"""Audits whose behaviours are written by hand, so that what the checks should find is known."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from plaudit.auditing.audit import audit
from plaudit.auditing.context import AuditContext
from plaudit.auditing.intent import Intent, info_intent
from plaudit.auditing.report.model import AuditReport
from plaudit.core.reward import Reward
from plaudit.core.tree import leaves
from plaudit.optimize.behaviours import Behaviour, Budget, Found
from plaudit.tasks.base import Task
from plaudit.tasks.policy import Policy, RandomPolicy
from plaudit.tasks.rollouts import rollout

SEEDS = [11, 12, 13, 14, 15, 16, 17, 18]


class Moves:
    """Takes the moves of a plan in turn; the last `loop` of them again and again."""

    def __init__(self, plan: Sequence[int], *, loop: int = 1) -> None:
        self.plan, self.loop = list(plan), loop

    def start(self, rows: int) -> int:
        return rows

    def act(self, obs, carry: int, *, step: int):
        n = len(self.plan)
        i = step if step < n else n - self.loop + (step - n) % self.loop
        return torch.full((carry,), self.plan[i]), carry


class Rule:
    """Acts by a function of the observations [B, D]."""

    def __init__(self, fn: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.fn = fn

    def start(self, rows: int) -> None:
        return None

    def act(self, obs, carry: None, *, step: int):
        return self.fn(obs), None


@dataclass(kw_only=True)
class ByHand(AuditContext):
    """A context whose searches find what the test says."""

    finds: dict[str, list[Behaviour]] = field(default_factory=dict)

    def search(self, reward: Reward, *, share: str, plan_for: Reward | None = None) -> Found:
        behaviours = self.finds.get(share, [])
        steps = sum(int(b.episodes.mask.sum()) for b in behaviours)
        self.spent[share] = steps
        return Found(behaviours=behaviours, reward=reward, steps=steps, plan={}, budget=Budget(steps=10_000))


def behave(task: Task, name: str, policy: Policy, *, seeds: Sequence[int] = SEEDS, effort: int = 0) -> Behaviour:
    """A behaviour with one episode a seed."""
    return Behaviour(name=name, origin="scripted", policy=policy, seeds=list(seeds), effort=effort,
                     episodes=rollout(task, policy, seeds=seeds))


@pytest.fixture
def by_hand() -> Callable[..., ByHand]:
    """Makes a context: `by_hand(task, reward, found={name: policy}, intended={name: policy})`."""

    def make(task: Task, reward: Reward, *, found: Mapping[str, Policy], intended: Mapping[str, Policy] | None = None,
             fix: Mapping[str, Policy] | None = None, intent: Intent | None | str = "is_success", **options) -> ByHand:
        aim = info_intent(intent) if isinstance(intent, str) else intent
        finds = {share: [behave(task, name, policy, effort=100 * i) for i, (name, policy) in enumerate(some.items())]
                 for share, some in (("reward", found), ("intent", intended or {}), ("fix", fix or {}))}
        wander = RandomPolicy(task.action_space, seeds=3)
        finds["reward"].append(behave(task, "random actions", wander))
        return ByHand(task=task, reward=reward, intent=aim, finds=finds, **options)

    return make


@pytest.fixture
def moves() -> type[Moves]:
    return Moves


@pytest.fixture
def rule() -> type[Rule]:
    return Rule


@pytest.fixture
def flat_obs() -> Callable[..., torch.Tensor]:
    return lambda obs: torch.cat([x for _, x in leaves(obs)], -1)


@pytest.fixture(scope="session")
def empty_report(tmp_path_factory) -> AuditReport:
    """The report of an audit that looked at next to nothing: what else stands in it is up to the test."""
    folder = tmp_path_factory.mktemp("harbour")
    shutil.copy(Path(__file__).with_name("boat_world.py"), folder / "boat.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        report = audit("boat.py:progress", env="boat.py:Boat", intent="info:is_success", steps=1000, only=["distance"])
        return replace(report, target=str(folder / "boat.py:progress"))


@pytest.fixture
def harbour(empty_report: AuditReport, monkeypatch) -> Path:
    """The folder of that audit, as the working folder."""
    folder = Path(empty_report.target).parent
    monkeypatch.chdir(folder)
    return folder
