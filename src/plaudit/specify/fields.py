"""Named quantities of an episode: where a position, a velocity or an event lies, and in which unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.tree import Tree, from_leaves, leaves

_HEADS = ("obs", "next_obs", "action", "info")


@dataclass(frozen=True)
class Field:
    """A quantity of k numbers that the episodes hold.

    Args:
        source: `obs`, `next_obs`, `action`, `obs/ball/position` (a dictionary's leaf), or `info:touch`.
        columns: Which numbers of the last axis; None takes all.
        unit: What to multiply them by.

    Raises:
        BadInput: for another source, or a unit that is not finite.

    Example:
        >>> ball = Field("obs", (2, 3), unit=10.0)
        >>> e = Episodes.of_steps(obs=torch.arange(4.0).view(1, 4), action=torch.zeros(1), next_obs=torch.ones(1, 4))
        >>> ball.read(e).tolist(), ball.after.read(e).tolist()
        ([[[20.0, 30.0]]], [[[10.0, 10.0]]])
    """

    source: str
    columns: tuple[int, ...] | None = None
    unit: float = 1.0

    def __post_init__(self) -> None:
        if self.head not in _HEADS or (self.head == "info") != (":" in self.source):
            raise BadInput("source", expected=f"one of {', '.join(_HEADS[:3])}, a path such as obs/ball, or info:KEY",
                           received=self.source)
        if not math.isfinite(self.unit):
            raise BadInput("unit", expected="a finite number", received=self.unit)
        if self.columns is not None:
            object.__setattr__(self, "columns", tuple(int(c) for c in self.columns))

    @property
    def head(self) -> str:
        return self.source.split(":")[0].split("/")[0]

    @property
    def need(self) -> str:
        """What `Needs.fields` calls it."""
        return self.source if self.head == "info" else self.head

    @property
    def after(self) -> Field:
        """The same quantity after the step: in `next_obs` instead of `obs`."""
        if self.head != "obs":
            raise BadInput("source", expected="a field of obs", received=self.source)
        return replace(self, source="next_" + self.source)

    def read(self, episodes: Episodes) -> Float[Tensor, "B T k"]:
        """The numbers; a field [B, T] has k = 1.

        Raises:
            BadInput: when the episodes lack the field or its columns.
        """
        if self.head == "info":
            key = self.source.split(":", 1)[1]
            if key not in episodes.info:
                raise BadInput(f"info:{key}", expected=f"one of {sorted(episodes.info)}", received="none")
            leaf: Any = episodes.info[key]
        else:
            leaf = getattr(episodes, self.head)
            for part in self.source.split("/")[1:]:
                if not isinstance(leaf, Mapping) or part not in leaf:
                    raise BadInput(self.source, expected="a path in the observation", received=part)
                leaf = leaf[part]
        if not isinstance(leaf, Tensor):
            raise BadInput(self.source, expected="a path down to numbers", received=f"a dictionary of {sorted(leaf)}")
        x = leaf if leaf.is_floating_point() else leaf.to(torch.float32)
        x = x.unsqueeze(-1) if x.ndim == 2 else x
        if self.columns is not None:
            if max(self.columns) >= x.shape[-1]:
                raise BadInput(self.source, expected=f"at least {max(self.columns) + 1} numbers",
                               received=x.shape[-1])
            x = _columns(x, self.columns)
        return x if self.unit == 1 else x * self.unit

    def write(self, obs: Tree, values: Float[Tensor, "... k"]) -> Tree:
        """A copy of observations [..., D] in which the quantity is `values` (in its unit); the inverse of `read`.

        Raises:
            BadInput: when the observations lack the field, or the field is none of `obs`.

        Example:
            >>> Field("obs", (1,), unit=10.0).write(torch.zeros(2, 3), torch.tensor([[5.0], [6.0]])).tolist()
            [[0.0, 0.5, 0.0], [0.0, 0.6, 0.0]]
        """
        if self.head not in ("obs", "next_obs"):
            raise BadInput("source", expected="a field of the observations", received=self.source)
        path = "/".join(self.source.split("/")[1:])
        flat = dict(leaves(obs))
        if path not in flat:
            raise BadInput(self.source, expected=f"a path out of {sorted(flat)}", received=path)
        leaf = flat[path].clone()
        columns = range(leaf.shape[-1]) if self.columns is None else self.columns
        if max(columns) >= leaf.shape[-1] or values.shape[-1] != len(columns):
            raise BadInput(self.source, expected=f"{len(columns)} values for numbers out of {leaf.shape[-1]}",
                           received=list(values.shape))
        leaf[..., list(columns)] = values.to(leaf.dtype) / self.unit
        return from_leaves({**flat, path: leaf})

    def spec(self) -> dict[str, Any]:
        """JSON that `as_field` reads."""
        return {"source": self.source, "columns": None if self.columns is None else list(self.columns),
                "unit": self.unit}


Place = Field | Sequence[float]
"""A quantity of the episodes, or fixed numbers such as a goal's position."""


def as_field(thing: Place | str | Mapping[str, Any]) -> Field | tuple[float, ...]:
    """A field as it is or from its spec or source; numbers as a tuple.

    Example:
        >>> as_field("info:touch"), as_field([1, 2])
        (Field(source='info:touch', columns=None, unit=1.0), (1.0, 2.0))
    """
    if isinstance(thing, Field):
        return thing
    if isinstance(thing, str):
        return Field(thing)
    if isinstance(thing, Mapping):
        columns = thing.get("columns")
        return Field(str(thing["source"]), None if columns is None else tuple(columns), float(thing.get("unit", 1.0)))
    numbers = tuple(float(x) for x in thing)
    if not numbers or not all(map(math.isfinite, numbers)):
        raise BadInput("place", expected="a Field or finite numbers", received=thing)
    return numbers


def _columns(x: Tensor, columns: tuple[int, ...]) -> Tensor:
    first = columns[0]
    if columns == tuple(range(first, first + len(columns))):
        return x[..., first:first + len(columns)]
    return x[..., list(columns)]
