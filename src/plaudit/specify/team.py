"""Team spirit: what a player's team earns counts for the player, and what the opponents earn against it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from plaudit.core.algebra import Node
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs
from plaudit.core.reward import Reward
from plaudit.core.score import Score


class TeamSpirit(Node):
    """(1 - spirit) * own + spirit * mean of the team - mean of the opponents, at every step (Berner et al. 2019).

    The rows of a match share `Episodes.group`; `Episodes.agent` says which player a row is. With one player a team, the
    mean of the team is the player's own reward; without opponents that term is 0. In a match of two equal teams the
    rewards sum to 0, so log the raw reward beside it.

    Args:
        inner: Each player's own reward.
        teams: The team of each agent index.
        spirit: In [0, 1].
        opponents: The weight of what the opponents earn.

    Raises:
        BadInput: when `teams` is empty, or `spirit` outside [0, 1].

    Example:
        >>> from plaudit.core.functions import EnvReward
        >>> one = Episodes.of_transitions(obs=torch.zeros(2, 1), action=torch.zeros(2), next_obs=torch.zeros(2, 1),
        ...                               env_reward=torch.tensor([1.0, 0.25]))
        >>> match = one.replace(group=torch.tensor([0, 0]), agent=torch.tensor([0, 1]))
        >>> TeamSpirit(EnvReward(), teams=(0, 1), spirit=0.3)(match).tolist()
        [[0.75], [-0.75]]
    """

    def __init__(self, inner: Reward, *, teams: Sequence[int], spirit: float = 0.3, opponents: float = 1.0) -> None:
        if not teams:
            raise BadInput("teams", expected="the team of each agent", received="an empty list")
        if not 0 <= spirit <= 1:
            raise BadInput("spirit", expected="a number in [0, 1]", received=spirit)
        if not math.isfinite(opponents):
            raise BadInput("opponents", expected="a finite number", received=opponents)
        super().__init__([inner], name=f"team({inner.name})")
        self.teams, self.spirit, self.opponents = tuple(int(t) for t in teams), spirit, opponents
        self.needs = inner.needs | Needs(across="group")
        low, high = inner.range
        ends = (opponents * low, opponents * high, 0.0)
        if math.isfinite(high - low):
            self.range = (low - max(ends), high - min(ends))

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        (own,) = scores
        team, others = self._means(own.value, episodes)
        value = own.value * (1 - self.spirit) if self.spirit < 1 else torch.zeros_like(own.value)
        value = value + self.spirit * team if self.spirit else value
        value = value - self.opponents * others if self.opponents else value
        members = None
        if own.members is not None:
            each = [self._means(m, episodes) for m in own.members]
            members = torch.stack([(1 - self.spirit) * m + self.spirit * t - self.opponents * o
                                   for m, (t, o) in zip(own.members, each, strict=True)])
        return Score.of(value, mask=episodes.mask, members=members,
                        terms={"own": own.value, "team": team, "opponents": others},
                        weights={"own": 1 - self.spirit, "team": self.spirit, "opponents": -self.opponents},
                        why={}, reason="the reward of a player of the match is unknown")

    def _means(self, value_BT: Tensor, episodes: Episodes) -> tuple[Tensor, Tensor]:
        """For each row the mean over its team and over its opponents, of those who play at that step."""
        if episodes.group is None or episodes.agent is None:
            raise BadInput("episodes", expected="group (the match) and agent (the player) of each row",
                           received="neither" if episodes.group is None and episodes.agent is None else "one of them")
        if int(episodes.agent.max()) >= len(self.teams) or int(episodes.agent.min()) < 0:
            raise BadInput("teams", expected=f"a team for agent {int(episodes.agent.max())}",
                           received=f"{len(self.teams)} of them")
        team_B = torch.tensor(self.teams, device=value_BT.device)[episodes.agent]
        match, match_B = episodes.group.unique(return_inverse=True)
        team = torch.zeros_like(value_BT)
        others = torch.zeros_like(value_BT)
        for label in sorted(set(self.teams)):
            mine = team_B == label
            mean = _mean_by(value_BT, episodes.mask & mine.unsqueeze(1), match_B, len(match))
            rest = _mean_by(value_BT, episodes.mask & ~mine.unsqueeze(1), match_B, len(match))
            team = torch.where(mine.unsqueeze(1), mean[match_B], team)
            others = torch.where(mine.unsqueeze(1), rest[match_B], others)
        return team, others

    def spec(self) -> dict[str, Any]:
        """JSON from which `from_spec` makes it again."""
        return {"teams": list(self.teams), "spirit": self.spirit, "opponents": self.opponents}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], parts: Sequence[Reward]) -> TeamSpirit:
        return cls(parts[0], teams=spec["teams"], spirit=spec["spirit"], opponents=spec["opponents"])


def _mean_by(value_BT: Tensor, here_BT: Tensor, group_B: Tensor, groups: int) -> Tensor:
    """The mean over the chosen rows of each group, 0 where there are none: [groups, T]."""
    shape = (groups, value_BT.shape[1])
    total = value_BT.new_zeros(shape).index_add(0, group_B, torch.where(here_BT, value_BT, 0.0))
    count = value_BT.new_zeros(shape).index_add(0, group_B, here_BT.to(value_BT.dtype))
    return total / count.clamp(min=1.0)
