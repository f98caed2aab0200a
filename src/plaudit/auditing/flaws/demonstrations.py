"""Proof that a planted flaw is one: a scripted behaviour that exploits it, and one that does what is intended.

No check reads these. The tests play each pair and demand that the flawed reward prefers the exploit, that the intent
and the healthy twin prefer the other. (Flaws of grid worlds need no scripts: their best policies are planned exactly.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from plaudit.auditing.flaws.flaw import Flaw
from plaudit.core.reward import Reward
from plaudit.tasks.rollouts import rollout

Act = Callable[[Any, int], Tensor]
"""Observations [B, D] and the number of the step -> actions [B, ...]."""


class Scripted:
    """A policy from a function of (obs, step)."""

    def __init__(self, act: Act) -> None:
        self.fn = act

    def start(self, rows: int) -> None:
        return None

    def act(self, obs: Any, carry: None, *, step: int) -> tuple[Tensor, None]:
        return self.fn(obs, step), carry


@dataclass(frozen=True)
class Told:
    """What a behaviour earns under the flawed reward and under the twin, and how well it does what is intended."""

    flawed: float
    twin: float
    intent: float


@dataclass(frozen=True)
class Demonstration:
    """Two behaviours that a flawed reward ranks the wrong way round."""

    exploit: Act
    intended: Act

    def play(self, flaw: Flaw, *, episodes: int = 4) -> tuple[Told, Told]:
        """What the exploit and the intended behaviour come to."""
        return told(flaw, self.exploit, episodes=episodes), told(flaw, self.intended, episodes=episodes)


def told(flaw: Flaw, act: Act, *, episodes: int = 4) -> Told:
    """What a behaviour comes to, on the mean of some episodes.

    Example:
        >>> from plaudit.auditing.flaws import flaw
        >>> told(flaw("paid_waiting/MountainCar-v0"), push(1), episodes=2)
        Told(flawed=300.0, twin=-300.0, intent=0.0)
    """
    played = rollout(flaw.task(), Scripted(act), seeds=list(range(episodes)))
    paid: Callable[[Reward], float] = lambda r: float(r.score(played).returns()[0].mean())  # noqa: E731
    return Told(paid(flaw.reward()), paid(flaw.twin()), float(flaw.intent().of(played).double().mean()))


# --- behaviours -------------------------------------------------------------------------------------------


def push(action: int) -> Act:
    """The same discrete action at every step."""
    return lambda obs, step: torch.full((len(obs),), action)


def hold(*torques: float) -> Act:
    """The same torques at every step."""
    return lambda obs, step: torch.tensor(torques).expand(len(obs), len(torques))


def still(joints: int) -> Act:
    """No torque at all."""
    return hold(*[0.0] * joints)


def gait(*, offset: Sequence[float], swing: Sequence[float], phase: Sequence[float], speed: float) -> Act:
    """Each joint on a sine of its own, all at one speed (rad a step)."""
    centre, width, lag = (torch.tensor(x) for x in (offset, swing, phase))
    return lambda obs, step: (centre + width * torch.sin(speed * step + lag)).clamp(-1, 1).expand(len(obs), len(lag))


def pump(obs: Any, step: int) -> Tensor:
    """MountainCar: pushes the way it rolls, which reaches the flag."""
    return (obs[:, 1] >= 0).long() * 2


def rock(obs: Any, step: int) -> Tensor:
    """MountainCar: pumps up to a level below the flag, then brakes."""
    position, velocity = obs.T
    energy = 0.5 * velocity**2 + 0.0025 / 3 * torch.sin(3 * position)
    return torch.where(energy < 6e-4, pump(obs, step), 2 - pump(obs, step))


def as_force(act: Act) -> Act:
    """The moves 0, 1, 2 of MountainCar as forces -1, 0, 1."""
    return lambda obs, step: (act(obs, step).float() - 1).unsqueeze(1)


def swing_tip(obs: Any, step: int) -> Tensor:
    """Acrobot: turns the second joint against its speed, which swings the tip up."""
    return (-obs[:, 4] >= 0).long() * 2


def balance(obs: Any, step: int) -> Tensor:
    """CartPole: pushes the cart under the pole."""
    return ((3 * obs[:, 2] + obs[:, 3] + 0.1 * obs[:, 0] + 0.3 * obs[:, 1]) > 0).long()


def balance_cart(obs: Any, step: int) -> Tensor:
    """InvertedPendulum: the same with a force."""
    return (5 * obs[:, 1:2] + obs[:, 3:4] + 0.3 * obs[:, 0:1] + 0.5 * obs[:, 2:3]).clamp(-3, 3)


def swing_up(obs: Any, step: int) -> Tensor:
    """Pendulum: pumps energy until it is near the top, then holds it."""
    cosine, sine, speed = obs.T
    energy = speed**2 / 6 + 5 * cosine
    grip = -(10 * torch.atan2(sine, cosine) + 3 * speed)
    return torch.where(cosine > 0.9, grip, 2 * speed.sign() * (5 - energy).sign()).clamp(-2, 2).unsqueeze(1)


def brake(obs: Any, step: int) -> Tensor:
    """Pendulum: torque against the speed, until it hangs still."""
    return (-2 * obs[:, 2:3]).clamp(-2, 2)


def reach(obs: Any, step: int, *, towards: float = 1.0) -> Tensor:
    """Reacher: turns both joints down the gradient of the distance (up with `towards` = -1)."""
    (c1, c2), (s1, s2), apart, speed = obs[:, 0:2].T, obs[:, 2:4].T, obs[:, 8:10], obs[:, 6:8]
    elbow = 0.11 * torch.stack([-(s1 * c2 + c1 * s2), c1 * c2 - s1 * s2], -1)
    shoulder = 0.1 * torch.stack([-s1, c1], -1) + elbow
    slope = torch.stack([(shoulder * apart).sum(-1), (elbow * apart).sum(-1)], -1)
    return (-20 * towards * slope - 0.03 * speed).clamp(-1, 1)


def flee(obs: Any, step: int) -> Tensor:
    """Reacher: stretches away from the target."""
    return reach(obs, step, towards=-1.0)


def land(obs: Any, step: int, *, above: float = 0.0) -> Tensor:
    """LunarLander: Gymnasium's heuristic, aimed at a point `above` the pad."""
    x, y, vx, vy, tilt, turn, left, right = (obs[:, i] for i in range(8))
    aim = (0.5 * x + vx).clamp(-0.4, 0.4)
    level = above + 0.55 * abs(x)
    turns, lifts = 0.5 * (aim - tilt) - turn, 0.5 * (level - y) - 0.5 * vy
    legs = (left > 0.5) | (right > 0.5)
    turns, lifts = torch.where(legs, 0.0, turns), torch.where(legs, -0.5 * vy, lifts)
    main = (lifts > abs(turns)) & (lifts > 0.05)
    return torch.where(main, 2, torch.where(turns < -0.05, 3, torch.where(turns > 0.05, 1, 0)))


def hover(obs: Any, step: int) -> Tensor:
    """LunarLander: the same, a little above the pad, so that it never touches down."""
    return land(obs, step, above=0.25)
