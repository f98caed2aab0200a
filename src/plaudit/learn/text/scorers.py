"""What files and servers ask of a model, and how any reward gives it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from plaudit.core.needs import Reads
from plaudit.core.reward import Reward
from plaudit.learn.text.scored import Scored

AT_ONCE = 256
"""Rows that a function of single completions is asked about together."""


@runtime_checkable
class Scorer(Protocol):
    """Scores rows of texts; one call at a time, in a thread of its own."""

    def rows(self, prompts: Sequence[Any], completions: Sequence[Any], *, per_token: bool = False,
             raw: bool = False) -> list[Scored]:
        """One entry for each row; with `raw` the completion is the whole text (or its token ids), template included."""
        ...


class RewardScorer:
    """Any reward of texts as a Scorer: what is unknown stays unknown, with its reason.

    A reward of single rows is asked about a few at a time, so that progress is told; the numbers are the same.

    Example:
        >>> from plaudit.specify.text.functions import text_reward
        >>> short = text_reward(lambda completion_text: -float(len(completion_text)))
        >>> [row.value for row in RewardScorer(short).rows(["hm", "hm"], ["yes", "no"])]
        [-3.0, -2.0]
    """

    def __init__(self, reward: Reward) -> None:
        self.reward = reward

    def rows(self, prompts: Sequence[Any], completions: Sequence[Any], *, per_token: bool = False, raw: bool = False,
             columns: Mapping[str, Sequence[Any]] | None = None,
             progress: Callable[[int], None] | None = None) -> list[Scored]:
        """As a Scorer; with `columns` of the data, an entry for each completion under each name."""
        from plaudit.specify.text.functions import TextFunction

        N = len(completions)
        alone = isinstance(self.reward, TextFunction) and self.reward.form == "row"
        out: list[Scored] = []
        for start in range(0, N, AT_ONCE if alone else max(N, 1)):
            part = slice(start, start + AT_ONCE if alone else N)
            out += self._rows(prompts[part], completions[part], {n: c[part] for n, c in (columns or {}).items()},
                              per_token)
            if progress is not None:
                progress(len(out) - start)
        return out

    def _rows(self, prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Sequence[Any]],
              per_token: bool) -> list[Scored]:
        from plaudit.core.tokens import of_texts

        score = self.reward.score(of_texts(list(prompts), list(completions), **columns))
        returns, known = score.returns()
        members = score.member_returns().T.tolist() if score.members is not None else [()] * len(returns)
        reasons = [next((why for why, where in score.why.items() if bool(where[b].any())), "")
                   for b in range(len(returns))]
        return [Scored(value=float(v) if k and math.isfinite(v) else None, members=tuple(m) if k else (),
                       tokens=tuple(score.value[b][score.mask[b]].tolist()) if per_token and k else None,
                       length=int(score.mask[b].sum()), why=reasons[b])
                for b, (v, k, m) in enumerate(zip(returns.tolist(), known.tolist(), members, strict=True))]


def score_rows(scorer: Scorer, prompts: Sequence[Any], completions: Sequence[Any], *,
               columns: Mapping[str, Sequence[Any]] | None = None, **options: Any) -> list[Scored]:
    """Rows with what the data say of each; a scorer that reads texts alone is given those alone."""
    if columns and isinstance(scorer, RewardScorer):
        options["columns"] = columns
    return scorer.rows(prompts, completions, **options)


def reads_of(scorer: Scorer) -> Reads:
    """The columns of the data that a scorer reads."""
    return scorer.reward.reads if isinstance(scorer, RewardScorer) else Reads()


def as_scorer(thing: Any) -> Scorer:
    """A Scorer as it is; a Reward behind `RewardScorer`."""
    return thing if hasattr(thing, "rows") else RewardScorer(thing)
