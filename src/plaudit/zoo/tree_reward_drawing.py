"""The figure of tree-reward-topology."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plaudit.core.statistics import curve_band
from plaudit.zoo.contract import ZooResult
from plaudit.zoo.drawing import BLUE, GREEN, GREY, GRID, LEGEND, ORANGE, PURPLE, band, interval, panels, title
from plaudit.zoo.tree_reward_space import CHAIN, REUSED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TREE = "tree"
COLOURS = {TREE: BLUE, CHAIN: ORANGE, REUSED: GREY}
SHOWN = {TREE: "tree", CHAIN: "chain, new answers", REUSED: "chain, as many answers"}


def draw(result: ZooResult) -> Figure:
    """The calculator's gains, accuracies, and best-of-n."""
    figure, axes = panels(13.5, 4.3, columns=3)
    draw_gains(axes[0], result)
    draw_accuracy(axes[1], result)
    draw_best_of(axes[2], result)
    return figure


def draw_gains(axes: Axes, result: ZooResult) -> None:
    """How much farther apart answers are with chains, by each way of counting, as comparisons grow."""
    n = result.data["laid out"]
    for way, colour in (("all ways", GREEN), ("through S", PURPLE), ("best way", BLUE)):
        for other, ls in ((CHAIN, "-"), (REUSED, ":")):
            middle, low, high = curve_band(result.data["gain"][way][other])
            band(axes, n, middle, low, high, colour=colour, ls=ls,
                 label=way if other == CHAIN else None)
    axes.plot([], [], color=GREY, ls=":", label="dotted: a chain with as many answers")
    axes.axhline(1.0, color=GRID, lw=1.2, zorder=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(n, list(map(str, n)))
    axes.set(xlabel="comparisons", ylabel="inference distance, chain / one large tree")
    axes.legend(**LEGEND)
    title(axes, "What the calculator says")


def draw_accuracy(axes: Axes, result: ZooResult) -> None:
    """Accuracies of the reward models on both kinds of pairs; rings are pairs with a common beginning."""
    ns = result.data["comparisons"]
    for k, kind in enumerate((TREE, CHAIN, REUSED)):
        for metric, shift, hollow in (("accuracy, independent pairs", 0.0, False),
                                      ("accuracy, pairs with a common beginning", 0.09, True)):
            for i, n in enumerate(ns):
                interval(axes, result.arm(kind, f"{metric}, n = {n}, sharp judge").value,
                         i + 0.28 * (k - 1) + shift, colour=COLOURS[kind], upright=True, hollow=hollow,
                         label=SHOWN[kind] if i == 0 and not hollow else None)
    axes.set_xticks(range(len(ns)), list(map(str, ns)))
    axes.set(xlabel="comparisons, sharp judge", ylabel="held-out accuracy (ring: common beginning)")
    axes.legend(**LEGEND)
    title(axes, "Reward models")


def draw_best_of(axes: Axes, result: ZooResult) -> None:
    """Gold of best-of-n, the mean over numbers of comparisons."""
    n = np.array(result.data["pool"])
    for kind, curves in result.data["gold"].items():
        middle, low, high = curve_band(curves)
        band(axes, n, middle, low, high, colour=COLOURS[kind], label=SHOWN[kind])
    axes.set_xscale("log", base=2)
    axes.set_xticks(n[::2], list(map(str, n[::2])))
    axes.set(xlabel="n of best-of-n", ylabel="gold, sharp judge")
    axes.legend(**LEGEND)
    title(axes, "Best-of-n")
