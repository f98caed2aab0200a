"""RLGym both ways: its states as Episodes with named fields, and a plaudit reward as one of its reward functions.

RLGym pins numpy < 2: install the extra `rocket` in an environment of its own. A state is read as
`plaudit.tasks.rocket` observes it, so that a reward written for `RocketLeague-v0` (or for the 2-D game) runs here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs
from plaudit.core.reward import Reward
from plaudit.tasks.rocket import events_of, observe_state


def episodes_of(states: Sequence[Any], *, agent: str, ended: bool = True) -> Episodes:
    """One match as one car saw it: states s_0 ... s_T give T steps, with the score as `env_reward`.

    Actions are zeros: replays do not hold RLGym's. A copy of each state must have been kept (`copy.deepcopy`, or a
    RocketSim engine, which makes a new one at every step).

    Args:
        states: RLGym `GameState`s in order, two or more.
        agent: Whose eyes and whose goals.
        ended: Whether the record stops because it was cut (`truncated`), where no goal ended it.

    Raises:
        BadInput: for fewer than two states, or an agent that does not play.
    """
    if len(states) < 2:
        raise BadInput("states", expected="two or more", received=len(states))
    if agent not in states[0].cars:
        raise BadInput("agent", expected=f"one of {sorted(states[0].cars)}", received=agent)
    obs = torch.from_numpy(np.stack([observe_state(s, agent) for s in states]))
    found = [events_of(a, b, agent) for a, b in zip(states, states[1:], strict=False)]
    info = {k: torch.tensor([f[k] for f in found]) for k in found[0]}
    T = len(found)
    last = torch.arange(T) == T - 1
    terminated = info["goal"] | info["concede"]
    return Episodes.of_steps(obs=obs[:-1], next_obs=obs[1:], action=torch.zeros(T), info=info, terminated=terminated,
                             truncated=last & ~terminated & ended,
                             env_reward=info["goal"].float() - info["concede"].float())


class RLGymReward:
    """A plaudit reward of single steps as an RLGym `RewardFunction` (whose methods it has; RLGym asks for no more).

    Args:
        reward: Reads `obs`, `next_obs`, `info:...` or `env_reward` of single steps.

    Raises:
        BadInput: when it reads the past, a whole episode, or other rows; `UnknownReward` at a step that is unknown.
    """

    def __init__(self, reward: Reward) -> None:
        if reward.needs.time != "step" or reward.needs.across != Needs().across:
            raise BadInput("reward", expected="a reward of single steps and rows",
                           received=f"{reward.name} (time={reward.needs.time}, across={reward.needs.across})")
        self.reward = reward
        self._before: Any = None

    def reset(self, agents: Sequence[str], initial_state: Any, shared_info: dict[str, Any]) -> None:
        self._before = initial_state

    def get_rewards(self, agents: Sequence[str], state: Any, is_terminated: Mapping[str, Any],
                    is_truncated: Mapping[str, Any], shared_info: dict[str, Any]) -> dict[str, float]:
        """What each agent is paid; the terms are left in `shared_info["reward_terms"]` by agent and name."""
        rows = Episodes.cat([episodes_of([self._before, state], agent=a) for a in agents])
        ends = {k: torch.tensor([[bool(of[a])] for a in agents]) for k, of in
                (("terminated", is_terminated), ("truncated", is_truncated))}
        score = self.reward.score(rows.replace(**ends))
        self._before = state
        value = score.require()[:, 0]
        shared_info["reward_terms"] = {a: {t: float(score.contribution(t)[i, 0]) for t in score.terms}
                                       for i, a in enumerate(agents)}
        return {a: float(value[i]) for i, a in enumerate(agents)}
