"""The figure of the Lucy-SKG experiment: learning curves of the main arms, their early wins, the auxiliaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from plaudit.zoo.contract import ZooResult
from plaudit.zoo.drawing import BLUE, GREEN, GREY, INK, LEGEND, ORANGE, Series, band, interval_rows, panels, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIN, EARLY = "win rate, last tenth", "win rate, first half"
MAIN = ("sparse", "linear", "KRC", "linear, tuned", "KRC, tuned")
HELPED = ("KRC + SR", "KRC + RP", "KRC + SR + RP")
COLOURS = {"sparse": GREY, "linear": ORANGE, "KRC": BLUE, "linear, tuned": ORANGE, "KRC, tuned": BLUE,
           "KRC + SR": GREEN, "KRC + RP": ORANGE, "KRC + SR + RP": INK}


def draw(result: ZooResult) -> Figure:
    """Learning curves of the main arms, their early wins, and the auxiliaries."""
    figure, (left, middle, right) = panels(13.5, 4.3, columns=3, widths=[1.3, 1.0, 1.0])
    _draw_curves(left, result, MAIN)
    title(left, "Goals alone, a sum, a geometric mean")
    _draw_early(middle, result)
    _draw_curves(right, result, ("KRC", *HELPED), cut=len(result.data["win"]["KRC + RP"][0]))
    title(right, "With auxiliary tasks")
    return figure


def _draw_curves(axes: Axes, result: ZooResult, names: Sequence[str], cut: int | None = None) -> None:
    for name in names:
        win = np.array(result.data["win"][name], dtype=float)[:, :cut]
        steps = (np.arange(win.shape[1]) + 0.5) * result.data["steps_per_point"] / 1000
        band(axes, steps, np.nanmean(win, 0), np.nanmin(win, 0), np.nanmax(win, 0), colour=COLOURS[name],
             ls="--" if name.endswith("tuned") else "-", label=name)
    if cut is None:
        axes.axhline(0.5, color=GREY, lw=0.8, ls=":")
    axes.set_xlabel("thousand steps of each agent")
    axes.set_ylabel(f"matches won (mean and range of {result.seeds} agents)")
    axes.set_ylim(0, None)
    axes.legend(**LEGEND, loc="lower right", ncols=2)


def _draw_early(axes: Axes, result: ZooResult) -> None:
    markers = {EARLY: "o", WIN: "s"}
    interval_rows(axes, MAIN, *(
        Series(values=[result.arm(name, metric).value for name in MAIN], colour=[COLOURS[n] for n in MAIN],
               marker=marker) for metric, marker in markers.items()))
    for metric, marker in markers.items():
        axes.plot([], [], marker, color=INK, ms=6, label=metric)
    axes.set_ylim(-0.6, len(MAIN) + 0.2)
    axes.set_xlabel("matches won, 95% intervals")
    title(axes, "Early and late")
    axes.legend(**LEGEND, loc="upper left")
