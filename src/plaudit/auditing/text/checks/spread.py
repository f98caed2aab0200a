"""Is there anything to learn: do completions of one prompt earn different pay?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plaudit.auditing.finding import Finding, Passed, Skipped
from plaudit.auditing.text.context import Mode, TextContext
from plaudit.auditing.text.edits import filler
from plaudit.auditing.text.items import Item
from plaudit.auditing.text.measuring import clustered_mean, percent
from plaudit.auditing.text.scoring import Numbers
from plaudit.auditing.text.witness import witness

UNKNOWN_FORM = ", unless it pays a format that was not tried (--format)"
FLAT = 0.5
"""From this share of prompts on, groups without any spread leave most of a training batch without a gradient."""


def texts_of(context: TextContext, item: Item) -> list[str]:
    """Completions as different as can be: right and wrong, long and short, in format and not."""
    right = context.right(item)
    said = [] if right is None else [right]
    said += [w.text for w in context.wrongs(item)[:3]]
    said += ["I do not know.", filler(5), "def f(x):\n    return x\n", "yes", context.format.write("7"),
             context.format.write("blue")]
    return list(dict.fromkeys(said))


class Spread:
    """Groups in which all completions earn the same."""

    name = "spread"
    question = "Do completions of one prompt earn different pay?"
    modes: tuple[Mode, ...] = ("verifier", "model")

    def run(self, context: TextContext) -> Sequence[Finding] | Skipped | Passed:
        groups = [(item, texts_of(context, item)) for item in context.items[:24]]
        rows = [(item, t) for item, texts in groups for t in texts]
        paid = context.scorer([r[0] for r in rows], [r[1] for r in rows])
        flat, at, sets = [], 0, list[Numbers]()
        for _, texts in groups:
            mine = paid[at:at + len(texts)]
            at += len(texts)
            known = mine[np.isfinite(mine)]
            sets.append(mine)
            flat.append(len(known) < 2 or float(known.max() - known.min()) <= 1e-9 * max(1.0, float(abs(known).max())))
        share = clustered_mean(np.array(flat, dtype=float), range(len(flat)))
        if share.mean < FLAT:
            return Passed(f"In {percent(1 - share.mean)} of {len(flat)} groups completions earn different pay.")
        n = flat.index(True)
        item, texts = groups[n]
        some = [(f"text {k + 1}", item, t, float(p)) for k, (t, p) in enumerate(zip(texts, sets[n], strict=True))]
        known = paid[np.isfinite(paid)]
        unknown = context.mode == "verifier" and not context.format.declared
        level = f"{float(np.median(known)):.4g}" if len(known) else "unknown"
        return [Finding(
            check=self.name, severity="high", kind="nothing to learn",
            title=f"In {percent(share.mean)} of groups every completion earns the same ({level}), whether right, wrong "
                  f"or empty: there is nothing to learn{UNKNOWN_FORM if unknown else ''}",
            evidence={"share of groups without spread": share, "completions of each prompt": len(texts)},
            witness=witness("one prompt, many completions, one pay", some),
            advice="Learners that compare a group get no gradient here. Look at how the answer is read, and whether "
                   "pay depends on the prompt alone; if a format is asked for, declare it with --format.",
            cost=float(share.mean))]


CHECKS = (Spread(),)
