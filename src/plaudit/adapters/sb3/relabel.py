"""Replay whose rewards are computed when they are sampled, for rewards that change while an agent learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.extras import require
from plaudit.core.reward import Reward
from plaudit.tasks.spaces import batch_tensors, tensor_space

_buffers = require("stable_baselines3.common.buffers", extra="sb3")
READABLE = frozenset({"obs", "action", "next_obs", "terminated", "truncated"})


class RelabelBuffer(_buffers.ReplayBuffer):
    """A `replay_buffer_class` that scores each sampled transition with the reward as it is now.

    `SAC("MlpPolicy", env, replay_buffer_class=RelabelBuffer, replay_buffer_kwargs={"reward": reward})`.

    Args:
        reward: A Reward of single steps, of what a replay buffer keeps: no `info`, no `env_reward`.
        on_unknown: `raise`, or `keep` the number that was stored.

    Raises:
        Unsupported: when the reward reads the past, other rows, or fields that are not kept, and for observations
            that are dictionaries.
    """

    def __init__(self, *args: Any, reward: Reward, on_unknown: str = "raise", **options: Any) -> None:
        super().__init__(*args, **options)
        if on_unknown not in ("raise", "keep"):
            raise BadInput("on_unknown", expected="raise or keep", received=on_unknown)
        lost = sorted(f for f in reward.needs.fields if f not in READABLE)
        if lost or reward.needs.time != "step" or reward.needs.across != "row":
            raise Unsupported(f"{reward.name} reads {', '.join(lost) or 'more than single steps'}, which "
                              "stable-baselines3's replay buffer does not keep")
        if isinstance(self.observation_space, spaces.Dict) or self.optimize_memory_usage:
            raise Unsupported("relabelling needs plain observations and optimize_memory_usage=False")
        self.reward, self.on_unknown = reward, on_unknown
        self._space = tensor_space(self.observation_space)

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> Any:
        """The base class draws which environment it reads of each step, so all of them are scored."""
        index = np.unique(batch_inds)
        score = self.reward.score(self._transitions(index))
        value = score.value[:, 0].numpy().reshape(len(index), self.n_envs)
        if self.on_unknown == "raise":
            score.require()
        self.rewards[index] = np.where(np.isnan(value), self.rewards[index], value)
        return super()._get_samples(batch_inds, env)

    def _transitions(self, index: np.ndarray) -> Episodes:
        """Stored steps of all environments, as rows of one step in the environment's own units."""
        flat = lambda x: x[index].reshape(-1, *x.shape[2:])  # noqa: E731
        put = lambda x: torch.from_numpy(flat(x) > 0)  # noqa: E731
        obs, after = (batch_tensors(self._space, flat(x)) for x in (self.observations, self.next_observations))
        done, cut = put(self.dones), put(self.timeouts)
        return Episodes.of_transitions(obs=obs, action=self._action(flat(self.actions)), next_obs=after,
                                       terminated=done & ~cut, truncated=cut)

    def _action(self, stored: np.ndarray) -> torch.Tensor:
        """Off-policy learners store box actions scaled to [-1, 1]."""
        space, shape = self.action_space, self.action_space.shape or ()
        if isinstance(space, spaces.Box):
            stored = space.low.flatten() + 0.5 * (stored + 1.0) * (space.high - space.low).flatten()
            return torch.from_numpy(stored.reshape(-1, *shape).astype(np.float32))
        return torch.from_numpy(stored.reshape(-1, *shape).astype(np.int64))
