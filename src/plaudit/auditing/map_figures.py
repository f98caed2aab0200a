"""The figures of `plaudit.auditing.maps`: heat maps with contours, histograms, correlations, shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from plaudit.auditing.maps import TOTAL, RewardMap, TermStatistics
from plaudit.core import drawing
from plaudit.core.drawing import BLUE, GREY, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Decorate = Callable[["Axes"], None]
"""Draws lines, goals and other things on top of a map."""


def draw_maps(maps: Mapping[str, RewardMap] | RewardMap, *, names: Sequence[str] | None = None,
              decorate: Decorate | None = None, columns: int = 4, title: str = "") -> Figure:
    """A heat map with contours for each term and the whole, every map of one row on a scale of its own.

    Args:
        maps: One map, or several by title: each gets rows of its own.
        names: Which terms; None draws all, the whole first.
        decorate: Called with each map's axes.
        columns: Maps beside each other.
        title: Over the figure.
    """
    from matplotlib.figure import Figure

    by_title = {"": maps} if isinstance(maps, RewardMap) else dict(maps)
    panels = [(label, name, m) for label, m in by_title.items() for name in _chosen(m, names)]
    rows = sum(math.ceil(len(_chosen(m, names)) / columns) for m in by_title.values())
    first = panels[0][2]
    shape = np.ptp(first.y) / np.ptp(first.x)
    figure = Figure(figsize=(3.1 * columns, (2.6 * min(shape, 1.7) + 0.55) * rows + 0.35), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    cells = iter([(r, c) for r in range(rows) for c in range(columns)])
    used: set[tuple[int, int]] = set()
    for label, m in by_title.items():
        for name in _chosen(m, names):
            cell = next(cells)
            used.add(cell)
            _draw_map(grid[cell], m, name, f"{label}: {name}" if label else name, decorate)
        while len(used) and (len(used) % columns) and label != list(by_title)[-1]:
            cell = next(cells)
            used.add(cell)
            grid[cell].axis("off")
    for cell in cells:
        grid[cell].axis("off")
    if title:
        figure.suptitle(title, color=INK, fontsize=11, fontweight="bold")
    return figure


def draw_statistics(found: TermStatistics, *, title: str = "") -> Figure:
    """Histograms of the terms, their correlations, and their shares of the return."""
    figure, (left, middle, right) = drawing.panels(13.5, 0.42 * len(found.names) + 2.6, columns=3,
                                                   widths=[1.2, 1.2, 1.0])
    _draw_histograms(left, found)
    _draw_correlation(middle, found)
    _draw_shares(right, found)
    words = f"{found.steps:,} steps of {found.episodes:,} episodes" + (
        f", {found.unknown:,} unknown left out" if found.unknown else "")
    figure.suptitle(f"{title} ({words})" if title else words, color=INK, fontsize=10)
    return figure


def _chosen(m: RewardMap, names: Sequence[str] | None) -> list[str]:
    every = m.everything()
    order = [n for n in every if n == TOTAL] + [n for n in every if n != TOTAL]
    return [n for n in order if names is None or n in names]


def _draw_map(axes: Axes, m: RewardMap, name: str, title: str, decorate: Decorate | None) -> None:
    value = np.ma.masked_invalid(m.everything()[name])
    most = float(np.abs(value).max()) or 1.0
    mesh = axes.pcolormesh(m.x, m.y, value, cmap="RdBu_r", vmin=-most, vmax=most, shading="nearest", rasterized=True)
    if float(value.max()) > float(value.min()):
        levels = np.linspace(float(value.min()), float(value.max()), 9)[1:-1]
        axes.contour(m.x, m.y, value, levels=levels, colors=INK, linewidths=0.4, alpha=0.6)
        if float(value.min()) < 0 < float(value.max()):
            axes.contour(m.x, m.y, value, levels=[0.0], colors=INK, linewidths=1.1)
    bar = axes.figure.colorbar(mesh, ax=axes, shrink=0.75, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    axes.set_aspect("equal")
    axes.set_title(title, fontsize=9, color=INK)
    axes.tick_params(labelsize=7, colors=GREY)
    axes.spines[:].set_visible(False)
    if decorate is not None:
        decorate(axes)


def _draw_histograms(axes: Axes, found: TermStatistics) -> None:
    for row, name in enumerate(reversed(found.names)):
        counts, edges = np.array(found.histogram[name], dtype=float), np.array(found.edges[name])
        span = max(float(np.abs(edges).max()), 1e-12)
        height = 0.85 * np.sqrt(counts / counts.max())
        axes.fill_between(np.repeat(edges, 2)[1:-1] / span, row, row + np.repeat(height, 2), color=BLUE, alpha=0.75,
                          lw=0)
        axes.annotate(f"largest {span:.3g}", (1.02, row + 0.1), fontsize=7, color=GREY)
    axes.axvline(0, color=GREY, lw=0.7)
    axes.set_yticks(np.arange(len(found.names)) + 0.2, list(reversed(found.names)))
    axes.set_xlim(-1.05, 1.35)
    axes.set_xlabel("what a step is paid, each on its own scale (root of counts)")
    drawing.title(axes, "Distribution over steps")


def _draw_correlation(axes: Axes, found: TermStatistics) -> None:
    values = np.array(found.correlation, dtype=float)
    axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
    for i, row in enumerate(values):
        for j, v in enumerate(row):
            axes.annotate("" if math.isnan(v) else f"{v:.2f}", (j, i), ha="center", va="center", fontsize=7,
                          color="white" if abs(v) > 0.6 else INK)
    axes.set_xticks(range(len(found.names)), list(found.names), rotation=40, ha="right")
    axes.set_yticks(range(len(found.names)), list(found.names))
    drawing.title(axes, "Correlation over steps")


def _draw_shares(axes: Axes, found: TermStatistics) -> None:
    terms = [n for n in found.names if n != TOTAL]
    y = np.arange(len(terms))[::-1]
    axes.barh(y, found.share[:len(terms)], color=BLUE, height=0.6)
    for at, share, signed in zip(y, found.share, found.signed, strict=False):
        axes.annotate(f"{share:.0%}, return {signed:+.3g}", (share, at), xytext=(4, 0), textcoords="offset points",
                      va="center", fontsize=8, color=INK)
    axes.set_yticks(y, terms)
    axes.set_xlim(0, max([*found.share[:len(terms)], 0.01]) * 1.6)
    drawing.title(axes, "Share of the return")
