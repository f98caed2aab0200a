"""Car soccer in two dimensions: one car against a scripted one, a ball, two goals, thousands of matches at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Literal

import gymnasium
import numpy as np

from plaudit.core.errors import BadInput
from plaudit.tasks.arrays import Array, ArrayTask, Moved, columns
from plaudit.tasks.car_soccer_physics import (
    ACTIONS,
    BALL,
    BALL_SPEED,
    BOOST_SPEED,
    CAR,
    CAR_SPEED,
    GOAL,
    LENGTH,
    PAD_WAIT,
    PADS,
    WIDTH,
    Controls,
    controls_of,
    play,
)
from plaudit.tasks.entities import Entities, Kind

Opponent = Literal["chaser", "defender", "idle"]
Observation = Literal["full", "simple"]
_OPPONENTS = ("chaser", "defender", "idle")
_OWN = {"ball_position": (0, 1), "ball_velocity": (2, 3), "car_position": (4, 5), "car_velocity": (6, 7),
        "car_heading": (8, 9), "boost": (10,), "ball_ahead": (11, 12), "ball_ahead_velocity": (13, 14),
        "opponent_position": (15, 16)}
_FULL = {"opponent_velocity": (17, 18), "opponent_heading": (19, 20), "opponent_boost": (21,),
         "pads": tuple(range(22, 22 + len(PADS)))}
_UNITS = {"ball_position": LENGTH, "car_position": LENGTH, "opponent_position": LENGTH, "ball_ahead": LENGTH,
          "ball_velocity": BALL_SPEED, "ball_ahead_velocity": BALL_SPEED, "car_velocity": BOOST_SPEED,
          "opponent_velocity": BOOST_SPEED, "boost": 100.0, "opponent_boost": 100.0}


class CarSoccer(ArrayTask):
    """One car (action 0 to 11: throttle, steering and boost of a table) against a scripted one.

    A match begins at random places in the own halves and ends with the first goal (`terminated`), or undecided after
    `horizon` decisions of 0.1 s (`truncated`). The environment's own reward is the score: 1 for a goal, -1 for one
    conceded. `info` tells of events: `goal`, `concede`, `touch`, `opponent_touch`, `shot` (a touch after which the
    ball rolls towards the mouth of their goal), `opponent_shot`, and `is_success`, which is `goal`.

    The agent attacks the goal at +x. Observations are numbers of about [-1, 1]; `columns` and `units` say where
    each quantity lies and what to multiply by for metres, metres per second, and boost of 100; `goal`, `own_goal`,
    `ball_speed`, `car_speed` and `contact` (the distance of two centres that touch) are what shapes need to know.

    Args:
        opponent: `chaser` drives at the ball from behind it; `defender` waits between ball and goal and goes for
            near balls; `idle` stands.
        pace: the opponent's engine and top speed as a share of the agent's, in (0, 1].
        observation: `full`, or `simple`, without the opponent's motion and the pads.
        horizon: decisions until truncation.

    Raises:
        BadInput: for an unknown opponent or observation, or a pace outside (0, 1].

    Example:
        >>> CarSoccer().make(2).reset([1, 2]).shape
        torch.Size([2, 28])
    """

    reset_dims = 11

    def __init__(self, *, opponent: Opponent | str = "chaser", pace: float = 1.0,
                 observation: Observation | str = "full", horizon: int = 300) -> None:
        if opponent not in _OPPONENTS:
            raise BadInput("opponent", expected=f"one of {', '.join(_OPPONENTS)}", received=opponent)
        if not 0 < pace <= 1:
            raise BadInput("pace", expected="a number in (0, 1]", received=pace)
        if observation not in ("full", "simple"):
            raise BadInput("observation", expected="full or simple", received=observation)
        if horizon < 1:
            raise BadInput("horizon", expected="an integer >= 1", received=horizon)
        self.name, self.horizon, self.opponent, self.pace = "CarSoccer-v0", horizon, opponent, pace
        self.observation = observation
        self.columns: Mapping[str, tuple[int, ...]] = {**_OWN, **(_FULL if observation == "full" else {})}
        """Where each quantity lies in an observation."""
        self.units: Mapping[str, float] = {name: _UNITS.get(name, 1.0) for name in self.columns}
        """What to multiply each quantity by."""
        self.goal, self.own_goal = (LENGTH, 0.0), (-LENGTH, 0.0)
        self.ball_speed, self.car_speed, self.contact = BALL_SPEED, BOOST_SPEED, BALL + CAR
        size = sum(len(c) for c in self.columns.values())
        self.entities = _entities(self.columns)
        """Which of its numbers belong to the own car, the ball, the other car and the pads."""
        self.obs_space = gymnasium.spaces.Box(-4.0, 4.0, shape=(size,), dtype=np.float32)
        self.action_space = gymnasium.spaces.Discrete(ACTIONS)

    def spec(self) -> dict[str, Any]:
        return {"kind": "car soccer", "kwargs": {"opponent": self.opponent, "pace": self.pace,
                                                 "observation": self.observation, "horizon": self.horizon}}

    def initial(self, uniform_KB: Array, xp: ModuleType) -> Array:
        u = uniform_KB * 2 - 1
        long, wide = LENGTH - 1.0, WIDTH - 0.8
        x = xp.stack([-(0.15 + 0.85 * uniform_KB[4]) * long, (0.15 + 0.85 * uniform_KB[5]) * long])
        heading = xp.stack([u[8], u[9] + 1.0]) * math.pi
        zero = xp.zeros_like(x)
        boost = xp.stack([uniform_KB[10], uniform_KB[10]]) * 66.0
        ball = xp.stack([u[0] * 0.55 * long, u[1] * wide, u[2] * 0.5, u[3] * 0.5])
        pads = 0.0 * xp.concatenate([ball, x])
        return xp.concatenate([ball, x, u[6:8] * wide, zero, zero, heading, boost, pads])

    def advance(self, state_KB: Array, action_B: Array, uniform_KB: Array | None, xp: ModuleType) -> Moved:
        own, other = controls_of(action_B, xp), script(self.opponent, state_KB, xp)
        controls = Controls(*(xp.stack([a, b]) for a, b in zip(own, other, strict=True)))
        ones = xp.ones_like(state_KB[4:6])
        ones[1] = self.pace
        state, touch, scored = play(state_KB, controls, ones, xp)
        goal, concede = scored[0] | False, scored[1] | False
        info = {"goal": goal, "concede": concede, "is_success": scored[0] | False, "touch": touch[0] | False,
                "opponent_touch": touch[1] | False, "shot": touch[0] & _on_target(state, xp),
                "opponent_shot": touch[1] & _on_target(-state[:4], xp)}
        return Moved(state=state, reward=xp.where(goal, 1.0, 0.0) - xp.where(concede, 1.0, 0.0),
                     terminated=scored[0] | scored[1], info=info)

    def observe(self, state_KB: Array, xp: ModuleType) -> Array:
        s = state_KB
        c, n = xp.cos(s[12:14]), xp.sin(s[12:14])
        dx, dy, dvx, dvy = s[0] - s[4], s[1] - s[6], s[2] - s[8], s[3] - s[10]
        parts = [s[0] / LENGTH, s[1] / LENGTH, s[2] / BALL_SPEED, s[3] / BALL_SPEED, s[4] / LENGTH, s[6] / LENGTH,
                 s[8] / BOOST_SPEED, s[10] / BOOST_SPEED, c[0], n[0], s[14] / 100.0,
                 (dx * c[0] + dy * n[0]) / LENGTH, (dy * c[0] - dx * n[0]) / LENGTH,
                 (dvx * c[0] + dvy * n[0]) / BALL_SPEED, (dvy * c[0] - dvx * n[0]) / BALL_SPEED,
                 s[5] / LENGTH, s[7] / LENGTH]
        if self.observation == "full":
            parts += [s[9] / BOOST_SPEED, s[11] / BOOST_SPEED, c[1], n[1], s[15] / 100.0]
            parts += [s[16 + k] / PAD_WAIT for k in range(len(PADS))]
        return columns(parts, xp)

    def draw(self, state_K: np.ndarray, action: np.ndarray | None) -> np.ndarray:
        from plaudit.tasks.car_soccer_drawing import draw_match

        return draw_match(state_K, None if action is None else int(action))


def script(opponent: str, state_KB: Array, xp: ModuleType) -> tuple[Array, Array, Array]:
    """Throttle, steering and boost of car 1, [B] each, as its script wants them."""
    s = state_KB
    if opponent == "idle":
        return xp.zeros_like(s[0]), xp.zeros_like(s[0]), xp.zeros_like(s[0])
    # seen from its own side, where it attacks +x
    bx, by, x, y = -s[0], -s[1], -s[5], -s[7]
    c, n = -xp.cos(s[13]), -xp.sin(s[13])
    gx, gy = LENGTH - bx, -by
    away = xp.sqrt((bx - x) ** 2 + (by - y) ** 2)
    reach = xp.clip(away - 0.45, 0.1, 1.2) / (xp.sqrt(gx * gx + gy * gy) + 1e-9)
    tx, ty = bx - reach * gx, by - reach * gy
    if opponent == "defender":
        wait = (bx > -0.5) & (away > 1.8)
        tx, ty = xp.where(wait, 0.5 * (bx - LENGTH), tx), xp.where(wait, 0.5 * by, ty)
    dx, dy = tx - x, ty - y
    d = xp.sqrt(dx * dx + dy * dy) + 1e-9
    ahead, left = (dx * c + dy * n) / d, (dy * c - dx * n) / d
    behind = (ahead < -0.5) & (d < 1.0)
    steer = xp.where((xp.abs(left) > 0.12) | (ahead < 0), xp.sign(left), 0.0)
    throttle = xp.where(d < 0.15, 0.0, xp.where(behind, -1.0, 1.0))
    boost = xp.where((ahead > 0.97) & (d > 1.5), 1.0, 0.0)
    return throttle, xp.where(behind, -steer, steer), boost * (throttle > 0)


def _entities(columns: Mapping[str, tuple[int, ...]]) -> Entities:
    def of(*names: str) -> tuple[int, ...]:
        return tuple(c for name in names for c in columns.get(name, ()))

    kinds = {"ball": Kind((of("ball_position", "ball_velocity", "ball_ahead", "ball_ahead_velocity"),)),
             "cars": Kind((of("opponent_position", "opponent_velocity", "opponent_heading", "opponent_boost"),))}
    if "pads" in columns:
        kinds["pads"] = Kind(tuple((c,) for c in columns["pads"]), tuple((x / LENGTH, y / LENGTH) for x, y in PADS))
    return Entities(of("car_position", "car_velocity", "car_heading", "boost"), kinds)


def _on_target(s: Array, xp: ModuleType) -> Array:
    """Whether the ball rolls towards the mouth of the goal at +x, walls and drag aside."""
    fast = s[2] > 0.3 * CAR_SPEED
    time = (LENGTH - s[0]) / xp.where(fast, s[2], 1.0)
    return fast & (xp.abs(s[1] + s[3] * time) < GOAL)

