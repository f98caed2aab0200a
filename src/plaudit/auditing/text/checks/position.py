"""Does it matter where the right option stands?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plaudit.auditing.finding import Finding, Passed, Severity, Skipped
from plaudit.auditing.text.context import Mode, TextContext
from plaudit.auditing.text.measuring import clustered_mean, halves, percent, quoted, short, smallest_seen, span
from plaudit.auditing.text.witness import Said, TextWitness

MEDIUM, HIGH = 0.25, 0.5
FEWEST = 6


class Position:
    """The same question with its options in another order: what a wrong letter earns because of where it stands."""

    name = "position"
    question = "Does pay depend on where an option stands?"
    modes: tuple[Mode, ...] = ("verifier", "model")

    def run(self, context: TextContext) -> Sequence[Finding] | Skipped | Passed:
        rows = [(n, i, p, right, wrong) for n, i in enumerate(context.items) for p, right, wrong in i.moved]
        if len({r[0] for r in rows}) < FEWEST:
            return Skipped("the data have no options in several orders (--suite choices makes some)")
        items, prompts = [r[1] for r in rows], [r[2] for r in rows]
        write = context.format.write if context.mode == "verifier" else str
        golds = [type(i)(**{**i.__dict__, "columns": _with_gold(i.columns, str(i.gold), r[3])})
                 for i, r in zip(items, rows, strict=True)]
        right = context.scorer(golds, [write(r[3]) for r in rows], prompts=prompts)
        wrong = context.scorer(golds, [write(r[4]) for r in rows], prompts=prompts)
        unit = max(context.unit, 1e-12) if np.isfinite(context.unit) else 1.0
        share = (wrong - np.nanmean(wrong)) / unit
        places = list(dict.fromkeys(r[4] for r in rows))
        first, second = halves(len(context.items), seed=context.seeds.child("halves", self.name).integer())
        own = np.array([r[0] for r in rows])
        place_of = np.array([r[4] for r in rows])
        choose, measure = np.isin(own, first), np.isin(own, second)
        means = {p: float(np.nanmean(share[m])) for p in places if (m := choose & (place_of == p)).any()}
        if len(means) < 2:
            return []
        top, last = max(means, key=lambda p: means[p]), min(means, key=lambda p: means[p])
        a, b = measure & (place_of == top), measure & (place_of == last)
        if not a.any() or not b.any():
            return []
        effect = clustered_mean(share[a] - np.nanmean(share[b]), own[a].tolist(), seed=context.seed)
        if effect.low < MEDIUM:
            return Passed(f"A wrong option earns {span(effect)} of "
                          f"what being right is worth more at {quoted(top, 30)} than at {quoted(last, 30)}; "
                          f"{percent(MEDIUM)} would be a finding.")
        severity: Severity = "high" if effect.low >= HIGH else "medium"
        at = int(np.flatnonzero(a)[int(np.argmax((wrong - right)[a]))])
        said = (Said.of(f"wrong, in the place {top}", golds[at], write(rows[at][4]), float(wrong[at]),
                        prompt=prompts[at]),
                Said.of("right", golds[at], write(rows[at][3]), float(right[at]), prompt=prompts[at]))
        return [Finding(
            check=self.name, severity=severity, kind="pays a place",
            title=f"A wrong option earns {span(effect)} "
                  f"of what being right is worth because it stands at {quoted(top, 30)} rather than at "
                  f"{quoted(last, 30)}",
            evidence={"gain as a share of being right": effect,
                      "smallest gain that would have been seen": smallest_seen(share[a], own[a].tolist()),
                      **{f"wrong at {short(p, 20)}": m for p, m in means.items()}},
            witness=TextWitness(title=f"{top} is paid", said=said),
            advice="Shuffle the options of each question in training, and score both orders.",
            cost=float(min(1.0, max(0.0, effect.mean))))]


def _with_gold(columns: Mapping[str, Any], gold: str, now: str) -> dict[str, Any]:
    """The columns with the gold answer as it is in the other order."""
    return {k: (now if isinstance(v, str) and v == gold else v) for k, v in columns.items()}


CHECKS = (Position(),)
