"""The shapes as rewards: each reads named fields of the episodes, and can be saved, combined and drawn."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs
from plaudit.core.reward import Range, Reward
from plaudit.core.score import Score
from plaudit.specify import shapes
from plaudit.specify.fields import Field, Place, as_field

_SHAPES: Mapping[str, Callable[..., Tensor]] = {fn.__name__: fn for fn in (
    shapes.distance, shapes.speed_towards, shapes.alignment, shapes.distance_difference, shapes.saved, shapes.event,
    shapes.touch_acceleration, shapes.cosine)}
_RANGES: Mapping[str, Range] = {"distance": (0.0, 1.0), "saved": (0.0, 1.0), "event": (0.0, 1.0),
                                "cosine": (-1.0, 1.0)}
_SINGLE = frozenset({"touch", "happened", "amount"})
"""Parameters that are one number, where the others are places and directions."""


class Shape(Reward):
    """One function of `plaudit.specify.shapes` of named fields.

    A shape whose fields all lie in `obs` is a function of the state: a potential for `shaped_by`, or a utility of the
    state that a step leads to (`plaudit.specify.utility`).

    Args:
        shape: The function's name.
        places: For each of its positional parameters a `Field`, the source of one (`"info:touch"`), or numbers.
        options: Its keyword-only parameters.
        name: How the reward is called.

    Raises:
        BadInput: for an unknown shape, parameters that it does not have or lacks, or options that it refuses.

    Example:
        >>> near = Shape("distance", {"a": Field("obs", (0, 1)), "b": (0.0, 0.0)}, {"scale": 1.0})
        >>> e = Episodes.of_steps(obs=torch.zeros(1, 2), action=torch.zeros(1), next_obs=torch.ones(1, 2))
        >>> near(e).tolist()
        [[1.0]]
    """

    def __init__(self, shape: str, places: Mapping[str, Place | str | Mapping[str, Any]],
                 options: Mapping[str, Any] | None = None, *, name: str = "") -> None:
        if shape not in _SHAPES:
            raise BadInput("shape", expected=f"one of {', '.join(_SHAPES)}", received=shape)
        self.shape, self.fn, self.options = shape, _SHAPES[shape], dict(options or {})
        parameters = inspect.signature(self.fn).parameters.values()
        wanted = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        known = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        required = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty}
        if set(places) != set(wanted):
            raise BadInput("places", expected=f"a place for each of {wanted}", received=sorted(places))
        if not required <= set(self.options) <= known:
            raise BadInput("options", expected=f"{sorted(required)}, and perhaps {sorted(known - required)}",
                           received=sorted(self.options))
        self.places = {p: as_field(places[p]) for p in wanted}
        self.name = name or shape
        self.needs = Needs(fields=frozenset(f.need for f in self.places.values() if isinstance(f, Field)))
        self.range = self._range()
        self._try_options()

    def evaluate(self, episodes: Episodes) -> Score:
        read = {p: f.read(episodes) if isinstance(f, Field) else torch.tensor(f, device=episodes.device)
                for p, f in self.places.items()}
        value = self.fn(**read, **self.options)
        return Score.of(value.expand(episodes.mask.shape).to(torch.float32), mask=episodes.mask,
                        reason=f"{self.name} read a number that is not finite")

    def spec(self) -> dict[str, Any]:
        """JSON from which `from_spec` makes it again."""
        places = {p: f.spec() if isinstance(f, Field) else list(f) for p, f in self.places.items()}
        return {"shape": self.shape, "places": places, "options": self.options}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Shape:
        return cls(spec["shape"], spec["places"], spec["options"])

    def _range(self) -> Range:
        if self.shape in ("alignment", "distance_difference"):
            weights = {k: self.options.get(k, 0.5) for k in ("offense", "defense")}
            if self.shape == "alignment":
                most = sum(abs(w) for w in weights.values())
                return (-most, most)
            ends = (min(0.0, weights["offense"]), max(0.0, weights["offense"]),
                    min(0.0, -weights["defense"]), max(0.0, -weights["defense"]))
            return (ends[0] + ends[2], ends[1] + ends[3])
        return _RANGES.get(self.shape, Reward.range)

    def _try_options(self) -> None:
        """Refuses wrong options now, and not at the first batch."""
        size = max(len(f.columns or (0,)) if isinstance(f, Field) else len(f) for f in self.places.values())
        self.fn(**{p: torch.zeros(1 if p in _SINGLE else size) for p in self.places}, **self.options)


def distance(a: Place, b: Place, *, scale: float, dispersion: float = 1.0, density: float = 1.0, surface: float = 0.0,
             name: str = "distance") -> Shape:
    """Nearness of two places in (0, 1]; see `shapes.distance`."""
    return Shape("distance", {"a": a, "b": b}, {"scale": scale, "dispersion": dispersion, "density": density,
                                                "surface": surface}, name=name)


def speed_towards(position: Place, target: Place, velocity: Place, *, largest: float,
                  name: str = "speed_towards") -> Shape:
    """The share of the largest speed that goes towards a target; see `shapes.speed_towards`."""
    return Shape("speed_towards", {"position": position, "target": target, "velocity": velocity},
                 {"largest": largest}, name=name)


def alignment(player: Place, ball: Place, goal: Place, own_goal: Place, *, offense: float = 0.5, defense: float = 0.5,
              name: str = "alignment") -> Shape:
    """Whether a push would send the ball the right way; see `shapes.alignment`."""
    return Shape("alignment", {"player": player, "ball": ball, "goal": goal, "own_goal": own_goal},
                 {"offense": offense, "defense": defense}, name=name)


def distance_difference(ball: Place, goal: Place, own_goal: Place, *, scale: float, name: str = "distance_difference",
                        **options: float) -> Shape:
    """Nearer to the goal than to one's own; see `shapes.distance_difference`."""
    return Shape("distance_difference", {"ball": ball, "goal": goal, "own_goal": own_goal},
                 {"scale": scale, **options}, name=name)


def saved(amount: Place, *, full: float, name: str = "saved") -> Shape:
    """The root of how full a store is; see `shapes.saved`."""
    return Shape("saved", {"amount": amount}, {"full": full}, name=name)


def event(happened: Field | str, *, name: str = "") -> Shape:
    """1 where something happened; see `shapes.event`. `event("info:goal")` is called `goal`."""
    source = happened if isinstance(happened, str) else happened.source
    return Shape("event", {"happened": happened}, name=name or source.split(":")[-1].split("/")[-1])


def touch_acceleration(touch: Field | str, velocity: Field, ball: Field, target: Place, *, largest: float,
                       directed: bool = True, name: str = "touch_acceleration") -> Shape:
    """What a touch did to the ball's velocity from `obs` to `next_obs`; see `shapes.touch_acceleration`."""
    return Shape("touch_acceleration", {"touch": touch, "before": velocity, "after": velocity.after, "ball": ball,
                                        "target": target}, {"largest": largest, "directed": directed}, name=name)
