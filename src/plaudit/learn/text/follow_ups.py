"""What a satisfied and a dissatisfied user would say next: banks of short follow-ups by category, editable as a file.

The packaged bank has six categories of helpfulness with ten follow-ups of each polarity. `FollowUps.load().save(path)`
writes them as JSON; edited, they come back with `FollowUps.load(path)`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.checkpoint import write_json
from plaudit.core.errors import BadInput

PACKAGED = Path(__file__).with_name("follow_ups.json")
Polarity = Literal["positive", "negative"]
Use = Literal["difference", "positive", "negative"]


@dataclass(frozen=True)
class Bank:
    """The follow-ups of one category.

    Raises:
        BadInput: when a side is empty, or a follow-up is blank, stands twice, or is on both sides.
    """

    positive: tuple[str, ...]
    """What a satisfied user says."""
    negative: tuple[str, ...]
    """What a dissatisfied user says."""

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            said = getattr(self, name)
            if not said or not all(isinstance(text, str) and text.strip() for text in said):
                raise BadInput(name, expected="at least one follow-up, and none blank", received=list(said))
        every = [text.strip() for text in (*self.positive, *self.negative)]
        twice = next((text for text in every if every.count(text) > 1), None)
        if twice is not None:
            raise BadInput("follow-ups", expected="each once, on one side", received=f"{twice!r} twice")


@dataclass(frozen=True)
class FollowUps:
    """Banks by category; the first follow-ups of each are its most typical ones.

    Example:
        >>> follow_ups = FollowUps.load().take(3)
        >>> len(follow_ups.banks), len(follow_ups), follow_ups.banks["correctness"].negative[0]
        (6, 36, 'That is not correct.')
    """

    banks: Mapping[str, Bank]

    def __post_init__(self) -> None:
        if not self.banks:
            raise BadInput("follow-ups", expected="at least one category", received="none")

    def __len__(self) -> int:
        return sum(len(b.positive) + len(b.negative) for b in self.banks.values())

    @staticmethod
    def load(path: str | Path | None = None) -> FollowUps:
        """Reads a file of follow-ups: JSON, `{category: {"positive": [...], "negative": [...]}}`.

        Args:
            path: The file; None is the packaged one.

        Raises:
            BadInput: when it is no such file.
        """
        file = PACKAGED if path is None else Path(path)
        try:
            return FollowUps.of(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise BadInput("follow-ups", expected="a JSON file of follow-ups", received=f"{file} ({error})",
                           fix="FollowUps.load().save(path) writes the packaged ones to begin with") from None

    @staticmethod
    def of(raw: Any) -> FollowUps:
        """Follow-ups from JSON values.

        Raises:
            BadInput: naming the category, when one does not have both sides.
        """
        if not isinstance(raw, Mapping):
            raise BadInput("follow-ups", expected="categories by name", received=type(raw).__name__)
        banks: dict[str, Bank] = {}
        for name, sides in raw.items():
            if not isinstance(sides, Mapping) or set(sides) != {"positive", "negative"} or not all(
                    isinstance(s, Sequence) and not isinstance(s, str) for s in sides.values()):
                raise BadInput(f"follow-ups[{name!r}]", expected="two lists, positive and negative", received=sides)
            banks[str(name)] = Bank(tuple(sides["positive"]), tuple(sides["negative"]))
        return FollowUps(banks)

    def save(self, path: str | Path) -> Path:
        """Writes the file that `load` reads."""
        write_json(Path(path), self.to_json())
        return Path(path)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {name: {"positive": list(b.positive), "negative": list(b.negative)} for name, b in self.banks.items()}

    def take(self, each: int) -> FollowUps:
        """The first ones of each category and polarity.

        Raises:
            BadInput: when a bank has fewer.
        """
        fewest = min(min(len(b.positive), len(b.negative)) for b in self.banks.values())
        if not 1 <= each <= fewest:
            raise BadInput("each", expected=f"an integer in [1, {fewest}]", received=each)
        return FollowUps({name: Bank(b.positive[:each], b.negative[:each]) for name, b in self.banks.items()})

    def of_categories(self, names: Sequence[str]) -> FollowUps:
        """Some of the categories.

        Raises:
            BadInput: for one that there is not.
        """
        for name in names:
            if name not in self.banks:
                raise BadInput("category", expected=f"one of {', '.join(self.banks)}", received=name)
        return FollowUps({name: self.banks[name] for name in names})

    @property
    def texts(self) -> tuple[str, ...]:
        """All follow-ups, each once: category after category, positive before negative."""
        return tuple(dict.fromkeys(t.strip() for b in self.banks.values() for t in (*b.positive, *b.negative)))

    def places(self, category: str, polarity: Polarity) -> list[int]:
        """Where the follow-ups of a side stand in `texts`."""
        at = {text: i for i, text in enumerate(self.texts)}
        return [at[text.strip()] for text in getattr(self.banks[category], polarity)]

    @property
    def digest(self) -> str:
        """A hash of categories and words."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]


def category_scores(mean_NF: Float[Tensor, "N F"], follow_ups: FollowUps,
                    use: Use | str = "difference") -> Float[Tensor, "N C"]:
    """The score of each category: positive follow-ups less negative ones, or one side alone (negative: with a minus).

    Example:
        >>> follow_ups = FollowUps.of({"one": {"positive": ["Yes.", "Good."], "negative": ["No."]}})
        >>> category_scores(torch.tensor([[-1.0, -2.0, -4.0]]), follow_ups).tolist()
        [[2.5]]
    """
    use = check_use(use)
    out: list[Tensor] = []
    for name in follow_ups.banks:
        better, worse = (mean_NF[:, follow_ups.places(name, side)].mean(-1) for side in ("positive", "negative"))
        out.append({"difference": better - worse, "positive": better, "negative": -worse}[use])
    return torch.stack(out, -1)


def check_use(use: Use | str) -> Use:
    """The word, if it is one.

    Raises:
        BadInput: when it is none.
    """
    for known in get_args(Use):
        if use == known:
            return known
    raise BadInput("use", expected=f"one of {', '.join(get_args(Use))}", received=use)
