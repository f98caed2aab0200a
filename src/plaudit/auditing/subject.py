"""Recognises what is to be audited: a function in a file, an environment, a saved reward, or an object in hand."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium

from plaudit.core.algebra import as_reward
from plaudit.core.errors import BadInput
from plaudit.core.functions import NAMED_FIELDS, EnvReward, FunctionReward
from plaudit.core.reward import Reward
from plaudit.core.targets import Target, load_target, looks_like_target
from plaudit.tasks.base import Task
from plaudit.tasks.make import make


@dataclass(frozen=True)
class Subject:
    """A reward and the task that it is to be optimised on."""

    reward: Reward
    task: Task
    recognised: str
    """What we took it for, in words."""
    target: Target | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    """Where the reward comes from, for witnesses: `{"target", "path", "sha256"}`, or `{"env": true}`."""


def recognise(target: str | Reward | Task | Callable[..., Any], *, env: str | Task | Callable[..., Any] | None = None,
              env_kwargs: Mapping[str, Any] | None = None, time_limit_s: float | None = None) -> Subject:
    """Finds out what the user points at.

    Args:
        target: `file.py:name` or `module:name` (a reward function, a Reward, an environment class or
            a factory), an environment id (its own reward), or such an object itself.
        env: The environment for a reward; not needed where the target is one.
        env_kwargs: Arguments for the environment.
        time_limit_s: Wall-clock limit for one call of a plain function.

    Raises:
        BadInput: when the target is nothing of the kind, or a reward comes without an environment.
    """
    kwargs = dict(env_kwargs or {})
    loaded: Target | None = None
    thing: Any = target
    if isinstance(target, str):
        if looks_like_target(target):
            loaded = load_target(target)
            thing = loaded.thing
        else:
            return _own_reward(make(target, **kwargs), f"environment {target}", {"env": True}, None)
    source = _source(loaded, thing)
    kind = _kind(thing)
    if kind == "environment":
        task = make(_as_env(thing), **kwargs)
        if loaded is not None:
            task = _named(task, loaded)
        return _own_reward(task, f"environment {getattr(thing, '__name__', task.name)}", source, loaded)
    if env is None:
        raise BadInput("env", expected="an environment for this reward", received="none", fix="add --env ENV_ID")
    task = make(_env_of(env), **kwargs)
    reward = as_reward(thing)
    if isinstance(reward, FunctionReward) and time_limit_s is not None and reward.time_limit_s is None:
        reward.time_limit_s = time_limit_s
    return Subject(reward, task, f"reward function {reward.name} on {task.name}", loaded, source)


def _env_of(env: str | Task | Callable[..., Any]) -> Any:
    if isinstance(env, str) and looks_like_target(env):
        return _as_env(load_target(env).thing)
    return env


def _own_reward(task: Task, words: str, source: Mapping[str, Any], loaded: Target | None) -> Subject:
    return Subject(EnvReward(), task, f"{words}, audited with its own reward", loaded, source or {"env": True})


def _source(loaded: Target | None, thing: Any) -> dict[str, Any]:
    if loaded is not None:
        return {"target": loaded.text, "path": str(loaded.path) if loaded.path else None, "sha256": loaded.sha256}
    fn = thing.fn if isinstance(thing, FunctionReward) else thing
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", "")
    if module and name.isidentifier() and module != "__main__":
        return {"target": f"{module}:{name}", "path": None, "sha256": None}
    return {}


def _kind(thing: Any) -> str:
    """`reward` or `environment`."""
    if isinstance(thing, Reward):
        return "reward"
    if isinstance(thing, Task | gymnasium.Env) or (isinstance(thing, type) and issubclass(thing, gymnasium.Env | Task)):
        return "environment"
    if isinstance(thing, str):
        return "environment"
    if not callable(thing):
        raise BadInput("target", expected="a reward function, a Reward, an environment class or a factory of one",
                       received=f"{type(thing).__name__} {str(thing)[:60]}")
    return "reward" if _takes_fields(thing) else "environment"


def _takes_fields(fn: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return True
    required = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return bool(required) or any(p.name in NAMED_FIELDS for p in parameters)


def _as_env(thing: Any) -> Any:
    """A factory that gives a Task is called; a factory of Gymnasium environments is kept to make the rows."""
    if isinstance(thing, Task | type | gymnasium.Env):
        return thing
    made = thing()
    if isinstance(made, Task):
        return made
    if isinstance(made, Reward) or not isinstance(made, gymnasium.Env):
        raise BadInput("target", expected="a function of obs, action, ..., or a factory of a Gymnasium environment",
                       received=f"a function without arguments that returns {type(made).__name__}")
    made.close()
    return thing


def _named(task: Task, loaded: Target) -> Task:
    """Lets the task's spec say from which file it came."""
    if hasattr(task, "target"):
        task.target = {"target": loaded.text, "path": str(loaded.path) if loaded.path else None,
                        # type: ignore[attr-defined]
                       "sha256": loaded.sha256}
    return task


def file_of(source: Mapping[str, Any]) -> Path | None:
    """The file that a source names, if any."""
    return Path(source["path"]) if source.get("path") else None
