"""Scores texts with the reward under audit: counts them, remembers them, and keeps unknown apart from zero."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plaudit.auditing.text.items import Item
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.tokens import Tokens, of_texts

Numbers = NDArray[np.float64]
BATCH = 256
"""Texts of one call."""
ENDED = "the text ended the process of the reward (SystemExit)"


class Scorer:
    """Calls a reward on prompts and completions; the effort of an audit is counted here.

    Example:
        >>> from plaudit.auditing.text.flaws.made import pays
        >>> scorer = Scorer(pays(lambda completion_text, answer: float(completion_text == answer)))
        >>> item = Item(prompt="2 + 2?", gold="4", columns={"answer": "4"})
        >>> scorer([item, item], ["4", "5"]).tolist(), scorer.spent
        ([1.0, 0.0], 2)
    """

    def __init__(self, reward: Reward, *, batch: int = BATCH) -> None:
        self.reward, self.batch = reward, batch
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
        return self._timed(lambda: self._returns(batch_of(items, texts, prompts=prompts), count=True))

    def members(self, items: Sequence[Item], texts: Sequence[str]) -> Numbers | None:
        """[H, N] what each member of an ensemble says; None where the reward is none."""
        if not len(items):
            return None
        score = self.reward.score(batch_of(items, texts))
        self.spent += len(items)
        if score.members is None:
            return None
        return (score.members * score.mask).sum(-1).double().numpy()

    def _returns(self, tokens: Tokens, *, count: bool) -> Numbers:
        try:
            score = self.reward.score(tokens)
        except SystemExit:  # a text that is run as a program has ended us
            if tokens.B > 1:
                return np.concatenate([self._returns(tokens[b], count=count) for b in range(tokens.B)])
            score = Score.unknown(tokens.mask, ENDED)
        if count:
            self.spent += tokens.B
            for reason, where in score.why.items():
                self.why[reason] = self.why.get(reason, 0) + int(where.any(-1).sum())
            self.tick(self.spent)
        return score.returns()[0].double().numpy()

    def _timed(self, go: Callable[[], Numbers]) -> Numbers:
        began = time.perf_counter()
        out = go()
        self.seconds += time.perf_counter() - began
        return out


def is_failure(reason: str) -> bool:
    """Whether an unknown is a fault, and not the reward's own "I cannot say".

    Example:
        >>> is_failure("right returned None"), is_failure("right did not answer within 10 s")
        (False, True)
    """
    return "returned None" not in reason and "abstained" not in reason


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
