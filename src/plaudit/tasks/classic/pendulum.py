"""Pendulum-v1."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np

from plaudit.tasks.arrays import Array, ArrayTask, Moved, columns
from plaudit.tasks.drawing import BLUE, INK, MUTED, ORANGE, PAPER, SHADE, Canvas

_MAX_SPEED, _MAX_TORQUE, _DT = 8.0, 2.0, 0.05


class Pendulum(ArrayTask):
    """A rod to be swung up and held upright by a weak motor: action [torque (N m)] in [-2, 2].

    Observation [cos angle, sin angle, angle' (rad/s)], angle 0 upright. Never terminates.

    Args:
        g: gravity in m/s^2.
        horizon: steps until truncation.

    Source:
        The equations of Gymnasium's Pendulum-v1 (mass 1 kg, length 1 m, semi-implicit Euler, 50 ms).

    Example:
        >>> batch = Pendulum(g=9.81).make(2)
        >>> batch.reset([1, 2]).shape
        torch.Size([2, 3])
    """

    reset_dims = 2

    def __init__(self, *, g: float = 10.0, horizon: int = 200) -> None:
        self.name, self.horizon, self.g = "Pendulum-v1", horizon, g
        high = np.array([1.0, 1.0, _MAX_SPEED], dtype=np.float32)
        self.obs_space = gymnasium.spaces.Box(-high, high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Box(-_MAX_TORQUE, _MAX_TORQUE, shape=(1,), dtype=np.float32)

    def spec(self) -> dict[str, Any]:
        return {"kind": "classic", "id": self.name, "kwargs": {"g": self.g, "horizon": self.horizon}}

    def initial(self, uniform_KB: Array, xp: ModuleType) -> Array:
        span = uniform_KB * 2 - 1
        return xp.stack([span[0] * math.pi, span[1]])

    def advance(self, state_KB: Array, action_B: Array, uniform_KB: Array | None, xp: ModuleType) -> Moved:
        theta, theta_dot = state_KB
        torque = xp.clip(action_B[:, 0], -_MAX_TORQUE, _MAX_TORQUE)
        upright = (theta + math.pi) % (2 * math.pi) - math.pi
        cost = upright * upright + 0.1 * theta_dot * theta_dot + 0.001 * torque * torque
        faster = theta_dot + (3 * self.g / 2 * xp.sin(theta) + 3.0 * torque) * _DT
        faster = xp.clip(faster, -_MAX_SPEED, _MAX_SPEED)
        state = xp.stack([theta + faster * _DT, faster])
        return Moved(state=state, reward=-cost, terminated=xp.zeros_like(theta) > 0)

    def observe(self, state_KB: Array, xp: ModuleType) -> Array:
        return columns([xp.cos(state_KB[0]), xp.sin(state_KB[0]), state_KB[1]], xp)

    def draw(self, state_K: np.ndarray, action: np.ndarray | None) -> np.ndarray:
        angle = float(state_K[0]) + math.pi / 2  # Gymnasium's picture: positive angles lean to the left
        canvas = Canvas(320, 320, x=(-1.35, 1.35), y=(-1.35, 1.35))
        canvas.ring((0, 0), 1.13, SHADE, 0.02)
        canvas.line([(0, 0), (0, 1.13)], SHADE, 0.02)
        tip = (math.cos(angle), math.sin(angle))
        canvas.line([(0, 0), tip], ORANGE, 0.17)
        canvas.disc((0, 0), 0.12, INK)
        canvas.disc((0, 0), 0.05, PAPER)
        torque = 0.0 if action is None else float(np.clip(action[0], -_MAX_TORQUE, _MAX_TORQUE))
        if abs(torque) > 0.05:
            sweep = 1.9 * torque / _MAX_TORQUE
            start, radius = angle + math.copysign(0.35, torque), 0.42
            canvas.arc((0, 0), radius, start, start + sweep, BLUE, 0.035)
            end, turn = start + sweep, math.copysign(1.0, torque)
            point = (radius * math.cos(end), radius * math.sin(end))
            ahead = (point[0] - turn * 0.13 * math.sin(end), point[1] + turn * 0.13 * math.cos(end))
            canvas.arrow(point, ahead, BLUE, 0.035, head=0.13)
        else:
            canvas.ring((0, 0), 0.2, MUTED, 0.015)
        return canvas.array()
