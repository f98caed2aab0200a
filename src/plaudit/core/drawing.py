"""How plaudit's figures look: one palette, panels without ballast, titles. matplotlib is imported when one is drawn.

The pages of an audit have colours of their own, those of their style sheet (`plaudit.auditing.report.figures`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#2a6f97", "#e07a3f", "#5a8f5a", "#8a5a83"
"""Blue is the method that a figure is about, orange its rival."""
GREY, INK = "#9aa5ad", "#22313a"
"""Grey is a baseline; ink is text, and what is exact or true."""
GRID = "#e6eaec"
LABELS, TITLES = 8.5, 10.5
"""Sizes of type."""
LEGEND: Mapping[str, Any] = {"frameon": False, "fontsize": 8}
"""How a legend is drawn: `axes.legend(**LEGEND, loc="upper left")`."""


def panels(width: float, height: float, *, rows: int = 1, columns: int = 1, widths: Sequence[float] | None = None,
           grid: Literal["", "x", "y", "both"] = "") -> tuple[Figure, list[Axes]]:
    """An empty figure and its panels, row by row.

    Args:
        width: of the figure, in inches.
        height: likewise.
        rows: of panels.
        columns: of panels.
        widths: of the columns, relative to each other; equal by default.
        grid: lines of which axes; none by default.

    Example:
        >>> figure, (left, right) = panels(9, 4, columns=2)
        >>> title(left, "Where it began")
        >>> left.get_title(), right.spines["top"].get_visible()
        ('Where it began', False)
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.06))
    every = [axes for row in figure.subplots(rows, columns, width_ratios=widths, squeeze=False) for axes in row]
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=LABELS)
        axes.xaxis.label.set_size(LABELS)
        axes.yaxis.label.set_size(LABELS)
        if grid:
            axes.grid(axis=grid, color=GRID, lw=0.8)
            axes.set_axisbelow(True)
    return figure, every


def title(axes: Axes, text: str) -> None:
    """What a panel is about, in a few words."""
    axes.set_title(text, {"fontsize": TITLES, "color": INK, "fontweight": "bold"})  # pyright: ignore[reportUnknownMemberType]
