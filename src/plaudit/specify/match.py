"""A match of which one player alone is a row: the other's side is seen by turning the field, and counts against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.algebra import Node
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.specify.fields import Field, as_field
from plaudit.specify.soccer import Pitch
from plaudit.specify.team import TeamSpirit

_WANTED = ("opponent_position", "opponent_velocity", "opponent_boost")
_EVENTS: Mapping[str, str] = {"goal": "concede", "touch": "opponent_touch", "shot": "opponent_shot",
                              "demolish": "demolished"}


def other_side(fields: Mapping[str, Field], episodes: Episodes) -> Episodes:
    """The match as the opponent sees it: turned by 180 degrees about the vertical, the cars and events exchanged.

    What has no counterpart (pads, what lies ahead of the car) is NaN in the observations, and absent from `info`;
    the environment's reward is absent.

    Args:
        fields: Where each quantity lies in `obs`, as `Pitch.fields` says.
        episodes: A match of one against one, with the opponent's place, velocity and boost in `obs`.
    """
    events = {**_EVENTS, **{theirs: mine for mine, theirs in _EVENTS.items()}}
    info = {name: episodes.info[events[name]] for name in episodes.info
            if name in events and events[name] in episodes.info}
    return episodes.replace(obs=_turned(fields, episodes.obs), next_obs=_turned(fields, episodes.next_obs), info=info,
                            env_reward=None)


class Versus(Node):
    """`TeamSpirit` in a match of one against one, on a task whose rows are one player's (1 - tau + tau = 1: its own).

    The opponent's reward is the same function of the match seen from its side (`other_side`), so the two sum to 0.

    Args:
        inner: A player's own reward: a function of steps.
        fields: Where each quantity lies in `obs`; `Pitch.of(task).fields`.
        spirit: tau, in [0, 1]; without team mates it changes nothing.
        opponents: The weight of what the opponent earns.

    Raises:
        BadInput: where the observations do not show the opponent's place, velocity and boost, or for a wrong spirit.
        Unsupported: for a reward of more than single steps.

    Example:
        >>> from plaudit.specify.soccer import events
        >>> from plaudit.tasks.car_soccer import CarSoccer
        >>> pitch = Pitch.of(CarSoccer())
        >>> Versus(events(pitch), pitch.fields).name
        'versus(events)'
    """

    def __init__(self, inner: Reward, fields: Mapping[str, Field], *, spirit: float = 0.3,
                 opponents: float = 1.0) -> None:
        missing = [name for name in _WANTED if name not in fields]
        if missing:
            raise BadInput("fields", expected=f"also {missing}, which the opponent's reward reads",
                           received=sorted(fields), fix="let the task show them (observation='full')")
        if inner.needs.time != "step" or inner.needs.across != "row":
            raise Unsupported(f"the opponent's reward is that of single steps; {inner.name} reads more "
                              f"({inner.needs.time}, across {inner.needs.across})")
        super().__init__([inner], name=f"versus({inner.name})")
        self.fields, self.spirit, self.opponents = dict(fields), spirit, opponents
        self.team = TeamSpirit(inner, teams=(0, 1), spirit=spirit, opponents=opponents)
        both = {f"info:{other}" for name in inner.needs.fields for pair in _EVENTS.items() for other in pair
                if name.removeprefix("info:") in pair}
        self.needs = replace(inner.needs, fields=inner.needs.fields | both)
        self.range = self.team.range

    def evaluate(self, episodes: Episodes) -> Score:
        theirs = other_side(self.fields, episodes)
        mine = episodes.replace(info={name: episodes.info[name] for name in theirs.info}, env_reward=None)
        B = episodes.B
        player = torch.arange(2, device=episodes.device).repeat_interleave(B)
        match = torch.arange(B, device=episodes.device).repeat(2)
        score = self.team.score(Episodes.cat([mine, theirs]).replace(group=match, agent=player))
        own = Score.of(score.value[:B], mask=episodes.mask, weights=score.weights,
                       terms={name: term[:B] for name, term in score.terms.items()},
                       members=None if score.members is None else score.members[:, :B],
                       why={reason: at[:B] for reason, at in score.why.items()},
                       reason="the reward of a player of the match is unknown")
        return replace(own, measured={name: values[:B] for name, values in score.measured.items()})

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        return self.evaluate(episodes)

    def spec(self) -> dict[str, Any]:
        """JSON from which `from_spec` makes it again."""
        return {"fields": {name: field.spec() for name, field in self.fields.items()}, "spirit": self.spirit,
                "opponents": self.opponents}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], parts: Sequence[Reward]) -> Versus:
        return cls(parts[0], {name: _field(place) for name, place in spec["fields"].items()}, spirit=spec["spirit"],
                   opponents=spec["opponents"])


def versus(inner: Reward, pitch: Pitch, *, spirit: float = 0.3, opponents: float = 1.0) -> Versus:
    """A reward less the opponent's in the same match; see `Versus`."""
    return Versus(inner, pitch.fields, spirit=spirit, opponents=opponents)


def _field(place: Any) -> Field:
    found = as_field(place)
    assert isinstance(found, Field)
    return found


def _counterpart(name: str) -> str | None:
    """The quantity that the opponent calls by this name."""
    if name in ("ball_position", "ball_velocity"):
        return name
    if name == "boost":
        return "opponent_boost"
    if name == "opponent_boost":
        return "boost"
    kind, _, rest = name.partition("_")
    return {"car": f"opponent_{rest}", "opponent": f"car_{rest}"}.get(kind)


def _turned(fields: Mapping[str, Field], obs: Any) -> Float[Tensor, "B T D"]:
    if not isinstance(obs, Tensor):
        raise BadInput("episodes.obs", expected="one tensor [B, T, D]", received=type(obs).__name__)
    out = torch.full_like(obs, torch.nan)
    for name, field in fields.items():
        source = fields.get(_counterpart(name) or "")
        if source is None or field.columns is None or source.columns is None:
            continue
        seen = obs[..., list(source.columns)] * (source.unit / field.unit)
        if len(field.columns) > 1:
            seen[..., :2] = -seen[..., :2]
        out[..., list(field.columns)] = seen
    return out
