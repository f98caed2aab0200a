"""The length of a completion as a reward: the cheapest thing that a reward of texts may be paying for instead."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs, Reads
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.tokens import Tokens
from plaudit.specify.text.reading import at_the_end

Unit = Literal["auto", "tokens", "characters", "words"]


class Length(Reward):
    """How long a completion is, at its last token; its role is `watch`. Every adapter logs it beside a reward.

    Args:
        unit: `tokens`, `characters`, `words`, or `auto`: tokens where there are any, else characters.
        name: How it is called in logs.

    Example:
        >>> from plaudit.core.tokens import of_texts
        >>> Length()(of_texts(["hm"] * 2, ["yes", "no"])).flatten().tolist()
        [3.0, 2.0]
        >>> Length().role
        'watch'
    """

    def __init__(self, unit: Unit = "auto", *, name: str = "length") -> None:
        if unit not in get_args(Unit):
            raise BadInput("unit", expected=f"one of {', '.join(get_args(Unit))}", received=unit)
        self.unit: Unit = unit
        self.name, self.role, self.needs = name, "watch", Needs(time="episode")
        self.range = (0.0, float("inf"))

    @property
    def reads(self) -> Reads:
        return Reads()

    def evaluate(self, episodes: Episodes) -> Score:
        return Score.of(at_the_end(self._of(episodes), episodes), mask=episodes.mask)

    def _of(self, episodes: Episodes) -> torch.Tensor:
        columns = episodes.columns if isinstance(episodes, Tokens) else {}
        counted = "completion_ids" in columns or episodes.T > 1
        if self.unit == "tokens" or (self.unit == "auto" and (counted or "completion_text" not in columns)):
            return episodes.lengths.float()
        if "completion_text" not in columns:
            raise BadInput("episodes", expected="completions as texts", received=repr(episodes))
        texts = [str(text) for text in columns["completion_text"]]
        sizes = [len(text.split()) if self.unit == "words" else len(text) for text in texts]
        return torch.tensor(sizes, dtype=torch.float32, device=episodes.device)

    def spec(self) -> dict[str, str]:
        """How it is made again."""
        return {"unit": self.unit}

    @classmethod
    def from_spec(cls, spec: dict[str, Unit]) -> Length:
        """Makes it again."""
        return cls(spec["unit"])
