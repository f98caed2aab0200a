"""Rocket League, one against one, by RocketSim through RLGym: the real arena, in the words of the 2-D game.

Observations have the same quantities as `CarSoccer` under the same names (with three coordinates), so a reward that is
written for the one runs on the other. The packages pin numpy < 2 and stand in the extra `rocket`, best in an
environment of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.extras import require
from plaudit.tasks.arrays import check_seeds, episode_seed
from plaudit.tasks.base import Batch, Step, Task
from plaudit.tasks.entities import Entities, Kind

FieldUU, BallSpeed, CarSpeed = 5120.0, 6000.0, 2300.0
"""The back wall (uu), and the largest speeds of ball and car (uu/s)."""
SIDE, CONTACT, MOUTH, MOUTH_HEIGHT = 4096.0, 180.0, 892.755, 642.775
"""Side wall, distance of the centres of a car and a ball that touch, half the mouth of a goal and its height (uu)."""
BLUE, ORANGE = "blue-0", "orange-0"
Opponent = Literal["chaser", "idle"]
_SIZES = {"ball_position": 3, "ball_velocity": 3, "car_position": 3, "car_velocity": 3, "car_forward": 3, "car_up": 3,
          "car_spin": 3, "boost": 1, "on_ground": 1, "has_flip": 1, "ball_ahead": 3, "opponent_position": 3,
          "opponent_velocity": 3, "opponent_forward": 3, "opponent_boost": 1}
_UNITS = {"position": FieldUU, "ahead": FieldUU, "boost": 100.0, "spin": 5.5}


def _columns() -> dict[str, tuple[int, ...]]:
    out, at = {}, 0
    for name, size in _SIZES.items():
        out[name], at = tuple(range(at, at + size)), at + size
    return out


COLUMNS: Mapping[str, tuple[int, ...]] = _columns()
"""Where each quantity lies in an observation."""
UNITS: Mapping[str, float] = {
    name: BallSpeed if name == "ball_velocity" else CarSpeed if name.endswith("velocity") else
    _UNITS.get(name.split("_")[-1], 1.0) for name in _SIZES}
"""What to multiply each quantity by for uu, uu/s and boost of 100."""


def _columns_of(*names: str) -> tuple[int, ...]:
    return tuple(c for name in names for c in COLUMNS[name])


class Pitched:
    """What shapes need to know of the arena (`plaudit.specify.soccer.Pitch.of` reads it)."""

    columns, units = COLUMNS, UNITS
    goal, own_goal = (0.0, FieldUU, MOUTH_HEIGHT / 2), (0.0, -FieldUU, MOUTH_HEIGHT / 2)
    ball_speed, car_speed, contact = BallSpeed, CarSpeed, CONTACT
    entities = Entities(
        _columns_of("car_position", "car_velocity", "car_forward", "car_up", "car_spin", "boost", "on_ground",
                    "has_flip"),
        {"ball": Kind((_columns_of("ball_position", "ball_velocity", "ball_ahead"),)),
         "cars": Kind((_columns_of("opponent_position", "opponent_velocity", "opponent_forward", "opponent_boost"),))})


class RocketLeague(Pitched, Task):
    """One learner (blue, attacks +y) against a scripted car, first goal wins.

    An action is one of RLGym's table of 90, held for `tick_skip` of the 120 ticks in a second. The agent's own reward
    is the score: 1 for a goal, -1 for one conceded. `info` has `goal`, `concede`, `touch`, `opponent_touch`, `shot`,
    `opponent_shot`, `demolish`, `demolished` and `is_success`. Matches begin at random places on the ground.

    Args:
        opponent: `chaser` drives at the ball from behind it; `idle` stands.
        tick_skip: ticks for each decision.
        horizon: decisions until truncation.

    Raises:
        BadInput: for an unknown opponent, or numbers below 1.
        MissingExtra: by `make`, where RocketSim is not installed.
    """

    def __init__(self, *, opponent: Opponent | str = "chaser", tick_skip: int = 8, horizon: int = 450) -> None:
        if opponent not in ("chaser", "idle"):
            raise BadInput("opponent", expected="chaser or idle", received=opponent)
        if tick_skip < 1 or horizon < 1:
            raise BadInput("tick_skip, horizon", expected="integers >= 1", received=(tick_skip, horizon))
        self.name, self.opponent, self.tick_skip, self.horizon = "RocketLeague-v0", opponent, tick_skip, horizon
        self.obs_space = gymnasium.spaces.Box(-4.0, 4.0, shape=(sum(_SIZES.values()),), dtype=np.float32)
        self.action_space = gymnasium.spaces.Discrete(90)

    def make(self, num_envs: int, *, device: str = "cpu", render: bool = False) -> RocketBatch:
        return RocketBatch(self, num_envs, device=device)

    def spec(self) -> dict[str, Any]:
        return {"kind": "rocket league", "kwargs": {"opponent": self.opponent, "tick_skip": self.tick_skip,
                                                    "horizon": self.horizon}}


class RocketBatch(Batch):
    """One arena a row, stepped one after the other."""

    def __init__(self, task: RocketLeague, num_envs: int, *, device: str = "cpu") -> None:
        if num_envs < 1:
            raise BadInput("num_envs", expected="at least 1", received=num_envs)
        engine = require("rlgym.rocket_league.sim", extra="rocket")
        parser = require("rlgym.rocket_league.action_parsers", extra="rocket").LookupTableAction
        self.task, self.num_envs, self.device = task, num_envs, device
        self.arenas = [engine.RocketSimEngine(rlbot_delay=False) for _ in range(num_envs)]
        self.table = np.asarray(parser.make_lookup_table(), dtype=np.float32)

    def reset(self, seeds: Sequence[int]) -> Tensor:
        self._root = np.array(check_seeds(seeds, self.num_envs), dtype=np.int64)
        self._episode = np.zeros(self.num_envs, dtype=np.int64)
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)
        self._seed = self._root.copy()
        return self._tensor(np.stack([self._begin(row) for row in range(self.num_envs)]))

    def step(self, action: Tensor) -> Step:
        chosen = np.asarray(action.cpu())
        if chosen.shape != (self.num_envs,) or chosen.min() < 0 or chosen.max() >= len(self.table):
            raise BadInput("action", expected=f"{self.num_envs} integers in [0, {len(self.table)})",
                           received=chosen.tolist())
        self._elapsed += 1
        moved = [self._move(row, int(a)) for row, a in enumerate(chosen)]
        next_obs = np.stack([obs for obs, _ in moved])
        info = {k: np.array([events[k] for _, events in moved]) for k in moved[0][1]}
        terminated = info["goal"] | info["concede"]
        truncated = self._elapsed >= self.task.horizon
        obs = next_obs.copy()
        if self.autoreset:
            for row in np.flatnonzero(terminated | truncated):
                self._episode[row] += 1
                self._elapsed[row] = 0
                self._seed[row] = episode_seed(self._root[row:row + 1], self._episode[row:row + 1])[0]
                obs[row] = self._begin(int(row))
        reward = info["goal"].astype(np.float32) - info["concede"].astype(np.float32)
        return Step(next_obs=self._tensor(next_obs), obs=self._tensor(obs), terminated=self._tensor(terminated),
                    truncated=self._tensor(truncated), env_reward=self._tensor(reward),
                    info={k: self._tensor(v) for k, v in info.items()})

    def episode_seeds(self) -> list[int]:
        return self._seed.tolist()

    def close(self) -> None:
        for arena in self.arenas:
            arena.close()

    def _move(self, row: int, action: int) -> tuple[np.ndarray, dict[str, bool]]:
        arena = self.arenas[row]
        before = arena.state
        theirs = script(before, ORANGE) if self.task.opponent == "chaser" else np.zeros(8, dtype=np.float32)
        hold = (self.task.tick_skip, 1)
        after = arena.step({BLUE: np.tile(self.table[action], hold), ORANGE: np.tile(theirs, hold)}, {})
        return observe_state(after, BLUE), events_of(before, after, BLUE)

    def _begin(self, row: int) -> np.ndarray:
        arena, rng = self.arenas[row], np.random.default_rng(int(self._seed[row]))
        state = arena.create_base_state()
        place_cars(state, rng)
        return observe_state(arena.set_state(state, {}), BLUE)

    def _tensor(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).to(self.device)


def place_cars(state: Any, rng: np.random.Generator) -> None:
    """Ball and one car of each side at random places on the ground, in their own halves."""
    mutators = require("rlgym.rocket_league.state_mutators", extra="rocket")
    mutators.FixedTeamSizeMutator(blue_size=1, orange_size=1).apply(state, {})
    zero = np.zeros(3, dtype=np.float32)
    state.ball.position = np.array([*rng.uniform((-2500, -2500), (2500, 2500)), 93.15], dtype=np.float32)
    state.ball.linear_velocity = np.array([*rng.uniform(-500, 500, size=2), 0], dtype=np.float32)
    state.ball.angular_velocity = zero.copy()
    boost = float(rng.uniform(0, 66))
    for name, side in ((BLUE, -1), (ORANGE, 1)):
        car = state.cars[name]
        x, y = rng.uniform((-3000, 800), (3000, 4300))
        car.physics.position = np.array([x, side * y, 17.0], dtype=np.float32)
        car.physics.linear_velocity, car.physics.angular_velocity = zero.copy(), zero.copy()
        car.physics.euler_angles = np.array([0, rng.uniform(-math.pi, math.pi), 0], dtype=np.float32)
        car.boost_amount = boost


def observe_state(state: Any, agent: str) -> np.ndarray:
    """What a car sees of an RLGym `GameState`, float32: as blue it is, as orange turned by 180 degrees."""
    car = state.cars[agent]
    other = next((c for c in state.cars.values() if c.team_num != car.team_num), car)
    orange = car.team_num == 1
    ball = state.inverted_ball if orange else state.ball
    mine, theirs = (c.inverted_physics if orange else c.physics for c in (car, other))
    away = ball.position - mine.position
    parts = [ball.position / FieldUU, ball.linear_velocity / BallSpeed, mine.position / FieldUU,
             mine.linear_velocity / CarSpeed, mine.forward, mine.up, mine.angular_velocity / 5.5,
             [car.boost_amount / 100, float(car.on_ground), float(car.has_flip)],
             np.array([away @ mine.forward, away @ mine.right, away @ mine.up]) / FieldUU,
             theirs.position / FieldUU, theirs.linear_velocity / CarSpeed, theirs.forward, [other.boost_amount / 100]]
    return np.concatenate(parts).astype(np.float32)


def events_of(before: Any, after: Any, agent: str) -> dict[str, bool]:
    """What happened to a car between two states of a match, by the names that rewards read."""
    car = after.cars[agent]
    others = [name for name, c in after.cars.items() if c.team_num != car.team_num]
    scored = bool(after.goal_scored)
    goal = scored and after.scoring_team == car.team_num
    touch = car.ball_touches > 0
    ball, turned = (after.inverted_ball, after.ball) if car.team_num == 1 else (after.ball, after.inverted_ball)
    theirs = any(after.cars[n].ball_touches > 0 for n in others)

    def fell(name: str) -> bool:
        return bool(after.cars[name].is_demoed and not before.cars[name].is_demoed)

    return {"goal": goal, "concede": scored and not goal, "is_success": goal, "touch": touch,
            "opponent_touch": theirs, "shot": touch and _on_target(ball),
            "opponent_shot": theirs and _on_target(turned), "demolish": any(map(fell, others)),
            "demolished": fell(agent)}


def _on_target(ball: Any) -> bool:
    """Whether the ball flies towards the mouth of the goal at +y, gravity and walls aside."""
    speed = float(ball.linear_velocity[1])
    if speed < 500:
        return False
    time = (FieldUU - float(ball.position[1])) / speed
    return abs(float(ball.position[0]) + float(ball.linear_velocity[0]) * time) < MOUTH


def script(state: Any, agent: str) -> np.ndarray:
    """The controls [8] of a car that drives at the ball from behind it, on the ground."""
    o = observe_state(state, agent)

    def read(name: str) -> np.ndarray:
        return o[list(COLUMNS[name])][:2] * UNITS[name]

    ball, car, forward = read("ball_position"), read("car_position"), read("car_forward")
    to_goal = np.array(Pitched.goal[:2]) - ball
    reach = np.clip(np.linalg.norm(ball - car) - 150, 0, 900)
    aim = ball - reach * to_goal / (np.linalg.norm(to_goal) + 1e-6) - car
    aim = aim / (np.linalg.norm(aim) + 1e-6)
    # looking along +x, +y is to the right, where a positive steer turns
    ahead, side = float(aim @ forward), float(aim[1] * forward[0] - aim[0] * forward[1])
    steer = float(np.clip(3 * side if ahead > 0 else math.copysign(1, side), -1, 1))
    boost = float(ahead > 0.95)
    return np.array([1, steer, 0, steer, 0, 0, boost, float(ahead < -0.3)], dtype=np.float32)
