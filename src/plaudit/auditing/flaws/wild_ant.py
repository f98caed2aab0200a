"""Found in the wild: Gymnasium's own reward of Ant-v5, under which standing still beats every gait but a fast one.

Of 200 steps, standing still earns 199 and travels nowhere; a walk of 5.5 m in the same time earns 99, and random play
-33. The reward is not wrong at its optimum (an ant that runs at 4 m/s earns more), but all that lies between random
play and running is paid less than doing nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from plaudit.auditing.flaws.flaw import Flaw
from plaudit.auditing.flaws.locomotion import runner, short

ENV = "Ant-v5"
_TERMS = ("forward", "survive", "ctrl", "contact")


def reward(info: Any) -> dict[str, Any]:
    """The terms as Gymnasium reports them: forward speed, 1 for not falling, half the squared action, contacts."""
    return {term: info[f"reward_{term}"] for term in _TERMS}


def healthy(action: Any, info: Any) -> dict[str, Any]:
    """The forward speed, less a little effort; a fall earns nothing more, which is penalty enough."""
    return {"forward": info["reward_forward"], "effort": -0.1 * (action**2).sum(-1)}


def intended(next_obs: Any) -> Any:
    """Metres travelled in a step."""
    return runner(ENV).seconds * next_obs[..., runner(ENV).speed]


def standing_ant() -> Flaw:
    """Gymnasium's reward as it is."""
    return Flaw(
        name="wild", kind="paid survival", statement="the robot travels far forward",
        wrong="not falling pays 1 a step and squared actions cost half, so standing still earns twice what a walk does",
        make=partial(short, ENV), flawed=reward, healthy=healthy, intended=intended, reduce="sum",
        caught_by=("exploit", "scale", "incentives"), tags=("mujoco", "episode-length", "terms", "wild"),
        source="Gymnasium's Ant-v5 (found by computing what its behaviours earn)")
