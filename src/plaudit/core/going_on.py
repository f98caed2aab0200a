"""Whether a run goes on with the rewards that it began with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.reward import Reward
from plaudit.core.saving import reward_spec

Marks = Mapping[str, Any]
"""By the name of each reward what tells it from another, as JSON; None where it cannot be written down."""

_NO_DIFFERENCE = ("path", "mode", "probed_on", "time_limit_s")
"""Where a function lies and how it is called: not what it pays."""


def marks_of(rewards: Iterable[Reward]) -> Marks:
    """How each reward is made, with the hashes of the code that is not plaudit's own.

    What a reward has learnt is no part of it: a checkpoint holds that.

    Example:
        >>> from plaudit.core.algebra import Constant
        >>> marks_of([Constant(2.0).named("two")])
        {'two': {'kind': 'constant', 'value': 2.0, 'name': 'two'}}
    """
    return {reward.name: _mark(reward) for reward in rewards}


def refuse_other_rewards(now: Marks, before: Marks | None) -> None:
    """Refuses to go on with a reward that has changed; `before` is None in older checkpoints, which say nothing.

    Raises:
        BadInput: naming the reward.
    """
    for name, mark in now.items():
        old = (before or {}).get(name)
        if old is None or old == mark:
            continue
        code = mark is not None and _without(old, "sha256") == _without(mark, "sha256")
        raise BadInput(f"reward {name}", expected="the reward of the interrupted run",
                       received="one whose file has changed since" if code else "another one of this name",
                       fix="resume with the same reward, or begin in another folder")


def _mark(reward: Reward) -> Any:
    try:
        return json.loads(json.dumps(_named(reward_spec(reward))))
    except Unsupported:
        return None


def _named(spec: Any) -> Any:
    """A spec without what makes no difference to what is paid; code by its name and hash, wherever it lies."""
    if isinstance(spec, list):
        return [_named(part) for part in cast("list[Any]", spec)]
    if not isinstance(spec, Mapping):
        return spec
    found = {k: _named(v) for k, v in cast("Mapping[str, Any]", spec).items() if k not in _NO_DIFFERENCE}
    if "target" in found and found.get("sha256"):
        if str(found["target"]).startswith("plaudit."):
            del found["sha256"]  # a new version of plaudit may go on
        else:
            found["target"] = str(found["target"]).rpartition(":")[2]
    return found


def _without(spec: Any, name: str) -> Any:
    if isinstance(spec, list):
        return [_without(part, name) for part in cast("list[Any]", spec)]
    if not isinstance(spec, Mapping):
        return spec
    return {k: _without(v, name) for k, v in cast("Mapping[str, Any]", spec).items() if k != name}
