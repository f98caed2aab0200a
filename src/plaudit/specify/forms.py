"""A function of the state as a reward: what the state is worth, or how much better it became."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from plaudit.core.algebra import Node, PotentialDifference, as_reward
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.reward import Reward
from plaudit.core.score import Score

Form = Literal["state", "difference", "gain"]


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


class Gain(Node):
    """discount * state(next_obs) - state(obs) at every step, also at the last of an episode; see `utility`."""

    def __init__(self, inner: Reward, *, discount: float) -> None:
        if not 0 <= discount <= 1:
            raise BadInput("discount", expected="a number in [0, 1]", received=discount)
        super().__init__([inner, Arrived(inner)], name=f"gain({inner.name})")
        self.discount = discount
        low, high = inner.range
        if math.isfinite(high - low):
            self.range = (discount * low - high, discount * high - low)

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        here, there = scores
        reasons = {r: here.why.get(r, there.why.get(r)) for r in (*here.why, *there.why)}
        why = {r: m | there.why.get(r, m) for r, m in reasons.items() if m is not None}
        return Score.of(self.discount * there.value - here.value, mask=episodes.mask, why=why)

    def spec(self) -> dict[str, Any]:
        """JSON from which `from_spec` makes it again."""
        return {"discount": self.discount}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], parts: Sequence[Reward]) -> Gain:
        return cls(parts[0], discount=float(spec["discount"]))


def utility(state: Reward | Callable[..., Any], *, form: Form | str = "state", discount: float = 1.0) -> Reward:
    """A function of `obs` as a reward of steps.

    Args:
        state: A reward (or function) of `obs` alone.
        form: `state` pays the value of the state that the step led to, at every step: it teaches fast, and can make
            waiting in a good state worth more than the goal. `difference` pays discount * state(next_obs) -
            state(obs), and -state(obs) where the world ends, which changes no optimal policy (Ng et al. 1999) where
            the discount is the learner's. `gain` pays the same but counts the last state of an episode for what it is,
            as implementations of Lucy-SKG do: a good end is then not paid back.
        discount: Of `difference` and `gain`.

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
    if form not in ("state", "difference", "gain"):
        raise BadInput("form", expected="state, difference or gain", received=form)
    inner = as_reward(state)
    if form == "gain":
        return Gain(inner, discount=discount)
    return Arrived(inner) if form == "state" else PotentialDifference(inner, discount=discount)
