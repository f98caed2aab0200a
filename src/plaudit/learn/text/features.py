"""What makes an answer good, by name: declared features of texts, and their numbers for a batch of completions.

A feature has a name, a direction, a range and a function: plain Python over the columns of a completion (as
`text_reward` takes it), or a Reward, such as a language model as a judge. What a function cannot say is NaN with a
reason, never a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.consent import load_with_consent, noted
from plaudit.core.errors import BadInput
from plaudit.core.naming import source_of
from plaudit.core.needs import Needs
from plaudit.core.reward import UNBOUNDED, Range, Reward
from plaudit.core.saving import reward_from_spec, reward_spec
from plaudit.core.targets import load_target
from plaudit.core.tokens import DERIVED, of_texts
from plaudit.specify.text.functions import text_reward
from plaudit.specify.text.pool import Pool

Better = Literal["more", "less", "unknown"]
SIGN: Mapping[str, float] = {"more": 1.0, "less": -1.0, "unknown": 0.0}
TAKEN = ("base", "length")
"""Names of terms that a feature model makes itself."""
CHUNK = 512
"""About how many completions are read between two reports of progress."""
Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, eq=False)
class Feature:
    """One thing that makes an answer better or worse.

    Args:
        name: What it is called.
        function: A function of columns (`prompt`, `completion`, `prompt_text`, `completion_text`, those of the data),
            of one completion or of a batch, as `plaudit.specify.text.text_reward` takes it; or a Reward of texts.
        better: Whether more of it is better, or less, as its author thinks; `unknown` leaves it to the data.
        range: The smallest and largest value; what lies outside is unknown.
        says: A sentence for the card.

    Raises:
        BadInput: when the name, the direction, the range or the function is none.

    Example:
        >>> Feature("words", lambda completion_text: len(completion_text.split()), better="less").better
        'less'
        >>> Feature("words", len, range=(1.0, 0.0))
        Traceback (most recent call last):
        plaudit.core.errors.BadInput: feature 'words': expected a range (smallest, largest), received (1.0, 0.0)
    """

    name: str
    function: Callable[..., Any] | Reward
    better: Better = "unknown"
    range: Range = UNBOUNDED
    says: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or self.name in TAKEN or "/" in self.name:
            raise BadInput("feature.name", expected=f"a name without a slash, other than {' and '.join(TAKEN)}",
                           received=repr(self.name))
        if self.better not in get_args(Better):
            raise BadInput(f"feature {self.name!r}", expected=f"better out of {', '.join(get_args(Better))}",
                           received=self.better)
        if not isinstance(self.function, Reward) and not callable(self.function):
            raise BadInput(f"feature {self.name!r}", expected="a function or a Reward",
                           received=type(self.function).__name__)
        if not self.range[0] < self.range[1]:
            raise BadInput(f"feature {self.name!r}", expected="a range (smallest, largest)", received=self.range)

    def declared(self) -> dict[str, Any]:
        """What it says of itself, as JSON."""
        limits = [x if math.isfinite(x) else None for x in self.range]
        return {"name": self.name, "better": self.better, "range": limits, "says": self.says}


@dataclass(frozen=True, eq=False)
class Readings:
    """The features of B completions."""

    value_BD: Float[Tensor, "B D"]
    """NaN where a feature is unknown."""
    why: tuple[Mapping[str, int], ...]
    """For each feature: reasons for what is unknown, and of how many completions."""


class FeatureSet:
    """Features in their order: what a feature model reads.

    Args:
        features: The features, each with a name of its own.

    Raises:
        BadInput: when there is none, or two share a name.

    Example:
        >>> words = Feature("words", lambda completion_text: len(completion_text.split()))
        >>> polite = Feature("polite", lambda completion_text: "please" in completion_text, better="more")
        >>> FeatureSet([words, polite]).read(["hm"] * 2, ["please do", "no"]).value_BD.tolist()
        [[2.0, 1.0], [1.0, 0.0]]
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        wrong = [f for f in self.features if not isinstance(f, Feature)]
        if wrong or not self.features:
            raise BadInput("features", expected="one or more of Feature(name, function, better=...)",
                           received=type(wrong[0]).__name__ if wrong else "none")
        names = [f.name for f in self.features]
        if len(set(names)) < len(names):
            raise BadInput("features", expected="names of their own", received=", ".join(names))
        self.source: dict[str, Any] | None = None
        """Where the set itself is defined, where it was loaded by name."""
        self.limit(time_limit_s=None)

    @property
    def names(self) -> list[str]:
        """The names, in order."""
        return [f.name for f in self.features]

    def __len__(self) -> int:
        return len(self.features)

    def __iter__(self) -> Iterator[Feature]:
        return iter(self.features)

    def without(self, *names: str) -> FeatureSet:
        """The set less some of its features.

        Raises:
            BadInput: for a name that it does not have.
        """
        foreign = [n for n in names if n not in self.names]
        if foreign:
            raise BadInput("names", expected=f"names out of {', '.join(self.names)}", received=", ".join(foreign))
        return FeatureSet([f for f in self.features if f.name not in names])

    def limit(self, *, pool: Pool | None = None, time_limit_s: float | None = None) -> FeatureSet:
        """Runs the functions in worker processes, or under a limit of time; Rewards have their own."""
        self.rewards = [f.function if isinstance(f.function, Reward) else text_reward(
            f.function, name=f.name, range=f.range, pool=pool, time_limit_s=None if pool else time_limit_s)
            for f in self.features]
        self.needs = Needs(time="episode")
        for reward in self.rewards:
            self.needs = self.needs | reward.needs
        return self

    # --- reading ----------------------------------------------------------------------------------------

    def read(self, prompts: Sequence[Any], completions: Sequence[Any], *,
             columns: Mapping[str, Sequence[Any]] | None = None, progress: Progress | None = None) -> Readings:
        """The features of completions; rows of one prompt should stand together.

        Raises:
            BadInput: when a function asks for a column that is not there.
        """
        told = {n: c for n, c in (columns or {}).items() if n not in (*DERIVED, "prompts", "completions", "ids",
                                                                      "prompt_ids")}
        value_BD = torch.full((len(prompts), len(self)), torch.nan)
        why: list[dict[str, int]] = [{} for _ in self.features]
        for start, stop in _chunks(prompts, CHUNK if self.needs.across != "batch" else len(prompts)):
            rows = of_texts(prompts[start:stop], completions[start:stop],
                            **{n: c[start:stop] for n, c in told.items()})
            for d, reward in enumerate(self.rewards):
                score = reward.evaluate(rows)  # rows that fail are unknown; what it raises concerns all of them
                value_BD[start:stop, d] = self._within(d, score.returns()[0].float().cpu(), why[d])
                for reason, n in score.counts().items():
                    why[d][reason] = why[d].get(reason, 0) + n
            if progress is not None:
                progress("reading features", stop, len(prompts))
        return Readings(value_BD, tuple(why))

    def _within(self, d: int, value_B: Float[Tensor, "b"], why: dict[str, int]) -> Float[Tensor, "b"]:
        """What a Reward says outside the declared range is unknown (a function's has been sorted out before)."""
        low, high = self.features[d].range
        slack = 1e-6 * max(1.0, *(abs(x) for x in (low, high) if math.isfinite(x)), 1.0)
        out = (value_B < low - slack) | (value_B > high + slack) | torch.isinf(value_B)
        if bool(out.any()):
            reason = f"{self.names[d]} left its declared range [{low:g}, {high:g}]"
            why[reason] = why.get(reason, 0) + int(out.sum())
        return torch.where(out, torch.nan, value_B)

    # --- files ------------------------------------------------------------------------------------------

    @staticmethod
    def load(target: str) -> FeatureSet:
        """The set of a name, `my_features.py:FEATURES` or `module:FEATURES`; the file is run, as an import does.

        Raises:
            BadInput: when there is none of that name.
        """
        loaded = load_target(target)
        made = _as_set(loaded.thing, target)
        made.source = dict(noted(loaded))
        return made

    def spec(self) -> dict[str, Any]:
        """JSON that finds the functions again by file and name; no code is written down.

        Raises:
            Unsupported: for a function that has no name at the top of a file, with what to do.
        """
        declared = [f.declared() for f in self.features]
        if self.source is not None:
            return {"source": self.source, "features": declared}
        for out, f in zip(declared, self.features, strict=True):
            out["function"] = {"reward": reward_spec(f.function)} if isinstance(f.function, Reward) else \
                source_of(f.function, what=f"the feature {f.name}")
        return {"source": None, "features": declared}

    @staticmethod
    def from_spec(spec: Mapping[str, Any], *, trust: bool = False, device: str | None = None) -> FeatureSet:
        """The inverse of `spec`.

        Args:
            spec: What `spec` gave.
            trust: Whether code may run that has changed since, or lies outside the working folder.
            device: Where networks of features compute, as in `load_reward`.

        Raises:
            BadInput: when code would run without consent, is missing, or declares other features than at training.
        """
        if spec["source"] is not None:
            source = dict(spec["source"])
            made = _as_set(load_with_consent(source, trust=trust, what="features").thing, str(source["target"]))
            declared = [{k: v for k, v in f.declared().items() if k != "says"} for f in made]
            expected = [{k: f[k] for k in ("name", "better", "range")} for f in spec["features"]]
            if declared != expected:
                raise BadInput("features", expected=f"those of the training: {[f['name'] for f in expected]}",
                               received=f"{made.names} in {source['target']}", fix="train again with the new ones")
            made.source = source
            return made
        return FeatureSet([Feature(f["name"], _function(f["function"], trust, device), f["better"], _limits(f["range"]),
                                   f["says"]) for f in spec["features"]])


