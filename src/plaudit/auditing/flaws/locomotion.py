"""Where the MuJoCo runners of Gymnasium (v5) keep their forward speed, and how long a step lasts."""

from __future__ import annotations

from dataclasses import dataclass

from plaudit.core.errors import BadInput


@dataclass(frozen=True)
class Runner:
    """What a template has to know of an environment."""

    speed: int
    """The index of the forward velocity (m/s) in the observation."""
    seconds: float
    """The time of one step."""
    horizon: int
    """Steps of an episode in the flaw collection: shorter than Gymnasium's 1000, so that an audit sees many."""


RUNNERS = {
    "HalfCheetah-v5": Runner(8, 0.05, 200),
    "Hopper-v5": Runner(5, 0.008, 150),
    "Walker2d-v5": Runner(8, 0.008, 150),
    "Swimmer-v5": Runner(3, 0.04, 200),
    "Ant-v5": Runner(13, 0.05, 200),
}


def runner(env_id: str) -> Runner:
    """The runner of that id.

    Raises:
        BadInput: when it is none of `RUNNERS`.
    """
    if env_id not in RUNNERS:
        raise BadInput("env_id", expected=f"one of {', '.join(RUNNERS)}", received=env_id)
    return RUNNERS[env_id]
