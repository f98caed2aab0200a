"""The healthy set: rewards on which every finding of the highest severity is one too many.

Three kinds: the twins of the planted flaws, exact potential shapings of sound rewards (Ng, Harada and Russell 1999),
and those of Gymnasium's own rewards that are sound for a named intent.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from plaudit.auditing.flaws.collection import flaws
from plaudit.auditing.flaws.flaw import NAMED, Flaw, Function, intent_of, slug, target_of
from plaudit.auditing.intent import Intent, Reduce
from plaudit.core.errors import BadInput
from plaudit.core.functions import EnvReward
from plaudit.core.functions import reward as as_reward
from plaudit.core.reward import Reward
from plaudit.tasks.base import Task

Origin = Literal["twin", "shaping", "gymnasium"]


@dataclass(frozen=True, kw_only=True)
class Healthy:
    """A reward without a known fault, for a named intent.

    Example:
        >>> pole = healthy_reward("gymnasium/CartPole-v1")
        >>> pole.statement, pole.origin
        ('the pole stays up', 'gymnasium')
    """

    name: str
    statement: str
    """What is wanted, in words."""
    origin: Origin
    make: Callable[[], Task]
    paid: Function | None
    """Named fields -> the reward of each step; None for the environment's own."""
    intended: Function
    reduce: Reduce
    source: str
    """Why it is thought to be sound, or where it comes from."""
    tags: tuple[str, ...] = ()
    twin_of: tuple[str, ...] = ()
    """The flaws whose healthy twin this is: those of several strengths share one."""

    @property
    def target(self) -> str | None:
        """How `plaudit audit` names the reward; None for an environment's own."""
        if self.paid is None:
            return None
        return target_of(self.paid) or f"{NAMED}:{slug(self.name)}.paid"

    @property
    def env(self) -> str:
        """How `plaudit audit` names the task."""
        return target_of(self.make) or f"{NAMED}:{slug(self.name)}.make"

    @property
    def wanted(self) -> str:
        """How `plaudit audit --intent` names what is wanted."""
        return f"{self._intended()}:{self.reduce}"

    def task(self) -> Task:
        """The environment."""
        return self.make()

    def reward(self) -> Reward:
        """The reward."""
        return EnvReward() if self.paid is None else as_reward(self.paid, name=self.name)

    def intent(self) -> Intent:
        """What is wanted, as a number for each episode."""
        return intent_of(self.intended, self.reduce, self.statement, name=self.name, target=self._intended())

    def _intended(self) -> str:
        return target_of(self.intended) or f"{NAMED}:{slug(self.name)}.intended"


def healthy() -> list[Healthy]:
    """The healthy set: each different twin once, then shapings, then Gymnasium's.

    Example:
        >>> len(healthy()) >= 60, healthy()[0].name
        (True, 'twin/boat_race')
    """
    return list(_all())


def healthy_reward(name: str) -> Healthy:
    """The healthy reward of that name.

    Raises:
        BadInput: when there is none, with close matches.

    Example:
        >>> healthy_reward("twin/boat_race").twin_of
        ('boat_race', 'boat_race/1.2')
    """
    by_name = {h.name: h for h in healthy()}
    if name not in by_name:
        near = difflib.get_close_matches(name, by_name, 3)
        raise BadInput("healthy reward", expected=f"the name of one of the {len(by_name)} healthy rewards",
                       received=name, fix=f"did you mean {', '.join(near)}?" if near else "docs/flaws.md lists them")
    return by_name[name]


def healthy_by_slug(name: str) -> Healthy | None:
    """The healthy reward whose name, as an identifier, is this; None where there is none."""
    return next((h for h in healthy() if slug(h.name) == name), None)


@cache
def _all() -> tuple[Healthy, ...]:
    """Made once: they are functions without a memory."""
    from plaudit.auditing.flaws.shaped import shapings
    from plaudit.auditing.flaws.standard import standard_rewards

    return (*_twins(), *shapings(), *standard_rewards())


def _twins() -> list[Healthy]:
    same: dict[Any, list[Flaw]] = {}
    for f in flaws():
        same.setdefault(tuple(map(_identity, (f.make, f.healthy, f.intended))), []).append(f)
    return [Healthy(name=f"twin/{fs[0].name}", statement=fs[0].statement, origin="twin", make=fs[0].make,
                    paid=fs[0].healthy, intended=fs[0].intended, reduce=fs[0].reduce, tags=fs[0].tags,
                    source=f"{fs[0].name} with the fault repaired", twin_of=tuple(f.name for f in fs))
            for fs in same.values()]


def _identity(fn: Any) -> Any:
    """Equal for functions that are equal, also where a partial was made twice."""
    inner = getattr(fn, "func", None)
    return fn if inner is None else (inner, fn.args, tuple(sorted(fn.keywords.items())))
