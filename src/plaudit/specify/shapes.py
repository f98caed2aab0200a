"""Shapes of physical rewards: pure functions of positions, velocities and events, each of about [-1, 1].

They know nothing of a game: the last axis holds the coordinates, in any number of dimensions, and every other axis
is kept. Source of the forms: Moschopoulos et al. 2023, "Lucy-SKG" (arXiv 2305.15801), section on reward shaping; the
numbers that are not in the paper's text are options.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.errors import BadInput


def unit(x: Float[Tensor, "... k"]) -> Float[Tensor, "... k"]:
    """The direction of a vector; 0 where it has no length.

    Example:
        >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    length = x.norm(dim=-1, keepdim=True)
    return torch.where(length == 0, 0.0, x / torch.where(length == 0, 1.0, length))


def cosine(a: Float[Tensor, "... k"], b: Float[Tensor, "... k"]) -> Float[Tensor, "..."]:
    """The cosine of the angle between two vectors, in [-1, 1]; 0 where one has no length.

    Example:
        >>> cosine(torch.tensor([1.0, 0.0]), torch.tensor([-2.0, 0.0])).item()
        -1.0
    """
    return (unit(a) * unit(b)).sum(-1).clamp(-1.0, 1.0)


def distance(a: Float[Tensor, "... k"], b: Float[Tensor, "... k"], *, scale: float, dispersion: float = 1.0,
             density: float = 1.0, surface: float = 0.0) -> Float[Tensor, "..."]:
    """Nearness in (0, 1] (eq. 2): exp(-d / (2 * scale * dispersion)) ** (1 / density); 1 at distance 0.

    Args:
        a: A place.
        b: Another.
        scale: The distance that counts as one, such as the way that a car makes in a second.
        dispersion: How far the reward spreads.
        density: How concave it is: a larger one pays more at every distance.
        surface: What is taken off the distance between centres, such as a radius; d is not below 0.

    Raises:
        BadInput: when scale, dispersion or density is not positive, or surface is negative.

    Example:
        >>> distance(torch.tensor([0.0, 0.0]), torch.tensor([3.0, 4.0]), scale=2.5).item()
        0.368
    """
    for name, value in (("scale", scale), ("dispersion", dispersion), ("density", density)):
        if not value > 0:
            raise BadInput(name, expected="a number > 0", received=value)
    if not surface >= 0:
        raise BadInput("surface", expected="a number >= 0", received=surface)
    d = ((a - b).norm(dim=-1) - surface).clamp(min=0.0)
    return torch.exp(-0.5 * d / (scale * dispersion * density))


def speed_towards(position: Float[Tensor, "... k"], target: Float[Tensor, "... k"], velocity: Float[Tensor, "... k"], *,
                  largest: float) -> Float[Tensor, "..."]:
    """The part of a velocity that goes towards a target, as a share of the largest speed.

    Example:
        >>> zero, right = torch.zeros(2), torch.tensor([1.0, 0.0])
        >>> speed_towards(zero, right, -3 * right, largest=6.0).item()
        -0.5
    """
    if not largest > 0:
        raise BadInput("largest", expected="a speed > 0", received=largest)
    return (unit(target - position) * velocity).sum(-1) / largest


def alignment(player: Float[Tensor, "... k"], ball: Float[Tensor, "... k"], goal: Float[Tensor, "... k"],
              own_goal: Float[Tensor, "... k"], *, offense: float = 0.5, defense: float = 0.5) -> Float[Tensor, "..."]:
    """How well a push of the ball would go: to the goal, and away from one's own.

    offense * cos(player -> ball, ball -> goal) + defense * cos(player -> ball, own goal -> ball), within
    [-1, 1] where the two weights sum to at most 1.

    Example:
        >>> p, b, g = (torch.tensor([x, 0.0]) for x in (-1.0, 0.0, 5.0))
        >>> alignment(p, b, g, -g).item(), alignment(-p, b, g, -g).item()
        (1.0, -1.0)
    """
    return offense * cosine(ball - player, goal - ball) + defense * cosine(ball - player, ball - own_goal)


def distance_difference(ball: Float[Tensor, "... k"], goal: Float[Tensor, "... k"], own_goal: Float[Tensor, "... k"], *,
                        scale: float, offense: float = 0.5, defense: float = 0.5, offense_dispersion: float = 0.6,
                        defense_dispersion: float = 0.4, surface: float = 0.0) -> Float[Tensor, "..."]:
    """How near the ball is to the goal, minus how near it is to one's own: both by `distance`.

    Example:
        >>> g = torch.tensor([5.0, 0.0])
        >>> distance_difference(0 * g, g, -g, scale=6.0, offense_dispersion=0.5, defense_dispersion=0.5).item()
        0.0
    """
    near = distance(ball, goal, scale=scale, dispersion=offense_dispersion, surface=surface)
    far = distance(ball, own_goal, scale=scale, dispersion=defense_dispersion, surface=surface)
    return offense * near - defense * far


def saved(amount: Float[Tensor, "... 1"], *, full: float) -> Float[Tensor, "..."]:
    """The root of how full a store is, in [0, 1]: the first drops count most.

    Example:
        >>> saved(torch.tensor([25.0]), full=100.0).item()
        0.5
    """
    if not full > 0:
        raise BadInput("full", expected="a number > 0", received=full)
    return (amount[..., 0] / full).clamp(0.0, 1.0).sqrt()


def event(happened: Float[Tensor, "... 1"]) -> Float[Tensor, "..."]:
    """1 where something happened, 0 elsewhere; unknown (NaN) stays unknown.

    Example:
        >>> event(torch.tensor([[2.0], [0.0]])).tolist()
        [1.0, 0.0]
    """
    x = happened[..., 0]
    return torch.where(x.isnan(), x, (x != 0).to(x.dtype))


def touch_acceleration(touch: Float[Tensor, "... 1"], before: Float[Tensor, "... k"], after: Float[Tensor, "... k"],
                       ball: Float[Tensor, "... k"], target: Float[Tensor, "... k"], *, largest: float,
                       directed: bool = True) -> Float[Tensor, "..."]:
    """How much a touch accelerated the ball: towards a target (negative away from it), or at all.

    Args:
        touch: Where the ball was touched.
        before: The ball's velocity before the touch.
        after: And after it.
        ball: Where the ball is.
        target: Where it should go.
        largest: The largest speed of the ball.
        directed: Whether the direction counts; undirected acceleration pays an own goal as well as a shot.

    Example:
        >>> right = torch.tensor([1.0, 0.0])
        >>> touch_acceleration(right[:1], 0 * right, -3 * right, 0 * right, right, largest=6.0).item()
        -0.5
    """
    if not largest > 0:
        raise BadInput("largest", expected="a speed > 0", received=largest)
    change = after - before
    gained = (unit(target - ball) * change).sum(-1) if directed else change.norm(dim=-1)
    return event(touch) * gained / largest
