"""Functions at the top of a file, for rewards that are saved by name."""

from __future__ import annotations

import functools

import plaudit
from plaudit.core.algebra import Constant
from plaudit.core.reward import Reward
from plaudit.core.score import Score


def drift(next_obs):
    return next_obs[..., 0]


def bonus(obs, action, *, size=1.0):
    return {"effort": -(action**2), "place": size * obs[..., 1]}


def one_at_a_time(obs):
    if obs[0] > 0:
        return 1.0
    return float(obs[1])


def height(obs):
    return obs[..., 1]


def arrived(episode_length=None, next_obs=None):
    return 1.0


@plaudit.reward(range=(-9.0, 9.0), terms={"a": 2.0, "b": -1.0}, name="decorated one")
def decorated(obs, next_obs):
    return {"a": obs[..., 0], "b": next_obs[..., 1]}


twice = functools.partial(bonus, size=2.0)


class Scaled(Reward):
    """A reward that learns its scale."""

    def __init__(self, offset: float) -> None:
        self.name, self.offset, self.scale = "scaled", offset, 1.0

    def evaluate(self, episodes):
        return Score.of(episodes.obs[..., 0] * self.scale + self.offset, mask=episodes.mask)

    def spec(self):
        return {"offset": self.offset}

    @classmethod
    def from_spec(cls, spec):
        return cls(spec["offset"])

    def state_dict(self):
        return {"scale": self.scale}

    def load_state_dict(self, state):
        self.scale = state["scale"]


class Placed(Constant):
    """Lives somewhere."""

    def __init__(self, device: str) -> None:
        super().__init__(1.0)
        self.device = device

    def spec(self):
        return {}

    @classmethod
    def from_spec(cls, spec, device="here"):
        return cls(device)


class Silent(Constant):
    """Has no spec."""
