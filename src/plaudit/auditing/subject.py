"""Recognises what is to be audited: a function in a file, an environment, a saved reward, or an object in hand."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium

from plaudit.core.algebra import Node, as_reward
from plaudit.core.consent import noted
from plaudit.core.errors import BadInput, PlauditError, Unsupported
from plaudit.core.functions import NAMED_FIELDS, EnvReward, FunctionReward
from plaudit.core.naming import source_of
from plaudit.core.reward import Reward
from plaudit.core.saving import FILE, is_saved_reward, load_reward, reward_spec
from plaudit.core.targets import (
    Target,
    file_hash,
    load_target,
    looks_like_target,
    option,
    public_names,
    refuse_bare_file,
)
from plaudit.tasks.base import Task
from plaudit.tasks.making import task_of

Environment = str | Task | Callable[..., Any]


@dataclass(frozen=True)
class Subject:
    """A reward and the task that it is to be optimised on."""

    reward: Reward
    task: Task
    recognised: str
    """What we took it for, in words."""
    target: Target | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    """Where the reward comes from, for witnesses: `{"target", "path", "sha256"}`, `{"env": true}`,
    `{"saved", "sha256"}`, `{"spec"}`, or `{"object"}` where it cannot be made again."""
    task_spec: Mapping[str, Any] = field(default_factory=dict)
    """The same for the task: `Task.spec()`, `{"kind": "target", ...}` or `{"kind": "object", "name"}`."""
    name: str = ""
    """How the user named it."""


def recognise(target: str | Path | Reward | Task | Callable[..., Any], *, env: Environment | None = None,
              env_kwargs: Mapping[str, Any] | None = None, time_limit_s: float | None = None,
              trust: bool = False) -> Subject:
    """Finds out what the user points at.

    Args:
        target: `file.py:name` or `module:name` (a reward function, a Reward, an environment class or
            a factory), an environment id (its own reward), a folder of `save_reward`, or such an object itself.
        env: The environment for a reward; not needed where the target is one.
        env_kwargs: Arguments for the environment.
        time_limit_s: Wall-clock limit for one call of a plain function.
        trust: Whether a saved reward may run code that has changed or lies elsewhere.

    Raises:
        BadInput: when the target is nothing of the kind, or a reward comes without an environment.

    Example:
        >>> recognise("CartPole-v1").recognised
        'environment CartPole-v1, audited with its own reward'
    """
    kwargs = dict(env_kwargs or {})
    loaded: Target | None = None
    thing: Any = target
    if isinstance(target, str | Path):
        text = str(target)
        if is_saved_reward(text):
            return _of_reward(load_reward(text, trust=trust), env, kwargs, time_limit_s, source=_saved(Path(text)),
                              name=text, words="saved reward")
        _not_a_file(text)
        if not looks_like_target(text):
            if env is not None:
                _no_reward(text)
            return _of_environment(text, kwargs, None, name=text)
        loaded = load_target(text)
        thing = loaded.thing
    if kind_of(thing) == "environment":
        if env is not None:
            raise BadInput("env", expected="none beside a target that is itself an environment", received=str(env),
                           fix="leave --env out, or name a reward as the target")
        return _of_environment(thing, kwargs, loaded, name=loaded.text if loaded else name_of(thing) or "")
    reward = as_reward(thing)
    source = dict(noted(loaded)) if loaded else _source(reward)
    return _of_reward(reward, env, kwargs, time_limit_s, source=source, loaded=loaded,
                      name=loaded.text if loaded else name_of(reward) or reward.name,
                      words="reward function" if isinstance(reward, FunctionReward) else "reward")


def kind_of(thing: Any) -> str:
    """`reward` or `environment`."""
    if isinstance(thing, Reward):
        return "reward"
    if isinstance(thing, Task | gymnasium.Env | str) or _is_env_class(thing):
        return "environment"
    if not callable(thing) or (isinstance(thing, type) and issubclass(thing, Reward)):
        raise BadInput("target", expected="a reward function, a Reward, an environment class or a factory of one",
                       received=f"{type(thing).__name__} {str(thing)[:60]}")
    return "reward" if _takes_fields(thing) else "environment"


# --- rewards -----------------------------------------------------------------------------------------


def _of_reward(reward: Reward, env: Environment | None, kwargs: dict[str, Any], time_limit_s: float | None, *,
               source: Mapping[str, Any], name: str, words: str, loaded: Target | None = None) -> Subject:
    if env is None:
        raise BadInput("env", expected=f"an environment for the reward {reward.name}", received="none",
                       fix="add --env ENV_ID")
    task, spec = _make(env, kwargs)
    limited = reward if time_limit_s is None else _limited(reward, time_limit_s)
    return Subject(limited, task, f"{words} {reward.name} on {task.name}", loaded, source, spec, name)


def _limited(reward: Reward, time_limit_s: float) -> Reward:
    """A copy whose plain functions have a time limit; the user's own object stays as it is."""
    out = copy.copy(reward)
    if isinstance(out, FunctionReward) and out.time_limit_s is None:
        out.time_limit_s = time_limit_s
    if isinstance(out, Node):
        out.parts = tuple(_limited(part, time_limit_s) for part in out.parts)
    return out


