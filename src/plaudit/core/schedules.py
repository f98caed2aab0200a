"""Weights that move: with the progress of a run (schedules), or with what is measured in it (controllers).

A weight in the algebra is a number, a `Schedule` or a `Controller`. The run calls `reward.advance(progress, metrics)`;
schedules are functions of the progress alone, controllers remember their value and are saved with the run.
"""

from __future__ import annotations

import difflib
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, MISSING, dataclass, fields
from typing import Any, TypeAlias, cast

from plaudit.core.errors import BadInput

log = logging.getLogger(__name__)

# --- schedules ---------------------------------------------------------------------------------------


class Schedule(ABC):
    """A number as a function of the progress of a run in [0, 1]. Progress beyond an end counts as that end."""

    @abstractmethod
    def at(self, progress: float) -> float:
        """The number at `progress`, which lies in [0, 1]."""

    def __call__(self, progress: float) -> float:
        """The number at `progress`.

        Raises:
            BadInput: when the progress is NaN.
        """
        if math.isnan(progress):
            raise BadInput("progress", expected="a number in [0, 1]", received=progress)
        return self.at(min(max(progress, 0.0), 1.0))

    def spec(self) -> dict[str, Any]:
        """JSON from which `weight_from_spec` makes the same schedule."""
        return _spec(self)


@dataclass(frozen=True)
class Constant(Schedule):
    """The same number all along."""

    value: float

    def __post_init__(self) -> None:
        _finite(self, "value")

    def at(self, progress: float) -> float:
        return self.value


@dataclass(frozen=True)
class _Between(Schedule):
    """A number that goes from `start` to `end` while the progress goes from `begin` to `until`."""

    start: float
    end: float
    _: KW_ONLY
    begin: float = 0.0
    until: float = 1.0

    def __post_init__(self) -> None:
        _finite(self, "start", "end", "begin", "until")
        if not 0 <= self.begin < self.until <= 1:
            raise BadInput("begin, until", expected="0 <= begin < until <= 1", received=(self.begin, self.until))

    def at(self, progress: float) -> float:
        if progress <= self.begin:
            return self.start
        if progress >= self.until:
            return self.end
        return self._between((progress - self.begin) / (self.until - self.begin))

    @abstractmethod
    def _between(self, x: float) -> float:
        """The number after the fraction x in (0, 1) of the way."""


@dataclass(frozen=True)
class Linear(_Between):
    """A straight line from `start` to `end` while the progress goes from `begin` to `until`.

    Example:
        >>> Linear(1.0, 0.0)(0.25), Linear(0.0, 1.0, begin=0.5)(0.75)
        (0.75, 0.5)
    """

    def _between(self, x: float) -> float:
        return self.start + x * (self.end - self.start)


@dataclass(frozen=True)
class Cosine(_Between):
    """Half a cosine from `start` to `end`: flat at both ends (Loshchilov and Hutter 2017, eq. 5).

    Example:
        >>> round(Cosine(1.0, 0.0)(0.5), 12)
        0.5
    """

    def _between(self, x: float) -> float:
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * x)) / 2


