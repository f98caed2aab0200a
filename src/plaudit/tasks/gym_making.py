"""Making Gymnasium environments: ids that are unknown, packages that are missing, displays that are not there."""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import error as gym_error
from gymnasium.envs.registration import load_env_creator

from plaudit.core.errors import BadInput, MissingExtra
from plaudit.core.extras import require
from plaudit.core.targets import refuse_bare_file

Env = gymnasium.Env[Any, Any]
_PACKAGES = {
    "MiniGrid-": "minigrid", "BabyAI-": "minigrid", "highway-": "highway_env", "merge-": "highway_env",
    "parking-": "highway_env", "intersection-": "highway_env", "Fetch": "gymnasium_robotics",
    "Hand": "gymnasium_robotics", "Adroit": "gymnasium_robotics", "PointMaze": "gymnasium_robotics",
    "AntMaze": "gymnasium_robotics", "FrankaKitchen": "gymnasium_robotics", "ALE/": "ale_py",
    "mo-": "mo_gymnasium", "Meta-World/": "metaworld",
}
"""Packages that register their ids when they are imported, by the beginning of the id."""
_LONGEST_LOOK = 1000
log = logging.getLogger(__name__)


def make_env(env_id: str, kwargs: Mapping[str, Any], *, horizon: int | None = None, render: bool = False) -> Env:
    """`gymnasium.make` with errors that say how to go on.

    Raises:
        BadInput: when the id is unknown (with close matches) or the arguments do not fit.
        MissingExtra: when its package is not installed.
    """
    options: dict[str, Any] = {"disable_env_checker": True, **kwargs}
    if horizon is not None:
        options["max_episode_steps"] = horizon
    spec = find_spec(env_id)
    if horizon is not None and "horizon" not in options and _creator_takes_horizon(spec):
        options["horizon"] = horizon
    if render:
        choose_backend()
        options.setdefault("render_mode", "rgb_array")
    try:
        env = gymnasium.make(spec, **options)
    except (gym_error.DependencyNotInstalled, ImportError) as error:
        raise MissingExtra(f"{env_id} needs a package that is not installed ({error}); "
                           "run: pip install 'plaudit[envs]'") from error
    except (TypeError, gym_error.Error) as error:
        raise BadInput(f"{env_id} arguments", expected="arguments that the environment takes",
                       received=f"{dict(kwargs)} ({error})") from error
    return _lighten(env) if render else env


def find_spec(env_id: str) -> Any:
    """The registered spec of an id; imports the package that registers it where that is known.

    Raises:
        BadInput: when nothing of that name is registered.
        MissingExtra: when the package that would register it is not installed.

    Example:
        >>> find_spec("CartPole-v1").id
        'CartPole-v1'
    """
    refuse_bare_file("env", env_id)
    registry = gymnasium.registry
    module, _, bare = env_id.rpartition(":")
    if module:
        try:
            require(module, extra="envs")
        except MissingExtra as error:
            raise BadInput("env", expected="module:ID with a module that can be imported", received=env_id) from error
    elif env_id not in registry:
        package = next((p for start, p in _PACKAGES.items() if env_id.startswith(start)), None)
        if package is not None:
            require(package, extra="envs")
    try:
        return gymnasium.spec(bare)
    except gym_error.Error as error:
        near = difflib.get_close_matches(bare, registry, n=3, cutoff=0.5)
        raise BadInput("env", expected="a registered Gymnasium id", received=env_id,
                       fix=f"did you mean {', '.join(near)}?" if near else "import the package that registers it, "
                       "or write module:ID") from error


def call_factory(factory: Callable[..., Any], kwargs: Mapping[str, Any], *, horizon: int | None = None,
                 render: bool = False) -> Env:
    """Calls a class or function that makes an environment; where it has a parameter `horizon`, it gets that too.

    Raises:
        BadInput: when the arguments do not fit or the result is no environment.
    """
    name = getattr(factory, "__name__", type(factory).__name__)
    options = dict(kwargs)
    if horizon is not None and takes(factory, "horizon"):
        options["horizon"] = horizon
    if render:
        choose_backend()
        if "render_mode" not in options and _takes_render_mode(factory):
            options["render_mode"] = "rgb_array"
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        raise BadInput(f"{name} arguments", expected=f"arguments for {name}{inspect.signature(factory)}",
                       received=f"{options} ({error})") from error
    except ValueError:
        log.debug("%s has no signature to check", name)
    env = factory(**options)
    if not isinstance(env, gymnasium.Env):
        raise BadInput(name, expected="a function that returns a gymnasium.Env", received=type(env).__name__)
    return _lighten(env) if render else env


