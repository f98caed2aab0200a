"""The figure of Secrets of RLHF II."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plaudit.core.intervals import Interval
from plaudit.zoo import drawing
from plaudit.zoo import secrets_rlhf_meta as meta
from plaudit.zoo import secrets_rlhf_noise as noise
from plaudit.zoo.contract import ZooResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCURACY, BARE = "accuracy on clean pairs", "accuracy, no weight decay"
OURS = {noise.FLIP, noise.FLIP_MARGIN, noise.ALL, noise.ALL_EARLY, noise.SMOOTH, noise.SOFT_ENDS, noise.MARGIN}
LINES = {noise.PLAIN: drawing.GREY, noise.EARLY: drawing.ORANGE, noise.ENSEMBLE: drawing.PURPLE,
         noise.DROP: drawing.GREEN, noise.ALL: drawing.BLUE}
WAYS = {meta.PLAIN: drawing.GREY, meta.META: drawing.BLUE, meta.DESCENT: drawing.ORANGE,
        meta.RANDOM: drawing.PURPLE, meta.FRESH: drawing.GREEN}


def draw(result: ZooResult) -> Figure:
    """Where the wrong labels are, what each group teaches, what treatments are worth, and MetaRM over rounds."""
    figure, axes = drawing.panels(13.5, 8.2, rows=2, columns=3)
    draw_groups(axes[0], result)
    draw_lessons(axes[1], result)
    draw_arms(axes[2], result)
    draw_noise(axes[3], result)
    draw_rounds(axes[4], result)
    draw_sweep(axes[5], result)
    return figure


def draw_groups(axes: Axes, result: ZooResult) -> None:
    """Wrong labels by tenth of strength."""
    rows = np.array(result.data["wrong by group"]) * 100
    for g, (mean, low, high) in enumerate(rows):
        axes.bar(g + 1, mean, color=drawing.BLUE if g < 2 else "#a9c6d6", width=0.82)
        axes.plot([g + 1] * 2, [low, high], color=drawing.INK, lw=1.2)
    axes.axhline(50, color=drawing.GREY, lw=1, ls=":")
    axes.set_xticks(range(1, 11))
    axes.set_xlabel("tenth of the pairs by strength, the weakest first")
    axes.set_ylabel("labels that are wrong, %")
    drawing.title(axes, "Where the wrong labels are")


def draw_lessons(axes: Axes, result: ZooResult) -> None:
    """What is learnt from one tenth alone."""
    steps, table = result.data["steps"], np.array(result.data["lessons"]) * 100
    shades = {0: drawing.ORANGE, 1: "#edb389", 3: "#c9d3d8", 5: "#94b8cc", 7: drawing.BLUE, 9: drawing.INK}
    for g, colour in shades.items():
        axes.plot(steps, table[:, g], color=colour, lw=1.9, label=f"tenth {g + 1}")
    axes.axhline(50, color=drawing.GREY, lw=1, ls=":")
    axes.set_xlabel("updates on one tenth alone")
    axes.set_ylabel("accuracy on clean pairs, %")
    axes.legend(**drawing.LEGEND, ncols=2, loc="center", bbox_to_anchor=(0.6, 0.7))
    drawing.title(axes, "What each tenth teaches")


def draw_arms(axes: Axes, result: ZooResult) -> None:
    """All treatments at the main level of noise."""
    names = sorted(result.data["names"], key=lambda n: -result.arm(n, ACCURACY).value.mean)
    colours = [drawing.BLUE if n in OURS else drawing.GREEN if n in noise.CONTRASTS else drawing.INK
               if n in (noise.KNOWN, noise.SEEN) else drawing.GREY for n in names]
    drawing.interval_rows(axes, names, drawing.Series(
        values=[_percent(result.arm(n, ACCURACY).value) for n in names], colour=colours), drawing.Series(
        values=[_percent(result.arm(n, BARE).value) for n in names], colour=colours, hollow=True))
    axes.tick_params(axis="y", labelsize=7.5)
    axes.set_xlabel("accuracy on clean pairs, % (hollow: without weight decay)")
    for label, colour in (("by strength", drawing.BLUE), ("contrast added", drawing.GREEN),
                          ("baseline", drawing.GREY), ("for reference", drawing.INK)):
        axes.plot([], [], "o", color=colour, ms=6, label=label)
    axes.legend(frameon=False, fontsize=7, ncols=2, columnspacing=0.8, handlelength=1.0, loc="lower left")
    drawing.title(axes, f"{result.config['flips']:.0%} of the labels turned round")


def draw_noise(axes: Axes, result: ZooResult) -> None:
    """Accuracy as the noise grows."""
    for name, colour in LINES.items():
        middle, low, high = np.array(result.data["by noise"][name]).T * 100
        drawing.band(axes, np.array(result.data["noises"]) * 100, middle, low, high, colour=colour, label=name)
    axes.set_xlabel("labels turned round, %")
    axes.set_ylabel("accuracy on clean pairs, %")
    axes.legend(**drawing.LEGEND, loc="lower left")
    drawing.title(axes, "More noise")


def draw_rounds(axes: Axes, result: ZooResult) -> None:
    """Accuracy on each round's policy."""
    for arm, colour in WAYS.items():
        middle, low, high = (np.array(x) * 100 for x in result.data["rounds"]["own"][arm])
        drawing.band(axes, range(len(middle)), middle, low, high, colour=colour, label=arm)
    axes.set_xticks(range(result.config["rounds"] + 1))
    axes.set_xlabel(f"round of best-of-{result.config['best_of']}")
    axes.set_ylabel("accuracy on the policy's own samples, %")
    axes.legend(**drawing.LEGEND, loc="upper right")
    drawing.title(axes, "The policy moves away")


def draw_sweep(axes: Axes, result: ZooResult) -> None:
    """What the size of MetaRM's step does."""
    sweep = result.data["sweep"]
    x = [float(eta) for eta in sweep]
    own = np.array([sweep[e]["own"] for e in sweep]).T * 100
    drawing.band(axes, x, *own, colour=drawing.BLUE, label="accuracy on own samples, last round, %")
    plain = result.arm(f"MetaRM: {meta.PLAIN}", "accuracy on the last policy's own samples").value.mean * 100
    axes.axhline(plain, color=drawing.BLUE, lw=1, ls=":")
    other = axes.twinx()
    other.spines["top"].set_visible(False)
    other.tick_params(labelsize=8.5)
    gold = np.array([sweep[e]["gold"] for e in sweep]).T
    drawing.band(other, x, *gold, colour=drawing.ORANGE, label="worth of the last policy (right)")
    other.axhline(result.arm(f"MetaRM: {meta.PLAIN}", "worth of the last policy").value.mean, color=drawing.ORANGE,
                  lw=1, ls=":")
    axes.set_xscale("log")
    axes.set_xlabel("eta of MetaRM (dotted: plain training)")
    lines = [*axes.get_lines()[:1], *other.get_lines()[:1]]
    axes.legend(lines, [str(line.get_label()) for line in lines], **drawing.LEGEND, loc="lower left")
    drawing.title(axes, "How far to step")


def _percent(value: Interval) -> Interval:
    return Interval(100 * value.mean, 100 * value.low, 100 * value.high, value.n)
