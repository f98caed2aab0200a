"""Does the margin say how sure the model may be? Read through a sigmoid, it is a probability."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plaudit.auditing.finding import Finding, Passed, Skipped
from plaudit.auditing.text.context import Mode, TextContext
from plaudit.auditing.text.measuring import clustered_mean, percent
from plaudit.auditing.text.scoring import Numbers
from plaudit.auditing.text.witness import witness

MOST = 0.1
"""Overconfidence, by its lower bound, from which on a margin misleads."""
BINS = 10
FEWEST = 20


def expected_error(probability: Numbers, won: Numbers, *, bins: int = BINS) -> float:
    """Expected calibration error: how far stated and true frequencies lie apart, bin by bin.

    Example:
        >>> import numpy as np
        >>> round(expected_error(np.full(10, 0.9), np.array([1.0] * 9 + [0.0])), 6)
        0.0
        >>> round(expected_error(np.full(10, 0.9), np.array([1.0] * 5 + [0.0] * 5)), 6)
        0.4
    """
    place = np.minimum((probability * bins).astype(int), bins - 1)
    total = 0.0
    for b in np.unique(place):
        m = place == b
        total += float(m.mean()) * abs(float(probability[m].mean()) - float(won[m].mean()))
    return total


class Calibration:
    """Confidence against accuracy on pairs."""

    name = "calibration"
    question = "Is the model as often right as its margins say?"
    modes: tuple[Mode, ...] = ("model",)

    def run(self, context: TextContext) -> Sequence[Finding] | Skipped | Passed:
        rows = [(i, r, w.text) for i, r in context.answered for w in context.wrongs(i)[:4]]
        if len(rows) < FEWEST:
            return Skipped(f"needs {FEWEST} pairs, there are {len(rows)}")
        items = [r[0] for r in rows]
        x, y = context.scorer(items, [r[1] for r in rows]), context.scorer(items, [r[2] for r in rows])
        keep = np.isfinite(x) & np.isfinite(y)
        if keep.sum() < FEWEST:
            return Skipped("too few pairs have numbers on both sides")
        margin = (x - y)[keep]
        sure = 1 / (1 + np.exp(-np.abs(np.clip(margin, -60, 60))))
        won = np.where(margin == 0, 0.5, (margin > 0).astype(float))
        over = clustered_mean(sure - won, [rows[n][0].whole for n in np.flatnonzero(keep)], seed=context.seed)
        error = expected_error(sure, won)
        context.memo["calibration"] = {"confidence": float(sure.mean()), "accuracy": float(won.mean()), "error": error}
        if over.low < MOST:
            return Passed(f"Margins say {percent(float(sure.mean()))}, it is right in {percent(float(won.mean()))} of "
                          f"{int(keep.sum()):,} pairs.")
        at = int(np.flatnonzero(keep)[int(np.argmin(margin))])
        item, good, bad = rows[at]
        return [Finding(
            check=self.name, severity="medium", kind="too sure",
            title=f"The model is too sure of itself: its margins say {percent(float(sure.mean()))}, it is right in "
                  f"{percent(float(won.mean()))} of pairs",
            evidence={"confidence beyond accuracy": over, "expected calibration error": error,
                      "pairs": int(keep.sum())},
            witness=witness("surely wrong", [("worse answer", item, bad, float(y[at])),
                                             ("better answer", item, good, float(x[at]))]),
            advice="Divide the scores by a temperature that is fitted on held-out pairs, before anything reads them as "
                   "probabilities or subtracts a standard deviation.", cost=float(over.mean))]


CHECKS = (Calibration(),)
