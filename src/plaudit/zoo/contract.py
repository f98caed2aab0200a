"""What every zoo module offers, and what its result looks like.

A module is one file that tells a whole experiment. It ends in `SYSTEM = System(...)`: the claim of the paper,
a dataclass of options with one instance for each scale, `run(config, lab)` and `draw(result)`. A verdict is
computed from intervals by criteria that the module declares; nobody writes one by hand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from plaudit.core.checkpoint import write_json
from plaudit.core.errors import BadInput
from plaudit.core.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from plaudit.zoo.lab import Lab

Scale = Literal["smoke", "small", "paper"]
Verdict = Literal["holds", "does not hold", "inconclusive"]
FORMAT = "plaudit.zoo.1"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One method under one metric."""

    name: str
    metric: str
    value: Interval
    baseline: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One sentence that the data can refute: a number, and the range in which it has to lie.

    Example:
        >>> Criterion(says="a beats b", value=Interval(0.2, 0.1, 0.3, 9), above=0.0).verdict
        'holds'
        >>> Criterion(says="a beats b", value=Interval(0.2, -0.1, 0.3, 9), above=0.0).verdict
        'inconclusive'
        >>> Criterion(says="a is like b", value=Interval(0.2, 0.15, 0.3, 9), above=-0.1, below=0.1).verdict
        'does not hold'
    """

    says: str
    value: Interval
    above: float = -math.inf
    below: float = math.inf

    @property
    def verdict(self) -> Verdict:
        """`holds` where the whole interval lies in the range, `does not hold` where none of it does."""
        if not all(map(math.isfinite, (self.value.low, self.value.high))):
            return "inconclusive"
        if self.value.low > self.above and self.value.high < self.below:
            return "holds"
        return "does not hold" if self.value.high <= self.above or self.value.low >= self.below else "inconclusive"


def decide(criteria: Sequence[Criterion]) -> Verdict:
    """All have to hold; one that does not is enough to refute.

    Example:
        >>> decide([Criterion(says="x > 0", value=Interval(1.0, 0.5, 2.0, 5), above=0.0)])
        'holds'
    """
    verdicts = {c.verdict for c in criteria}
    if "does not hold" in verdicts:
        return "does not hold"
    return "holds" if verdicts == {"holds"} else "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a module's `run` returns."""

    arms: Sequence[Arm]
    criteria: Sequence[Criterion]
    data: Mapping[str, Any] = field(default_factory=dict)
    """JSON values that the figure needs besides the arms."""


@dataclass(frozen=True, kw_only=True)
class ZooResult:
    """One run of one system, as it stands in `results/NAME.json`."""

    number: int
    name: str
    title: str
    room: str
    scale: Scale
    verdict: Verdict
    claim: str
    arms: Sequence[Arm]
    criteria: Sequence[Criterion]
    seconds: float
    machine: str
    config: Mapping[str, Any]
    code_hash: str
    """Of the plaudit modules that the experiment imports."""
    versions: Mapping[str, str]
    seeds: int
    date: str
    data: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    """Where the learners lived."""

    @property
    def place(self) -> str:
        """The machine, and the device where it is not the CPU."""
        return self.machine if self.device == "cpu" else f"{self.machine}, {self.device}"

    def arm(self, name: str, metric: str | None = None) -> Arm:
        """The arm of a name (and metric, where several share it).

        Raises:
            BadInput: where there is none.
        """
        for arm in self.arms:
            if arm.name == name and metric in (None, arm.metric):
                return arm
        raise BadInput("arm", expected=f"one of {sorted({a.name for a in self.arms})}", received=name)

    def save(self, path: str | Path) -> None:
        """Writes JSON, atomically.

        Raises:
            BadInput: when the file exists and is no result of this system.
        """
        path = Path(path)
        if path.exists() and load_result(path).name != self.name:
            raise BadInput("out", expected=f"a folder whose {path.name} is a result of {self.name}",
                           received=str(path), fix="pass another --out")
        write_json(path, {"format": FORMAT, **asdict(self)} | {
            "criteria": [{**asdict(c), "verdict": c.verdict} for c in self.criteria]})


def load_result(path: str | Path) -> ZooResult:
    """Reads what `ZooResult.save` wrote.

    Raises:
        BadInput: when the file is missing or is no result.
    """
    wrong = BadInput("result", expected="a file that `plaudit zoo run` wrote", received=str(path))
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise wrong from error
    if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
        raise wrong
    arms = [Arm(**{**a, "value": _interval(a["value"])}) for a in raw.pop("arms")]
    criteria = [Criterion(says=c["says"], value=_interval(c["value"]), above=_number(c["above"], -math.inf),
                          below=_number(c["below"], math.inf)) for c in raw.pop("criteria")]
    return ZooResult(arms=arms, criteria=criteria, **raw)


@dataclass(frozen=True, kw_only=True)
class System:
    """A published system: its claim, and the experiment that puts it to the test."""

    number: int
    name: str
    """The slug of its card."""
    title: str
    room: str
    """The room of plaudit whose parts it exercises."""
    claim: str
    scales: Mapping[Scale, Any]
    """The options of each scale: frozen dataclasses with an integer field `seeds`."""
    run: Callable[[Any, Lab], Outcome]
    draw: Callable[[ZooResult], Figure]
    """The one figure, from the result alone."""
    any_device: bool = False
    """Whether its learners live on any device of torch: the functions that it hands to `Lab.units` take `device`."""

    def __post_init__(self) -> None:
        missing = set(get_args(Scale)) - set(self.scales)
        if missing:
            raise BadInput(f"{self.name}.scales", expected=f"options for {get_args(Scale)}",
                           received=f"none for {sorted(missing)}")


def _interval(raw: Mapping[str, Any]) -> Interval:
    mean, low, high = (_number(raw[k], math.nan) for k in ("mean", "low", "high"))
    return Interval(mean, low, high, int(raw["n"]))


def _number(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else float(value)
