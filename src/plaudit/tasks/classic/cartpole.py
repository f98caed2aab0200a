"""CartPole-v1."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np

from plaudit.tasks.arrays import Array, ArrayTask, Moved, columns
from plaudit.tasks.drawing import BLUE, INK, MUTED, ORANGE, PAPER, SHADE, Canvas

_GRAVITY, _MASS_POLE, _MASS_CART, _HALF_LENGTH = 9.8, 0.1, 1.0, 0.5
_MASS, _POLE_MOMENT = _MASS_POLE + _MASS_CART, _MASS_POLE * _HALF_LENGTH
_FORCE, _DT = 10.0, 0.02
_X_LIMIT, _ANGLE_LIMIT = 2.4, 12 * 2 * math.pi / 360


class CartPole(ArrayTask):
    """A pole on a cart that is pushed left (0) or right (1); the episode ends when either leaves its range.

    Observation [x (m), x' (m/s), angle (rad, 0 is upright), angle' (rad/s)].

    Args:
        sutton_barto_reward: pay 0 for a step and -1 for falling, instead of 1 for each step.
        horizon: steps until truncation.

    Source:
        Barto, Sutton and Anderson (1983); the equations of Gymnasium's CartPole-v1 (Euler, 20 ms).

    Example:
        >>> batch = CartPole().make(3)
        >>> batch.reset([1, 2, 3]).shape
        torch.Size([3, 4])
    """

    reset_dims = 4

    def __init__(self, *, sutton_barto_reward: bool = False, horizon: int = 500) -> None:
        self.name, self.horizon = "CartPole-v1", horizon
        self.sutton_barto_reward = sutton_barto_reward
        high = np.array([_X_LIMIT * 2, np.inf, _ANGLE_LIMIT * 2, np.inf], dtype=np.float32)
        self.obs_space = gymnasium.spaces.Box(-high, high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)

    def spec(self) -> dict[str, Any]:
        return {"kind": "classic", "id": self.name,
                "kwargs": {"sutton_barto_reward": self.sutton_barto_reward, "horizon": self.horizon}}

    def initial(self, uniform_KB: Array, xp: ModuleType) -> Array:
        return uniform_KB * 0.1 - 0.05

    def advance(self, state_KB: Array, action_B: Array, uniform_KB: Array | None, xp: ModuleType) -> Moved:
        _, x_dot, theta, theta_dot = state_KB
        cos, sin = xp.cos(theta), xp.sin(theta)
        push = (action_B * (2 * _FORCE) - _FORCE + _POLE_MOMENT * (theta_dot * theta_dot) * sin) / _MASS
        theta_acc = (_GRAVITY * sin - cos * push) / (_HALF_LENGTH * (4.0 / 3.0 - _MASS_POLE * (cos * cos) / _MASS))
        slope = xp.empty_like(state_KB)
        slope[0], slope[1] = x_dot, push - _POLE_MOMENT * theta_acc * cos / _MASS
        slope[2], slope[3] = theta_dot, theta_acc
        out = state_KB + _DT * slope  # in Gymnasium's order throughout: equal to the last bit
        terminated = (xp.abs(out[0]) > _X_LIMIT) | (xp.abs(out[2]) > _ANGLE_LIMIT)
        reward = xp.where(terminated, -1.0, 0.0) if self.sutton_barto_reward else xp.ones_like(cos)
        return Moved(state=out, reward=reward, terminated=terminated)

    def observe(self, state_KB: Array, xp: ModuleType) -> Array:
        return columns(state_KB, xp)

    def draw(self, state_K: np.ndarray, action: np.ndarray | None) -> np.ndarray:
        x, angle = float(state_K[0]), float(state_K[2])
        canvas = Canvas(480, 300, x=(-2.9, 2.9), y=(-0.9, 2.725))
        for side in (-1, 1):
            canvas.box(min(side * _X_LIMIT, side * 3.0), -0.9, max(side * _X_LIMIT, side * 3.0), 2.8, SHADE)
        canvas.line([(-2.9, -0.24), (2.9, -0.24)], MUTED, 0.03)
        tip = (x + 2 * math.sin(angle), 2 * math.cos(angle) + 0.06)
        for side in (-1, 1):
            reach = 2.25
            limit = (x + reach * math.sin(side * _ANGLE_LIMIT), reach * math.cos(_ANGLE_LIMIT) + 0.06)
            canvas.line([(x, 0.06), limit], SHADE, 0.02)
        canvas.box(x - 0.36, -0.13, x + 0.36, 0.15, INK, corner=0.06)
        for dx in (-0.2, 0.2):
            canvas.disc((x + dx, -0.14), 0.09, INK)
            canvas.disc((x + dx, -0.14), 0.04, MUTED)
        canvas.line([(x, 0.06), tip], ORANGE, 0.11)
        canvas.disc((x, 0.06), 0.075, PAPER)
        canvas.disc((x, 0.06), 0.05, BLUE)
        if action is not None:
            side = 1 if int(action) else -1
            canvas.arrow((x + side * 0.44, 0.01), (x + side * 0.78, 0.01), BLUE, 0.045, head=0.15)
        return canvas.array()
