"""What the adapters of all trainers have in common: texts in; numbers, their terms and what is unknown out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, get_args

import torch

from plaudit.core.algebra import Constrained
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, UnknownReward, Unsupported
from plaudit.core.needs import Across
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.tokens import DERIVED, of_texts
from plaudit.specify.text.functions import TextFunction
from plaudit.specify.text.length import Length

OURS = ("prompts", "completions", "ids", "prompt_ids")
"""Arguments of `of_texts`, which no column can have as its name."""


@dataclass(frozen=True)
class Verdicts:
    """What a reward says of N completions."""

    values: list[float | None]
    """The reward of each; None where it is unknown."""
    terms: dict[str, list[float | None]]
    """What each term paid: its value times its weight."""
    why: list[str]
    """Why a reward is unknown; empty where it is known."""
    metrics: dict[str, float]
    """Means over the completions for a log: `NAME/TERM`, `NAME/unknown`, `watch/length`, and `ROLE/NAME`."""
    others: dict[str, list[float | None]] = field(default_factory=dict[str, list[float | None]])
    """What the rewards that are only logged say, by `ROLE/NAME`."""


@dataclass(frozen=True)
class One:
    """What a reward says of one completion."""

    value: float
    terms: dict[str, float | None]
    others: dict[str, float | None]
    known: bool
    why: str

    def numbers(self, lost: float = float("nan")) -> dict[str, float]:
        """Terms, others and whether it is unknown, by name; `lost` where one has no number."""
        named = {**self.terms, **self.others}
        return {n: lost if v is None else v for n, v in named.items()} | {"unknown": float(not self.known)}


class Caller:
    """Scores completions with a reward and with others that are only logged; counts and stops on unknowns.

    Args:
        reward: A Reward over `Tokens`, or composed of such.
        others: Rewards with the roles `watch` and `gold`.
        stop_after: After so many calls in a row in which nothing was known, the run stops: it would train on nothing.
            None never stops.
        together: Which completions the trainer scores in one call: each alone (`row`), or those of a prompt (`group`).

    Raises:
        BadInput: for something that is no Reward, such as a plain function.
        Unsupported: for a reward that compares more than that.

    Example:
        >>> from plaudit.specify.text import text_reward
        >>> caller = Caller(text_reward(lambda completion: -len(completion), name="short"))
        >>> said = caller(["a", "a"], ["xy", "x"])
        >>> said.values, said.metrics
        ([-2.0, -1.0], {'short/unknown': 0.0, 'short/short': -1.5, 'watch/length': 1.5})
    """

    def __init__(self, reward: Reward, *, others: Sequence[Reward] = (), stop_after: int | None = 10,
                 together: Across = "group") -> None:
        order = get_args(Across)
        for r in (reward, *others):
            if not isinstance(r, Reward):
                raise BadInput("reward" if r is reward else "others", expected="a Reward of texts",
                               received=f"{getattr(r, '__name__', '')} ({type(r).__name__})".strip(),
                               fix="make one of a plain function: text_reward(fn)")
            if order.index(r.needs.across) > order.index(together):
                raise Unsupported(
                    f"{r.name} reads the whole batch, which is whatever a process happens to hold; use across='group'"
                    if r.needs.across == "batch" else
                    f"{r.name} compares the completions of a prompt, and this trainer scores each alone")
        self.reward, self.others, self.stop_after = reward, list(others), stop_after
        self.name, self.nothing = reward.name, 0
        self.watching = [*self.others, *([] if any(r.name == "length" for r in others) else [Length()])]
        self.means: dict[str, float] = {}
        """What controllers see: the means of the terms of the last call, before weights, and costs per step."""
        self.asked = self.unknown = 0
        """How many completions were scored, and of how many the reward was unknown."""

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], ids: Sequence[Sequence[int]] | None = None,
                 columns: Mapping[str, Any] | None = None, *, progress: float | None = None) -> Verdicts:
        told = {n: c for n, c in (columns or {}).items()
                if n not in (*DERIVED, *OURS) and _is_column(c, len(completions))}
        episodes = of_texts(prompts, completions, ids, **told)
        if progress is not None:
            for r in (self.reward, *self.others):
                r.advance(progress, self.means)
        score = self.reward.score(episodes)
        said = self._verdicts(score, episodes)
        self.means |= self._measured(score, episodes)
        self.asked, self.unknown = self.asked + episodes.B, self.unknown + said.values.count(None)
        self.nothing = self.nothing + 1 if episodes.B and not any(v is not None for v in said.values) else 0
        if self.stop_after is not None and self.nothing >= self.stop_after:
            raise UnknownReward(f"{self.reward.name} was unknown for every completion of {self.nothing} calls in a "
                                f"row: {'; '.join(sorted(set(said.why)))}; mend it, or pass stop_after=None")
        return said

    def _measured(self, score: Score, episodes: Episodes) -> dict[str, float]:
        """What controllers see: the mean return of each term, and the mean cost per step of each constraint."""
        means = {n: _mean(t) for n, t in score.terms.items()}
        for part in parts_of(self.reward):
            if isinstance(part, Constrained) and part.multiplier.metric in score.measured:
                value = float(score.measured[part.multiplier.metric].double().nanmean())
                means[part.parts[1].name] = means["cost"] = value if math.isfinite(value) else None
                means.setdefault(part.multiplier.metric, means["cost"])
        return {n: m for n, m in means.items() if m is not None}

    def _verdicts(self, score: Score, episodes: Episodes) -> Verdicts:
        value, known = score.returns()
        metrics = {f"{self.name}/unknown": float((~known).double().mean()) if episodes.B else 0.0}
        terms = {n: score.contribution(n).sum(1) for n in score.terms}
        others = {f"{r.role}/{r.name}": r.score(episodes).returns()[0] for r in self.watching}
        for key, row in [*((f"{self.name}/{n}", t) for n, t in terms.items()), *others.items()]:
            finite = row[torch.isfinite(row)]
            if len(finite):
                metrics[key] = float(finite.double().mean())
        why = ["; ".join(r for r, where in score.why.items() if bool(where[b].any())) for b in range(episodes.B)]
        return Verdicts([float(v) if k else None for v, k in zip(value, known, strict=True)],
                        {n: _listed(t) for n, t in terms.items()}, why, metrics,
                        {n: _listed(t) for n, t in others.items()})

    def one(self, prompt: Any, completion: Any, columns: Mapping[str, Any], on_unknown: float | str = "stop") -> One:
        """Scores one completion, for a trainer that asks for one at a time and has no word for unknown.

        Raises:
            UnknownReward: where the reward is unknown and the user chose `stop`.
        """
        said = self([prompt], [completion], columns={n: [v] for n, v in columns.items()})
        value = said.values[0]
        if value is None and isinstance(on_unknown, str):
            raise UnknownReward(f"{self.name}: {said.why[0]}; pass on_unknown=NUMBER to pay a number instead")
        return One(float(on_unknown) if value is None else value, {n: t[0] for n, t in said.terms.items()},
                   {n: t[0] for n, t in said.others.items()}, value is not None, said.why[0])

    def warm_up(self) -> None:
        """Starts the worker processes of the functions inside."""
        warm_up(self.reward, *self.others)


def warm_up(*rewards: Reward) -> None:
    """Starts the worker processes of all functions inside rewards, before the first completion is there."""
    for part in parts_of(*rewards):
        if isinstance(part, TextFunction):
            part.warm_up()


def parts_of(*rewards: Reward) -> Iterator[Reward]:
    """Rewards and all that they are made of."""
    for reward in rewards:
        yield reward
        yield from parts_of(*reward.children())


def in_background(reward: Reward, episodes: Episodes) -> Future[Score]:
    """Scores in a thread of its own, while the caller generates the next completions.

    Example:
        >>> from plaudit.specify.text import text_reward
        >>> later = in_background(text_reward(lambda completion: len(completion)), of_texts(["hm"], ["yes"]))
        >>> later.result().value.tolist()
        [[3.0]]
    """
    future: Future[Score] = Future()

    def run() -> None:
        try:
            future.set_result(reward.score(episodes))
        except BaseException as error:  # handed to whoever asks for the result, who would wait for ever
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def check_on_unknown(on_unknown: float | str) -> None:
    """Checks the choice.

    Raises:
        BadInput: when it is neither `stop` nor a number.
    """
    if on_unknown != "stop" and (isinstance(on_unknown, str) or on_unknown != on_unknown):
        raise BadInput("on_unknown", expected="'stop', or the number to pay instead", received=on_unknown)


def _is_column(c: Any, rows: int) -> bool:
    return isinstance(c, Sequence) and not isinstance(c, str | bytes) and len(c) == rows


def _listed(row: torch.Tensor) -> list[float | None]:
    return [float(v) if torch.isfinite(v) else None for v in row]


def _mean(value_BT: torch.Tensor) -> float | None:
    """The mean over the rows that are known of their sums."""
    sums = value_BT.sum(1)
    finite = sums[torch.isfinite(sums)]
    return float(finite.double().mean()) if len(finite) else None
