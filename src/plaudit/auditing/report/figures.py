"""The figures of a report, as inline SVG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from plaudit.auditing.report.surface import Surface
from plaudit.core.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAID, MEANT, INK, QUIET, GRID = "#c2410c", "#0f766e", "#1f2937", "#6b7280", "#e5e7eb"
ORIGIN_COLOURS = {"random": "#9ca3af", "scripted": "#6366f1", "cem": "#d97706", "qd": "#0891b2", "ppo": "#c026d3",
                  "dqn": "#c026d3", "sac": "#c026d3", "planned": "#16a34a", "given": "#111827", "logged": "#111827"}
TERM_COLOURS = ("#c2410c", "#2563eb", "#0f766e", "#a21caf", "#ca8a04", "#475569", "#be123c", "#4d7c0f")


def effort_curve(points: Sequence[Mapping[str, Any]], *, intent: str, reached: float | None = None) -> str:
    """What the best-paid behaviour so far earns, and what it gives of the intent, as the search goes on.

    `points` have `effort`, `reward` and `intent` (intervals), in the order of the effort. `reached` is
    the intent of the best behaviour that the search for the intent found: a dashed line.
    """
    fig, axes = _figure(7.2, 3.3)
    right = axes.twinx()
    for ax, key, colour, label in ((axes, "reward", PAID, "reward paid"), (right, "intent", MEANT, intent)):
        x = [max(p["effort"], 1) for p in points]
        mean, low, high = (np.array([getattr(p[key], side) for p in points]) for side in ("mean", "low", "high"))
        ax.step(x, mean, where="post", color=colour, lw=2.2, label=label, solid_capstyle="round")
        ax.fill_between(x, np.where(np.isfinite(low), low, mean), np.where(np.isfinite(high), high, mean), step="post",
                        color=colour, alpha=0.15, lw=0)
        ax.plot(x, mean, "o", color=colour, ms=4)
        ax.set_ylabel(label, color=colour)
        ax.tick_params(axis="y", colors=colour)
    if reached is not None and math.isfinite(reached):
        right.axhline(reached, color=MEANT, lw=1.2, ls="--")
        right.annotate("best seen", (0.0, reached), xycoords=("axes fraction", "data"), xytext=(4, 4), fontsize=8,
                       textcoords="offset points", color=MEANT)
    _room(right, [p["intent"].mean for p in points] + ([reached] if reached is not None else []))
    efforts = [max(p["effort"], 1) for p in points]
    if max(efforts) > 30 * min(efforts):
        axes.set_xscale("log")
    axes.set_xlabel("environment steps spent on the search")
    _bare(axes)
    _bare(right, right=True)
    return _svg(fig)


def behaviours_scatter(curve: Sequence[Mapping[str, Any]], *, intent: str, exploit: str | None,
                       wanted: str | None) -> str:
    """Every behaviour as a point: the reward it gets against the intent it serves."""
    fig, axes = _figure(7.2, 3.6)
    for origin, colour in ORIGIN_COLOURS.items():
        chosen = [p for p in curve if p["origin"] == origin]
        if chosen:
            axes.errorbar([p["intent"].mean for p in chosen], [p["reward"].mean for p in chosen],
                          xerr=_bars(chosen, "intent"), yerr=_bars(chosen, "reward"), fmt="o", ms=5, color=colour,
                          alpha=0.75, elinewidth=0.8, label=origin)
    for name, text, colour, side in ((wanted, "what was wanted", MEANT, -21), (exploit, "the exploit", PAID, 13)):
        point = next((p for p in curve if p["name"] == name), None)
        if point:
            axes.plot(point["intent"].mean, point["reward"].mean, "o", ms=13, mfc="none", mec=colour, mew=2.2)
            axes.annotate(text, (point["intent"].mean, point["reward"].mean), xytext=(0, side), color=colour,
                          textcoords="offset points", ha="center", fontsize=9, fontweight="bold")
    axes.set_xlim(*_around([p["intent"].mean for p in curve]))
    axes.set_ylim(*_around([p["reward"].mean for p in curve]))
    axes.set_xlabel(intent)
    axes.set_ylabel("reward paid")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _bare(axes)
    return _svg(fig)


def terms_over_time(runs: Sequence[tuple[str, Mapping[str, np.ndarray]]]) -> str:
    """The running total of what each term paid, for each of a few episodes side by side."""
    fig, panels = _figures(7.2, 2.9, len(runs), sharey=True)
    names = list(dict.fromkeys(n for _, terms in runs for n in terms))
    for ax, (title, terms) in zip(panels, runs, strict=True):
        for i, name in enumerate(names):
            if name in terms:
                ax.plot(np.cumsum(terms[name]), color=TERM_COLOURS[i % len(TERM_COLOURS)], lw=2, label=name)
        if len(terms) > 1:
            ax.plot(np.cumsum(sum(terms.values())), color=INK, lw=1, ls=":", label="all terms")
        ax.axhline(0, color=GRID, lw=1, zorder=0)
        ax.set_title(title, fontsize=10, color=INK, loc="left")
        ax.set_xlabel("step")
        _bare(ax)
    panels[0].set_ylabel("paid so far")
    panels[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _svg(fig)


def surface_map(surfaces: Sequence[Surface]) -> str:
    """The reward (and each of its terms) over two dimensions of the observation, with a path over it."""
    fig, panels = _figures(7.2, 3.1, len(surfaces))
    for ax, surface in zip(panels, surfaces, strict=True):
        top = float(np.nanmax(np.abs(surface.value))) or 1.0
        (left, right), (low, high) = surface.x_range, surface.y_range
        half_x, half_y = ((b - a) / max(n - 1, 1) / 2 for (a, b), n in zip(
            ((left, right), (low, high)), surface.value.shape, strict=True))
        image = ax.imshow(surface.value.T, origin="lower", aspect="auto", cmap="RdBu_r", vmin=-top, vmax=top,
                          extent=(left - half_x, right + half_x, low - half_y, high + half_y), interpolation="nearest")
        if surface.path is not None:
            ax.plot(*surface.path.T, color=INK, lw=1.1, alpha=0.85)
            ax.plot(*surface.path[0], "o", color=INK, ms=4)
        if surface.flip_y:
            ax.invert_yaxis()
        ax.set_title(surface.name, fontsize=10, color=INK, loc="left")
        ax.set_xlabel(surface.x_name)
        ax.set_ylabel(surface.y_name)
        bar = fig.colorbar(image, ax=ax, fraction=0.05, pad=0.03)
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.ax.tick_params(labelsize=7, colors=QUIET, length=0)
        _bare(ax, grid=False)
    return _svg(fig)


def observations_over_time(runs: Sequence[tuple[str, np.ndarray]], names: Sequence[str], *, most: int = 6) -> str:
    """What was seen in each of a few episodes [T, D]: the dimensions that moved most, one under another."""
    both = np.concatenate([obs for _, obs in runs])
    span = both.max(0) - both.min(0)
    kept = sorted(np.argsort(-span / (np.abs(both).max(0) + 1e-9), kind="stable")[:most].tolist())
    from matplotlib.figure import Figure

    fig = Figure(figsize=(7.2, 0.9 * len(kept) + 0.6), layout="constrained")
    grid = fig.subplots(len(kept), len(runs), sharex="col", sharey="row", squeeze=False)
    for column, (title, obs) in enumerate(runs):
        for row, k in enumerate(kept):
            ax = grid[row][column]
            ax.plot(obs[:, k], color=TERM_COLOURS[row % len(TERM_COLOURS)], lw=1.6)
            _bare(ax)
            if column == 0:
                ax.set_ylabel(names[k] if k < len(names) else f"obs[{k}]", rotation=0, ha="right", va="center")
        grid[0][column].set_title(title, fontsize=10, color=INK, loc="left")
        grid[-1][column].set_xlabel("step")
    return _svg(fig)


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Limits that hold all means, with room; error bars may reach beyond."""
    known = [v for v in values if math.isfinite(v)] or [0.0]
    pad = 0.15 * (max(known) - min(known)) or 1.0
    return min(known) - pad, max(known) + pad


