"""An ensemble is worth as much as its members differ for good reasons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plaudit.auditing.finding import Finding, Passed, Skipped
from plaudit.auditing.text.context import Mode, TextContext
from plaudit.auditing.text.edits import filler
from plaudit.auditing.text.measuring import clustered_mean, percent, wins
from plaudit.auditing.text.witness import witness

SAME = 1e-6
SHARE = 0.8
"""A member whose scores make this share of the variance of all members' drowns them."""


class Disagreement:
    """Members that are copies of each other, that drown the others, or that rank upside down."""

    name = "disagreement"
    question = "Do the members of the ensemble tell us anything?"
    modes: tuple[Mode, ...] = ("model",)

    def run(self, context: TextContext) -> Sequence[Finding] | Skipped | Passed:
        items, good, bad, *_ = context.paid_pairs
        if not items:
            return Skipped("no pairs of a better and a worse answer are known")
        x = context.scorer.members(items, good)
        if x is None or len(x) < 2:
            return Skipped("the reward is no ensemble")
        y, far = context.scorer.members(items, bad), context.scorer.members(items, [filler(12)] * len(items))
        assert y is not None and far is not None
        both = np.concatenate([x, y], 1)
        scale = float(np.nanstd(both.mean(0))) or 1.0
        spread = both - both.mean(0)
        inside, outside = float(np.nanstd(spread)) / scale, float(np.nanstd(far - far.mean(0))) / scale
        variance = np.nanvar(both, axis=1)  # of each by itself: a deviation from the mean holds the loud one too
        share = variance / variance.sum() if variance.sum() > 0 else np.full(len(x), 1 / len(x))
        accuracy = [clustered_mean(wins(a, b), [i.whole for i in items], seed=context.seed)
                    for a, b in zip(x, y, strict=True)]
        mean = clustered_mean(wins(x.mean(0), y.mean(0)), [i.whole for i in items], seed=context.seed)
        evidence = {"members": len(x), "spread between members, as a share of the spread of pay": inside,
                    "the same far from the data": outside, "largest share of the members' variance in one member":
                    float(share.max()),
                    "accuracy of the mean": mean, **{f"accuracy of member {n}": a for n, a in enumerate(accuracy)}}
        context.memo["disagreement"] = evidence
        worst = min(range(len(x)), key=lambda n: accuracy[n].mean)
        top = int(np.argmax(share))
        if max(inside, outside) < SAME:
            title = f"All {len(x)} members say the same: the ensemble knows no uncertainty"
            kind, cost = "copies", 0.5
        elif accuracy[worst].high < 0.5 and mean.mean > accuracy[worst].high:
            title = f"Member {worst} ranks upside down: it is right in {percent(accuracy[worst].mean)} of pairs, the " \
                    f"mean in {percent(mean.mean)}"
            kind, cost = "a member upside down", 0.5
        elif len(x) > 2 and share[top] >= SHARE:
            title = f"Member {top} makes {percent(float(share[top]))} of the variance of {len(x)} members: mean and " \
                    "spread are its opinion alone"
            kind, cost = "a member drowns the others", 0.3
        else:
            return Passed(f"{len(x)} members are right in {percent(min(a.mean for a in accuracy))} to "
                          f"{percent(max(a.mean for a in accuracy))} of pairs, their mean in {percent(mean.mean)}.")
        n = int(np.argmax(np.abs(both[top] - np.median(both, 0))[: len(items)]))
        return [Finding(
            check=self.name, severity="medium", kind=kind, title=title, evidence=evidence, cost=cost,
            witness=witness(title, [("the text", items[n], good[n], float(x.mean(0)[n]))]),
            advice="Train members from different seeds on different samples, standardise each on held-out pairs, and "
                   "leave out those that rank no better than chance.")]


CHECKS = (Disagreement(),)
