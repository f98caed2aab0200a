"""A planted flaw: a reward with a known fault, its healthy twin on the same task, and what was wanted."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from plaudit.auditing.intent import Intent, Reduce
from plaudit.core.functions import reward as as_reward
from plaudit.core.reward import Reward
from plaudit.core.targets import load_target
from plaudit.tasks.base import Task

Function = Callable[..., Any]
Split = Literal["tuned", "fresh", ""]
NAMED = "plaudit.auditing.flaws.named"
"""The module whose attributes are the members of the collection, so that a target can name one."""


@dataclass(frozen=True, kw_only=True)
class Flaw:
    """A reward with a known fault. Made by a template; `flaws()` lists the collection.

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

    split: Split = ""
    """`tuned`: thresholds of the checks were chosen while looking at it. `fresh`: they were not. Empty: it is not
    of the collection, and was made by a template with other numbers."""

    @property
    def target(self) -> str | None:
        """How `plaudit audit` names the flawed reward; None where it is not of the collection."""
        return self._target("flawed")

    @property
    def env(self) -> str | None:
        """How `plaudit audit --env` names the task; None where it is not of the collection."""
        return self._target("make")

    @property
    def wanted(self) -> str | None:
        """How `plaudit audit --intent` names what is wanted; None where it is not of the collection."""
        text = self._target("intended")
        return f"{text}:{self.reduce}" if text else None

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
        return intent_of(self.intended, self.reduce, self.statement, name=self.name, target=self._target("intended"))

    def _target(self, part: str) -> str | None:
        return target_of(getattr(self, part)) or (f"{NAMED}:{slug(self.name)}.{part}" if self.split else None)


def intent_of(intended: Function, reduce: Reduce, statement: str, *, name: str, target: str | None) -> Intent:
    """An intent with its words, and the target that names it where there is one."""
    return Intent(f"{target or name}:{reduce}", statement, as_reward(intended, name=f"{name}, intended"), reduce,
                  target=load_target(target) if target else None)


def slug(name: str) -> str:
    """The name as an identifier.

    Example:
        >>> slug("paid_survival/Walker2d-v5/0.02")
        'paid_survival_Walker2d_v5_0_02'
    """
    return re.sub(r"\W", "_", name)


def bound(fn: Function, **options: Any) -> Function:
    """The function with some keywords fixed; itself where they are its defaults, so that it keeps its target."""
    defaults = inspect.signature(fn).parameters
    changed = {k: v for k, v in options.items() if defaults[k].default != v}
    if not changed:
        return fn
    return fixed(fn, **changed)


def fixed(fn: Function, *values: Any, **options: Any) -> Function:
    """The function with some arguments fixed, under its name and its module's: a witness may load what is ours."""
    out = functools.partial(fn, *values, **options)
    vars(out).update(__name__=getattr(fn, "__name__", "reward"), __module__=fn.__module__)
    return out


def target_of(fn: Callable[..., Any]) -> str | None:
    """`module:name` of a function at the top of a module; None for others."""
    name = getattr(fn, "__qualname__", "")
    return f"{fn.__module__}:{name}" if name.isidentifier() else None
