"""The learners reach what is known to be reachable, on every one of eight seeds."""

from __future__ import annotations

import pytest

from plaudit.optimize import PPOConfig, SACConfig, train


@pytest.mark.slow(reason="trains 8 agents for 150,000 steps each: minutes")
def test_ppo_solves_cartpole_on_each_of_eight_seeds():
    trained = train("ppo", "CartPole-v1", population=8, steps=150_000, progress=False,
                    config=PPOConfig(discount=0.98, gae_lambda=0.9))
    assert trained.evaluate(episodes=100, seed=1).mean(-1).min() >= 475


@pytest.mark.slow(reason="trains 8 agents for thousands of updates: minutes")
def test_sac_swings_the_pendulum_up_on_each_of_eight_seeds():
    config = SACConfig(num_envs=4, update_ratio=0.5, hidden=(64, 64), batch=128, actor_lr=1e-3, critic_lr=1e-3,
                       temperature_lr=1e-3)
    trained = train("sac", "Pendulum-v1", population=8, steps=20_000, progress=False, config=config)
    assert trained.evaluate(episodes=100, seed=1).mean(-1).min() >= -180
