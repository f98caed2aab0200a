"""The figure of the domain-feature reward model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plaudit.core.statistics import curve_band
from plaudit.zoo.contract import ZooResult
from plaudit.zoo.drawing import BLUE, GREEN, GREY, INK, LEGEND, ORANGE, PURPLE, band, panels, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"features, MLP": BLUE, "features, linear": GREEN, "features, mean": GREY,
           "features, MLP unregularised": PURPLE, "features, MLP, without the main two": INK,
           "embeddings, MLP": ORANGE, "embeddings, linear": ORANGE}
DASHED = ("embeddings, linear", "features, MLP, without the main two")


def draw(result: ZooResult) -> Figure:
    """Accuracy by pairs, best-of-n, and RLOO along its KL."""
    figure, axes = panels(14, 4.6, columns=3)
    draw_curves(axes[0], result)
    draw_best(axes[1], result)
    draw_rl(axes[2], result)
    return figure


def draw_curves(axes: Axes, result: ZooResult) -> None:
    """Pair accuracy of every model as the pairs grow."""
    for name, rows in result.data["accuracy"].items():
        band(axes, result.data["pairs"], *curve_band(np.array(rows)), colour=COLOURS[name], label=name,
             ls="--" if name in DASHED else "-")
    axes.set_xscale("log")
    axes.set_xticks(result.data["pairs"], [f"{n:,}" for n in result.data["pairs"]])
    axes.minorticks_off()
    axes.set_xlabel(f"preference pairs (bands: 95% over {result.seeds} seeds)")
    axes.set_ylabel("pair accuracy on new products")
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.55 * (high - low), high)
    title(axes, "Few pairs suffice for few features")
    axes.legend(**LEGEND, loc="lower right", ncols=1)


def draw_best(axes: Axes, result: ZooResult) -> None:
    """True worth of best-of-n."""
    for name, rows in result.data["best"].items():
        band(axes, result.data["kl"], *curve_band(np.array(rows)), colour=COLOURS[name], label=name)
    axes.set_xlabel("KL bound of best-of-n, nats")
    axes.set_ylabel("true worth")
    title(axes, f"Best-of-n from {result.config['few']} pairs")
    axes.legend(**LEGEND, loc="upper left")


def draw_rl(axes: Axes, result: ZooResult) -> None:
    """True worth along RLOO, each seed thin and their mean thick."""
    for name, runs in result.data["rl"].items():
        kl, gold = np.array(runs["kl"], dtype=np.float64), np.array(runs["gold"], dtype=np.float64)
        for x, y in zip(kl, gold, strict=True):
            axes.plot(x, _smooth(y), color=COLOURS[name], lw=0.6, alpha=0.35)
        axes.plot(kl.mean(0), _smooth(gold.mean(0)), color=COLOURS[name], lw=2.2, label=name)
    axes.set_xlabel("KL to the first writer, nats")
    axes.set_ylabel("true worth (mean of 5 steps)")
    title(axes, f"RLOO from {result.config['few']} pairs")
    axes.legend(**LEGEND, loc="upper left")


def _smooth(y: np.ndarray, width: int = 5) -> np.ndarray:
    """A running mean that ends at the present step."""
    total = np.cumsum(np.insert(y, 0, 0.0))
    at = np.arange(1, len(y) + 1)
    start = np.maximum(at - width, 0)
    return (total[at] - total[start]) / (at - start)
