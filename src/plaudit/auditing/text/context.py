"""What the checks of an audit of text share: the items, the scorer, the levels of pay, and what may be written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from plaudit.auditing.text.answers import Variant, kind_of, mistakes
from plaudit.auditing.text.formats import Format, usual
from plaudit.auditing.text.items import Item, TextData
from plaudit.auditing.text.programs import failing
from plaudit.auditing.text.scoring import Numbers, Scorer
from plaudit.core.seeds import Seeds

if TYPE_CHECKING:
    from plaudit.auditing.finding import Finding
    from plaudit.auditing.report.model import CheckResult
    from plaudit.auditing.verdict import Verdict

Mode = Literal["verifier", "model"]
USUAL_ITEMS: Mapping[str, int] = {"verifier": 24, "model": 64}
"""Prompts that an audit of default effort looks at."""
SAYS_NOTHING = ("I do not know.", "", "Let me think about it.")
PAID = 0.9
"""A text counts as paid in full from this share of what a right answer earns over one that says nothing."""


@dataclass(frozen=True)
class Levels:
    """What the reward pays at its ends: for a right answer, and for none."""

    full: float
    zero: float
    right: float
    """The share of right answers that earn `full`, or nearly so."""

    @property
    def gap(self) -> float:
        return self.full - self.zero

    def share(self, paid: Numbers) -> Numbers:
        """Pay as a share of the gap: 0 is saying nothing, 1 is being right."""
        return (paid - self.zero) / self.gap

    def in_full(self, paid: Numbers) -> np.ndarray:
        """Which of these are paid as right answers are."""
        return np.nan_to_num(self.share(paid), nan=-np.inf) >= PAID


@dataclass(kw_only=True)
class TextContext:
    """Handed to every check of text."""

    data: TextData
    scorer: Scorer
    mode: Mode
    declared: Format | None = None
    effort: float = 1.0
    seed: int = 0
    time_limit_s: float | None = 10.0
    generator: Any = None
    """A policy to sample texts from (`plaudit.optimize.align.Policy`), or None."""
    gold: Callable[[Sequence[Item], Sequence[str]], Numbers] | None = None
    """A second reward that says how good a text really is."""
    literals: tuple[str, ...] = ()
    """Texts that stand in the reward's own source."""
    patience_s: float = 150.0
    chosen: bool = False
    """Whether the user chose among the checks."""
    memo: dict[str, Any] = field(default_factory=dict)
    progress: Callable[[float, str], None] = lambda done, text: None

    @property
    def seeds(self) -> Seeds:
        return Seeds(self.seed)

    def rng(self, *names: str) -> np.random.Generator:
        """Randomness of its own for each purpose."""
        return self.seeds.child("text", *names).numpy()

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """The prompts that are looked at: each category in turn, more of them at a larger effort."""
        n = max(4, round(USUAL_ITEMS[self.mode] * self.effort))
        items = self.data.some(min(n, self.memo.get("most items", n)), seed=self.seed)
        if self.mode == "verifier" and self.data.has_gold:
            items = tuple(i for i in items if i.gold is not None or i.is_code) or items
        return items

    @property
    def knows(self) -> bool:
        """Whether anything says which completions are right."""
        return self.data.has_gold or self.data.has_pairs

    # --- what may be written --------------------------------------------------------------------------------------

    @cached_property
    def format(self) -> Format:
        """The declared format, or the usual one that is paid best for right answers."""
        if self.declared is not None:
            return self.declared
        answered = [(i, str(i.gold)) for i in self.items if i.gold is not None and not i.is_code][:8]
        programs = [(i, i.good[0]) for i in self.items if i.is_code and i.good][:8]
        if not (answered or programs) or self.mode == "model":
            return usual()[1]
        forms, paid = usual(code=not answered), []
        for form in forms:
            said = self.scorer([i for i, _ in answered or programs], [form.write(t) for _, t in answered or programs])
            paid.append(float(np.nanmean(said)) if np.isfinite(said).any() else -np.inf)
        return forms[int(np.argmax(np.round(np.array(paid), 9)))]

    def right(self, item: Item) -> str | None:
        """A completion that is right."""
        if item.gold is not None and not item.is_code and not (self.mode == "model" and item.good):
            return self.format.write(item.gold)
        if not item.good:
            return None
        return self.written(item.good[0]) if self.writes_programs(item) else item.good[0]

    def wrongs(self, item: Item) -> list[Variant]:
        """Completions that are wrong, each with its mistake."""
        if self.mode == "model" and item.bad:
            return [Variant("worse", b) for b in item.bad]
        if self.writes_programs(item):
            bad = item.bad or tuple(p for p in (failing(item),) if p is not None)
            return [Variant("worse" if item.bad else "a program that fails", self.written(b)) for b in bad]
        if item.gold is None or item.is_code:
            return [Variant("worse", b) for b in item.bad]
        return [Variant(v.how, self.format.write(v.text)) for v in self.mistakes_of(item)]

    def writes_programs(self, item: Item) -> bool:
        """Whether completions are programs, which a verifier may want in a fence."""
        return self.mode == "verifier" and item.is_code

    def written(self, program: str) -> str:
        """A program in the format's place, unless it brings a fence of its own."""
        return program if "```" in program else self.format.write(program)

    def mistakes_of(self, item: Item) -> list[Variant]:
        """Wrong answers, as they stand in the format's place."""
        assert item.gold is not None
        others = [i.gold for i in self.items if i.gold is not None and i.category == item.category]
        kind = kind_of(item.gold, prompt=item.text, code=item.is_code)
        return mistakes(item.gold, kind, others=others, rng=self.rng("mistakes", item.text))

    # --- levels of pay --------------------------------------------------------------------------------------------

    @cached_property
    def answered(self) -> list[tuple[Item, str]]:
        """The items with a completion that is right."""
        return [(i, r) for i in self.items if (r := self.right(i)) is not None]

    @cached_property
    def levels(self) -> Levels | None:
        """What a right answer and a text that says nothing earn; None where nothing is known to be right."""
        if not self.answered:
            return None
        items = [i for i, _ in self.answered]
        good = self.scorer(items, [r for _, r in self.answered])
        none = np.concatenate([self.scorer(items, [text] * len(items)) for text in SAYS_NOTHING[:2]])
        if not np.isfinite(good).any() or not np.isfinite(none).any():
            return None
        full, zero = float(np.nanmedian(good)), float(np.nanmedian(none))
        if full <= zero and np.nanmax(good) > zero:  # most right answers are refused: those that are paid set the level
            full = float(np.nanmax(good))
        right = float(np.mean(np.nan_to_num(good, nan=-np.inf) >= zero + PAID * (full - zero))) if full > zero else 0.0
        return Levels(full, zero, right)

    @cached_property
    def paid_pairs(self) -> tuple[list[Item], list[str], list[str], Numbers, Numbers]:
        """One good and one bad completion of each item, with their pay, in which both are known."""
        rows = [(i, r, w[int(self.rng("pairs", i.text).integers(len(w)))].text) for i, r in self.answered
                if (w := self.wrongs(i))]
        items, good, bad = [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]
        x, y = self.scorer(items, good), self.scorer(items, bad)
        keep = np.isfinite(x) & np.isfinite(y)
        chosen = [n for n in range(len(rows)) if keep[n]]
        return [items[n] for n in chosen], [good[n] for n in chosen], [bad[n] for n in chosen], x[keep], y[keep]

    @cached_property
    def unit(self) -> float:
        """What the difference between a good and a bad completion is worth; the yardstick of every bias."""
        if self.mode == "verifier" and self.levels is not None and self.levels.gap > 0:
            return self.levels.gap
        *_, x, y = self.paid_pairs
        if not len(x):
            return np.nan
        gap = float(np.mean(x - y))
        spread = float(np.std(np.concatenate([x, y])))
        return max(gap, 0.5 * spread) if spread > 0 else np.nan

    # --- for the report --------------------------------------------------------------------------------------------

    def judge(self, findings: Sequence[Finding], results: Sequence[CheckResult], *, interrupted: bool) -> Verdict:
        """The verdict; the baseline asks for it again when findings are accepted."""
        from plaudit.auditing.text.judging import judge

        return judge(self, findings, results, interrupted=interrupted)

    @property
    def questions(self) -> dict[str, str]:
        """What each check asks."""
        from plaudit.auditing.text.checks import checks

        return {c.name: c.question for c in checks()}

    def figures(self) -> list[dict[str, str]]:
        """The pictures of the report."""
        from plaudit.auditing.text.pictures import figures

        return figures(self)
