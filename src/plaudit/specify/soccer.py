"""The rewards of Lucy-SKG for any game of a car, a ball and two goals: components, their combination, events.

Source: Moschopoulos et al. 2023 (arXiv 2305.15801). The weights are those of two public re-implementations that agree;
the paper's text does not give them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from plaudit.core.algebra import total
from plaudit.core.errors import BadInput
from plaudit.core.reward import Reward
from plaudit.specify import components as shapes
from plaudit.specify.components import Shape
from plaudit.specify.fields import Field
from plaudit.specify.krc import krc

Combine = Literal["krc", "linear"]
UTILITY_WEIGHTS: Mapping[str, float] = {"distance difference": 2.0, "ball to goal": 0.8, "boost": 0.5,
                                        "aligned and near": 0.6, "offensive potential": 1.0}
EVENT_WEIGHTS: Mapping[str, float] = {"goal": 10.0, "concede": -3.0, "shot": 1.5, "touch": 0.05,
                                      "touch acceleration": 0.25}
DEMOLITION_WEIGHTS: Mapping[str, float] = {"demolish": 2.0, "demolished": -2.0}
"""For games in which cars can be destroyed: `events(pitch, weights={**EVENT_WEIGHTS, **DEMOLITION_WEIGHTS})`."""


@dataclass(frozen=True, kw_only=True)
class Nearness:
    """How the distances are shaped (eq. 2): dispersions (w_dis) spread a reward, a density (w_den) makes it concave.

    Example:
        >>> Nearness(density=2.0).dispersion
        1.1
    """

    dispersion: float = 1.1
    """From the car to the ball."""
    density: float = 1.1
    """Likewise, in the offensive potential alone."""
    goal: float = 0.6
    """Dispersion from the ball to the goal."""
    own_goal: float = 0.4
    """And to one's own."""


PUBLISHED = Nearness()
"""The numbers of the public re-implementations."""


@dataclass(frozen=True)
class Pitch:
    """Where things lie in the observations of a game, and how large and fast they are.

    Example:
        >>> from plaudit.tasks.car_soccer import CarSoccer
        >>> Pitch.of(CarSoccer()).fields["car_velocity"].columns
        (6, 7)
    """

    fields: Mapping[str, Field]
    """`ball_position`, `ball_velocity`, `car_position`, `car_velocity` and `boost`, in `obs`."""
    goal: tuple[float, ...]
    own_goal: tuple[float, ...]
    ball_speed: float
    """The largest speed of the ball, and the way that it makes in a second."""
    car_speed: float
    contact: float
    """The distance of the centres of a car and a ball that touch."""

    @staticmethod
    def of(task: Any) -> Pitch:
        """What a task says of itself: `columns`, `units`, `goal`, `own_goal`, `ball_speed`, `car_speed`, `contact`.

        Raises:
            BadInput: when it does not.
        """
        try:
            fields = {name: Field("obs", tuple(at), task.units[name]) for name, at in task.columns.items()}
            return Pitch(fields, tuple(task.goal), tuple(task.own_goal), task.ball_speed, task.car_speed, task.contact)
        except AttributeError as error:
            raise BadInput("task", expected="a game such as CarSoccer-v0", received=repr(task)) from error


