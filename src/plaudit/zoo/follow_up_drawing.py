"""The figure of 13: accuracies on real texts, what tuning does in the world, and the policies after DPO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from plaudit.zoo.drawing import BLUE, GREEN, GREY, LEGEND, ORANGE, PURPLE, Series, interval_rows, panels, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from plaudit.zoo.contract import ZooResult


def draw(result: ZooResult, *, kinds: Sequence[str], methods: Sequence[str], scorers: Sequence[str],
         policies: Sequence[str]) -> Figure:
    """Three panels."""
    figure, (left, middle, right) = panels(15, 5.2, columns=3, widths=(1.25, 1, 1), grid="x")
    interval_rows(left, methods, *(Series(values=[result.arm(m, f"accuracy, {kind}").value for m in methods],
                                          colour=colour, label=kind)
                                   for kind, colour in zip(kinds, (BLUE, ORANGE, GREEN, PURPLE), strict=True)),
                  apart=0.18)
    left.axvline(0.5, color=GREY, lw=1, ls=":")
    left.set_xlim(-0.03, 1.03)
    left.set_xlabel(f"accuracy on {result.config['pairs']} pairs of each kind, 95% interval")
    left.legend(**LEGEND, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4)
    title(left, "A frozen language model on real texts")
    interval_rows(middle, scorers, *(Series(values=[result.arm(s, f"world: accuracy, {metric}").value for s in scorers],
                                            colour=colour, label=metric)
                                     for metric, colour in (("relevance", BLUE), ("instruction following", GREEN))))
    middle.axvline(0.5, color=GREY, lw=1, ls=":")
    middle.set_xlabel(f"accuracy in the world, {result.seeds} seeds, 95% interval")
    middle.legend(**LEGEND, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    title(middle, "Tuned on feedback in words")
    interval_rows(right, policies, Series(values=[result.arm(p, "policy: flawless").value for p in policies],
                                          colour=[BLUE if p.startswith("FLR") else GREY for p in policies]))
    right.set_xlabel(f"answers without a flaw, judged by rule, {result.seeds} seeds, 95% interval")
    title(right, "DPO and KTO on mined pairs")
    return figure
