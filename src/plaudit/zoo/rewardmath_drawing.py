"""The panels of RewardMATH's figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from plaudit.core.statistics import curve_band
from plaudit.zoo.contract import ZooResult
from plaudit.zoo.drawing import BLUE, GREY, INK, LEGEND, ORANGE, Series, band, interval_rows, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_scatter(axes: Axes, result: ZooResult, design: str, about: str) -> None:
    """Each reward model: its accuracy in a benchmark, and that of what it selects."""
    x, y = np.array(result.data["acc"][design]), np.array(result.data["gold"])
    habits = {"terse style", "long style", "short", "wordy", "answer format", "terse and short", "random"}
    kinds = [0 if n in habits else 1 if n.startswith("learned") else 2 for n in result.data["names"]]
    for kind, colour, label in ((0, ORANGE, "habits"), (1, INK, "learned"), (2, BLUE, "checkers, judges")):
        mine = [i for i, k in enumerate(kinds) if k == kind]
        axes.plot(x[mine], y[mine], "o", ms=5, color=colour, alpha=0.75, label=label, mec="none")
    axes.set_xlim(-0.04, 1.04)
    axes.set_xlabel("Acc in the benchmark")
    axes.set_ylabel(f"accuracy of best-of-{result.config['pool']}")
    title(axes, about)
    axes.legend(**LEGEND, loc="upper left")


def draw_designs(axes: Axes, result: ZooResult, designs: Sequence[str]) -> None:
    """Rank correlations by design, and by the number of wrong solutions."""
    rows = [f"{d}, Acc" for d in designs] + [f"{k} rejected, matched" for k in (1, 3, 5, 7, 9)]
    metric = f"Spearman with best-of-{result.config['pool']} accuracy"
    interval_rows(axes, [r.removesuffix(", Acc") for r in rows], Series(
        values=[result.arm(r, metric).value for r in rows],
        colour=[BLUE if r.startswith(designs[-1]) else GREY for r in rows]))
    axes.set_xlabel("Spearman with best-of-n accuracy")
    title(axes, "Which benchmark foretells?")


def draw_curves(axes: Axes, result: ZooResult) -> None:
    """Gold and proxy as n grows, for the two models that the benchmarks chose."""
    for (role, name), colour in zip(result.data["pair"].items(), (ORANGE, BLUE), strict=True):
        curve = result.data["curves"][name]
        middle, low, high = curve_band(np.array(curve["gold"]))
        band(axes, curve["kl"], middle, low, high, colour=colour, label=f"gold, {role}:\n{name}")
        proxy = np.array(curve["proxy"]).mean(0)
        axes.plot(curve["kl"], middle[0] + 0.15 * (proxy - proxy[0]), color=colour, lw=1, ls=":")
    axes.plot([], [], color=INK, lw=1, ls=":", label="proxy, in spreads (scaled)")
    axes.set_xlabel("KL bound of best-of-n, nats")
    axes.set_ylabel("true accuracy")
    title(axes, "Over-optimisation")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.3)
    axes.legend(**{**LEGEND, "fontsize": 7}, loc="upper left")
