"""Exact potential shapings of sound rewards: they change what every step earns and no preference between policies.

r'(s, a, s') = r(s, a, s') + g Phi(s') - Phi(s), with Phi = 0 where the episode ended (Ng, Harada and Russell 1999,
Policy invariance under reward transformations, theorem 1), and with the discount g = 0.99 that an audit assumes.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import numpy as np

from plaudit.auditing.flaws import circling, clock, escape, lander, lingering, narrow, swapped, tall, vase
from plaudit.auditing.flaws.flaw import Function, fixed
from plaudit.auditing.flaws.healthy_set import Healthy
from plaudit.auditing.flaws.locomotion import far, runner, short
from plaudit.auditing.flaws.maps import lookup, steps_left, ways_to

DISCOUNT = 0.99
_SOURCE = "Ng, Harada and Russell (1999), Policy invariance under reward transformations, theorem 1"


def shaped(obs: Any, action: Any, next_obs: Any, terminated: Any, env_reward: Any, *, base: Function,
           potential: Function, weight: float = 1.0) -> dict[str, Any]:
    """The base reward, and 0.99 times the potential after the step (0 at the end) less the potential before it."""
    fields = {"obs": obs, "action": action, "next_obs": next_obs, "terminated": terminated, "env_reward": env_reward}
    own = base(**{k: v for k, v in fields.items() if k in inspect.signature(base).parameters})
    terms = own if isinstance(own, dict) else {"task": own}
    alive = 1.0 - np.asarray(terminated, dtype=np.float32)
    return {**terms, "shaping": weight * (DISCOUNT * alive * potential(next_obs) - potential(obs))}


def own(env_reward: Any) -> Any:
    """The environment's own reward."""
    return env_reward


# --- potentials: observations [..., D] -> [...] ------------------------------------------------------------


def closeness(obs: Any, *, map: str, power: float = 1.0) -> Any:
    """1 at the goal, 0 at the far end of the map."""
    ways = ways_to(map, "G")
    return (1.0 - steps_left(obs, ways) / ways.max()) ** power


def distance(obs: Any, *, map: str) -> Any:
    """Minus the steps to the goal, in units of the longest way."""
    return closeness(obs, map=map) - 1.0


def discounted_goal(obs: Any, *, map: str) -> Any:
    """What a prize of 1 at the goal is worth from here: the best potential there is."""
    return DISCOUNT ** steps_left(obs, ways_to(map, "G"))


def patchwork(obs: Any, *, map: str) -> Any:
    """A number for each cell that means nothing: the theorem allows any."""
    rows = map.split("\n")
    return lookup(obs, np.random.default_rng(7).uniform(-0.5, 0.5, (len(rows), len(rows[0]))))


def entry(obs: Any, *, index: int, size: bool = False) -> Any:
    """An entry of the observation, or minus its size."""
    value = np.asarray(obs)[..., index]
    return -abs(value) if size else value


def swing(obs: Any) -> Any:
    """MountainCar's energy, from 0 in the valley to about 1 at the flag."""
    obs = np.asarray(obs)
    return (0.5 * obs[..., 1] ** 2 + 0.0025 / 3 * (np.sin(3 * obs[..., 0]) + 1)) / 0.0017


def tip(obs: Any) -> Any:
    """The height of Acrobot's tip over the joint, in [-2, 2]."""
    obs = np.asarray(obs)
    return -obs[..., 0] - (obs[..., 0] * obs[..., 2] - obs[..., 1] * obs[..., 3])


def nearness(obs: Any) -> Any:
    """Minus the metres from Reacher's fingertip to the target."""
    return -far(obs, "Reacher-v5")


def descent(obs: Any) -> Any:
    """Minus what LunarLander lacks to a landing."""
    return -lander.missing(obs)


# --- sound rewards that no template states -----------------------------------------------------------------


def landing(next_obs: Any, terminated: Any) -> dict[str, Any]:
    """100 for a landing, -100 for a crash."""
    return {"landing": 100.0 * lander.landed(next_obs, terminated),
            "crash": -100.0 * lander.crashed(next_obs, terminated)}


def landed(next_obs: Any, terminated: Any) -> Any:
    """1 for coming to rest on the pad."""
    return 1.0 * lander.landed(next_obs, terminated)


def survived(terminated: Any) -> Any:
    """1 for each step without a fall."""
    return 1.0 * (terminated == 0)


def arrived(terminated: Any) -> Any:
    """1 for the step that ends the episode, which only the goal does."""
    return 1.0 * (terminated != 0)


def height(next_obs: Any) -> Any:
    """How high the pendulum stands, a 200th of it at each step."""
    return next_obs[..., 0] / 200


