"""The panels of the figure of Contrast Instructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from plaudit.core.statistics import curve_band
from plaudit.zoo.contract import ZooResult
from plaudit.zoo.drawing import BLUE, GREEN, GREY, INK, LEGEND, ORANGE, Series, band, interval_rows, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_repairs(axes: Axes, result: ZooResult, names: Sequence[str]) -> None:
    """C_res and C_ins of each repair, with intervals over seeds."""
    interval_rows(axes, names, *(
        Series(values=[result.arm(name, metric).value for name in names], colour=colour, label=metric)
        for metric, colour in (("C_res", BLUE), ("C_ins", ORANGE))))
    axes.axvline(0.5, color=GREY, lw=1, ls=":")
    axes.set_xlabel(f"consistency, 95% intervals over {result.seeds} seeds (chance 0.5)")
    title(axes, "Which repair makes a model read?")
    axes.legend(**LEGEND, loc="upper right")


def draw_ladder(axes: Axes, result: ZooResult, *metrics: str) -> None:
    """What is selected, against consistency and against accuracy, over models trained on pairs of any hardness."""
    for metric, colour in zip(metrics, (BLUE, GREY), strict=True):
        axes.plot(result.data[metric], result.data["gold"], "o", color=colour, ms=6, alpha=0.8, mec="none",
                  label=metric)
    axes.set_xlabel("measure of the reward model (mean over seeds)")
    axes.set_ylabel(f"worth of best-of-{result.config['pool']}")
    title(axes, "What foretells the policy?")
    axes.legend(**LEGEND, loc="upper left")


def draw_policies(axes: Axes, result: ZooResult) -> None:
    """Worth as n grows."""
    for (name, curve), colour in zip(result.data["curves"].items(), (GREY, INK, BLUE, GREEN, ORANGE), strict=True):
        band(axes, curve["kl"], *curve_band(np.array(curve["gold"])), colour=colour, label=name)
    axes.set_xlabel("KL bound of best-of-n, nats")
    axes.set_ylabel("true worth")
    title(axes, "The trickle-down")
    axes.legend(**LEGEND, loc="lower left")
