"""Does a verifier tell right from wrong: pays it wrong answers, refuses it right ones that are written otherwise?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plaudit.auditing.finding import Finding, Passed, Severity, Skipped
from plaudit.auditing.text.answers import ANOTHERS, forms, kind_of
from plaudit.auditing.text.context import Mode, TextContext
from plaudit.auditing.text.items import Item
from plaudit.auditing.text.measuring import percent, quoted
from plaudit.auditing.text.witness import witness
from plaudit.core.statistics import proportion_interval

NO_ANSWERS = Skipped("no right answers are known; name their column with --intent column:NAME")
OFTEN = 0.2
"""A mistake that is paid at least so often is no rarity."""
BLIND = 0.9
"""Where the answers of other questions are paid so often, the answer is not looked at."""
PART = ("It seems not to look at the answer at all. Where it is meant as one part beside others, such as a reward "
        "for the format, audit what is optimised: a function that returns their sum.")
WHOLE = "Take the answer out of its place and compare it as a whole, as a number where it is one."
LESSER = frozenset({"a full stop", "a unit", "capitals", "brackets"})
"""Forms that a strict reader may refuse."""


class Wrong:
    """Are wrong answers paid as right ones are?"""

    name = "wrong"
    question = "Are wrong answers paid like right ones?"
    modes: tuple[Mode, ...] = ("verifier",)

    def run(self, context: TextContext) -> Sequence[Finding] | Skipped | Passed:
        levels = context.levels
        if levels is None:
            return NO_ANSWERS
        rows = [(i, w.how, w.text) for i, _ in context.answered for w in context.wrongs(i)]
        if not rows:
            return Skipped("no wrong answers can be made by rule for these")
        paid = context.scorer([r[0] for r in rows], [r[2] for r in rows])
        if not levels.gap > 0:
            return self._upside_down(context, rows, paid)
        taken = levels.in_full(paid)
        if not taken.any():
            kinds = len({_group(r[1]) for r in rows})
            return Passed(f"None of {len(rows)} wrong answers to {len({r[0].whole for r in rows})} prompts ({kinds} "
                          f"kind{'' if kinds == 1 else 's'} of mistakes) is paid like a right one.")
        hows = list(dict.fromkeys(_group(r[1]) for r in rows))
        shares = {h: float(taken[[_group(r[1]) == h for r in rows]].mean()) for h in hows}
        worst = max(hows, key=lambda h: shares[h])
        at = next(n for n, r in enumerate(rows) if taken[n] and _group(r[1]) == worst)
        item, _, text = rows[at]
        n = sum(_group(r[1]) == worst for r in rows)
        severity: Severity = "high" if shares[worst] >= OFTEN else "medium"
        return [Finding(
            check=self.name, severity=severity, kind="accepts wrong answers",
            title=f"Wrong answers are paid like right ones: {quoted(text)} earns {paid[at]:.4g} where "
                  f"{quoted(str(item.gold), 30)} is right ({worst}: {percent(shares[worst])} of {n} paid)",
            evidence={**{f"paid, {h}": proportion_interval(int(taken[m].sum()), int(m.sum()))
                         for h in hows if (m := np.array([_group(r[1]) == h for r in rows])).any() and shares[h] > 0},
                      "a right answer earns": levels.full, "saying nothing earns": levels.zero},
            witness=witness(f"{worst} is paid", [("wrong answer", item, text, float(paid[at])),
                                                 ("right answer", item, str(context.right(item)), levels.full)]),
            advice=PART if shares.get(ANOTHERS, 0.0) >= BLIND else WHOLE, cost=shares[worst])]

    def _upside_down(self, context: TextContext, rows: list[tuple[Item, str, str]], paid: np.ndarray
                     ) -> Sequence[Finding]:
        """Right answers earn no more than silence: wrong ones may even earn more."""
        levels = context.levels
        assert levels is not None
        if not np.isfinite(paid).any():
            return []
        best = int(np.nanargmax(paid))
        item, how, text = rows[best]
        if not paid[best] > levels.full:
            return []  # everything is paid alike: that is for the check of spread
        return [Finding(
            check=self.name, severity="high", kind="pays wrong answers more",
            title=f"Wrong answers are paid more than right ones: {quoted(text)} earns {paid[best]:.4g}, the right "
                  f"answer {levels.full:.4g}",
            evidence={"a right answer earns": levels.full, "saying nothing earns": levels.zero,
                      "wrong answers earn": float(np.nanmean(paid))},
            witness=witness(f"{how} is paid more", [("wrong answer", item, text, float(paid[best])),
                                                    ("right answer", item, str(context.right(item)), levels.full)]),
            advice="Look at the sign, and at which of the two texts is compared with which.", cost=1.0)]


def _group(how: str) -> str:
    return how.partition(",")[0]


class Forms:
    """Are right answers refused because they are written otherwise?"""

    name = "forms"
    question = "Are right answers refused because they are written otherwise?"
    modes: tuple[Mode, ...] = ("verifier",)

    def run(self, context: TextContext) -> Sequence[Finding] | Skipped | Passed:
        levels = context.levels
        if levels is None:
            return NO_ANSWERS
        out = [*self._plain(context)]
        if not levels.gap > 0:
            return out
        answered = [(i, r) for i, r in context.answered if i.gold is not None and not i.is_code]
        paid = context.scorer([i for i, _ in answered], [r for _, r in answered])
        taken = levels.in_full(paid)
        rows = [(i, v.how, context.format.write(v.text)) for (i, _), ok in zip(answered, taken, strict=True) if ok
                for v in forms(str(i.gold), kind_of(str(i.gold)), slot=context.format.slot)]
        if context.format.slot == "exact":
            return out or Passed("The format asks for the answer's own form, so that no other one has to be paid.")
        if not rows:
            return out or Skipped("the right answers have no other forms" + (", or none that is paid" if not answered or
                                                                            not taken.any() else ""))
        paid = context.scorer([r[0] for r in rows], [r[2] for r in rows])
        refused = ~levels.in_full(paid)
        hows = list(dict.fromkeys(r[1] for r in rows))
        shares = {h: float(refused[[r[1] == h for r in rows]].mean()) for h in hows}
        core = [h for h in hows if shares[h] >= OFTEN and h not in LESSER]
        lesser = [h for h in hows if shares[h] >= OFTEN and h in LESSER]
        if not core and not lesser:
            return out or Passed(f"{percent(float(1 - refused.mean()))} of {len(rows)} right answers that are written "
                                 f"otherwise are paid ({', '.join(hows)}).")
        worst = max(core or lesser, key=lambda h: shares[h])
        at = next(n for n, r in enumerate(rows) if refused[n] and r[1] == worst)
        item, _, text = rows[at]
        return [*out, Finding(
            check=self.name, severity="medium" if core else "low", kind="refuses other forms",
            title=f"Right answers are refused in other forms ({', '.join(core or lesser)}): {quoted(text)} earns "
                  f"{paid[at]:.4g} where {quoted(str(context.right(item)))} earns {levels.full:.4g}",
            evidence={f"refused, {h}": proportion_interval(int(refused[m].sum()), int(m.sum()))
                      for h in hows if (m := np.array([r[1] == h for r in rows])).any()},
            witness=witness(f"{worst} is refused", [("right, written otherwise", item, text, float(paid[at])),
                                                    ("right answer", item, str(context.right(item)), levels.full)]),
            advice=f"Compare numbers as numbers (plaudit's MathAnswer does), or declare the form: --format "
                   f"'{context.format.write('{exact}')}' says that only the gold answer's own form is to be paid.",
            cost=max(shares[h] for h in core or lesser))]

    def _plain(self, context: TextContext) -> Sequence[Finding]:
        """Right answers, written as declared, that are not paid."""
        levels = context.levels
        assert levels is not None
        if levels.gap <= 0 or levels.right >= 1 - OFTEN / 2:
            return []
        items = [i for i, _ in context.answered]
        paid = context.scorer(items, [r for _, r in context.answered])
        refused = ~levels.in_full(paid)
        at = int(np.flatnonzero(refused)[0])
        item, text = context.answered[at]
        share = float(refused.mean())
        severity: Severity = "high" if share >= OFTEN and context.format.declared else "medium"
        return [Finding(
            check=self.name, severity=severity, kind="refuses right answers",
            title=f"{percent(share)} of right answers are not paid: {quoted(text)} earns {paid[at]:.4g}, others "
                  f"{levels.full:.4g}",
            evidence={"refused": proportion_interval(int(refused.sum()), len(refused))},
            witness=witness("a right answer is refused", [("right answer", item, text, float(paid[at]))]),
            advice="Look at how the gold column is read; where these need another format, declare it with --format.",
            cost=share)]


CHECKS = (Wrong(), Forms())