@dataclass(frozen=True)
class Exponential(_Between):
    """Equal ratios in equal times from `start` to `end`, which have one sign.

    Example:
        >>> round(Exponential(1.0, 0.01)(0.5), 12)
        0.1
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start * self.end <= 0:
            raise BadInput("start, end", expected="two numbers of one sign, not 0", received=(self.start, self.end),
                           fix="use Linear to reach 0")

    def _between(self, x: float) -> float:
        return self.start * (self.end / self.start) ** x


@dataclass(frozen=True)
class Piecewise(Schedule):
    """Straight lines through points (progress, value); a progress that is named twice is a jump.

    Attributes:
        points: at least one (progress, value), the progress in [0, 1] and never falling. Before the first point the
            first value holds, after the last the last.
        hold: keep each value until the next point instead of drawing lines.

    Example:
        >>> ramp = Piecewise([(0.0, 0.0), (0.5, 1.0), (0.5, 3.0)])
        >>> ramp(0.25), ramp(0.5), ramp(0.9)
        (0.5, 3.0, 3.0)
        >>> Piecewise([(0.0, 1.0), (0.5, 2.0)], hold=True)(0.49)
        1.0
    """

    points: tuple[tuple[float, float], ...] | list[tuple[float, float]]
    _: KW_ONLY
    hold: bool = False

    def __post_init__(self) -> None:
        try:
            pairs = tuple((float(x), float(y)) for x, y in self.points)
        except (TypeError, ValueError):
            raise BadInput("points", expected="pairs (progress, value)", received=self.points) from None
        xs = [x for x, _ in pairs]
        if not pairs or not all(math.isfinite(v) for pair in pairs for v in pair):
            raise BadInput("points", expected="at least one pair of finite numbers", received=self.points)
        if xs != sorted(xs) or xs[0] < 0 or xs[-1] > 1:
            raise BadInput("points", expected="progress in [0, 1] that never falls", received=xs)
        object.__setattr__(self, "points", pairs)

    def at(self, progress: float) -> float:
        before = [p for p in self.points if p[0] <= progress]
        after = [p for p in self.points if p[0] > progress]
        if not before:
            return after[0][1]
        (x0, y0) = before[-1]
        if not after or self.hold:
            return y0
        (x1, y1) = after[0]
        return y0 + (y1 - y0) * (progress - x0) / (x1 - x0)


# --- controllers -------------------------------------------------------------------------------------


class Controller(ABC):
    """A number that moves with a metric of the run, and is saved and restored with it.

    A metric that is missing from an update, or is not finite, leaves the number where it is: unknown is not zero.
    `updates` counts the updates that had the metric, so that a misspelt name shows.
    """

    metric: str
    updates: int = 0

    @property
    @abstractmethod
    def value(self) -> float:
        """The present number."""

    @abstractmethod
    def observe(self, progress: float, measured: float) -> None:
        """Moves the number, given a finite measurement of the metric."""

    def update(self, progress: float, metrics: Mapping[str, float]) -> None:
        """Tells what was measured at `progress` in [0, 1]."""
        measured = float(metrics.get(self.metric, math.nan))
        if math.isfinite(measured):
            self.observe(progress, measured)
            self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """What moves, as JSON values."""
        return {"value": self.value, "updates": self.updates}

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave.

        Raises:
            BadInput: when the state is not one of this controller.
        """

    def spec(self) -> dict[str, Any]:
        """JSON from which `weight_from_spec` makes this controller as it was in the beginning."""
        return _spec(self)


def number_of(thing: object) -> float | None:
    """A number of any library as a float; None where it is none, or several."""
    try:
        return None if isinstance(thing, str) else float(cast(Any, thing))
    except (TypeError, ValueError, RuntimeError):
        return None


def of_member(metric: str, member: int) -> str:
    """The name of one member's own number of a metric of a population."""
    return f"{metric}@{member}"


def warn_of_unseen(controllers: Iterable[Controller], metrics: Iterable[str]) -> None:
    """Warns of controllers that follow a metric which a run does not have, so that they would never move."""
    known = sorted(set(metrics))
    for metric in sorted({c.metric for c in controllers if not c.updates} - {*known}):
        near = difflib.get_close_matches(metric, known, 1)
        log.warning("no value of %s was seen, which a controller follows, so it does not move%s; the metrics of this "
                    "run: %s", metric, f" (did you mean {near[0]}?)" if near else "", ", ".join(known))


