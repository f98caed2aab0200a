"""The rewards that the record audits, by name: `flaw:NAME` and `healthy:NAME`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from plaudit.auditing.flaws import flaw, flaws, healthy, healthy_reward
from plaudit.auditing.intent import Intent
from plaudit.core.errors import BadInput
from plaudit.core.reward import Reward
from plaudit.tasks.base import Task

WORLDS = ("grid", "classic", "mujoco")
"""From the cheapest to the dearest; Box2D stands with MuJoCo."""
_SAME = {"box2d": "mujoco"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A reward of the record, and what is known of it."""

    name: str
    """`flaw:NAME` or `healthy:NAME`."""
    family: str
    """Of a flaw the kind of mistake; of a healthy reward where it comes from."""
    world: str
    """One of `WORLDS`."""
    split: str = ""
    """Of a flaw: `tuned` if thresholds were chosen while looking at it, else `fresh`."""
    caught_by: tuple[str, ...] = ()
    """Of a flaw: the checks that are right to find it."""

    @property
    def flawed(self) -> bool:
        return self.name.startswith("flaw:")

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {**asdict(self), "caught_by": list(self.caught_by)}


def entries() -> list[Entry]:
    """All flaws, then all healthy rewards.

    Example:
        >>> first = entries()[0]
        >>> first.name, first.world, first.flawed
        ('flaw:boat_race', 'grid', True)
    """
    planted = [Entry(name=f"flaw:{f.name}", family=f.kind, world=_world(f.tags), split=f.split, caught_by=f.caught_by)
               for f in flaws()]
    return [*planted, *(Entry(name=f"healthy:{h.name}", family=h.origin, world=_world(h.tags)) for h in healthy())]


def chosen(names: Sequence[str] | None, among: Sequence[Entry] | None = None) -> list[Entry]:
    """The entries of these names, or all.

    Args:
        names: in the order wanted; None takes all.
        among: which there are; by default the rewards of control.

    Raises:
        BadInput: when there is none of a name.
    """
    known = {e.name: e for e in (entries() if among is None else among)}
    strange = [n for n in names or () if n not in known]
    if strange:
        raise BadInput("names", expected=f"flaw:NAME or healthy:NAME of the collection, such as {next(iter(known))}",
                       received=", ".join(strange))
    return list(known.values()) if names is None else [known[n] for n in names]


def in_order(entries: Sequence[Entry], *, cheap_first: bool) -> list[Entry]:
    """A fixed order that looks random, so that what is finished early is a fair sample; or so within each world."""
    place = {w: i for i, w in enumerate(WORLDS)}
    mixed = {e.name: hashlib.sha256(e.name.encode()).hexdigest() for e in entries}
    return sorted(entries, key=lambda e: (place[e.world] if cheap_first else 0, mixed[e.name]))


def make(name: str) -> tuple[Reward, Task, Intent]:
    """The reward, its task and its intent."""
    kind, _, rest = name.partition(":")
    made = flaw(rest) if kind == "flaw" else healthy_reward(rest)
    return made.reward(), made.task(), made.intent()


def _world(tags: Sequence[str]) -> str:
    return next(w for t in tags if (w := _SAME.get(t, t)) in WORLDS)