def _source(reward: Reward) -> dict[str, Any]:
    """Where an object in hand comes from: its composition, if it can be written down and has learnt nothing."""
    try:
        return {"object": reward.name} if reward.state_dict() else {"spec": reward_spec(reward)}
    except PlauditError:
        return {"object": reward.name}


def _saved(path: Path) -> dict[str, Any]:
    file = path / FILE if path.is_dir() else path
    return {"saved": str(file), "sha256": file_hash(file)}


def _takes_fields(fn: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return True
    required = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return bool(required) or any(p.name in NAMED_FIELDS for p in parameters)


# --- environments ------------------------------------------------------------------------------------


def _of_environment(thing: Any, kwargs: dict[str, Any], loaded: Target | None, *, name: str) -> Subject:
    task, spec = _make(thing, kwargs, loaded)
    return Subject(EnvReward(), task, f"environment {task.name}, audited with its own reward", loaded, {"env": True},
                   spec, name or task.name)


def _make(env: Any, kwargs: Mapping[str, Any], loaded: Target | None = None) -> tuple[Task, dict[str, Any]]:
    """The task, and what makes it again."""
    thing = env
    if isinstance(env, str) and looks_like_target(env):
        with option("env"):
            loaded = load_target(env)
        thing = loaded.thing
        if kind_of(thing) != "environment":
            raise BadInput("env", expected="an environment class or a factory without required arguments", received=env)
    name = loaded.text if loaded else getattr(thing, "__name__", str(thing))
    try:
        task = task_of(thing, dict(kwargs))
    except PlauditError:
        raise
    except Exception as error:  # the border to a user's environment
        raise BadInput("env", expected="an environment that can be made",
                       received=f"{name}, which raised {type(error).__name__}: {error}") from error
    return task, _task_spec(task, kwargs, loaded)


def _task_spec(task: Task, kwargs: Mapping[str, Any], loaded: Target | None) -> dict[str, Any]:
    spec = spec_of(task)
    if spec["kind"] not in ("target", "object"):
        return spec
    rest = {"kwargs": {k: v for k, v in kwargs.items() if k != "horizon"}, "horizon": kwargs.get("horizon")}
    if loaded is not None:
        return {"kind": "target", **noted(loaded), **rest}
    try:
        return {"kind": "target", **source_of(getattr(task, "env", type(task)), what=task.name), **rest}
    except Unsupported:
        return {"kind": "object", "name": task.name}


def spec_of(task: Task) -> dict[str, Any]:
    """`task.spec()`, or `{"kind": "object", "name"}` where the task cannot be written down."""
    try:
        return task.spec()
    except Unsupported:
        return {"kind": "object", "name": task.name}


def _is_env_class(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, gymnasium.Env | Task)


# --- names -------------------------------------------------------------------------------------------


def name_of(thing: Any) -> str | None:
    """`file.py:name`, as on the command line, of a function or class that lies in a file below the working folder.

    None for everything else: what has no name, installed packages, and rewards with names of their own.
    """
    fn = thing.fn if isinstance(thing, FunctionReward) else thing
    if fn is not thing and thing.name != getattr(fn, "__name__", None):
        return None
    try:
        path = source_of(fn, what="the target")["path"]
    except Unsupported:
        return None
    here = Path.cwd().resolve()
    if path is None or not Path(path).is_relative_to(here) or "site-packages" in Path(path).parts:
        return None
    return f"{Path(path).relative_to(here).as_posix()}:{fn.__qualname__}"


def _not_a_file(text: str) -> None:
    """A file or folder alone is no target: says what it lacks."""
    refuse_bare_file("target", text)
    path = Path(text)
    if path.name == FILE or path.exists() or (path.suffix and "/" in text and ":" not in text):
        raise BadInput("target", expected=f"a saved reward: a folder with {FILE}", received=text,
                       fix="plaudit.save_reward(reward, folder) writes one")


def _no_reward(text: str) -> None:
    """An environment's name is no reward to play on another environment."""
    file = Path(f"{text}.py")
    near = [f"{file}:{name}" for name in public_names(file)[:6]]
    raise BadInput("target", expected="a reward beside --env, such as file.py:name", received=text,
                   fix=f"did you mean {', '.join(near)}?" if near else
                   "leave --env out to audit an environment's own reward")
