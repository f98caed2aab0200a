from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import plaudit
from plaudit.core.errors import BadInput, UnknownReward, Unsupported
from plaudit.core.functions import EnvReward
from plaudit.tasks.wrappers import RewardWrapper, VectorRewardWrapper

LENGTH = 4


class Count(gymnasium.Env):
    """Observation [row's number, count]; reward is the count; ends after LENGTH (+ number) steps."""

    def __init__(self, number: int = 0):
        self.number = number
        self.observation_space = gymnasium.spaces.Box(-1.0, 1000.0, (2,), dtype=np.float64)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.array([self.number, 0.0]), {}

    def step(self, action):
        self.count += 1
        done = self.count >= LENGTH + self.number
        info = {"reward_own": float(self.count), "even": self.count % 2 == 0, **({"late": 5.0} if done else {})}
        return np.array([self.number, float(self.count)]), float(self.count), done, False, info


def moved(obs, next_obs):
    """1 within an episode; any mixing of two episodes makes it negative."""
    return next_obs[..., 1] - obs[..., 1]


def steps_so_far(obs, next_obs):
    """How many steps of this episode were seen: a reward with a past."""
    return torch.arange(1.0, obs.shape[0] + 1) + 0 * next_obs[..., 1]


PREFIX = plaudit.reward(steps_so_far, time="prefix")


def test_the_single_wrapper_pays_terms_and_keeps_the_environments_own():
    env = RewardWrapper(Count(), 2.0 * plaudit.reward(moved) + 0.5 * EnvReward())
    env.reset(seed=0)
    for t in range(1, LENGTH + 1):
        _, reward, terminated, _, info = env.step(0)
        assert reward == pytest.approx(2 + 0.5 * t)
        terms = {k: v for k, v in info.items() if k.startswith("reward_")}
        assert sum(terms.values()) == pytest.approx(reward) and info["reward_moved"] == 2
        assert info["env_reward"] == t and info["env_reward_own"] == t
    assert terminated


def test_a_reward_with_a_past_is_streamed_and_begins_again_with_each_episode():
    env = RewardWrapper(Count(), PREFIX)
    for _ in range(2):
        env.reset()
        assert [env.step(0)[1] for _ in range(LENGTH)] == [1, 2, 3, 4]


def test_unknown_is_raised_or_paid_as_nan_but_never_zero():
    never = plaudit.reward(lambda obs: obs[..., 0] * float("nan"))
    env = RewardWrapper(Count(), never)
    env.reset()
    with pytest.raises(UnknownReward):
        env.step(0)
    env = RewardWrapper(Count(), never, on_unknown="nan")
    env.reset()
    assert np.isnan(env.step(0)[1])


def test_what_a_wrapper_cannot_give_is_refused():
    with pytest.raises(Unsupported, match="episode"):
        RewardWrapper(Count(), plaudit.reward(steps_so_far, time="episode"))
    with pytest.raises(Unsupported, match="rows"):
        RewardWrapper(Count(), plaudit.reward(lambda obs: obs[..., 0], across="batch"))
    with pytest.raises(BadInput, match="on_unknown"):
        RewardWrapper(Count(), moved, on_unknown="zero")
    with pytest.raises(BadInput, match="reset"):
        RewardWrapper(Count(), moved).step(0)


def upright(next_obs):
    return torch.cos(next_obs[..., 2])


def test_gymnasiums_checker_accepts_the_wrapper_and_its_spec_makes_it_again():
    env = RewardWrapper(gymnasium.make("CartPole-v1"), upright)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(env, skip_render_check=True)
    again = gymnasium.make(env.spec)
    obs, _ = again.reset(seed=3)
    obs, reward, *_, info = again.step(1)
    assert reward == pytest.approx(np.cos(obs[2])) and info["env_reward"] == 1.0


def vector(mode: AutoresetMode, reward, **options) -> VectorRewardWrapper:
    return VectorRewardWrapper(SyncVectorEnv([lambda n=n: Count(n) for n in range(3)], autoreset_mode=mode), reward,
                               **options)


