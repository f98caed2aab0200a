"""Acrobot-v1."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np

from plaudit.tasks.arrays import Array, ArrayTask, Moved, columns
from plaudit.tasks.drawing import BLUE, GREEN, INK, MUTED, ORANGE, PAPER, SHADE, Canvas

_DT, _G = 0.2, 9.8
_MAX_SPEED_1, _MAX_SPEED_2 = 4 * math.pi, 9 * math.pi


class Acrobot(ArrayTask):
    """Two links hanging from a pivot, with a motor (-1, 0 or 1 N m) between them: swing the tip above the line.

    Observation [cos t1, sin t1, cos t2, sin t2, t1', t2'], t1 = 0 hanging down, t2 relative to the first link.
    Each step costs 1, but for the one that reaches the line, which ends the episode (`info["is_success"]`).

    Args:
        horizon: steps until truncation.

    Source:
        Sutton (1996), with the equations of Sutton and Barto's book as in Gymnasium's Acrobot-v1 (Runge-Kutta
        of order 4, one step of 0.2 s).

    Example:
        >>> Acrobot().make(2).reset([1, 2]).shape
        torch.Size([2, 6])
    """

    reset_dims = 4

    def __init__(self, *, horizon: int = 500) -> None:
        self.name, self.horizon = "Acrobot-v1", horizon
        high = np.array([1.0, 1.0, 1.0, 1.0, _MAX_SPEED_1, _MAX_SPEED_2], dtype=np.float32)
        self.obs_space = gymnasium.spaces.Box(-high, high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Discrete(3)

    def spec(self) -> dict[str, Any]:
        return {"kind": "classic", "id": self.name, "kwargs": {"horizon": self.horizon}}

    def initial(self, uniform_KB: Array, xp: ModuleType) -> Array:
        state = uniform_KB * 0.2 - 0.1  # rounded to single precision, as Gymnasium does
        return state.astype(np.float32).astype(np.float64) if xp is np else state.to(xp.float32).to(xp.float64)

    def advance(self, state_KB: Array, action_B: Array, uniform_KB: Array | None, xp: ModuleType) -> Moved:
        torque = action_B - 1.0
        k1 = _slope(state_KB, torque, xp)
        k2 = _slope(state_KB + _DT / 2 * k1, torque, xp)
        k3 = _slope(state_KB + _DT / 2 * k2, torque, xp)
        k4 = _slope(state_KB + _DT * k3, torque, xp)
        out = state_KB + _DT / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4)
        t1, t2 = _wrap(out[0], xp), _wrap(out[1], xp)
        v1, v2 = xp.clip(out[2], -_MAX_SPEED_1, _MAX_SPEED_1), xp.clip(out[3], -_MAX_SPEED_2, _MAX_SPEED_2)
        out = xp.stack([t1, t2, v1, v2])
        above = -xp.cos(t1) - xp.cos(t2 + t1) > 1.0
        return Moved(state=out, reward=xp.where(above, 0.0, -1.0), terminated=above, info={"is_success": above})

    def observe(self, state_KB: Array, xp: ModuleType) -> Array:
        t1, t2, d1, d2 = state_KB
        return columns([xp.cos(t1), xp.sin(t1), xp.cos(t2), xp.sin(t2), d1, d2], xp)

    def draw(self, state_K: np.ndarray, action: np.ndarray | None) -> np.ndarray:
        t1, t2 = float(state_K[0]), float(state_K[1])
        elbow = (math.sin(t1), -math.cos(t1))
        tip = (elbow[0] + math.sin(t1 + t2), elbow[1] - math.cos(t1 + t2))
        reached = tip[1] > 1.0
        canvas = Canvas(320, 320, x=(-2.3, 2.3), y=(-2.3, 2.3))
        canvas.box(-2.3, 1.0, 2.3, 2.3, (232, 243, 236) if reached else (240, 244, 241))
        canvas.line([(-2.3, 1.0), (2.3, 1.0)], GREEN if reached else MUTED, 0.03)
        canvas.ring((0, 0), 0.24, SHADE, 0.05)
        canvas.line([(0, 0), elbow], INK, 0.2)
        canvas.line([elbow, tip], ORANGE, 0.2)
        canvas.disc((0, 0), 0.07, PAPER)
        canvas.disc(elbow, 0.15, INK)
        canvas.disc(tip, 0.06, PAPER)
        torque = 0 if action is None else int(action) - 1
        if torque:
            start = t1 - math.pi / 2
            stop = start + torque * 1.5
            canvas.arc(elbow, 0.42, start, stop, BLUE, 0.06)
            point = (elbow[0] + 0.42 * math.cos(stop), elbow[1] + 0.42 * math.sin(stop))
            canvas.arrow(point, (point[0] - torque * 0.2 * math.sin(stop), point[1] + torque * 0.2 * math.cos(stop)),
                         BLUE, 0.06, head=0.2)
        return canvas.array()


def _slope(state_KB: Array, torque_B: Array, xp: ModuleType) -> Array:
    """Time derivative of [t1, t2, t1', t2']; all masses, lengths and moments of inertia are 1, centres at 0.5."""
    t1, t2, v1, v2 = state_KB
    cos2, sin2 = xp.cos(t2), xp.sin(t2)
    d1 = 0.25 + (1.25 + cos2) + 2.0
    d2 = 0.25 + 0.5 * cos2 + 1.0
    phi2 = 0.5 * _G * xp.cos(t1 + t2 - math.pi / 2)
    phi1 = -0.5 * v2 * v2 * sin2 - v2 * v1 * sin2 + 1.5 * _G * xp.cos(t1 - math.pi / 2) + phi2
    a2 = (torque_B + d2 / d1 * phi1 - 0.5 * v1 * v1 * sin2 - phi2) / (1.25 - d2 * d2 / d1)
    a1 = -(d2 * a2 + phi1) / d1
    return xp.stack([v1, v2, a1, a2])


def _wrap(angle_B: Array, xp: ModuleType) -> Array:
    """Angles moved into [-pi, pi] by whole turns; those inside are not touched."""
    turns = xp.ceil((xp.abs(angle_B) - math.pi) / (2 * math.pi))
    return angle_B - xp.sign(angle_B) * xp.clip(turns, 0.0, None) * (2 * math.pi)