def time_limit(env: Env) -> int | None:
    """The number of steps after which an environment truncates its episodes, if it says so.

    Example:
        >>> time_limit(gymnasium.make("CartPole-v1"))
        500
    """
    named = [env.spec.max_episode_steps if env.spec is not None else None]
    named += [env.get_wrapper_attr(a) for a in ("_max_episode_steps", "max_episode_steps", "max_steps")
              if env.has_wrapper_attr(a)]
    return next((int(n) for n in named if isinstance(n, int | np.integer) and n > 0), None)


def seen_horizon(env: Env) -> int | None:
    """The `horizon` that an environment without a time limit has, where it is seen to truncate an episode there.

    Its name alone may mean anything (how far a controller looks ahead): up to three episodes of random actions, of so
    many steps at most, decide. What an environment raises is told where it matters, not here.
    """
    horizon: Any = getattr(env.unwrapped, "horizon", None)
    if not isinstance(horizon, int) or not 0 < horizon <= _LONGEST_LOOK:
        return None
    try:
        for seed in range(3):
            env.action_space.seed(seed)
            env.reset(seed=seed)
            for t in range(horizon):
                *_, terminated, truncated, _info = env.step(env.action_space.sample())
                if truncated:
                    return horizon if t + 1 == horizon else None
                if terminated:
                    break
    except Exception as error:  # the border to a user's environment
        log.debug("looking for the horizon failed: %r", error)
    return None


def choose_backend() -> None:
    """Lets MuJoCo draw without a display (EGL), unless the user has chosen how."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY") and not os.environ.get("MUJOCO_GL"):
        os.environ["MUJOCO_GL"] = "egl"


def render_frame(env: Env) -> np.ndarray | None:
    """One RGB image [H, W, 3], or None where the environment was not made to draw."""
    if env.render_mode is None:
        return None
    renderer = getattr(env.unwrapped, "mujoco_renderer", None)
    if renderer is not None:
        if renderer.viewer is None:
            env.render()  # which makes the viewer
        _aim(renderer)
    frame: Any = env.render()
    frame = frame[-1] if isinstance(frame, list) and frame else frame
    is_image = isinstance(frame, np.ndarray) and frame.ndim == 3 and frame.dtype == np.uint8
    return np.array(frame) if is_image else None


def _aim(renderer: Any) -> None:
    """Turns shadows off, and turns the free camera to the robot where it runs: newer Gymnasium leaves it standing."""
    scene = getattr(renderer.viewer, "scn", None)
    if scene is not None:
        scene.flags[_flag("mjRND_SHADOW")] = scene.flags[_flag("mjRND_REFLECTION")] = 0
    camera, body = getattr(renderer.viewer, "cam", None), _tracked_body(renderer)
    if camera is not None and body:
        camera.lookat[:2] = renderer.data.subtree_com[body][:2]


def _tracked_body(renderer: Any) -> int:
    """The body that the model's camera `track` follows, or the configured one; 0 (the world) where nothing runs."""
    mujoco = require("mujoco", extra="envs")
    camera = mujoco.mj_name2id(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if camera >= 0:
        return int(renderer.model.cam_bodyid[camera])
    return max(0, int((renderer.default_cam_config or {}).get("trackbodyid", 0)))


def _flag(name: str) -> int:
    return int(getattr(require("mujoco", extra="envs").mjtRndFlag, name))


def _lighten(env: Env) -> Env:
    """Turns off MuJoCo's anti-aliasing, which with the shadows costs 9 of 10 parts of a frame without a GPU."""
    if hasattr(env.unwrapped, "mujoco_renderer"):
        env.unwrapped.model.vis.quality.offsamples = 0  # pyright: ignore[reportAttributeAccessIssue]
    return env


def takes(factory: Callable[..., Any], name: str) -> bool:
    """Whether a class or function names such a parameter.

    Example:
        >>> takes(lambda horizon=60: None, "horizon")
        True
    """
    try:
        return name in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False


def _creator_takes_horizon(spec: Any) -> bool:
    entry = spec.entry_point
    try:
        return takes(load_env_creator(entry) if isinstance(entry, str) else entry, "horizon")
    except (ImportError, AttributeError):  # `gymnasium.make` says what is missing
        return False


def _takes_render_mode(factory: Callable[..., Any]) -> bool:
    return takes(factory, "render_mode") and "rgb_array" in getattr(factory, "metadata", {}).get(
        "render_modes", ["rgb_array"])
