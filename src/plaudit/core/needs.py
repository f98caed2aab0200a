"""What a reward needs from its caller, so that a learner can honour it or refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from plaudit.core.errors import BadInput

Time = Literal["step", "prefix", "episode"]
Across = Literal["row", "group", "batch"]
State = Literal["none", "remembers", "learns"]
Role = Literal["train", "watch", "gold"]

FIELDS = frozenset({"obs", "action", "next_obs", "terminated", "truncated", "env_reward", "info"})


@dataclass(frozen=True)
class Needs:
    """The parts of an episode that a reward reads; joined component by component when rewards are combined.

    Example:
        >>> (Needs(time="prefix") | Needs(across="group")).time
        'prefix'
    """

    time: Time = "step"
    """`step` reads (s, a, s'); `prefix` reads the past too; `episode` needs the whole episode."""
    across: Across = "row"
    """`row` reads each episode alone; `group` the rows of one prompt; `batch` all rows."""
    fields: frozenset[str] = field(default_factory=frozenset[str])
    """The fields of `Episodes` it reads: `obs`, `action`, ..., or `info:KEY`."""
    state: State = "none"
    """`remembers` between calls, or `learns` (then stored numbers are stale and must be recomputed)."""

    def __post_init__(self) -> None:
        for name, kind in (("time", Time), ("across", Across), ("state", State)):
            value = getattr(self, name)
            if value not in get_args(kind):
                raise BadInput(f"needs.{name}", expected=f"one of {get_args(kind)}", received=value)
        object.__setattr__(self, "fields", frozenset(self.fields))
        wrong = {f for f in self.fields if f.split(":", 1)[0] not in FIELDS}
        if wrong:
            raise BadInput("needs.fields", expected=f"names out of {sorted(FIELDS)}", received=sorted(wrong))

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            time=_later(get_args(Time), self.time, other.time),
            across=_later(get_args(Across), self.across, other.across),
            fields=self.fields | other.fields,
            state=_later(get_args(State), self.state, other.state),
        )

    def including(self, *fields: str) -> Needs:
        """The same needs with further fields."""
        return replace(self, fields=self.fields | frozenset(fields))


@dataclass(frozen=True, kw_only=True)
class Reads:
    """The columns of a data set that a reward of texts reads, beside prompt and completion.

    Example:
        >>> sorted((Reads(required=frozenset({"answer"})) | Reads(optional=frozenset({"hint"}))).named)
        ['answer', 'hint']
    """

    required: frozenset[str] = field(default_factory=frozenset[str])
    """Without these it knows nothing."""
    optional: frozenset[str] = field(default_factory=frozenset[str])
    """What it reads where it is there."""
    anything: bool = False
    """It may read whatever there is: it takes keywords, or does not say."""

    def __or__(self, other: Reads) -> Reads:
        return Reads(required=self.required | other.required, optional=self.optional | other.optional,
                     anything=self.anything or other.anything)

    @property
    def named(self) -> frozenset[str]:
        """All that it names."""
        return self.required | self.optional

    def to_json(self) -> dict[str, Any]:
        """As a server says it.

        Example:
            >>> Reads.of_json(Reads(required=frozenset({"answer"})).to_json()).required
            frozenset({'answer'})
        """
        return {"required": sorted(self.required), "optional": sorted(self.optional), "anything": self.anything}

    @staticmethod
    def of_json(data: Mapping[str, Any]) -> Reads:
        """The inverse of `to_json`."""
        return Reads(required=frozenset(map(str, data["required"])), optional=frozenset(map(str, data["optional"])),
                     anything=data["anything"] is True)


def _later(order: tuple[Any, ...], a: str, b: str) -> Any:
    return order[max(order.index(a), order.index(b))]
