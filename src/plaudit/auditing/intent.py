"""What is wanted. Without some statement of it no audit can tell an exploit from a clever solution."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.auditing.subject import option
from plaudit.core.algebra import Node, as_reward
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.functions import EnvReward
from plaudit.core.needs import Needs
from plaudit.core.reward import Carry, Reward
from plaudit.core.score import Score
from plaudit.core.targets import Target, load_target, refuse_bare_file

Reduce = Literal["sum", "last", "max", "any"]
FORMS = "file.py:name[:sum|last|max|any], module:name[:...], info:KEY[:...] or env"
"""How an intent is written."""
REDUCES: tuple[Reduce, ...] = ("sum", "last", "max", "any")
USUAL_KEYS = ("is_success", "success", "goal_reached", "task_success", "solved")


@dataclass(frozen=True)
class Intent:
    """A number for each episode that says how well it did what was wanted.

    Example:
        >>> e = Episodes.of_steps(obs=torch.zeros(3, 1), action=torch.zeros(3), next_obs=torch.zeros(3, 1),
        ...                       info={"is_success": torch.tensor([False, True, False])})
        >>> parse_intent("info:is_success").of(e).tolist()
        [1.0]
    """

    text: str
    """How the user (or we) named it."""
    statement: str
    """In words, for the report."""
    per_step: Reward
    reduce: Reduce
    found: bool = False
    """Whether we found it ourselves rather than being told."""
    target: Target | None = None

    def of(self, episodes: Episodes) -> Float[Tensor, "B"]:
        """The intent of each episode; NaN where it is unknown."""
        score = self.per_step.score(episodes)
        if self.reduce == "sum":
            return score.returns()[0]
        if self.reduce == "last":
            return score.value.gather(1, episodes.last.unsqueeze(1)).squeeze(1)
        if self.reduce == "any":
            yes = ((score.value > 0) & score.known & score.mask).any(1).to(score.value.dtype)
            return torch.where((yes > 0) | score.known.all(1), yes, torch.nan)
        largest = torch.where(score.mask, score.value, -torch.inf).amax(1)
        return torch.where(score.known.all(1), largest, torch.nan)

    def as_reward(self) -> Reward:
        """A reward whose undiscounted return is the intent (so that an optimiser can pursue it)."""
        return self.per_step if self.reduce == "sum" else Accumulated(self.per_step, self.reduce)

    @property
    def is_success(self) -> bool:
        """Whether it is a yes or no."""
        return self.reduce == "any"


class Accumulated(Node):
    """Pays what a running `last`, `max` or `any` gains at each step, so that the return is that statistic.

    `any` is 1 once the inner reward has been above zero, `max` the largest value so far, `last` the
    latest value.
    """

    def __init__(self, inner: Reward, how: Reduce) -> None:
        super().__init__([inner], name=f"{how}({inner.name})")
        self.how = how
        self.needs = inner.needs | Needs(time="prefix")
        self.range = (-1.0, 1.0) if how == "any" else self.range

    def spec(self) -> dict[str, Any]:
        """What `from_spec` needs beside the inner reward."""
        return {"how": self.how}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], parts: Sequence[Reward]) -> Accumulated:
        """The reward that `spec` describes.

        Raises:
            BadInput: for another way to reduce.
        """
        if spec["how"] not in REDUCES:
            raise BadInput("spec.how", expected=f"one of {', '.join(REDUCES)}", received=spec["how"])
        return cls(parts[0], spec["how"])

    def combine(self, scores: list[Score], episodes: Episodes) -> Score:  # type: ignore[override]
        return self._pay(scores[0], before=None)[0]

    def start(self, rows: int) -> Carry:
        return [super().start(rows)[0], torch.zeros(rows), torch.ones(rows, dtype=torch.bool)]

    def stream(self, step: Episodes, carry: Carry) -> tuple[Score, Carry]:
        inner, level, fresh = carry
        score, inner = self.parts[0].stream(step, inner)
        paid, level = self._pay(score, before=(level.to(step.device), fresh.to(step.device)))
        out = self.scored(step, lambda: paid)
        return out, [inner, level, torch.zeros_like(fresh)]

    def restart(self, carry: Carry, rows: Tensor) -> Carry:
        inner, level, fresh = carry
        rows = rows.to(level.device)
        return [self.parts[0].restart(inner, rows), torch.where(rows, 0.0, level), fresh | rows]

    def _pay(self, score: Score, *, before: tuple[Tensor, Tensor] | None) -> tuple[Score, Tensor]:
        """What each step adds to the level, given the (level, is fresh) of each row."""
        value = (score.value > 0).to(score.value.dtype) if self.how == "any" else score.value
        value = torch.where(score.known, value, torch.nan)
        first = value[:, :1]
        start = torch.zeros_like(first)
        if before is not None:
            level, fresh = (x.unsqueeze(1) for x in before)
            start = torch.where(fresh, 0.0, level.to(value.dtype))
        bonus = torch.zeros_like(first)
        if self.how == "max":  # the first step pays its value whatever its sign, later ones what they gain
            is_first = torch.ones_like(first, dtype=torch.bool) if before is None else before[1].unsqueeze(1)
            bonus = torch.where(is_first, first - start, bonus)
            start = torch.where(is_first, first, start)
        levels = torch.cat([start, value], 1)
        if self.how != "last":
            levels = levels.cummax(1).values
        paid = levels.diff(dim=1) + torch.cat([bonus, torch.zeros_like(value[:, 1:])], 1)
        return Score.of(paid, mask=score.mask, why=score.why, reason=f"{self.name} reads an unknown step"), levels[:,
                                                                                                                   -1]


def parse_intent(text: str) -> Intent:
    """Reads `TARGET[:sum|last|max|any]`, `info:KEY[:...]` or `env`.

    Raises:
        BadInput: when the form is wrong or the target cannot be loaded.

    Example:
        >>> parse_intent("info:x_position:max").statement
        'a high largest x_position'
    """
    if text == "env":
        return Intent(text, "a high return of the environment's own reward", EnvReward(), "sum")
    body, reduce = split_intent(text)
    if body.startswith("info:"):
        return info_intent(body.removeprefix("info:"), reduce=reduce, text=text)
    try:
        with option("intent"):
            return target_intent(load_target(body), reduce=reduce, text=text)
    except BadInput as error:
        head, cause = body.partition(":")[0], error.__cause__ and error.__cause__.__cause__
        if isinstance(cause, ModuleNotFoundError) and cause.name == head:
            hint = "; env alone is the environment's own return" if head == "env" else ""
            raise BadInput("intent", expected=FORMS, received=text, fix=f"there is no module {head}{hint}") from error
        raise


def split_intent(text: str) -> tuple[str, Reduce | None]:
    """What names the number of a step, and how an episode's number is made of them.

    Raises:
        BadInput: when the form is wrong.
    """
    head, _, tail = text.rpartition(":")
    reduce: Reduce | None = next((r for r in REDUCES if r == tail and ":" in head), None)
    body = head if reduce else text
    name, _, rest = body.partition(":")
    refuse_bare_file("intent", body)
    if not name or not rest or ":" in rest:
        fix = f"{tail} is none of {', '.join(REDUCES)}" if ":" in rest else ""
        raise BadInput("intent", expected=FORMS, received=text, fix=fix)
    return body, reduce


def target_intent(target: Target, *, reduce: Reduce | None, text: str) -> Intent:
    """The intent that a function or a Reward states.

    Raises:
        BadInput: when the target is neither.
    """
    if not isinstance(target.thing, Reward) and (not callable(target.thing) or isinstance(target.thing, type)):
        raise BadInput("intent", expected="a function or a Reward",
                       received=f"{target.text}, a {type(target.thing).__name__}")
    reward = as_reward(target.thing)
    how = reduce or "sum"
    return Intent(text, f"a high {_IN_WORDS[how]} {reward.name}", reward, how, target=target)


_IN_WORDS = {"sum": "total", "last": "final", "max": "largest", "any": "share of episodes with"}


def info_intent(key: str, *, reduce: Reduce | None = None, text: str = "", found: bool = False) -> Intent:
    """The intent that an environment reports in its `info`."""
    how: Reduce = reduce or ("any" if key in USUAL_KEYS else "last")
    words = f"episodes end with {key}" if how == "any" else f"a high {_IN_WORDS[how]} {key}"
    return Intent(text or f"info:{key}:{how}", words, InfoReward(key), how, found)


class InfoReward(Reward):
    """A numeric entry of the environment's `info` as a reward."""

    def __init__(self, key: str) -> None:
        self.key, self.name = key, key
        self.needs = Needs(fields=frozenset({f"info:{key}"}))

    def spec(self) -> dict[str, str]:
        """How to make it again."""
        return {"key": self.key}

    @staticmethod
    def from_spec(spec: Mapping[str, str]) -> InfoReward:
        """What `spec` gave, as a reward."""
        return InfoReward(spec["key"])

    def evaluate(self, episodes: Episodes) -> Score:
        value = episodes.info[self.key].to(torch.float32)
        if value.shape != episodes.mask.shape:
            raise PlauditError(f"info[{self.key!r}] is no number but has shape {list(value.shape[2:])}")
        return Score.of(value, mask=episodes.mask, reason=f"info[{self.key!r}] is missing or not finite")


