"""What the figures of the zoo share: intervals, rows of them by name, curves with a band; and the look of them all.

A module's figure is `figure, axes = panels(...)`, then a function for each panel, which ends in `title(axes, "...")`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from plaudit.core.drawing import BLUE, GREEN, GREY, GRID, INK, LEGEND, ORANGE, PURPLE, panels, title
from plaudit.core.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BLUE", "GREEN", "GREY", "GRID", "INK", "LEGEND", "ORANGE", "PURPLE", "Series", "band", "interval",
           "interval_rows", "panels", "title"]


def interval(axes: Axes, value: Interval, at: float, *, colour: str = BLUE, marker: str = "o", upright: bool = False,
             hollow: bool = False, label: str | None = None) -> None:
    """A mean with its interval, as a dot on a bar; only the dot where the interval is unknown.

    Args:
        axes: where.
        value: along the x axis.
        at: where on the y axis.
        colour: of both.
        marker: of the mean, as matplotlib names them.
        upright: exchanges the axes.
        hollow: draws the mean as a ring.
        label: for the legend.
    """
    ends = (value.low, value.high) if math.isfinite(value.low) and math.isfinite(value.high) else (value.mean,) * 2
    for numbers, how in ((ends, {"color": colour, "lw": 2.5, "solid_capstyle": "round"}),
                         ((value.mean,), {"marker": marker, "ls": "", "ms": 6, "mec": colour, "label": label,
                                          "mfc": "white" if hollow else colour})):
        places = (at,) * len(numbers)
        axes.plot(*((places, numbers) if upright else (numbers, places)), **how)


@dataclass(frozen=True, kw_only=True)
class Series:
    """One interval for each row of `interval_rows`."""

    values: Sequence[Interval]
    colour: str | Sequence[str] = BLUE
    """Of all, or of each."""
    label: str | None = None
    """For the legend."""
    marker: str = "o"
    hollow: bool = False


def interval_rows(axes: Axes, names: Sequence[str], *series: Series, apart: float = 0.26) -> None:
    """A row for each name, from the top down, and in each row the intervals of all series, one under another.

    Args:
        axes: where; row i of n has its middle at y = n - 1 - i.
        names: of the rows.
        series: what stands in them.
        apart: how far the intervals of one row are from each other.

    Example:
        >>> _, (axes,) = panels(4, 3)
        >>> ours = Series(values=[Interval(0.5, 0.4, 0.6, 9), Interval(0.2, 0.1, 0.3, 9)], label="ours")
        >>> interval_rows(axes, ["new", "old"], ours)
        >>> [text.get_text() for text in axes.get_yticklabels()]  # from the bottom
        ['old', 'new']
    """
    for k, one in enumerate(series):
        shift = apart * ((len(series) - 1) / 2 - k)
        colours = [one.colour] * len(names) if isinstance(one.colour, str) else one.colour
        for i, (_, value, colour) in enumerate(zip(names, one.values, colours, strict=True)):
            interval(axes, value, len(names) - 1 - i + shift, colour=colour, marker=one.marker, hollow=one.hollow,
                     label=one.label if i == 0 else None)
    axes.set_yticks(range(len(names)), list(reversed(names)))


def band(axes: Axes, x: ArrayLike, middle: ArrayLike, low: ArrayLike, high: ArrayLike, *, colour: str,
         ls: str = "-", label: str | None = None) -> None:
    """A curve with its band; NaN or None is where it is unknown."""
    low, high = (np.asarray(edge, dtype=np.float64) for edge in (low, high))
    axes.fill_between(np.asarray(x), low, high, color=colour, alpha=0.14, lw=0)
    axes.plot(x, middle, color=colour, lw=1.9, ls=ls, label=label)