def _room(ax: Axes, values: Sequence[float]) -> None:
    """An axis that shows values which hardly differ as equal, instead of magnifying nothing."""
    known = [v for v in values if math.isfinite(v)]
    if known and max(known) - min(known) < 1e-6 * max(1.0, *(abs(v) for v in known)):
        ax.set_ylim(min(known) - 1.05, max(known) + 1.05)
    else:
        ax.margins(y=0.12)


def _bars(points: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    def arms(i: Interval) -> tuple[float, float]:
        return (i.mean - i.low, i.high - i.mean) if math.isfinite(i.low) and math.isfinite(i.high) else (0.0, 0.0)

    return np.clip(np.array([arms(p[key]) for p in points]).T, 0, None)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    fig, axes = _figures(width, height, 1)
    return fig, axes[0]


def _figures(width: float, height: float, n: int, *, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="constrained")
    panels = fig.subplots(1, n, sharey=sharey, squeeze=False)
    return fig, list(panels[0])


def _bare(ax: Axes, *, right: bool = False, grid: bool = True) -> None:
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom" and not right)
        spine.set_color(GRID)
    ax.tick_params(length=0, labelsize=8)
    ax.tick_params(axis="x", colors=QUIET)
    ax.xaxis.label.set(size=9, color=QUIET)
    ax.yaxis.label.set(size=9)
    if grid and not right:
        ax.grid(axis="y", color=GRID, lw=0.8)
        ax.set_axisbelow(True)


def _svg(fig: Figure) -> str:
    out = io.StringIO()
    fig.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg"):]
