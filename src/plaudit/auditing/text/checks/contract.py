"""Is the reward a function at all: does it answer every text, always the same, whatever else is in the batch?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plaudit.auditing.finding import Finding, Passed, Severity, Skipped
from plaudit.auditing.text.context import Mode, TextContext
from plaudit.auditing.text.items import Item
from plaudit.auditing.text.measuring import percent, short
from plaudit.auditing.text.scoring import Hangs, Numbers, is_failure, is_late
from plaudit.auditing.text.witness import witness

SMALL, LARGE = 0.01, 0.1
"""Differences below this share of the spread of all pay are rounding; from the second on they can turn a comparison."""
ROUNDS = 3


def odd_texts(write: str = "") -> list[tuple[str, str]]:
    """Texts that nobody means and every policy writes at some time, each with a name."""
    return [
        ("an empty text", ""), ("blanks", " \n\t "), ("other scripts", "答案是四十二。 Ответ: сорок два 🙂🙂"),
        ("open brackets", "((((((((((" * 40 + "{{[["), ("half a tag", "<answer><answer>"),
        ("a half-written box", "\\boxed{\\frac{1}{"), ("a zero division", "\\boxed{1/0}"),
        ("a very long number", "9" * 5000), ("a number out of range", "1e999"), ("not a number", "nan"),
        ("a long run of one letter", "a" * 4000 + "!"), ("many blanks", " " * 4000 + "x"),
        ("JSON cut off", '{"answer": [1, 2'), ("a null byte", "4\x002"), ("percent signs", "100% %s %d {0} {x}"),
        *([("a zero division in the answer's place", write.replace("\0", "1/0")),
           ("a very long number in the answer's place", write.replace("\0", "9" * 5000)),
           ("words in the answer's place", write.replace("\0", "forty two")),
           ("nothing in the answer's place", write.replace("\0", ""))] if "\0" in write else []),
    ]


class Contract:
    """Raises, hangs, is random, remembers, or looks at the rest of the batch."""

    name = "contract"
    question = "Does it answer every text, always the same, whatever else is in the batch?"
    modes: tuple[Mode, ...] = ("verifier", "model")

    def run(self, context: TextContext) -> Sequence[Finding] | Skipped | Passed:
        try:
            return self._look(context)
        except Hangs as hangs:
            return [_hanging(hangs)]

    def _look(self, context: TextContext) -> Sequence[Finding] | Passed:
        usual = [(i, r) for i, r in context.answered]
        usual += [(i, w[0].text) for i in context.items if (w := context.wrongs(i))]
        if not usual:
            usual = [(i, text) for i in context.items for text in ("Let me think.", "I do not know.")]
        items, texts = [i for i, _ in usual], [t for _, t in usual]
        before = dict(context.scorer.why)
        first = context.scorer.afresh(items, texts)
        out = _unknown(context, items, texts, first, "ordinary texts", before)
        if out and np.isnan(first).all():
            return out
        odd = _odd(context)
        spread = float(np.nanmax(first) - np.nanmin(first)) if np.isfinite(first).any() else 0.0
        unit = max(spread, abs(float(np.nanmedian(first))) * 0.1 if not spread else 0.0) or 1.0
        changes = _again(context, items, texts, first, unit)
        found = [*out, *odd, *changes, *([] if changes else _batch(context, items, texts, first, unit))]
        return found or Passed(f"{len(texts)} ordinary texts got the same numbers in {ROUNDS} calls, whatever else was "
                               "in the batch, and each of the odd ones (empty, cut off, very long, ...) got one.")


def _hanging(hangs: Hangs) -> Finding:
    """So many answers came too late that nothing else could be looked at."""
    return Finding(
        check="contract", severity="high", kind="ordinary texts: late", title=short(str(hangs), 200),
        evidence={"texts": hangs.asked, "without a number": hangs.late, "reason": hangs.reason},
        witness=witness("no answer in time", [("the text", hangs.item, hangs.text, np.nan)]),
        advice="Find what the function waits for; --time-limit says how long an answer may take.",
        cost=hangs.late / hangs.asked)


def _unknown(context: TextContext, items: list[Item], texts: list[str], paid: Numbers, what: str,
             before: dict[str, int]) -> list[Finding]:
    """Ordinary texts that got no answer; a plain None is an answer of its own kind."""
    reasons = {r: n - before.get(r, 0) for r, n in context.scorer.why.items() if n > before.get(r, 0)}
    failed = {r: n for r, n in reasons.items() if is_failure(r)}
    share = sum(failed.values()) / len(texts)
    if not failed:
        return []
    worst = max(failed, key=lambda r: failed[r])
    at = int(np.flatnonzero(np.isnan(paid))[0])
    severity: Severity = "high" if share >= 0.1 else "medium"
    late = is_late(worst)
    return [Finding(
        check="contract", severity=severity, kind=f"{what}: {'late' if late else 'unknown'}",
        title=f"{'No answer in time' if late else 'No number'} for {percent(share)} of {what}: {short(worst, 160)}",
        evidence={"texts": len(texts), "without a number": sum(failed.values()), "reason": worst},
        witness=witness(f"no number for {what}", [("the text", items[at], texts[at], paid[at])]),
        advice="Catch what can go wrong and return None for it (unknown), never 0; a time limit makes a late answer "
               "unknown.", cost=share)]


def _odd(context: TextContext) -> list[Finding]:
    write = context.format.write("\0") if context.mode == "verifier" else ""
    texts = odd_texts(write)
    base = context.answered[0][0] if context.answered else context.items[0]
    failed: list[tuple[str, str, str]] = []
    late = 0
    for name, text in texts:
        before = dict(context.scorer.why)
        context.scorer.afresh([base], [text])
        new = [r for r, n in context.scorer.why.items() if n > before.get(r, 0) and is_failure(r)]
        if new:
            failed.append((name, text, new[0]))
            late += is_late(new[0])
        if late >= 2:
            break  # it hangs: two are enough to say so
    if not failed:
        return []
    name, text, reason = failed[0]
    kind = "odd texts: late" if late else "odd texts: unknown"
    return [Finding(
        check="contract", severity="high" if late else "medium", kind=kind,
        title=f"{'No answer in time' if late else 'No number'} for {len(failed)} of {len(texts)} odd texts, such as "
              f"{name}: {short(reason, 160)}",
        evidence={"texts": ", ".join(n for n, *_ in failed), "reason": reason},
        witness=witness(f"{name} gets no number", [("odd text", base, text, np.nan)]),
        advice="A policy in training writes such texts; catch what they do and return None or the pay of a wrong "
               "answer. A pool of processes with a time limit keeps a hang from stopping the run.",
        cost=len(failed) / len(texts))]


def _again(context: TextContext, items: list[Item], texts: list[str], first: Numbers, unit: float) -> list[Finding]:
    """The same batch once more: a change is chance or memory."""
    runs = np.array([first, *(context.scorer.afresh(items, texts) for _ in range(ROUNDS - 1))])
    known = np.isfinite(runs).all(0)
    if not known.any():
        return []
    moved = (runs.max(0) - runs.min(0))[known] / unit
    if moved.max() < SMALL:
        return []
    at = int(np.flatnonzero(known)[int(moved.argmax())])
    falls = bool((np.diff(runs[:, known], axis=0) <= 1e-12).all() or (np.diff(runs[:, known], axis=0) >= -1e-12).all())
    word = "remembers: pay moves in one direction when a text comes again" if falls and len(texts) > 3 else \
        "pays the same text differently each time"
    rows = [(f"call {n + 1}", items[at], texts[at], float(runs[n, at])) for n in range(ROUNDS)]
    return [Finding(
        check="contract", severity="high" if moved.max() >= LARGE else "medium", kind="not the same again",
        title=f"The reward {word}: {', '.join(f'{x:.3g}' for x in runs[:, at])} for one text",
        evidence={"largest change as a share of the spread of pay": float(moved.max()),
                  "texts that change": float((moved >= SMALL).mean())},
        witness=witness("one text, several answers", rows, repeats=False),
        advice="Seed what is random by the text, and take out what is remembered between calls.",
        cost=min(1.0, float(moved.max())))]


def _batch(context: TextContext, items: list[Item], texts: list[str], first: Numbers, unit: float) -> list[Finding]:
    """The same texts in another order and one by one; a reward of groups is only shuffled by whole prompts."""
    across = context.scorer.reward.needs.across
    if across != "row":
        return []
    order = context.rng("batch order").permutation(len(texts))
    mixed = np.empty_like(first)
    mixed[order] = context.scorer.afresh([items[n] for n in order], [texts[n] for n in order])
    some = order[: min(12, len(texts))]
    alone = np.array([context.scorer.afresh([items[n]], [texts[n]])[0] for n in some])
    halved = np.concatenate([context.scorer.afresh(items[:5], texts[:5]), context.scorer.afresh(items[5:], texts[5:])])
    out: list[Finding] = []
    for what, now, then, where in (("in another order", mixed, first, np.arange(len(texts))),
                                   ("alone", alone, first[some], some),
                                   ("in smaller batches", halved, first, np.arange(len(texts)))):
        moved = np.nan_to_num(np.abs(now - then) / unit, nan=0.0)
        if moved.max() >= SMALL and not out:
            at = int(moved.argmax())
            n = int(where[at])
            out.append(Finding(
                check="contract", severity="high" if moved.max() >= LARGE else "medium", kind="depends on the batch",
                title=f"Pay depends on the rest of the batch: one text earns {then[at]:.4g} in its batch and "
                      f"{now[at]:.4g} {what}",
                evidence={"largest change as a share of the spread of pay": float(moved.max())},
                witness=witness("one text in two batches", [("in its batch", items[n], texts[n], float(then[at])),
                                                            (what, items[n], texts[n], float(now[at]))],
                                repeats=False),
                advice="Score each text by itself; with a model, look at padding and at the attention mask; a reward "
                       "that compares a group says so.", cost=min(1.0, float(moved.max()))))
    return out


CHECKS = (Contract(),)
