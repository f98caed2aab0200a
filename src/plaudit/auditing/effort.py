"""How hard an audit looks: a number of steps for each kind of task, the same on every machine, or multiples of it."""

from __future__ import annotations

import math

from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs
from plaudit.optimize.behaviours import Budget
from plaudit.optimize.hunting.plan import (
    FEW,
    FEWEST_EPISODES,
    LONGEST,
    OPTIMISERS,
    RL_COST,
    USUAL_STEPS,
    divide,
    kind_of,
)
from plaudit.tasks.base import Task

SEARCHES = {"reward": 0.58, "intent": 0.24, "fix": 0.18}
"""How the budget of steps is divided between searching the reward, the intent, and a repaired reward."""
PATIENCE_S = 300.0
"""Where the environment is so slow that the default effort would take longer, it is cut to what this allows."""


def effort_kind(task: Task, needs: Needs) -> str:
    """The row of `USUAL_STEPS` that a task and a reward belong to.

    Example:
        >>> from plaudit.tasks.classic import CartPole
        >>> effort_kind(CartPole(), Needs())
        'cheap'
    """
    exact = hasattr(task, "tabular") and hasattr(task, "index") and needs.time == "step" and needs.state == "none"
    return kind_of(task, planned=exact)


def default_steps(task: Task, needs: Needs) -> int:
    """The steps of the default effort, all searches of an audit together.

    Where episodes are long, more than usual: so many that the smallest search, of a repaired reward, plays them whole.

    Example:
        >>> from plaudit.tasks.making import make
        >>> steps = [default_steps(make("Pendulum-v1", native=False, horizon=T), Needs()) for T in (200, 1000)]
        >>> steps
        [80000, 350000]
    """
    kind = effort_kind(task, needs)
    usual = USUAL_STEPS[kind]
    if not task.limited:
        return usual
    names = [n for n in OPTIMISERS if n != "planned" or kind == "planned"]
    plan = divide(usual, names, kind=kind, rl_cost=RL_COST[kind])
    share = min(SEARCHES.values()) * plan["evaluate"] / usual
    needed = FEW * FEWEST_EPISODES * min(task.horizon, LONGEST) / share
    return usual if needed <= usual else _rounded_up(needed)


def _rounded_up(steps: float) -> int:
    """To two digits."""
    unit = 10 ** (math.floor(math.log10(steps)) - 1)
    return math.ceil(steps / unit) * unit


def budget_of(task: Task, needs: Needs, *, effort: float = 1.0, seconds: float | None = None,
              steps: int | None = None) -> Budget:
    """The budget of an audit: steps or seconds where they are given, else `effort` times the default steps.

    Raises:
        BadInput: when more than one of them is given, or one is not positive.

    Example:
        >>> from plaudit.tasks.classic import CartPole
        >>> budget_of(CartPole(), Needs(), effort=0.5).steps
        1200000
    """
    if seconds is not None and steps is not None:
        raise BadInput("seconds", expected="either seconds or steps", received=f"{seconds} s and {steps} steps")
    for name, value in (("effort", effort), ("seconds", seconds)):
        if value is not None and not 0 < value < math.inf:
            raise BadInput(name, expected="a positive number", received=value)
    if effort != 1.0 and (seconds is not None or steps is not None):
        raise BadInput("effort", expected="none beside seconds or steps", received=effort)
    if steps is not None or seconds is not None:
        return Budget.of(steps) if steps is not None else Budget.of(seconds=seconds)
    return Budget.of(max(1, round(effort * default_steps(task, needs))))


def affordable(steps: int, seconds_a_step: float) -> int:
    """The steps that fit into `PATIENCE_S`, to two digits; as many as were planned where that is no question."""
    most = PATIENCE_S / max(seconds_a_step, 1e-9)
    return steps if steps <= most else max(1, int(float(f"{most:.2g}")))


def effort_of(task: Task, needs: Needs, steps: int | None) -> float:
    """How many default efforts some steps are; 0 where none are known."""
    return 0.0 if steps is None else steps / default_steps(task, needs)