def travelled(next_obs: Any, *, env_id: str) -> Any:
    """Metres travelled in a step."""
    return runner(env_id).seconds * next_obs[..., runner(env_id).speed]


def _grid(name: str, module: Any, map: str, potential: Function, *, weight: float = 1.0, base: Any = None) -> Healthy:
    return Healthy(
        name=f"shaping/{name}", origin="shaping", make=module.task, intended=module.intended, reduce="any",
        statement="the goal is reached", source=_SOURCE, tags=("grid", "terms"),
        paid=fixed(shaped, base=base or module.healthy, potential=partial(potential, map=map), weight=weight))


def _control(name: str, env_id: str, potential: Function, statement: str, intended: Function, reduce: Any,
             *, base: Function = own, weight: float = 1.0, kind: str = "classic") -> Healthy:
    return Healthy(
        name=f"shaping/{env_id}/{name}", origin="shaping", make=partial(short, env_id), intended=intended,
        reduce=reduce, statement=statement, source=_SOURCE, tags=(kind, "terms"),
        paid=fixed(shaped, base=base, potential=potential, weight=weight))


def shapings() -> list[Healthy]:
    """The exact shapings: several potentials on one task, and several tasks.

    Example:
        >>> shapings()[0].name
        'shaping/maze/distance'
    """
    flag, up, bar = "the car reaches the flag", "the pole stays up", "the tip swings above the bar"
    forward = "the robot travels far forward"
    run = lambda name, potential, weight: _control(  # noqa: E731
        name.split("/")[1], name.split("/")[0], potential, forward, fixed(travelled, env_id=name.split("/")[0]),
        "sum", weight=weight, kind="mujoco")
    return [
        _grid("maze/distance", swapped, swapped.MAP, distance),
        _grid("maze/closeness", swapped, swapped.MAP, closeness),
        _grid("maze/value", swapped, swapped.MAP, discounted_goal),
        _grid("maze/patchwork", swapped, swapped.MAP, patchwork, weight=0.5),
        _grid("pillar/closeness", lingering, lingering.ROOM, closeness, weight=2.0, base=_arrival_in_the_room),
        _grid("pillar/squared", lingering, lingering.ROOM, partial(closeness, power=2.0), base=_arrival_in_the_room),
        _grid("lava/closeness", escape, escape.MAP, closeness, weight=3.0),
        _grid("field/value", circling, circling.FIELD, discounted_goal, base=_arrival_in_the_field),
        _grid("limit/distance", clock, clock.MAP, distance, base=_arrival_in_time),
        _grid("vase/closeness", vase, vase.HALL, closeness, weight=0.5),
        _control("energy", "MountainCar-v0", swing, flag, arrived, "any", weight=10.0),
        _control("position", "MountainCar-v0", partial(entry, index=0), flag, arrived, "any", weight=5.0),
        _control("speed", "MountainCar-v0", partial(entry, index=1, size=True), flag, arrived, "any", weight=50.0),
        _control("energy", "MountainCarContinuous-v0", swing, flag, arrived, "any", weight=10.0),
        _control("tip", "Acrobot-v1", tip, bar, arrived, "any", weight=5.0),
        _control("angle", "CartPole-v1", partial(entry, index=2, size=True), up, survived, "sum", weight=5.0),
        _control("place", "CartPole-v1", partial(entry, index=0, size=True), up, survived, "sum"),
        _control("height", "Pendulum-v1", partial(entry, index=0), "the pendulum stands upright", height, "sum",
                 weight=2.0),
        _control("angle", "InvertedPendulum-v5", partial(entry, index=1, size=True), up, survived, "sum", weight=5.0,
                 kind="mujoco"),
        _control("nearness", "Reacher-v5", nearness, "the fingertip stays close to the target",
                 fixed(narrow.intended, env_id="Reacher-v5"), "sum", weight=1.0, kind="mujoco"),
        run("HalfCheetah-v5/pitch", partial(entry, index=1, size=True), 1.0),
        run("Swimmer-v5/heading", partial(entry, index=0, size=True), 0.1),
        _control("pitch", "Hopper-v5", partial(entry, index=1, size=True), forward,
                 fixed(tall.intended, speed=5), "sum", base=partial(tall.healthy, speed=5, turn=7), kind="mujoco"),
        _control("descent", "LunarLander-v3", descent, "the lander comes to rest on the pad", landed, "any",
                 base=landing, weight=20.0, kind="box2d"),
    ]


def _arrival_in_the_room(next_obs: Any) -> Any:
    return 5.0 * lingering.intended(next_obs)


def _arrival_in_the_field(next_obs: Any) -> Any:
    return circling.intended(next_obs)


def _arrival_in_time(next_obs: Any) -> Any:
    return 5.0 * clock.intended(next_obs)
