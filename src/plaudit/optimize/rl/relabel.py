"""The one hook in front of replay: what a sampled transition is worth is decided when it is sampled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.reward import Reward
from plaudit.optimize.rl.scoring import score_by_member


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What sampled transitions are worth, each [M] over the rows of `Episodes` [M, 1]."""

    reward: Float[Tensor, "M"]
    """The reward as it was when the transition was stored; any number where `weight` is 0."""
    discount: Float[Tensor, "M"]
    """What the value of `next_obs` is multiplied with; the end of the world is applied afterwards."""
    weight: Float[Tensor, "M"]
    """Its weight in the losses; 0 where the reward is unknown."""


@runtime_checkable
class Relabel(Protocol):
    """Recomputes rewards, discounts and weights of sampled transitions."""

    def __call__(self, episodes: Episodes, targets: Targets) -> Targets:
        """New targets for transitions [M, 1], rows grouped by member (`episodes.member`)."""
        ...


class RewardRelabel:
    """Scores sampled transitions with a reward as it is now; unknown ones get the weight 0.

    Example:
        >>> from plaudit.core.functions import reward
        >>> now = RewardRelabel(reward(lambda action: 2.0 * action, vectorised=True))
        >>> e = Episodes.of_transitions(obs=torch.zeros(2, 1), action=torch.ones(2), next_obs=torch.zeros(2, 1))
        >>> old = Targets(reward=torch.zeros(2), discount=torch.ones(2), weight=torch.ones(2))
        >>> now(e, old).reward.tolist()
        [2.0, 2.0]
    """

    def __init__(self, reward: Reward, *, population: int = 1) -> None:
        self.reward, self.population = reward, population

    def __call__(self, episodes: Episodes, targets: Targets) -> Targets:
        score = score_by_member(self.reward, episodes, self.population)
        known = score.known[:, 0]
        value = torch.where(known, score.value[:, 0].to(targets.reward.dtype), 0.0)
        return replace(targets, reward=value, weight=torch.where(known, torch.ones_like(value), 0.0))