@dataclass(eq=False)
class _Bounded(Controller):
    """A controller whose number lies between two bounds."""

    metric: str

    def _begin(self, initial: float, low: float, high: float | None) -> None:
        if not self.metric:
            raise BadInput("metric", expected="the name of a metric", received=repr(self.metric))
        if not (math.isfinite(low) and (high is None or (math.isfinite(high) and low <= high))):
            raise BadInput("min, max", expected="finite, min <= max", received=(low, high))
        self._low, self._high = low, math.inf if high is None else high
        self._value = self._checked("initial", initial)
        self.updates = 0

    def _checked(self, name: str, value: Any) -> float:
        whole = isinstance(value, int | float) and math.isfinite(value)
        if not whole or not self._low <= float(value) <= self._high:
            raise BadInput(name, expected=f"a number in [{self._low:g}, {self._high:g}]", received=value)
        return float(value)

    @property
    def value(self) -> float:
        return self._value

    def _move_to(self, value: float) -> None:
        self._value = min(max(value, self._low), self._high)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if set(state) != {"value", "updates"}:
            raise BadInput("state", expected="value and updates", received=sorted(state))
        self._value = self._checked("state['value']", state["value"])
        self.updates = int(state["updates"])


@dataclass(eq=False)
class LagrangeMultiplier(_Bounded):
    """The price of a constraint `metric <= limit`, by projected dual ascent.

    Plain: value <- clip(value + rate * (metric - limit), min, max). In log form: value <- clip(value *
    exp(rate * (metric - limit)), min, max), which moves by ratios and suits prices of unknown size.
    The fixed points are the same: the metric at its limit, or the price at a bound.

    Source:
        Bertsekas (1999), Nonlinear Programming, section 6.3 (plain); the log form is how soft actor-critic moves its
        temperature (Haarnoja et al. 2018).

    Example:
        >>> price = LagrangeMultiplier("cost", 0.1, rate=2.0)
        >>> price.update(0.0, {"cost": 0.6}); price.value
        1.0
        >>> price.update(0.1, {"cost": 0.0}); round(price.value, 12)
        0.8
    """

    limit: float | Schedule
    """What the metric should not exceed, in the metric's own units."""
    _: KW_ONLY
    rate: float = 0.01
    """How far an update moves the price for each unit of violation."""
    initial: float | None = None
    """The price in the beginning; None is 0, or 1 in log form."""
    min: float = 0.0
    max: float | None = None
    """The highest price; None is no bound."""
    log: bool = False
    """Moves by ratios. The price then stays above 1e-8, from where it can rise again."""
    at_least: bool = False
    """The constraint is `metric >= limit` instead."""

    def __post_init__(self) -> None:
        _finite(self, "limit")
        _positive("rate", self.rate)
        if self.min < 0:
            raise BadInput("min", expected="0 or more", received=self.min)
        first = (1.0 if self.log else self.min) if self.initial is None else self.initial
        self._begin(first, max(self.min, 1e-8) if self.log else self.min, self.max)

    def observe(self, progress: float, measured: float) -> None:
        excess = (measured - value_of(self.limit, progress)) * (-1.0 if self.at_least else 1.0)
        self._move_to(self.value * _ratio(self.rate * excess) if self.log else self.value + self.rate * excess)


@dataclass(eq=False)
class TargetController(_Bounded):
    """A number that moves by ratios until a metric stays at its target, such as the weight of a KL penalty.

    value <- clip(value * exp(rate * clip(error, -1, 1)), min, max), where error = (metric - target) / scale.

    Source:
        Ziegler et al. (2019), Fine-Tuning Language Models from Human Preferences, section 2.2, which has
        1 + rate * error (clipped at 0.2) for the exponential, the same to first order.

    Example:
        >>> weight = TargetController("kl", 0.1, initial=1.0, rate=0.1)
        >>> weight.update(0.0, {"kl": 0.2}); round(weight.value, 6)
        1.105171
    """

    target: float | Schedule
    """Where the metric should stay, in its own units."""
    _: KW_ONLY
    initial: float = 1.0
    rate: float = 0.1
    """The log of the largest ratio of one update."""
    min: float = 1e-6
    max: float | None = 1e6
    scale: float | None = None
    """The error that counts as 1; None takes the size of the target."""
    lowers: bool = True
    """A larger number brings the metric down (as a penalty's weight does); False where it brings it up."""

    def __post_init__(self) -> None:
        _finite(self, "target")
        _positive("rate", self.rate)
        _positive("min", self.min)
        if self.scale is not None:
            _positive("scale", self.scale)
        elif self.target == 0 or isinstance(self.target, Schedule):
            raise BadInput("scale", expected="a positive number where the target is 0 or moves", received=None)
        self._begin(self.initial, self.min, self.max)

    def observe(self, progress: float, measured: float) -> None:
        target = value_of(self.target, progress)
        scale = abs(target) if self.scale is None else self.scale
        error = min(max((measured - target) / scale, -1.0), 1.0)
        self._move_to(self.value * math.exp(self.rate * (error if self.lowers else -error)))


