"""Scores texts with the reward under audit: counts them, remembers them, and keeps unknown apart from zero."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plaudit.auditing.text.items import Item
from plaudit.core.errors import PlauditError
from plaudit.core.reward import Reward
from plaudit.core.tokens import Tokens, of_texts
from plaudit.specify.text.functions import TextFunction

Numbers = NDArray[np.float64]
BATCH = 256
"""Texts of one call."""
FEW = 3
"""So many texts without an answer in time, and none with one, are enough to say that a reward hangs."""
PART = 8
"""Texts of a function that are asked at a stretch before it is looked at how many came too late."""


class Hangs(PlauditError):
    """A reward answers too late too often to be asked any more; has one of the texts."""

    def __init__(self, said: str, *, reason: str, late: int, asked: int, item: Item, text: str) -> None:
        super().__init__(said)
        self.reason, self.late, self.asked, self.item, self.text = reason, late, asked, item, text


class Scorer:
    """Calls a reward on prompts and completions; the effort of an audit is counted here.

    Args:
        reward: what is asked.
        batch: texts of one call.
        patience_s: how long to wait, all in all, for answers that never come; None for as long as it takes.

    Raises:
        Hangs: from a call, where a reward has answered none of the first texts in time, or patience is at its end;
            from then on at once.

    Example:
        >>> from plaudit.auditing.text.flaws.made import pays
        >>> scorer = Scorer(pays(lambda completion_text, answer: float(completion_text == answer)))
        >>> item = Item(prompt="2 + 2?", gold="4", columns={"answer": "4"})
        >>> scorer([item, item], ["4", "5"]).tolist(), scorer.spent
        ([1.0, 0.0], 2)
    """

    def __init__(self, reward: Reward, *, batch: int = BATCH, patience_s: float | None = None) -> None:
        self.reward, self.batch, self.patience_s = reward, batch, patience_s
        self.late, self.lost_s = 0, 0.0
        self.hangs: Hangs | None = None
        self.spent, self.seconds = 0, 0.0
        self.why: dict[str, int] = {}
        """How often each reason for an unknown was given."""
        self.tick: Callable[[int], None] = lambda spent: None
        self._known: dict[tuple[str, str, int], float] = {}
        self._held: dict[int, Any] = {}  # keeps the columns alive whose identity stands in a key

    def __call__(self, items: Sequence[Item], texts: Sequence[str], *, prompts: Sequence[Any] | None = None
                 ) -> Numbers:
        """What each completion is paid, NaN where that is unknown; a text that was seen before is not asked again.

        Args:
            items: one for each completion.
            texts: the completions.
            prompts: asked instead of the items' own.
        """
        asked = [i.prompt for i in items] if prompts is None else list(prompts)
        self._held |= {id(i.columns): i.columns for i in items}
        keys = [(repr(p), t, id(i.columns)) for p, t, i in zip(asked, texts, items, strict=True)]
        new = list({k: n for n, k in enumerate(keys) if k not in self._known}.values())
        for start in range(0, len(new), self.batch):
            part = new[start:start + self.batch]
            paid = self.afresh([items[n] for n in part], [texts[n] for n in part], prompts=[asked[n] for n in part])
            self._known.update(zip([keys[n] for n in part], paid.tolist(), strict=True))
        return np.array([self._known[k] for k in keys], dtype=np.float64)

    def afresh(self, items: Sequence[Item], texts: Sequence[str], *, prompts: Sequence[Any] | None = None) -> Numbers:
        """The same in one call of the reward, and without what is remembered."""
        if self.hangs is not None:
            raise self.hangs
        tokens = batch_of(items, texts, prompts=prompts)
        began = time.perf_counter()
        out: list[Numbers] = []
        at = 0
        while at < tokens.B or not out:
            stop = at + (self._stretch or tokens.B)
            out.append(self._returns(tokens[at:stop] if stop - at < tokens.B else tokens, items[at:], texts[at:]))
            at = stop
        self.seconds += time.perf_counter() - began
        self.tick(self.spent)
        return np.concatenate(out)

    @property
    def _stretch(self) -> int:
        """Texts that are asked before it is looked at how many came too late; 0 for all, where a call may see them."""
        alone = isinstance(self.reward, TextFunction) and self.reward.one_by_one
        return 0 if not alone or self.patience_s is None else 1 if self.late else PART

    def members(self, items: Sequence[Item], texts: Sequence[str]) -> Numbers | None:
        """[H, N] what each member of an ensemble says; None where the reward is none."""
        if not len(items):
            return None
        score = self.reward.score(batch_of(items, texts))
        self.spent += len(items)
        if score.members is None:
            return None
        return (score.members * score.mask).sum(-1).double().numpy()

    def _returns(self, tokens: Tokens, items: Sequence[Item], texts: Sequence[str]) -> Numbers:
        began = time.perf_counter()
        score = self.reward.score(tokens)
        self.spent += tokens.B
        for reason, where in score.why.items():
            rows = where.any(-1)
            self.why[reason] = self.why.get(reason, 0) + int(rows.sum())
            if is_late(reason):
                self.late += int(rows.sum())
                self.lost_s += time.perf_counter() - began
                self._lose_patience(reason, items[int(rows.nonzero()[0])], texts[int(rows.nonzero()[0])])
        return score.returns()[0].double().numpy()

    def _lose_patience(self, reason: str, item: Item, text: str) -> None:
        """Whether so many answers came too late that asking on makes no sense."""
        if self.patience_s is None or self.late < FEW:
            return
        if self.late == self.spent:
            said = f"No answer in time for any of {self.late} texts: {reason}"
        elif self.lost_s > self.patience_s:
            said = f"No answer in time for {self.late} of {self.spent} texts, so it was not asked any more: {reason}"
        else:
            return
        self.hangs = Hangs(said, reason=reason, late=self.late, asked=self.spent, item=item, text=text)
        raise self.hangs


def is_failure(reason: str) -> bool:
    """Whether an unknown is a fault, and not the reward's own "I cannot say".

    Example:
        >>> is_failure("right returned None"), is_failure("right did not answer within 10 s")
        (False, True)
    """
    return "returned None" not in reason and "abstained" not in reason


def is_late(reason: str) -> bool:
    """Whether an unknown is an answer that did not come in time.

    Example:
        >>> is_late("right did not answer within 10 s"), is_late("right: time limit: no answer within 10 s")
        (True, True)
    """
    return "did not answer within" in reason or "time limit: no answer" in reason


def batch_of(items: Sequence[Item], texts: Sequence[str], *, prompts: Sequence[Any] | None = None) -> Tokens:
    """Completions as a batch: every column that any item has; conversations get their answer as a message."""
    asked = [i.prompt for i in items] if prompts is None else list(prompts)
    said: list[Any] = [[{"role": "assistant", "content": t}] if isinstance(p, list) else t
                       for p, t in zip(asked, texts, strict=True)]
    names = dict.fromkeys(k for i in items for k in i.columns)
    columns: dict[str, Any] = {n: [i.columns.get(n) for i in items] for n in names if n not in _TAKEN}
    return of_texts(asked, said, **columns)


_TAKEN = frozenset({"prompt", "completion", "prompt_text", "completion_text", "prompts", "completions", "ids",
                    "prompt_ids", "completion_ids"})
