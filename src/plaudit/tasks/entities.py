"""Which numbers of an observation belong to which thing: what a network needs that attends to things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from plaudit.core.errors import BadInput


@dataclass(frozen=True)
class Kind:
    """Things of one kind, each with the same quantities in the same order.

    Args:
        columns: For each thing, where its numbers lie in the observation.
        constants: For each thing, what is true of it always (such as its place), about [-1, 1]; or nothing.

    Raises:
        BadInput: without things, or when they have different numbers of columns or constants.

    Example:
        >>> Kind(columns=((4, 5), (6, 7)), constants=((0.5,), (-0.5,))).width
        3
    """

    columns: tuple[tuple[int, ...], ...]
    constants: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.columns or len({len(c) for c in self.columns}) > 1:
            raise BadInput("columns", expected="the same number of columns for each thing", received=self.columns)
        if self.constants and (len(self.constants) != len(self.columns) or len({len(c) for c in self.constants}) > 1):
            raise BadInput("constants", expected=f"as many numbers for each of {len(self.columns)} things, or nothing",
                           received=self.constants)

    @property
    def width(self) -> int:
        """How many numbers describe one of them."""
        return len(self.columns[0]) + (len(self.constants[0]) if self.constants else 0)


@dataclass(frozen=True)
class Entities:
    """An observation as one who looks and the things that it looks at; a task says so as its attribute `entities`.

    Example:
        >>> from plaudit.tasks.car_soccer import CarSoccer
        >>> {name: len(kind.columns) for name, kind in CarSoccer().entities.kinds.items()}
        {'ball': 1, 'cars': 1, 'pads': 6}
    """

    query: tuple[int, ...]
    """The columns of the one who looks: its own body, and perhaps what it did last."""
    kinds: Mapping[str, Kind]
    """The things by kind."""
