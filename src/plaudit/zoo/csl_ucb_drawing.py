"""The figure of CSL-UCB: regret over rounds, regret through a change, and edges that are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plaudit.zoo.contract import ZooResult
from plaudit.zoo.drawing import BLUE, GREEN, GREY, INK, LEGEND, ORANGE, PURPLE, band, panels, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOOK = {"CSL-UCB": (BLUE, "-"), "CSL-UCB, one graph": (BLUE, "--"), "LinSEM-TS, graph known": (GREEN, "-"),
         "CSL-UCB, errors controlled alike": (PURPLE, "--"), "GOLEM": (ORANGE, "-"),
         "least squares, threshold": (GREY, "-"), "columns reset": (BLUE, "-"), "all reset": (PURPLE, "-"),
         "all reset, global test": (PURPLE, "--"), "no test": (INK, ":"),
         "UCB, last 10 rewards of an arm": (GREY, "-"), "sliding-window UCB": (GREY, "--")}


def drawing(result: ZooResult) -> Figure:
    """A panel for each size, one for the change, one for the graphs."""
    curves: dict[str, Any] = dict(result.data["curves"])
    change = curves.pop("change")
    figure, axes = panels(4.6 * (len(curves) + 2), 4.3, columns=len(curves) + 2)
    for one, (size, by_name) in zip(axes, curves.items(), strict=False):
        best = [min((n for n in by_name if n.startswith(kind)), key=lambda n: by_name[n][1][-1])
                for kind in ("UCB", "GOLEM")]
        shown = ["CSL-UCB", "CSL-UCB, one graph", "LinSEM-TS, graph known", *best]
        _curves(one, by_name, shown)
        title(one, f"Stationary, {size}")
    _curves(axes[-2], change, [name for name in change if name != "round"])
    axes[-2].axvline(change["round"][-1] / 2, color=INK, lw=1, ls=":")
    top = max(change[name][1][-1] for name in ("columns reset", "all reset", "sliding-window UCB",
                                               "UCB, last 10 rewards of an arm"))
    axes[-2].set_ylim(0, 1.6 * top)
    title(axes[-2], "Two columns change at the dotted line")
    _graphs(axes[-1], result)
    return figure


def _curves(axes: Axes, by_name: dict[str, Any], shown: list[str]) -> None:
    for name in shown:
        colour, ls = _LOOK.get(name, (GREY if name.startswith("UCB") else ORANGE, "-"))
        low, middle, high = by_name[name]
        band(axes, by_name["round"], middle, low, high, colour=colour, ls=ls, label=name)
    axes.set_xlabel("rounds")
    axes.set_ylabel("expected regret: median and quartiles")
    axes.set_ylim(bottom=0)
    axes.legend(**LEGEND, loc="upper left")


def _graphs(axes: Axes, result: ZooResult) -> None:
    grid = result.data["grid"]
    for name, errors in result.data["errors"].items():
        colour, ls = _LOOK[name]
        axes.plot(grid, [e[0] for e in errors], color=colour, ls=ls, marker="o", ms=4, label=name)
    axes.set_xscale("log")
    axes.set_xticks(grid, [str(g) for g in grid])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("rounds of exploration")
    axes.set_ylabel("edges missing, mean over systems")
    axes.legend(**LEGEND)
    title(axes, "Missing edges of both graphs")
