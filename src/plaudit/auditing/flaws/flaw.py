"""A planted flaw: a reward with a known fault, its healthy twin on the same task, and what was wanted."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plaudit.auditing.intent import Intent, Reduce
from plaudit.core.functions import reward as as_reward
from plaudit.core.reward import Reward
from plaudit.core.targets import load_target
from plaudit.tasks.base import Task

Function = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Flaw:
    """A reward with a known fault. Made by a template; `flaws()` lists the first sixteen.

    Example:
        >>> from plaudit.auditing.flaws import flaw
        >>> boat = flaw("boat_race")
        >>> boat.statement, boat.caught_by
        ('the boat crosses the finish line', ('exploit', 'incentives'))
    """

    name: str
    statement: str
    """What is wanted, in words."""
    wrong: str
    """What is wrong with the reward, and how it shows."""
    kind: str
    """The family of mistakes that it belongs to, such as `farmed bonus`."""
    make: Callable[[], Task]
    flawed: Function
    """Named fields -> the flawed reward of each step."""
    healthy: Function
    """The same with the flaw repaired, and nothing else."""
    intended: Function
    """Named fields -> what is wanted, step by step."""
    reduce: Reduce
    """How the steps of `intended` make one number for an episode."""
    caught_by: tuple[str, ...]
    """The checks that are right to find it."""
    source: str
    """Where the mistake was seen or described."""
    tags: tuple[str, ...] = ()
    """Of the task: `grid`, `classic` or `mujoco`; and `episode-length`, `terms`, ... of the fault."""
    strength: float = 1.0
    """The number that the template was given."""

    @property
    def target(self) -> str | None:
        """How `plaudit audit` names the flawed reward; None where the template was given other numbers."""
        return _target(self.flawed)

    @property
    def env(self) -> str | None:
        """How `plaudit audit --env` names the task; None where the template was given another."""
        return _target(self.make)

    def task(self) -> Task:
        """The environment."""
        return self.make()

    def reward(self) -> Reward:
        """The flawed reward."""
        return as_reward(self.flawed, name=f"{self.name}, flawed")

    def twin(self) -> Reward:
        """The healthy reward of the same task."""
        return as_reward(self.healthy, name=f"{self.name}, healthy")

    def intent(self) -> Intent:
        """What is wanted, as a number for each episode."""
        text = _target(self.intended)
        return Intent(f"{text or self.name}:{self.reduce}", self.statement,
                      as_reward(self.intended, name=f"{self.name}, intended"), self.reduce,
                      target=load_target(text) if text else None)


def bound(fn: Function, **options: Any) -> Function:
    """The function with some keywords fixed; itself where they are its defaults, so that it keeps its name."""
    defaults = inspect.signature(fn).parameters
    changed = {k: v for k, v in options.items() if defaults[k].default != v}
    return functools.partial(fn, **changed) if changed else fn


def _target(fn: Callable[..., Any]) -> str | None:
    name = getattr(fn, "__qualname__", "")
    return f"{fn.__module__}:{name}" if name.isidentifier() else None
