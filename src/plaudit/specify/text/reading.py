"""What a function said about one completion, read into numbers: a value for each token, terms, and what is unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput

Per = Literal["completion", "step", "token"]


@dataclass(frozen=True)
class Failed:
    """There is no answer, for a reason."""

    reason: str


@dataclass(frozen=True)
class Places:
    """Where the numbers of one completion are paid.

    Args:
        per: Whether there is one number for the completion, for each of its steps, or for each of its tokens.
        ends: The token [K] at which each step ends; several may share one, and it is paid their sum.
        T: How many tokens the completion has.
    """

    per: Per
    ends: tuple[int, ...]
    T: int

    @property
    def paid(self) -> list[int]:
        """The tokens that get one number each."""
        if self.per == "step":
            return [e for e in self.ends if self.ends.count(e) == 1]
        return list(range(self.T)) if self.per == "token" else [self.T - 1]

    def spread(self, numbers: Any, what: str) -> Float[Tensor, "T"]:
        """The numbers at their tokens; NaN where a number is None.

        Raises:
            BadInput: when there are too many or too few of them, or these are no numbers.
        """
        many = _listed(numbers)
        if many is None or (self.per == "completion" and len(many) == 1):
            one = numbers if many is None else many[0]
            return _placed([_number(one, what)], [self.T - 1], self.T)
        if self.per == "completion":
            raise BadInput(what, expected="one number for a completion", received=f"{len(many)} numbers",
                           fix="declare per='token' or per='step'")
        ends = range(self.T) if self.per == "token" else self.ends
        if len(many) != len(ends):
            raise BadInput(what, expected=f"one number for each of {len(ends)} {self.per}s", received=len(many))
        return _placed([_number(x, what) for x in many], ends, self.T)


@dataclass
class Sheet:
    """The answers for a batch, as they come in: value, terms and reasons on the axes [B, T]."""

    name: str
    mask: Bool[Tensor, "B T"]
    weights: Mapping[str, float]
    limits: tuple[float, float]
    value: Tensor = field(init=False)
    terms: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    why: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def __post_init__(self) -> None:
        self.value = torch.zeros(self.mask.shape)

    def write(self, row: int, said: Any, places: Places) -> None:
        """Enters what was said of one row; what cannot be read is unknown, with the reason."""
        try:
            if isinstance(said, Failed):
                raise _Unknown(said.reason)
            value, terms, lacking = self._read(said, places)
            self._check(value, places)
        except (BadInput, _Unknown) as error:
            self.value[row, places.T - 1] = torch.nan
            self._blame(str(error), row, torch.tensor([places.T - 1]))
            return
        self.value[row, : places.T] = value
        for name, term in terms.items():
            self.terms.setdefault(name, torch.zeros(self.mask.shape))[row, : places.T] = term
        lost = torch.isnan(value).nonzero().flatten()
        if len(lost):
            self._blame("the function returned None" + (f" for {lacking}" if lacking else ""), row, lost)

    def _read(self, said: Any, places: Places) -> tuple[Tensor, dict[str, Tensor], str]:
        """Value, terms, and which of the terms that make up the value are unknown."""
        named: Any = said
        told = isinstance(said, tuple) and len(cast("tuple[Any, ...]", said)) == 2 and isinstance(said[1], Mapping)
        if told:
            named = said[1]
        elif not isinstance(said, Mapping):
            return places.spread(said, self.name), {}, ""
        if not named and not told:
            raise BadInput(self.name, expected="at least one named term", received="an empty dictionary")
        terms = {str(n): places.spread(t, f"term {str(n)!r} of {self.name}") for n, t in named.items()}
        if told:
            return places.spread(said[0], self.name), terms, ""
        expected = set(self.weights) or set(self.terms)
        if expected and set(terms) != expected:
            raise BadInput(f"terms of {self.name}", expected=f"the same ones everywhere, {sorted(expected)}",
                           received=sorted(terms))
        value = torch.zeros(places.T)
        for name, term in terms.items():
            weight = self.weights.get(name, 1.0)
            value = value + weight * term if weight else value
        lacking = [f"term {n!r}" for n, t in terms.items() if self.weights.get(n, 1.0) and bool(t.isnan().any())]
        return value, terms, ", ".join(lacking)

    def _check(self, value: Tensor, places: Places) -> None:
        """Refuses values outside the declared range."""
        low, high = self.limits
        slack = 1e-6 * max(1.0, *(abs(x) for x in self.limits if math.isfinite(x)), 1.0)
        paid = value[places.paid]
        if bool(((paid < low - slack) | (paid > high + slack)).any()):
            raise _Unknown(f"{self.name} left its declared range [{low:g}, {high:g}]")

    def _blame(self, reason: str, row: int, at: Tensor) -> None:
        self.why.setdefault(" ".join(reason.split())[:300], torch.zeros_like(self.mask))[row, at] = True


class _Unknown(Exception):
    """Carries a reason to where it is written down."""


def split_batch(said: Any, count: int, name: str) -> list[Any]:
    """What a function of a batch returned, an answer a row: from a list, a tensor, or a dictionary of lists.

    Raises:
        BadInput: naming both lengths, when there are not as many answers as completions.

    Example:
        >>> split_batch({"right": [1, 0], "brief": [0.5, None]}, 2, "graded")
        [{'right': 1, 'brief': 0.5}, {'right': 0, 'brief': None}]
    """
    if isinstance(said, tuple) and len(cast("tuple[Any, ...]", said)) == 2 and isinstance(said[1], Mapping):
        values, terms = (split_batch(part, count, name) for part in cast("tuple[Any, Any]", said))
        return list(zip(values, terms, strict=True))
    if isinstance(said, Mapping):
        named = {str(n): split_batch(t, count, f"term {n!r} of {name}")
                 for n, t in cast("Mapping[Any, Any]", said).items()}
        return [{n: t[b] for n, t in named.items()} for b in range(count)]
    many = _listed(said)
    if many is None:
        raise BadInput(name, expected=f"a list with an answer for each of {count} completions", received=_kind(said))
    if len(many) != count:
        raise BadInput(name, expected=f"an answer for each of {count} completions", received=f"{len(many)} answers")
    return many


def at_the_end(row: Tensor, episodes: Episodes) -> Tensor:
    """One entry [B] for each episode, at its last step; nothing elsewhere."""
    out = row.new_zeros(episodes.mask.shape)
    out[torch.arange(episodes.B), episodes.last] = row
    return out


def _placed(numbers: Sequence[float], ends: Sequence[int], T: int) -> Tensor:
    out = torch.zeros(T, dtype=torch.float64)
    for number, end in zip(numbers, ends, strict=True):
        out[end] += number
    return out.float()


def _listed(x: Any) -> list[Any] | None:
    """The entries of a list, tuple, tensor or array; None for a single thing."""
    if isinstance(x, list | tuple):
        return list(cast("Sequence[Any]", x))
    if hasattr(x, "tolist") and getattr(x, "ndim", 0) > 0:
        return x.tolist()
    return None


def _number(x: Any, what: str) -> float:
    if x is None:
        return math.nan
    try:
        number = float(x)
    except (TypeError, ValueError) as error:
        raise BadInput(what, expected="a number or None", received=_kind(x)) from error
    if not math.isfinite(number):
        raise _Unknown(f"{what} returned NaN or infinity")
    return number


def _kind(x: Any) -> str:
    return f"{type(x).__name__} {repr(x)[:60]}"
