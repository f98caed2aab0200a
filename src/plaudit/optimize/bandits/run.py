"""`play`: a policy plays R bandits side by side for T rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.jobs import Progress
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.optimize.bandits.fast import play_compiled, worth_compiling
from plaudit.optimize.bandits.history import BanditHistory
from plaudit.optimize.bandits.policies import Policy
from plaudit.tasks.bandits.protocol import Array, Bandit, Bools, Ints, Pull

Monitor = Callable[[Episodes], torch.Tensor]
"""Reads the rounds so far as episodes [R, t]; says which runs to stop: booleans [R]."""
_TELLS = 200


def play(bandit: Bandit, policy: Policy, *, rounds: int, runs: int = 10, seed: int = 0, reward: Reward | None = None,
         monitor: Monitor | None = None, every: int = 100, keep_context: bool = False, compiled: bool | None = None,
         progress: Progress | None = None) -> BanditHistory:
    """Plays `runs` bandits of one kind with one policy.

    Args:
        bandit: what is played; it is reset.
        policy: who plays; it begins afresh.
        rounds: pulls in each run.
        runs: how many runs; each has random numbers of its own, so the first ones do not depend on how many there are.
        seed: the root of all randomness.
        reward: a reward of single steps that the policy is paid instead of the bandit's own, such as
            `EnvReward().clip(max=1)`; where it is unknown, the policy hears nothing.
        monitor: reads the rounds so far every `every` rounds and stops runs.
        every: rounds between two looks of the monitor.
        keep_context: whether the history keeps what contextual arms showed, which may be much.
        compiled: whether to play in compiled loops (extra `fast`); None where there are some for this pair, Numba is
            installed and there is enough to play; True raises where there are none.
        progress: told the share of the rounds that is played.

    Raises:
        BadInput: for no rounds or runs.
        Unsupported: when the policy cannot play this bandit, or the reward needs more than single steps.

    Example:
        >>> from plaudit.optimize.bandits import UCB1
        >>> from plaudit.tasks.bandits import Gaussian
        >>> play(Gaussian([0.0, 0.5]), UCB1(), rounds=30, runs=4, seed=1).arm_RT.shape
        (4, 30)
    """
    if rounds < 1 or runs < 1 or every < 1:
        raise BadInput("rounds, runs, every", expected="at least 1 each", received=(rounds, runs, every))
    if reward is not None and (reward.needs.time != "step" or reward.needs.across != "row"):
        raise Unsupported(f"{reward.name} reads more than one round of one run, and a bandit is paid round by round")
    seeds = Seeds(seed)
    bandit.reset(seeds.child("bandit").integers(runs))
    policy.begin(bandit, rounds=rounds, seeds=seeds.child("policy").integers(runs))
    tell = progress or (lambda done, text: None)
    plain = reward is None and monitor is None and not keep_context
    if plain and worth_compiling(bandit, policy, rounds * runs, compiled):
        return _of_loops(bandit, *play_compiled(bandit, policy, rounds, tell), policy)
    if compiled:
        raise Unsupported("compiled loops hear neither another reward nor a monitor, and keep no context")
    kept = _Kept(bandit, policy, runs, rounds, keep_context)
    _play_steps(bandit, policy, kept, reward=reward, monitor=monitor, every=every, tell=tell)
    return kept.history(rounds)


def _of_loops(bandit: Any, arm_RT: Ints, reward_RT: Array, policy: Policy) -> BanditHistory:
    """The history of arms whose values stay."""
    values_K = bandit.values_K if hasattr(bandit, "values_K") else bandit.means_K
    return BanditHistory(task=bandit.name, algo=policy.name, comparator=bandit.comparator, K=bandit.K, arm_RT=arm_RT,
                         reward_RT=reward_RT, mean_RT=values_K[arm_RT], arms_KD=bandit.arms_KD,
                         best_RT=np.broadcast_to(np.float64(bandit.best), arm_RT.shape))


@dataclass
class _Kept:
    """The arrays of a history while it is played."""

    bandit: Bandit
    policy: Policy
    runs: int
    rounds: int
    keep_context: bool

    def __post_init__(self) -> None:
        shape = (self.runs, self.rounds)
        self.arm_RT = np.full(shape, -1, dtype=np.int64)
        self.reward_RT, self.mean_RT, self.best_RT = (np.full(shape, np.nan) for _ in range(3))
        self.trained_RT: Array | None = None
        self.context_RTKD: Array | None = None
        self.info: dict[str, Array] = {}

    def put(self, t: int, arm_R: Ints, pull: Pull, context_RKD: Array | None, playing_R: Bools) -> None:
        self.arm_RT[:, t] = np.where(playing_R, arm_R, -1)
        self.reward_RT[:, t] = np.where(playing_R & pull.known_R, pull.reward_R, np.nan)
        if pull.heard is not None:
            h = pull.heard
            self.reward_RT[h.row_N, h.round_N] = np.where(playing_R[h.row_N], h.reward_N,
                                                          self.reward_RT[h.row_N, h.round_N])
        self.mean_RT[:, t], self.best_RT[:, t] = pull.mean_R, pull.best_R
        if self.keep_context and context_RKD is not None:
            if self.context_RTKD is None:
                self.context_RTKD = np.zeros((self.runs, self.rounds, *context_RKD.shape[1:]))
            self.context_RTKD[:, t] = context_RKD
        for name, value in pull.info.items():
            self.info.setdefault(name, np.full((self.runs, self.rounds), np.nan))[:, t] = value

    def history(self, stop: int, start: int = 0) -> BanditHistory:
        """The rounds from `start` to `stop`."""
        part = slice(start, stop)
        return BanditHistory(
            task=self.bandit.name, algo=self.policy.name, comparator=self.bandit.comparator, K=self.bandit.K,
            arm_RT=self.arm_RT[:, part], reward_RT=self.reward_RT[:, part], mean_RT=self.mean_RT[:, part],
            best_RT=self.best_RT[:, part], arms_KD=self.bandit.arms_KD, start=start,
            trained_RT=None if self.trained_RT is None else self.trained_RT[:, part],
            context_RTKD=None if self.context_RTKD is None else self.context_RTKD[:, part],
            info={name: value[:, part] for name, value in self.info.items()})


def _play_steps(bandit: Bandit, policy: Policy, kept: _Kept, *, reward: Reward | None, monitor: Monitor | None,
                every: int, tell: Progress) -> None:
    """Round by round, all runs at once."""
    playing_R, rows_R = np.ones(kept.runs, dtype=bool), np.arange(kept.runs)
    for t in range(kept.rounds):
        context_RKD = bandit.context_RKD
        arm_R = policy.choose(t, context_RKD)
        x_RD = None if context_RKD is None else context_RKD[rows_R, arm_R]
        pull = bandit.pull(arm_R)
        kept.put(t, arm_R, pull, context_RKD, playing_R)
        if reward is not None:
            pull = _repaid(kept, reward, pull, t, arm_R, playing_R)
        policy.update(t, pull.told(arm_R, t, x_RD))
        if monitor is not None and (t + 1) % every == 0:
            stop_R = torch.as_tensor(monitor(kept.history(t + 1).episodes())).cpu().numpy().astype(bool)
            if stop_R.shape != playing_R.shape:
                raise BadInput("monitor", expected=f"{kept.runs} booleans", received=f"shape {list(stop_R.shape)}")
            playing_R &= ~stop_R
            if not playing_R.any():
                break
        if t % max(1, kept.rounds // _TELLS) == 0:
            tell(t / kept.rounds, policy.name)
    tell(1.0, policy.name)


def _repaid(kept: _Kept, reward: Reward, pull: Pull, t: int, arm_R: Ints, playing_R: Bools) -> Pull:
    """The pull with another reward; what is unknown is not heard."""
    if pull.heard is not None:
        raise Unsupported("a reward instead of the bandit's own needs rewards that are heard at once; "
                          f"{kept.bandit.name} tells them later")
    score = reward.score(kept.history(t + 1, t).episodes())
    value_R = score.value[:, 0].double().cpu().numpy()
    known_R = pull.known_R & score.known[:, 0].cpu().numpy()
    if kept.trained_RT is None:
        kept.trained_RT = np.full((kept.runs, kept.rounds), np.nan)
    kept.trained_RT[:, t] = np.where(known_R & playing_R, value_R, np.nan)
    return Pull(reward_R=value_R, known_R=known_R, mean_R=pull.mean_R, best_R=pull.best_R, info=pull.info,
                seen_RM=pull.seen_RM)