def _function(spec: Mapping[str, Any], trust: bool, device: str | None) -> Any:
    if "reward" in spec:
        return reward_from_spec(spec["reward"], trust=trust, device=device)
    return load_with_consent(spec, trust=trust, what="features").thing


def _limits(range: Sequence[float | None]) -> Range:
    """JSON has no infinity: None is no limit."""
    low, high = range
    return (-math.inf if low is None else low, math.inf if high is None else high)


def _as_set(thing: Any, target: str) -> FeatureSet:
    """A fresh set, so that limits and source of one model do not reach into another."""
    if isinstance(thing, FeatureSet):
        return FeatureSet(thing.features)
    if isinstance(thing, list | tuple) and thing and all(isinstance(f, Feature) for f in thing):
        raise BadInput("features", expected=f"a FeatureSet called {target}", received=type(thing).__name__,
                       fix="write FEATURES = FeatureSet([...])")
    raise BadInput("features", expected=f"a FeatureSet called {target}", received=type(thing).__name__)


def _chunks(prompts: Sequence[Any], size: int) -> Iterator[tuple[int, int]]:
    """Places of about `size` rows each that leave neighbours with one prompt together."""
    start = 0
    while start < len(prompts):
        stop = min(start + size, len(prompts))
        while stop < len(prompts) and prompts[stop] == prompts[stop - 1]:
            stop += 1
        yield start, stop
        start = stop
