"""A function of the state as a reward, in two forms: what the state is worth, or how much better it became."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from plaudit.core.algebra import Node, PotentialDifference, as_reward
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.reward import Reward
from plaudit.core.score import Score

Form = Literal["state", "difference"]


class Arrived(Node):
    """What a reward of `obs` alone says of the state that a step led to; see `utility`."""

    def __init__(self, inner: Reward) -> None:
        if inner.needs.time != "step" or not inner.needs.fields <= {"obs"}:
            raise Unsupported(f"a utility reads obs alone; {inner.name} reads {sorted(inner.needs.fields)} "
                              f"({inner.needs.time})")
        super().__init__([inner], name=inner.name)
        self.needs = replace(inner.needs, fields=frozenset({"next_obs"}))
        self.range = inner.range

    def evaluate(self, episodes: Episodes) -> Score:
        return self.parts[0].score(episodes.replace(obs=episodes.next_obs))

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        return self.evaluate(episodes)

    def spec(self) -> dict[str, Any]:
        """Nothing but its part."""
        return {}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], parts: Sequence[Reward]) -> Arrived:
        return cls(parts[0])


def utility(state: Reward | Callable[..., Any], *, form: Form | str = "state", discount: float = 1.0) -> Reward:
    """A function of `obs` as a reward of steps.

    Args:
        state: A reward (or function) of `obs` alone.
        form: `state` pays the value of the state that the step led to, at every step: it teaches fast, and can make
            waiting in a good state worth more than the goal. `difference` pays discount * state(next_obs) -
            state(obs), which changes no optimal policy (Ng et al. 1999) where the discount is the learner's.
        discount: Of `difference`.

    Raises:
        BadInput: for another form.
        Unsupported: when `state` reads more than `obs`.

    Example:
        >>> import torch
        >>> from plaudit.core.functions import reward
        >>> height = reward(lambda obs: obs[..., 0], name="height", vectorised=True, backend="torch")
        >>> e = Episodes.of_steps(obs=torch.ones(1, 1), action=torch.zeros(1), next_obs=torch.full((1, 1), 3.0))
        >>> utility(height)(e).item(), utility(height, form="difference")(e).item()
        (3.0, 2.0)
    """
    if form not in ("state", "difference"):
        raise BadInput("form", expected="state or difference", received=form)
    inner = as_reward(state)
    return Arrived(inner) if form == "state" else PotentialDifference(inner, discount=discount)
