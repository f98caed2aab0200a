"""What moves inside a reward with what a run measures: its controllers, and the costs that they follow."""

from __future__ import annotations

from plaudit.core.algebra import Constrained, PerMember, Sum
from plaudit.core.errors import BadInput
from plaudit.core.reward import Reward
from plaudit.core.schedules import Controller


def controllers_of(reward: Reward) -> list[Controller]:
    """All controllers inside a reward, each once.

    Example:
        >>> from plaudit.core.algebra import Constant
        >>> from plaudit.core.schedules import LagrangeMultiplier
        >>> price = LagrangeMultiplier("cost", 0.1)
        >>> [c.metric for c in controllers_of(Constant(1.0) + Sum([(price, Constant(2.0))]))]
        ['cost']
    """
    own = [f for f in reward.factors if isinstance(f, Controller)] if isinstance(reward, Sum) else \
        [reward.multiplier] if isinstance(reward, Constrained) else []
    found = [*own, *(c for child in reward.children() for c in controllers_of(child))]
    return list({id(c): c for c in found}.values())


def costs_of(reward: Reward) -> dict[str, Reward]:
    """The costs of the constraints inside a reward, by the metric that follows each.

    Raises:
        BadInput: when two costs have one metric, so that neither price would follow its own.
    """
    found: dict[str, Reward] = {reward.multiplier.metric: reward.parts[1]} if isinstance(reward, Constrained) else {}
    for child in reward.children():
        for metric, cost in costs_of(child).items():
            if found.setdefault(metric, cost) is not cost and not isinstance(reward, PerMember):
                raise BadInput("multiplier", expected="a metric of its own for each constraint",
                               received=f"{metric} for {found[metric].name} and for {cost.name}",
                               fix='such as LagrangeMultiplier("cost of fuel", ...)')
    return found