def find_intent(episodes: Episodes) -> Intent | None:
    """The usual statement of success in the environment's `info`, if it has one."""
    for key in USUAL_KEYS:
        if key in episodes.info and episodes.info[key].shape == episodes.mask.shape:
            return info_intent(key, found=True)
    return None


def check_intent(intent: Intent, episodes: Episodes) -> None:
    """Refuses an intent of which random behaviour shows that it can never be known.

    Raises:
        BadInput: when it reads an entry of `info` that the environment does not report, or is unknown everywhere.
    """
    missing = sorted(f.removeprefix("info:") for f in intent.per_step.needs.fields if f.startswith("info:")
                     and f.removeprefix("info:") not in episodes.info)
    if missing:
        near = difflib.get_close_matches(missing[0], list(episodes.info), 1)
        numbers = [k for k, v in episodes.info.items() if v.shape == episodes.mask.shape]
        reported = f"it reports {', '.join(sorted(numbers))}" if numbers else "it reports no numbers at all"
        raise BadInput("intent", expected="an entry of info that the environment reports at every step",
                       received=f"info:{missing[0]}", fix=(f"did you mean info:{near[0]}? " if near else "") + reported)
    score = intent.per_step.score(episodes)
    if bool(episodes.mask.any()) and not bool(score.known[episodes.mask].any()):
        raise BadInput("intent", expected="numbers", received=f"none on {episodes.B} random episodes: "
                       + "; ".join(score.why))
