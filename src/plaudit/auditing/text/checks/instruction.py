"""Does the model react to what is asked: contrast instructions, paraphrases, principles turned round."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from plaudit.auditing.finding import Finding, Passed, Severity, Skipped
from plaudit.auditing.text.context import Mode, TextContext
from plaudit.auditing.text.items import Item
from plaudit.auditing.text.measuring import clustered_mean, percent, span, wins
from plaudit.auditing.text.scoring import Numbers
from plaudit.auditing.text.witness import Said, TextWitness
from plaudit.learn.text.contrast import Consistency

NEAR = (0.5, 0.95)
"""Prompts of such a share of common words are near in wording (Shen et al. 2024 use a band of embeddings' cosines)."""
FEWEST = 8
WEAK, POOR = 0.8, 0.65
UNSTABLE = 0.2


class Instruction:
    """Response and instruction consistency (Shen et al. 2024), paraphrases, and negated principles."""

    name = "instruction"
    question = "Does pay follow what the instruction means?"
    modes: tuple[Mode, ...] = ("model",)

    def run(self, context: TextContext) -> Sequence[Finding] | Skipped | Passed:
        out, looked = list[Finding](), dict[str, Any]()
        rows = _contrasts(context)
        if len(rows) >= FEWEST:
            out += self._contrast(context, rows, looked)
        turned = [(i, r, w.text) for i, r in context.answered if i.negated is not None for w in context.wrongs(i)[:1]]
        if len(turned) >= FEWEST:
            out += self._negated(context, turned, looked)
        same = [(i, r, w.text, p) for i, r in context.answered for p in i.paraphrases for w in context.wrongs(i)[:1]]
        if len(same) >= FEWEST:
            out += self._paraphrases(context, same, looked)
        context.memo["instruction"] = looked
        if not looked:
            return Skipped("no prompts of near wording and other intent (--suite instructions makes some)")
        return sorted(out, key=lambda f: f.severity != "high")[:1] or Passed(_said(looked))

    def _contrast(self, context: TextContext, rows: list[tuple[Item, str, Any, str]], looked: dict[str, Any]
                  ) -> list[Finding]:
        every = [r[0] for r in rows]
        sides = [(i.prompt, right, prompt, theirs) for i, right, prompt, theirs in rows]
        paid = np.stack([context.scorer(every, [s[answer] for s in sides], prompts=[s[prompt] for s in sides])
                         for prompt, answer in ((0, 1), (0, 3), (2, 1), (2, 3))])
        known = np.flatnonzero(np.isfinite(paid).all(0))
        if len(known) < FEWEST:
            return []
        own, other_answer, other_prompt, both = paid[:, known]
        items = [every[n] for n in known]
        found = Consistency.of_scores(own, other_answer, other_prompt, both, clusters=[i.whole for i in items])
        c_res, c_ins = (clustered_mean(won.ravel(), [c for c in found.clusters for _ in won[0]], seed=context.seed)
                        for won in (found.response, found.instruction))
        looked |= {"C_res": c_res, "C_ins": c_ins, "contrasts": len(items)}
        weaker, name = (c_ins, "C_ins") if c_ins.high <= c_res.high else (c_res, "C_res")
        if weaker.high >= WEAK:
            return []
        severity: Severity = "high" if weaker.high < POOR else "medium"
        ways = [*(sides[n] for n in known), *((*sides[n][2:], *sides[n][:2]) for n in known)]
        right = np.concatenate([own, both])
        against = np.concatenate((other_prompt, other_answer) if name == "C_ins" else (other_answer, other_prompt))
        at = int(np.argmax(against - right))
        prompt, answer, elsewhere, theirs = ways[at]
        what = "the instruction is changed" if name == "C_ins" else "the answer to another instruction is given"
        wrong: tuple[str, Any, str, float] = (
            "own answer to another instruction", elsewhere, answer, float(against[at])) if name == "C_ins" else (
            "answer to another instruction", prompt, theirs, float(against[at]))
        return [_finding(
            self.name, severity, "ignores the instruction",
            f"Pay hardly follows the instruction: when {what}, the right pair wins only {span(weaker)} ({name}; chance "
            "is 50%)",
            looked, items[at % len(items)], [wrong, ("right answer", prompt, answer, float(right[at]))],
            1 - weaker.mean)]

    def _negated(self, context: TextContext, rows: list[tuple[Item, str, str]], looked: dict[str, Any]
                 ) -> list[Finding]:
        items, prompts = [r[0] for r in rows], [r[0].negated for r in rows]
        good = context.scorer(items, [r[1] for r in rows], prompts=prompts)
        bad = context.scorer(items, [r[2] for r in rows], prompts=prompts)
        turns = _share(wins(bad, good), items, context)
        looked["order turns with a negated principle"] = turns
        if turns.high >= POOR:
            return []
        at = int(np.nanargmax(np.nan_to_num(good - bad, nan=-np.inf)))
        return [_finding(
            self.name, "high", "ignores negation",
            f"A principle turned round changes little: there the other answer wins only {span(turns)}", looked,
            items[at], [("breaks the negated principle", prompts[at], rows[at][1], float(good[at])),
             ("follows it", prompts[at], rows[at][2], float(bad[at]))], 1 - turns.mean)]

    def _paraphrases(self, context: TextContext, rows: list[tuple[Item, str, str, Any]], looked: dict[str, Any]
                     ) -> list[Finding]:
        items, prompts = [r[0] for r in rows], [r[3] for r in rows]
        good, bad = [r[1] for r in rows], [r[2] for r in rows]
        before = context.scorer(items, good) - context.scorer(items, bad)
        after = context.scorer(items, good, prompts=prompts) - context.scorer(items, bad, prompts=prompts)
        keep = before > 0
        if keep.sum() < FEWEST:
            return []
        turned = _share((after[keep] <= 0).astype(float), [items[n] for n in np.flatnonzero(keep)], context)
        looked["order turns with a paraphrase"] = turned
        if turned.low < UNSTABLE:
            return []
        at = int(np.argmin(np.where(keep, after, np.inf)))
        return [_finding(
            self.name, "medium", "turns with a paraphrase",
            f"The same question in other words turns the order of answers in {percent(turned.mean)} of cases", looked,
            items[at], [("worse answer", prompts[at], bad[at], float(context.scorer(
                [items[at]], [bad[at]], prompts=[prompts[at]])[0])),
                        ("better answer", prompts[at], good[at], float(context.scorer(
                            [items[at]], [good[at]], prompts=[prompts[at]])[0]))], turned.mean)]


def _said(looked: dict[str, Any]) -> str:
    """The shares that were measured, in words."""
    words = {"C_res": "answers to the instruction beat those to a near one in {} of cases",
             "C_ins": "they are paid more under their own instruction in {}",
             "order turns with a negated principle": "a negated principle turns the order in {}",
             "order turns with a paraphrase": "other words for the same question turn it in {}"}
    said = [text.format(span(looked[k])) for k, text in words.items() if k in looked]
    line = "; ".join(said) or "too few texts got a number"
    return f"{line[0].upper()}{line[1:]}."


def _finding(check: str, severity: Severity, kind: str, title: str, looked: dict[str, Any], item: Item,
             said: list[tuple[str, Any, str, float]], cost: float) -> Finding:
    rows = tuple(Said.of(role, item, text, paid, prompt=prompt) for role, prompt, text, paid in said)
    return Finding(check=check, severity=severity, kind=kind, title=title, evidence=dict(looked),
                   witness=TextWitness(title=title, said=rows), cost=float(min(1.0, max(0.0, cost))),
                   advice="Add pairs that share the answer and differ in the instruction, and the other way round "
                          "(contrast fine-tuning).")


def _share(won: Numbers, items: Sequence[Item], context: TextContext) -> Any:
    keep = np.isfinite(won)
    return clustered_mean(won[keep], [items[int(n)].whole for n in np.flatnonzero(keep)], seed=context.seed)


def _contrasts(context: TextContext) -> list[tuple[Item, str, Any, str]]:
    """Item, its right answer, a near prompt of another intent, the answer that is right there."""
    out = [(i, r, p, t) for i, r in context.answered for p, t in i.contrasts]
    if out:
        return out
    pool = [(i, r, frozenset(re.findall(r"\w+", i.text.lower()))) for i, r in context.answered]
    for n, (item, right, words) in enumerate(pool):
        for other, theirs, words2 in (pool[k % len(pool)] for k in range(n + 1, n + len(pool))):
            near = len(words & words2) / max(1, len(words | words2))
            if NEAR[0] <= near <= NEAR[1] and theirs != right and other.gold != item.gold:
                out.append((item, right, other.prompt, theirs))
                break
    return out


CHECKS = (Instruction(),)
