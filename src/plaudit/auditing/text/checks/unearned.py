"""Pay that no answer earns: for the format alone, for many answers at once, for echoing the prompt or the answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plaudit.auditing.finding import Finding, Passed, Severity, Skipped
from plaudit.auditing.text.answers import kind_of, value_of
from plaudit.auditing.text.checks.answers import NO_ANSWERS
from plaudit.auditing.text.context import SAYS_NOTHING, Mode, TextContext
from plaudit.auditing.text.items import Item
from plaudit.auditing.text.measuring import percent, quoted
from plaudit.auditing.text.witness import witness

HALF = 0.4
"""Up to this share of what a right answer earns is a bonus that people add on purpose."""
MANY = 21

Row = tuple[Item, str, str]
"""Item, what was done, completion."""


class Unearned:
    """Texts that are surely not an answer, and what they are paid."""

    modes: tuple[Mode, ...] = ("verifier",)

    def __init__(self, name: str, question: str, phrase: str, advice: str) -> None:
        self.name, self.question, self.phrase, self.advice = name, question, phrase, advice

    def rows(self, context: TextContext) -> list[Row]:
        """The texts."""
        return {"format": _format_alone, "hedging": _many_answers, "echo": _echoes}[self.name](context)

    def run(self, context: TextContext) -> Sequence[Finding] | Skipped | Passed:
        levels = context.levels
        if levels is None:
            return NO_ANSWERS
        if not levels.gap > 0:
            return self._nothing(context) or Skipped("right answers are paid no more than saying nothing, so there is "
                                                     "no yardstick")
        rows = self.rows(context)
        if not rows:
            return Skipped("no such texts can be written for these answers")
        paid = context.scorer([r[0] for r in rows], [r[2] for r in rows])
        share = np.nan_to_num(levels.share(paid), nan=-np.inf)
        hows = list(dict.fromkeys(r[1] for r in rows))
        typical = {h: float(np.quantile(share[[r[1] == h for r in rows]], 0.8)) for h in hows}
        worst = max(hows, key=lambda h: typical[h])
        if typical[worst] < HALF:
            return Passed(f"Of {len(rows)} texts without an answer the best-paid ({worst}) earn "
                          f"{percent(max(0.0, typical[worst]))} of what a right answer earns; {percent(HALF)} would be "
                          "a finding.")
        at = max((n for n, r in enumerate(rows) if r[1] == worst), key=lambda n: share[n])
        item, _, text = rows[at]
        severity: Severity = "high" if typical[worst] >= 0.9 else "medium"
        return [Finding(
            check=self.name, severity=severity, kind=self.phrase,
            title=f"The reward pays for {self.phrase}: {quoted(text)} ({worst}) earns {paid[at]:.4g}, "
                  f"{percent(share[at])} of what a right answer earns",
            evidence={**{f"share of a right answer's pay, {h}": typical[h] for h in hows},
                      "a right answer earns": levels.full, "saying nothing earns": levels.zero},
            witness=witness(f"{worst} is paid", [(worst, item, text, float(paid[at])),
                                                 ("right answer", item, str(context.right(item)), levels.full)]),
            advice=self.advice, cost=min(1.0, typical[worst]))]


    def _nothing(self, context: TextContext) -> Sequence[Finding]:
        """Where silence earns as much as a right answer, and wrong answers earn less."""
        levels = context.levels
        wrong = [(i, w.text) for i, _ in context.answered for w in context.wrongs(i)]
        if self.name != "format" or levels is None or not wrong:
            return []
        paid = context.scorer([i for i, _ in wrong], [t for _, t in wrong])
        if not np.nanmean(paid) < levels.full:
            return []
        item = context.answered[0][0]
        said = context.scorer([item], [SAYS_NOTHING[0]])
        return [Finding(
            check=self.name, severity="high", kind="pays for no answer",
            title=f"Saying nothing is paid like being right: {SAYS_NOTHING[0]!r} earns {said[0]:.4g}, right answers "
                  f"{levels.full:.4g}, wrong ones {float(np.nanmean(paid)):.4g} on average",
            evidence={"a right answer earns": levels.full, "saying nothing earns": levels.zero,
                      "wrong answers earn": float(np.nanmean(paid))},
            witness=witness("nothing is paid", [("says nothing", item, SAYS_NOTHING[0], float(said[0]))]),
            advice="What cannot be read as an answer is None (unknown) or the pay of a wrong one.", cost=1.0)]


def _format_alone(context: TextContext) -> list[Row]:
    texts = [("nothing in the answer's place", t) for t in context.format.without_answer() if t]
    texts += [("words in the answer's place", context.format.write("I do not know")),
              ("the format twice, empty", context.format.write("") * 2),
              ("a heading and nothing", "## Answer\n\n## Summary"),
              ("tags and nothing", "<think></think><answer></answer>"), ("an empty box", "\\boxed{}"),
              ("thinking and no answer", "<think>I compare both sides and check every step.</think>")]
    return [(i, how, t) for i, _ in context.answered if not i.is_code for how, t in texts]


def _many_answers(context: TextContext) -> list[Row]:
    out: list[Row] = []
    for item, _ in context.answered:
        if item.gold is None or item.is_code:
            continue
        many = _many(context, item)
        if len(many) < 2:
            continue
        write = context.format.write
        out += [(item, "a list of answers in one place", write(", ".join(many))),
                (item, "answers joined by 'or'", write(" or ".join(many))),
                (item, "answers in one place, one per line", write("\n".join(many)))]
        if len(many) > 2:
            out += [(item, "one answer after the other", "\n".join(map(write, many))),
                    (item, "answers in a sentence before a wrong one",
                     f"It is {' or '.join(many[:-1])}. {write(many[-1])}")]
    return out


def _many(context: TextContext, item: Item) -> list[str]:
    """Wrong answers with the right one in their middle; never as the first or the last, if there are three."""
    gold = str(item.gold)
    kind = kind_of(gold)
    value = value_of(gold)
    if kind == "number" and value is not None and value.denominator == 1:
        wrong = [str(int(value) + d) for d in range(-MANY // 2, MANY // 2 + 1) if d]
    elif kind == "truth":
        return ["yes", "no"] if gold.lower() in ("yes", "no") else ["true", "false"]
    else:
        wrong = [v.text for v in context.mistakes_of(item)]
    middle = len(wrong) // 2
    return [*wrong[:middle], gold, *wrong[middle:]]


def _echoes(context: TextContext) -> list[Row]:
    out: list[Row] = []
    for item, _ in context.answered:
        write = context.format.write
        out += [(item, "the prompt again", item.text), (item, "the prompt in the answer's place", write(item.text))]
        if item.gold is None or item.is_code:
            continue
        wrong = context.mistakes_of(item)
        if not wrong:
            continue
        said = wrong[int(context.rng("echo", item.text).integers(len(wrong)))].text
        out += [(item, "the right answer named, a wrong one given",
                 f"Some would say {item.gold}, but that is not so. {write(said)}"),
                (item, "the right answer refused", f"It is surely not {item.gold}. {write(said)}")]
    return [r for r in out if not _answers(context, r)]


def _answers(context: TextContext, row: Row) -> bool:
    """Whether the text happens to answer after all."""
    item, how, text = row
    return how.startswith("the prompt") and item.gold is not None and context.format.read(text) is not None and \
        text.strip().endswith(str(item.gold))


CHECKS = (
    Unearned("format", "Does the format pay without an answer?", "the format alone",
             "Pay the format only together with a right answer, or make it a small part of the whole."),
    Unearned("hedging", "Do many answers at once pay?", "many answers at once",
             "Take exactly one answer (the last one in its place), and refuse a text that gives several."),
    Unearned("echo", "Does echoing the prompt or naming the answer pay?", "an echo",
             "Look only at the answer in its place, never at whether it occurs somewhere in the text."),
)
