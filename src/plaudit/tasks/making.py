"""One call that turns what users have (an id, a class, a factory, a spec) into a Task."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium

from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.targets import load_target, looks_like_target, option
from plaudit.tasks.base import Task
from plaudit.tasks.car_soccer import CarSoccer
from plaudit.tasks.classic import CLASSIC
from plaudit.tasks.rocket import RocketLeague

NATIVE: Mapping[str, Callable[..., Task]] = {**CLASSIC, "CarSoccer-v0": CarSoccer, "RocketLeague-v0": RocketLeague}
"""The ids that have a batched class here."""
_GAMES: Mapping[Any, Callable[..., Task]] = {"car soccer": CarSoccer, "rocket league": RocketLeague}

_POOLED = "envpool:"


def make(env: Any, *, native: bool = True, **kwargs: Any) -> Task:
    """A Task from a Gymnasium id, a Gymnasium environment class or factory, or a Task (returned as it is).

    Args:
        env: `"CartPole-v1"`, `MyEnv`, `lambda: MyEnv(...)`, a Task, or a Task class; `"envpool:CartPole-v1"` is
            envpool's (extra `envpool`). `"file.py:name"` and `"module:name"` name such a class or factory; the file
            is run.
        native: use plaudit's batched class where there is one (the five classic control tasks; `CarSoccer-v0`
            and `RocketLeague-v0` exist here alone).
        **kwargs: handed to the environment; `horizon=` is the number of steps after which episodes are cut, and the
            environment gets it only where it has a parameter of that name.

    Raises:
        BadInput: when the id is unknown (with close matches) or the arguments do not fit.
        MissingExtra: when the environment's package is not installed.

    Example:
        >>> make("Pendulum-v1", g=9.81)
        Pendulum(Pendulum-v1)
    """
    if isinstance(env, Task):
        if kwargs:
            raise BadInput("env", expected="no further arguments beside a finished Task", received=sorted(kwargs))
        return env
    if isinstance(env, gymnasium.Env):
        raise BadInput("env", expected="an id, an environment class or a factory", received=f"the environment {env}",
                       fix="a batch needs several copies: pass the class, or a function that makes it")
    if isinstance(env, type) and issubclass(env, Task):
        return _call("env", env, kwargs)
    if isinstance(env, str) and (native or env not in CLASSIC) and env in NATIVE:
        return _call(env, NATIVE[env], kwargs)
    if isinstance(env, str) and env.startswith(_POOLED):
        from plaudit.tasks.pooled import PooledTask

        horizon = kwargs.pop("horizon", None)
        return PooledTask(env.removeprefix(_POOLED), kwargs, horizon=horizon)
    if isinstance(env, str) and looks_like_target(env):
        thing = _named(env)
        if thing is not None:
            return task_of(thing, kwargs)
    if isinstance(env, str) or callable(env):
        from plaudit.tasks.gym import GymTask

        horizon = kwargs.pop("horizon", None)
        return GymTask(env, kwargs, horizon=horizon)
    raise BadInput("env", expected="a Gymnasium id, an environment class or factory, or a Task", received=env)


def task_of(thing: Any, kwargs: Mapping[str, Any]) -> Task:
    """A factory that gives a Task is called; a factory of Gymnasium environments is kept to make the rows."""
    if isinstance(thing, Task | type | gymnasium.Env | str):
        return make(thing, **kwargs)
    from plaudit.tasks.gym_making import takes

    options = {k: v for k, v in kwargs.items() if k != "horizon" or takes(thing, "horizon")}
    try:
        inspect.signature(thing).bind(**options)
    except TypeError:
        return make(thing, **kwargs)  # which says what arguments it takes
    made = thing(**options)
    if isinstance(made, Task):
        return make(made, **{k: v for k, v in kwargs.items() if k not in options})
    if not isinstance(made, gymnasium.Env):
        raise BadInput("target", expected="a function of obs, action, ..., or a factory of a Gymnasium environment",
                       received=f"a function that takes none of these and returns {type(made).__name__}")
    made.close()
    return make(thing, **kwargs)


def from_spec(spec: Mapping[str, Any]) -> Task:
    """The task that `task.spec()` describes.

    Raises:
        BadInput: when it is no spec.
        Unsupported: when it names Python code in a file: running that is the caller's decision.

    Example:
        >>> from_spec({"kind": "classic", "id": "CartPole-v1", "kwargs": {"horizon": 100}}).horizon
        100
    """
    kind = spec.get("kind")
    if kind == "classic" and spec.get("id") in CLASSIC:
        return _call("spec", CLASSIC[spec["id"]], dict(spec.get("kwargs", {})))
    if kind in _GAMES:
        return _call("spec", _GAMES[kind], dict(spec.get("kwargs", {})))
    if kind == "gym" and isinstance(spec.get("id"), str):
        from plaudit.tasks.gym import GymTask

        return GymTask(spec["id"], spec.get("kwargs", {}), horizon=spec.get("horizon"))
    if kind == "envpool" and isinstance(spec.get("id"), str):
        from plaudit.tasks.pooled import PooledTask

        return PooledTask(spec["id"], spec.get("kwargs", {}), horizon=spec.get("horizon"))
    if kind == "past actions":
        from plaudit.tasks.past_actions import PastActions

        return PastActions(from_spec(spec.get("task", {})), spec.get("length", 5))
    if kind == "gridworld":
        from plaudit.tasks.gridworld import GridWorld

        return GridWorld.from_spec(spec)
    if kind == "target":
        raise Unsupported(f"the task is made by {spec.get('target')!r}, code in a file of the user's; load that "
                          "function yourself (plaudit asks for consent on the command line) and pass it to make()")
    raise BadInput("spec", received=dict(spec), expected="a dictionary that Task.spec() gave (kind classic, gym, "
                   "gridworld, car soccer, rocket league, past actions or target)")


def _named(text: str) -> Any:
    """What `file.py:name` or `module:name` names; None where that is an id which the module registers."""
    head, _, name = text.rpartition(":")
    try:
        with option("env"):
            thing = load_target(text).thing
    except BadInput:
        if head.endswith(".py") or name not in gymnasium.registry:
            raise
        return None
    return thing if head.endswith(".py") or name not in gymnasium.registry else None


def _call(name: str, cls: Callable[..., Task], kwargs: dict[str, Any]) -> Task:
    try:
        return cls(**kwargs)
    except TypeError as error:
        takes = list(inspect.signature(cls).parameters)
        raise BadInput(f"{name} arguments", expected=f"some of {takes}", received=sorted(kwargs)) from error