def components(pitch: Pitch, *, nearness: Nearness = PUBLISHED) -> dict[str, Shape]:
    """The parts by name, functions of the state; those that are combined appear once each.

    Raises:
        BadInput: for a dispersion or density that is not positive.

    Example:
        >>> from plaudit.tasks.car_soccer import CarSoccer
        >>> list(components(Pitch.of(CarSoccer())))[:3]
        ['distance difference', 'ball to goal', 'boost']
    """
    f = pitch.fields
    car, ball = f["car_position"], f["ball_position"]
    return {
        "distance difference": shapes.distance_difference(ball, pitch.goal, pitch.own_goal, scale=pitch.ball_speed,
                                                          offense_dispersion=nearness.goal,
                                                          defense_dispersion=nearness.own_goal,
                                                          name="distance difference"),
        "ball to goal": shapes.speed_towards(ball, pitch.goal, f["ball_velocity"], largest=pitch.ball_speed,
                                             name="ball to goal"),
        "boost": shapes.saved(f["boost"], full=100.0, name="boost"),
        "alignment": shapes.alignment(car, ball, pitch.goal, pitch.own_goal, name="alignment"),
        "near": shapes.distance(car, ball, scale=pitch.car_speed, dispersion=nearness.dispersion,
                                surface=pitch.contact, name="near"),
        "near, dense": shapes.distance(car, ball, scale=pitch.car_speed, dispersion=nearness.dispersion,
                                       density=nearness.density, surface=pitch.contact, name="near, dense"),
        "speed to ball": shapes.speed_towards(car, ball, f["car_velocity"], largest=pitch.car_speed,
                                              name="speed to ball"),
    }


def utility_terms(pitch: Pitch, *, combine: Combine | str = "krc",
                  nearness: Nearness = PUBLISHED) -> dict[str, Reward]:
    """The five utilities by the names of `UTILITY_WEIGHTS`, each a function of the state of about [-1, 1].

    `krc` multiplies the parts of the last two (signed geometric mean); `linear` takes their arithmetic mean.

    Raises:
        BadInput: for another combination, or a dispersion or density that is not positive.
    """
    if combine not in ("krc", "linear"):
        raise BadInput("combine", expected="krc or linear", received=combine)
    c = components(pitch, nearness=nearness)
    mixed = {"aligned and near": [c["alignment"], c["near"]],
             "offensive potential": [c["alignment"], c["near, dense"], c["speed to ball"].clip(-1.0, 1.0)]}
    together: dict[str, Reward] = {}
    for name, parts in mixed.items():
        together[name] = krc(*parts, name=name) if combine == "krc" else total(
            [(1 / len(parts), p) for p in parts], name=name)
    return {name: together.get(name) or c[name] for name in UTILITY_WEIGHTS}


def utilities(pitch: Pitch, *, combine: Combine | str = "krc", weights: Mapping[str, float] = UTILITY_WEIGHTS,
              nearness: Nearness = PUBLISHED, name: str = "utilities") -> Reward:
    """The weighted sum of the five utilities: a function of the state, for `utility` or `shaped_by`.

    Raises:
        BadInput: for another combination, or a weight of something else.
    """
    strange = set(weights) - set(UTILITY_WEIGHTS)
    if strange:
        raise BadInput("weights", expected=f"some of {list(UTILITY_WEIGHTS)}", received=sorted(strange))
    terms = utility_terms(pitch, combine=combine, nearness=nearness)
    return total([(w, terms[n]) for n, w in weights.items()], name=name)


def events(pitch: Pitch, *, weights: Mapping[str, float] = EVENT_WEIGHTS, directed: bool = True) -> Reward:
    """The weighted sum of what happens: goals, shots, touches, and what touches do to the ball.

    Args:
        pitch: The game.
        weights: Some of `EVENT_WEIGHTS` and `DEMOLITION_WEIGHTS`; what is not named is left out.
        directed: Whether a touch is paid for the acceleration towards the goal, or for any.

    Raises:
        BadInput: for a weight of something else.
    """
    every = (*EVENT_WEIGHTS, *DEMOLITION_WEIGHTS)
    if not weights or not set(weights) <= set(every):
        raise BadInput("weights", expected=f"some of {list(every)}", received=sorted(weights))
    known: dict[str, Reward] = {n: shapes.event(f"info:{n}") for n in every if n != "touch acceleration"}
    known["touch acceleration"] = shapes.touch_acceleration(
        "info:touch", pitch.fields["ball_velocity"], pitch.fields["ball_position"], pitch.goal,
        largest=pitch.ball_speed, directed=directed, name="touch acceleration")
    return total([(w, known[n]) for n, w in weights.items()], name="events")