# --- weights -----------------------------------------------------------------------------------------

Weight: TypeAlias = float | Schedule | Controller
"""What the algebra multiplies a reward by."""

_KINDS: Mapping[str, type[Schedule] | type[Controller]] = {
    kind.__name__: kind
    for kind in (Constant, Linear, Cosine, Exponential, Piecewise, LagrangeMultiplier, TargetController)
}


def value_of(weight: Weight, progress: float) -> float:
    """The number that a weight is at `progress`.

    Example:
        >>> [value_of(w, 0.5) for w in (2.0, Linear(0.0, 1.0), LagrangeMultiplier("cost", 0.1))]
        [2.0, 0.5, 0.0]
    """
    if isinstance(weight, Controller):
        return weight.value
    return weight(progress) if isinstance(weight, Schedule) else float(weight)


def weight_spec(weight: Weight) -> float | dict[str, Any]:
    """JSON from which `weight_from_spec` makes the weight again (a controller as it was in the beginning)."""
    return float(weight) if isinstance(weight, int | float) else weight.spec()


def weight_from_spec(spec: float | Mapping[str, Any]) -> Weight:
    """The weight of a spec.

    Raises:
        BadInput: when the spec names no schedule or controller of plaudit, or lacks or adds arguments.

    Example:
        >>> weight_from_spec({"kind": "Linear", "start": 0.0, "end": 1.0})
        Linear(start=0.0, end=1.0, begin=0.0, until=1.0)
    """
    if isinstance(spec, int | float):
        return float(spec)
    arguments: dict[str, Any] = {k: weight_from_spec(cast("Mapping[str, Any]", v)) if isinstance(v, Mapping) else v
                                 for k, v in spec.items() if k != "kind"}
    kind = _KINDS.get(str(spec.get("kind")))
    if kind is None:
        raise BadInput("weight.kind", expected=f"one of {sorted(_KINDS)}", received=spec.get("kind"))
    if isinstance(arguments.get("points"), list):
        arguments["points"] = [tuple(p) for p in arguments["points"]]
    known = {f.name: f.default is MISSING for f in fields(cast(Any, kind)) if f.init}
    unknown = set(arguments) - set(known)
    missing = {name for name, needed in known.items() if needed} - set(arguments)
    if unknown or missing:
        raise BadInput(f"weight {kind.__name__}", expected=f"arguments out of {list(known)}",
                       received=f"unknown {sorted(unknown)}, missing {sorted(missing)}")
    return kind(**arguments)


# --- helpers -----------------------------------------------------------------------------------------


def _spec(weight: Schedule | Controller) -> dict[str, Any]:
    values = {f.name: getattr(weight, f.name) for f in fields(cast(Any, weight)) if f.init}
    out = {k: v.spec() if isinstance(v, Schedule) else v for k, v in values.items()}
    if isinstance(weight, Piecewise):
        out["points"] = [list(p) for p in weight.points]
    return {"kind": type(weight).__name__, **out}


def _finite(owner: Schedule | Controller, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if not isinstance(value, Schedule) and not (isinstance(value, int | float) and math.isfinite(value)):
            raise BadInput(name, expected="a finite number", received=value)


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise BadInput(name, expected="a positive number", received=value)


def _ratio(exponent: float) -> float:
    """Exp, held below overflow: the bounds decide what is kept."""
    return math.exp(min(exponent, 700.0))
