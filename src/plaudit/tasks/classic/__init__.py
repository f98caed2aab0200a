"""Classic control in batches: the dynamics of Gymnasium's environments, step by step, for all rows at once.

The only intended differences: first states are counter-based (a function of the row's seed and the episode's
number), and actions out of range are refused where Gymnasium asserts.
"""

from __future__ import annotations

from plaudit.tasks.classic.acrobot import Acrobot
from plaudit.tasks.classic.cartpole import CartPole
from plaudit.tasks.classic.mountain_car import MountainCar, MountainCarContinuous
from plaudit.tasks.classic.pendulum import Pendulum

CLASSIC = {
    "CartPole-v1": CartPole, "Pendulum-v1": Pendulum, "MountainCar-v0": MountainCar,
    "MountainCarContinuous-v0": MountainCarContinuous, "Acrobot-v1": Acrobot,
}
"""The Gymnasium ids that have a batched class here."""

__all__ = ["CLASSIC", "Acrobot", "CartPole", "MountainCar", "MountainCarContinuous", "Pendulum"]
