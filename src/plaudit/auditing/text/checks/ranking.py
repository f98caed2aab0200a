"""Does a reward model rank right above wrong: by category, with margins, and one right answer against many wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plaudit.auditing.finding import Finding, Passed, Severity, Skipped
from plaudit.auditing.text.context import Mode, TextContext
from plaudit.auditing.text.items import Item
from plaudit.auditing.text.measuring import clustered_mean, percent, smallest_seen, span, wins
from plaudit.auditing.text.scoring import Numbers
from plaudit.auditing.text.witness import witness
from plaudit.core.intervals import Interval

COIN = 0.5
WEAK, POOR = 0.7, 0.6
"""Pairwise accuracy, by its upper bound, below which a model is a poor guide, and hardly one at all."""
TURNED = 0.55
"""The same for a category, below which the model ranks there as a coin does, or worse."""
FEWEST = 6
"""Different prompts of a category, from which on it is judged by itself."""
MANY = 4
"""So many wrong answers beside a right one make a ranking of one against many."""


@dataclass(frozen=True)
class OneToMany:
    """How a right answer ranks among wrong ones (RewardMATH). Ties count against it, unless said otherwise."""

    accuracy: float
    """Share of items whose right answer is paid more than each wrong one."""
    accuracy_with_ties: float
    """The same where a tie for the first place counts as won."""
    mrr: float
    """Mean of 1 / rank of the right answer, ties broken against it."""
    hits: Numbers
    n: int


def one_to_many(right: Sequence[float], wrong: Sequence[Sequence[float]]) -> OneToMany:
    """Accuracy and MRR of one right answer against many wrong ones; an unknown score loses, whoever has it.

    Example:
        >>> said = one_to_many([2.0, 1.0, 0.0], [[1.0, 0.5], [1.0, 0.0], [1.0, 2.0]])
        >>> round(said.accuracy, 3), round(said.accuracy_with_ties, 3), round(said.mrr, 3)
        (0.333, 0.667, 0.611)
        >>> one_to_many([1.0], [[1.0] * 9]).mrr
        0.1
    """
    x, count = np.array(right, dtype=float), np.array([len(ys) for ys in wrong])
    y = np.full((len(x), max(count.max(initial=0), 1)), -np.inf)  # what is not there is below all
    for row, ys in zip(y, wrong, strict=True):
        row[:len(ys)] = ys
    y = np.nan_to_num(y, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    known = np.isfinite(x)
    best = y.max(1)
    strict, loose = (known & (x > best)).astype(float), (known & (x >= best)).astype(float)
    behind = np.where(known, (y >= x[:, None]).sum(1), count)
    return OneToMany(float(strict.mean()), float(loose.mean()), float((1 / (1 + behind)).mean()), strict, len(x))


class Ranking:
    """Accuracy by category with intervals over prompts, and one right answer against many."""

    name = "ranking"
    question = "Are better answers paid more than worse ones?"
    modes: tuple[Mode, ...] = ("model",)

    def run(self, context: TextContext) -> Sequence[Finding] | Skipped | Passed:
        rows = [(i, r, w.text) for i, r in context.answered for w in context.wrongs(i)[:12]]
        if not rows:
            return Skipped("no pairs of a better and a worse answer are known")
        items = [r[0] for r in rows]
        x, y = context.scorer(items, [r[1] for r in rows]), context.scorer(items, [r[2] for r in rows])
        known = np.isfinite(x) & np.isfinite(y)  # an unknown number is no lost comparison; `contract` counts them
        if known.sum() < min(4, len(rows)) or not known.any():
            return Skipped(f"the scores of {percent(1 - known.mean())} of {len(rows)} comparisons are unknown")
        rows, x, y = [rows[n] for n in np.flatnonzero(known)], x[known], y[known]
        items = [r[0] for r in rows]
        won = wins(x, y)
        clusters = [i.whole for i in items]
        overall = clustered_mean(won, clusters, seed=context.seed)
        groups = list(dict.fromkeys(i.category or "all" for i in items))
        by = {c: clustered_mean(won[m], [clusters[n] for n in np.flatnonzero(m)], seed=context.seed)
              for c in groups if (m := np.array([(i.category or "all") == c for i in items])).any()}
        margins = x - y
        context.memo["accuracy"] = overall
        context.memo["accuracy by category"] = by
        evidence = {"accuracy": overall, **{f"accuracy, {c}": a for c, a in by.items() if len(by) > 1},
                    "mean margin": float(margins.mean()), "spread of margins": float(margins.std()),
                    "smallest difference in accuracy that would have been seen": smallest_seen(won, clusters)}
        many = _many(rows, x, y)
        if many is not None:
            context.memo["one to many"] = many
            evidence |= {"one against many, accuracy (ties lose)": many.accuracy,
                         "one against many, accuracy (ties win)": many.accuracy_with_ties,
                         "one against many, MRR (ties lose)": many.mrr, "items against many": many.n}
        return self._found(rows, x, y, overall, by, many, evidence) or Passed(_seen(len(rows), overall, by))

    def _found(self, rows: list[tuple[Item, str, str]], x: Numbers, y: Numbers, overall: Interval,
               by: dict[str, Interval], many: OneToMany | None, evidence: dict) -> list[Finding]:
        judged = [c for c in by if by[c].n >= FEWEST and len(by) > 1]
        worst = min(judged, key=lambda c: by[c].high, default=None)
        beside_many = clustered_mean(many.hits, range(many.n)) if many is not None and many.n >= FEWEST else None
        severity: Severity | None = None
        if overall.high < WEAK:
            severity = "high" if overall.high < POOR else "medium"
            said = f"Better answers win only {span(overall)} of comparisons"
            kind = "hardly ranks"
        elif worst is not None and by[worst].high < WEAK:
            severity, kind = "high" if by[worst].high < TURNED else "medium", f"wrong in a category: {worst}"
            said = f"In the category {worst} better answers win only {span(by[worst])} of comparisons, overall " \
                   f"{percent(overall.mean)}"
        elif beside_many is not None and many is not None and beside_many.high < 0.35 and overall.mean < 0.9:
            severity, kind = "medium", "loses against many"
            said = f"Against many wrong answers the right one comes first in {percent(many.accuracy)} of items (MRR " \
                   f"{many.mrr:.2f}), though it wins {percent(overall.mean)} of single comparisons"
        if severity is None:
            return []
        inside = worst if kind.startswith("wrong in") else None
        mine = [n for n, r in enumerate(rows) if inside is None or (r[0].category or "all") == inside]
        gap = np.nan_to_num(y - x, nan=-np.inf)
        at = max(mine, key=lambda n: gap[n])
        item, good, bad = rows[at]
        return [Finding(
            check=self.name, severity=severity, kind=kind, title=said, evidence=evidence,
            witness=witness("a worse answer is paid more", [("worse answer", item, bad, float(y[at])),
                                                            ("better answer", item, good, float(x[at]))]),
            advice="Do not optimise against it where it ranks like this; train on pairs whose two sides differ in what "
                   "matters and in nothing else.", cost=float(1 - (overall if inside is None else by[inside]).mean))]


def _seen(n: int, overall: Interval, by: dict[str, Interval]) -> str:
    """What was compared, and what that cannot tell."""
    few = [f"{c} ({i.n})" for c, i in by.items() if i.n < FEWEST and len(by) > 1]
    unjudged = f"; of fewer than {FEWEST} prompts, and not judged by itself: {', '.join(few[:6])}" \
        f"{', …' if len(few) > 6 else ''}" if few else ""
    coin = "; a coin could do that, so more prompts are needed" if overall.low <= COIN else ""
    return f"Better answers win {span(overall)} of {n:,} comparisons over {overall.n} prompt" \
           f"{'' if overall.n == 1 else 's'}{coin}{unjudged}."


def _many(rows: list[tuple[Item, str, str]], x: Numbers, y: Numbers) -> OneToMany | None:
    groups: dict[tuple[int, str], list[int]] = {}
    for n, (item, good, _) in enumerate(rows):
        groups.setdefault((id(item), good), []).append(n)
    full = [ns for ns in groups.values() if len(ns) >= MANY]
    if not full:
        return None
    return one_to_many([float(x[ns[0]]) for ns in full], [[float(y[n]) for n in ns] for ns in full])


CHECKS = (Ranking(),)
