"""MountainCar-v0 and MountainCarContinuous-v0."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np

from plaudit.tasks.arrays import Array, ArrayTask, Moved, columns
from plaudit.tasks.drawing import BLUE, GREEN, INK, MUTED, ORANGE, SHADE, Canvas

_LEFT, _RIGHT, _MAX_SPEED, _GRAVITY = -1.2, 0.6, 0.07, 0.0025


class _Valley(ArrayTask):
    """What the two cars share: the valley, the walls and the picture."""

    reset_dims = 1
    goal: float
    goal_velocity: float
    horizon: int

    def spec(self) -> dict[str, Any]:
        return {"kind": "classic", "id": self.name,
                "kwargs": {"goal_velocity": self.goal_velocity, "horizon": self.horizon}}

    def initial(self, uniform_KB: Array, xp: ModuleType) -> Array:
        position = uniform_KB[0] * 0.2 - 0.6
        return xp.stack([position, xp.zeros_like(position)])

    def observe(self, state_KB: Array, xp: ModuleType) -> Array:
        return columns(state_KB, xp)

    def _roll(self, state_KB: Array, push_B: Array, xp: ModuleType) -> tuple[Array, Array, Array]:
        """Position, velocity and whether the goal is reached, after a step with a force."""
        position, velocity = state_KB
        velocity = xp.clip(velocity + push_B - _GRAVITY * xp.cos(3 * position), -_MAX_SPEED, _MAX_SPEED)
        position = xp.clip(position + velocity, _LEFT, _RIGHT)
        velocity = xp.where((position == _LEFT) & (velocity < 0), 0.0, velocity)
        return position, velocity, (position >= self.goal) & (velocity >= self.goal_velocity)

    def draw(self, state_K: np.ndarray, action: np.ndarray | None) -> np.ndarray:
        position = float(state_K[0])
        push = 0.0 if action is None else float(action) - 1 if action.ndim == 0 else float(np.clip(action[0], -1, 1))
        height = lambda x: math.sin(3 * x) * 0.45 + 0.55  # noqa: E731
        canvas = Canvas(480, 320, x=(-1.26, 0.66), y=(-0.02, 1.26))
        hill = [(x, height(x)) for x in np.linspace(-1.3, 0.7, 201).tolist()]
        canvas.polygon([*hill, (0.7, -0.1), (-1.3, -0.1)], SHADE)
        canvas.line(hill, MUTED, 0.012)
        canvas.box(_LEFT - 0.06, height(_LEFT), _LEFT - 0.045, height(_LEFT) + 0.16, MUTED)
        foot = height(self.goal)
        canvas.line([(self.goal, foot), (self.goal, foot + 0.2)], INK, 0.01)
        canvas.polygon([(self.goal, foot + 0.2), (self.goal + 0.1, foot + 0.165), (self.goal, foot + 0.13)], GREEN)
        slope = math.atan(1.35 * math.cos(3 * position))
        along, up = (math.cos(slope), math.sin(slope)), (-math.sin(slope), math.cos(slope))
        at = lambda a, b: (position + a * along[0] + b * up[0], height(position) + a * along[1] + b * up[1])  # noqa: E731
        canvas.polygon([at(-0.075, 0.03), at(0.075, 0.03), at(0.07, 0.075), at(0.035, 0.08), at(0.02, 0.115),
                        at(-0.04, 0.115), at(-0.055, 0.08), at(-0.075, 0.075)], ORANGE)
        canvas.polygon([at(-0.035, 0.105), at(0.013, 0.105), at(0.024, 0.08), at(-0.043, 0.08)], (255, 244, 232))
        for a in (-0.042, 0.042):
            canvas.disc(at(a, 0.026), 0.026, INK)
            canvas.disc(at(a, 0.026), 0.011, MUTED)
        if abs(push) > 0.05:
            canvas.arrow(at(math.copysign(0.09, push), 0.06), at(math.copysign(0.1, push) + 0.1 * push, 0.06), BLUE,
                         0.014, head=0.05)
        return canvas.array()


class MountainCar(_Valley):
    """A weak car in a valley: push left (0), not (1), right (2); each step costs 1 until the flag.

    Observation [position in [-1.2, 0.6], velocity in [-0.07, 0.07]]. `info["is_success"]` says that the flag
    was reached, which ends the episode.

    Args:
        goal_velocity: the least velocity at the flag that counts.
        horizon: steps until truncation.

    Source:
        Moore (1990); the equations of Gymnasium's MountainCar-v0.

    Example:
        >>> MountainCar().make(2).reset([1, 2]).shape
        torch.Size([2, 2])
    """

    def __init__(self, *, goal_velocity: float = 0.0, horizon: int = 200) -> None:
        self.name, self.horizon, self.goal, self.goal_velocity = "MountainCar-v0", horizon, 0.5, goal_velocity
        self.obs_space = _valley_space()
        self.action_space = gymnasium.spaces.Discrete(3)

    def advance(self, state_KB: Array, action_B: Array, uniform_KB: Array | None, xp: ModuleType) -> Moved:
        position, velocity, arrived = self._roll(state_KB, (action_B - 1) * 0.001, xp)
        return Moved(state=xp.stack([position, velocity]), reward=-xp.ones_like(position), terminated=arrived,
                     info={"is_success": arrived})


class MountainCarContinuous(_Valley):
    """The same valley with a force in [-1, 1]: 100 for reaching the flag, minus 0.1 times the squared action.

    Observation [position in [-1.2, 0.6], velocity in [-0.07, 0.07]]. `info["is_success"]` says that the flag
    was reached, which ends the episode. As in Gymnasium, the state is kept in single precision and the cost
    is that of the action before it is limited to [-1, 1].

    Args:
        goal_velocity: the least velocity at the flag that counts.
        horizon: steps until truncation.

    Source:
        Moore (1990); the equations of Gymnasium's MountainCarContinuous-v0.

    Example:
        >>> MountainCarContinuous().make(2).reset([1, 2]).shape
        torch.Size([2, 2])
    """

    def __init__(self, *, goal_velocity: float = 0.0, horizon: int = 999) -> None:
        self.name, self.horizon = "MountainCarContinuous-v0", horizon
        self.goal, self.goal_velocity = 0.45, goal_velocity
        self.obs_space = _valley_space()
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)

    def advance(self, state_KB: Array, action_B: Array, uniform_KB: Array | None, xp: ModuleType) -> Moved:
        force = action_B[:, 0]
        position, velocity, arrived = self._roll(state_KB, xp.clip(force, -1.0, 1.0) * 0.0015, xp)
        reward = xp.where(arrived, 100.0, 0.0) - 0.1 * force * force
        state = columns([position, velocity], xp).T
        state = state.astype(np.float64) if xp is np else state.to(xp.float64)
        return Moved(state=state, reward=reward, terminated=arrived, info={"is_success": arrived})


def _valley_space() -> gymnasium.spaces.Box:
    low, high = np.array([_LEFT, -_MAX_SPEED], dtype=np.float32), np.array([_RIGHT, _MAX_SPEED], dtype=np.float32)
    return gymnasium.spaces.Box(low, high, dtype=np.float32)