def play(envs, steps: int):
    """Rewards and ends [steps, rows], with resets by mask where the mode leaves them to the caller."""
    envs.reset(seed=0)
    rewards, ends, infos = [], [], []
    for _ in range(steps):
        _, reward, terminated, truncated, info = envs.step(np.zeros(3, dtype=np.int64))
        rewards.append(reward)
        ends.append(terminated | truncated)
        infos.append(info)
        if envs.mode is AutoresetMode.DISABLED and ends[-1].any():
            envs.reset(options={"reset_mask": ends[-1].copy()})
    return np.stack(rewards), np.stack(ends), infos


def stepping(ends: np.ndarray, mode: AutoresetMode) -> np.ndarray:
    """Which steps really happened: all but those after an end in the mode NEXT_STEP."""
    before = np.vstack([np.zeros_like(ends[:1]), ends[:-1]])
    return ~before if mode is AutoresetMode.NEXT_STEP else np.ones_like(ends)


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda m: m.name)
def test_in_every_autoreset_mode_a_reward_sees_single_episodes_alone(mode):
    rewards, ends, infos = play(vector(mode, moved), 14)
    happened = stepping(ends, mode)
    assert ends.any(0).all()
    assert (rewards == np.where(happened, 1.0, 0.0)).all()
    for t, info in enumerate(infos):
        assert (info["_reward_moved"] == happened[t]).all() and (info["reward_moved"] == rewards[t]).all()


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda m: m.name)
def test_in_every_autoreset_mode_the_past_begins_again(mode):
    rewards, ends, infos = play(vector(mode, PREFIX), 14)
    happened = stepping(ends, mode)
    own = np.stack([info["env_reward"] for info in infos])
    assert (rewards[happened] == own[happened]).all(), "the environment's reward is the count too"
    assert (rewards[~happened] == 0).all()


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda m: m.name)
def test_final_info_reaches_the_reward(mode):
    reward = plaudit.reward(lambda info: info["late"])
    rewards, ends, _ = play(vector(mode, reward, on_unknown="nan"), 9)
    happened = stepping(ends, mode)
    assert (rewards[ends] == 5).all() and np.isnan(rewards[~ends & happened]).all()


class Naive(VectorRewardWrapper):
    """The broken variant: takes the new episode's observation for the final one."""

    def _with_final(self, now, info, ended):
        return now


def test_the_reset_observation_as_next_obs_is_noticed():
    envs = Naive(SyncVectorEnv([Count] * 3, autoreset_mode=AutoresetMode.SAME_STEP), moved)
    rewards, ends, _ = play(envs, 9)
    assert (rewards[ends] < 0).all(), "so the tests above would fail"


def test_mujoco_terms_can_be_paid_alone():
    pytest.importorskip("mujoco")
    env = RewardWrapper(gymnasium.make("HalfCheetah-v5"), EnvReward())
    env.reset(seed=0)
    _, reward, *_, info = env.step(env.action_space.sample())
    assert reward == pytest.approx(info["env_reward"], abs=1e-5)
    assert info["reward_forward"] == pytest.approx(info["env_reward_forward"], abs=1e-5)
    assert info["reward_forward"] + info["reward_ctrl"] == pytest.approx(reward, abs=1e-5)


def test_minigrid_works_in_both_wrappers():
    pytest.importorskip("minigrid")
    facing = lambda next_obs: (next_obs["direction"] == 0) * 1.0  # noqa: E731
    reward = plaudit.reward(facing, vectorised=True)
    env = RewardWrapper(gymnasium.make("MiniGrid-Empty-5x5-v0"), reward)
    env.reset(seed=0)
    assert env.step(1)[1] == 0.0 and env.step(0)[1] == 1.0
    for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
        envs = VectorRewardWrapper(SyncVectorEnv([lambda: gymnasium.make("MiniGrid-Empty-5x5-v0", max_steps=3)] * 2,
                                                 autoreset_mode=mode), reward)
        envs.reset(seed=0)
        assert [envs.step(np.array([1, 2]))[1].tolist() for _ in range(3)] == [[0.0, 1.0]] * 3
