"""Gymnasium's own rewards that are sound for a named intent, on horizons that an audit can afford.

Not all are: Ant-v5 pays 1 for each step survived, so that standing still earns what a slow walk cannot (the flaw
`wild/Ant-v5`). Which are sound was found by computing, and the tests repeat it: by exact planning for the toy worlds,
elsewhere by behaviours that do what is intended and earn more than standing still and random play. Those for which no
behaviour that does what is intended could be written down (Pusher, Humanoid, BipedalWalker) are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from plaudit.auditing.flaws import shaped
from plaudit.auditing.flaws.flaw import Function, fixed
from plaudit.auditing.flaws.healthy_set import Healthy
from plaudit.auditing.flaws.locomotion import far, short
from plaudit.tasks.base import Task
from plaudit.tasks.making import make


def toy(env_id: str, *, horizon: int = 100, **options: Any) -> Task:
    """A toy-text environment."""
    return make(env_id, horizon=horizon, **options)


def reached(next_obs: Any, *, cell: int) -> Any:
    """1 for stepping onto the cell of that number."""
    return 1.0 * (next_obs == cell)


def near(next_obs: Any, *, env_id: str) -> Any:
    """Minus the distance to the target (m)."""
    return -far(next_obs, env_id)


def _own(name: str, make_task: Callable[[], Task], statement: str, intended: Function, reduce: Any,
         kind: str) -> Healthy:
    return Healthy(name=f"gymnasium/{name}", statement=statement, origin="gymnasium", make=make_task, paid=None,
                   intended=intended, reduce=reduce, source=f"Gymnasium's {name}", tags=(kind,))


def standard_rewards() -> list[Healthy]:
    """Gymnasium's own rewards, each with the intent for which it is sound.

    Example:
        >>> standard_rewards()[0].name
        'gymnasium/CartPole-v1'
    """
    flag, forward = "the car reaches the flag", "the robot travels far forward"
    pole = "the pole stays up"
    task = lambda env_id: partial(short, env_id)  # noqa: E731
    runs = lambda env_id: fixed(shaped.travelled, env_id=env_id)  # noqa: E731
    ice = partial(toy, "FrozenLake-v1")
    return [
        _own("CartPole-v1", task("CartPole-v1"), pole, shaped.survived, "sum", "classic"),
        _own("Pendulum-v1", task("Pendulum-v1"), "the pendulum stands upright", shaped.height, "sum", "classic"),
        _own("MountainCar-v0", task("MountainCar-v0"), flag, shaped.arrived, "any", "classic"),
        _own("MountainCarContinuous-v0", task("MountainCarContinuous-v0"), flag, shaped.arrived, "any", "classic"),
        _own("Acrobot-v1", task("Acrobot-v1"), "the tip swings above the bar", shaped.arrived, "any", "classic"),
        _own("FrozenLake-v1", ice, "the far corner is reached", fixed(reached, cell=15), "any", "grid"),
        _own("FrozenLake-v1/dry", partial(ice, is_slippery=False), "the far corner is reached",
             fixed(reached, cell=15), "any", "grid"),
        _own("CliffWalking-v1", partial(toy, "CliffWalking-v1"), "the far corner is reached",
             fixed(reached, cell=47), "any", "grid"),
        _own("Taxi-v4", partial(toy, "Taxi-v4"), "the passenger is delivered", shaped.arrived, "any", "grid"),
        _own("InvertedPendulum-v5", task("InvertedPendulum-v5"), pole, shaped.survived, "sum", "mujoco"),
        _own("InvertedDoublePendulum-v5", task("InvertedDoublePendulum-v5"), pole, shaped.survived, "sum", "mujoco"),
        _own("Reacher-v5", task("Reacher-v5"), "the fingertip stays close to the target",
             fixed(near, env_id="Reacher-v5"), "sum", "mujoco"),
        _own("Swimmer-v5", task("Swimmer-v5"), forward, runs("Swimmer-v5"), "sum", "mujoco"),
        _own("HalfCheetah-v5", task("HalfCheetah-v5"), forward, runs("HalfCheetah-v5"), "sum", "mujoco"),
        _own("Hopper-v5", task("Hopper-v5"), forward, runs("Hopper-v5"), "sum", "mujoco"),
        _own("Walker2d-v5", task("Walker2d-v5"), forward, runs("Walker2d-v5"), "sum", "mujoco"),
        _own("LunarLander-v3", task("LunarLander-v3"), "the lander comes to rest on the pad", shaped.landed, "any",
             "box2d"),
    ]
