from __future__ import annotations

import logging
import math

import pytest
import torch
from tiny_worlds import CopyTheBit, CopyTwoBits, PayPerStep, Quadratic, Repeats

import plaudit
from plaudit.core.errors import BadInput, UnknownReward, Unsupported
from plaudit.optimize import PPOConfig, train

SMALL = {"num_envs": 8, "rollout": 32, "hidden": (16,), "minibatches": 2}


def learn(task, *, steps=6000, config=None, **kw):
    return train("ppo", task, steps=steps, progress=False, config=config or PPOConfig(**SMALL, lr=0.02), **kw)


def test_ppo_copies_the_bit():
    returns = learn(CopyTheBit(), population=2).evaluate(episodes=20)
    assert returns.shape == (2, 20) and returns.min() >= 9


def test_ppo_makes_several_choices_from_nested_observations():
    returns = learn(CopyTwoBits(), population=2, steps=12_000).evaluate(episodes=20)
    assert returns.mean() >= 9


@pytest.mark.parametrize("options", [{}, {"normalise_obs": True, "scale_reward": True, "clip_value": 0.2},
                                     {"target_kl": 0.03, "layer_norm": True, "activation": "relu"}])
def test_ppo_finds_the_best_number_of_a_quadratic(options):
    config = PPOConfig(**SMALL, lr=0.02, entropy_coef=0.0, log_std=-0.5, **options)
    trained = learn(Quadratic(), population=2, steps=16_000, config=config)
    assert trained.evaluate(episodes=50).mean(-1).min() > -0.02


def test_the_value_at_truncation_is_that_of_the_episode_that_was_cut():
    """Endless pay of 1 at discount 0.9 is worth 10; five steps of it, when the world ends, at most 4.1."""
    config = PPOConfig(**SMALL, lr=0.02, discount=0.9, gae_lambda=0.9)
    seen = {}
    for ends in (False, True):
        found = []

        class Keep(plaudit.optimize.Callback):
            def on_update(self, metrics, trainer, found=found):
                x = torch.zeros(1, 1, 1)
                found.append(trainer.learner.critic(x).item())

        learn(PayPerStep(ends=ends), config=config, steps=7680, callbacks=[Keep()])
        seen[ends] = found[-1]
    assert seen[False] == pytest.approx(10, abs=1)
    assert seen[True] == pytest.approx(sum((1 - 0.9**k) / 0.1 for k in range(1, 6)) / 5, abs=0.5)


def test_same_seed_same_bits_and_another_seed_others():
    a, b, c = (learn(CopyTheBit(), steps=1024, seed=s).actor.net.flat for s in (3, 3, 4))
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize("task, options", [(CopyTheBit, {}), (Quadratic, {"normalise_obs": True, "scale_reward": True}),
                                           (CopyTheBit, {"target_kl": 0.01})])
def test_a_member_learns_in_a_population_what_it_learns_alone(task, options):
    lrs = (0.01, 0.003, 0.02)
    together = learn(task(), population=3, steps=1536, config=PPOConfig(**SMALL, lr=lrs, **options))
    for p, lr in enumerate(lrs):
        alone = learn(task(), population=[p], steps=1536, config=PPOConfig(**SMALL, lr=lr, **options))
        torch.testing.assert_close(alone.actor.net.flat[0], together.actor.net.flat[p], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(together.actor.net.flat[0], together.actor.net.flat[1])


def test_one_number_for_each_member_or_an_error():
    with pytest.raises(BadInput, match="config.lr: expected one number, or 3 numbers"):
        learn(CopyTheBit(), population=3, config=PPOConfig(lr=(1e-3, 1e-3)))
    with pytest.raises(BadInput, match="config.discount"):
        learn(CopyTheBit(), config=PPOConfig(discount=1.1))


def test_unknown_rewards_are_left_out_and_counted(tmp_path):
    """Where the reward is unknown, a zero would teach the wrong action: here only knowing what is unknown works."""

    def half_known(obs, action):
        right = (obs[..., 0] > 0.5) == (action == 1)
        return torch.where(right, 1.0, torch.where(action == 1, 2.0, 0.5)).where(right | (action == 0), torch.nan)

    reward = plaudit.reward(half_known, vectorised=True, backend="torch")
    trained = learn(CopyTheBit(), reward=reward, out=tmp_path / "run")
    rows = plaudit.optimize.read_log(tmp_path / "run")
    assert rows[0]["unknown/train/half_known"][0] > 0
    assert any(name.startswith("unknown_reason/half_known/") for name in rows[0])
    assert all(math.isfinite(v) for v in rows[-1]["loss/policy"])
    assert bool(torch.isfinite(trained.actor.net.flat).all())


@pytest.mark.parametrize("engine", ["torch", "fused"])
def test_the_scale_of_rewards_counts_known_steps_alone(engine):
    """Every second step is unknown: the sums are those of the known steps, as if no other had been made."""
    got = {}

    class Watch(plaudit.optimize.Callback):
        def on_rollout(self, rollout, trainer):
            got["rollout"] = rollout

        def on_update(self, metrics, trainer):
            got["scale"] = trainer.learner.return_moments.scale.item()

    def pay(obs):
        return torch.where(obs[..., 0] > 0.5, torch.nan, 3.0 + obs[..., 0])

    learn(Quadratic20(), reward=plaudit.reward(pay, vectorised=True, backend="torch"), steps=256, callbacks=[Watch()],
          config=PPOConfig(num_envs=4, rollout=64, scale_reward=True, hidden=(8,), engine=engine))
    sums, e = [], got["rollout"].episodes
    for n in range(4):
        total = 0.0
        for r, done in zip(got["rollout"].score.value[n].tolist(), e.truncated[n].tolist(), strict=True):
            if not math.isnan(r):
                total = 0.99 * total + r
                sums.append(total)
            total = 0.0 if done else total
    assert 64 < len(sums) < 192
    assert got["scale"] == pytest.approx(torch.tensor(sums, dtype=torch.float64).std(correction=0).item(), rel=1e-6)


class Quadratic20(Quadratic):
    """Episodes of 20 steps, so that sums over steps are more than their first."""

    horizon = 20

    def terminates(self, time, action):
        return torch.zeros_like(time, dtype=torch.bool)


def test_unknown_rewards_stop_the_run_on_request():
    half = lambda obs: torch.where(obs[..., 0] > 0.5, torch.nan, 1.0)  # noqa: E731
    reward = plaudit.reward(half, vectorised=True, backend="torch")
    with pytest.raises(UnknownReward, match="NaN"):
        learn(CopyTheBit(), reward=reward, on_unknown="stop")


def test_a_reward_of_nothing_but_nan_stops_at_the_first_rollout():
    reward = plaudit.reward(lambda obs: obs[..., 0] * torch.nan, vectorised=True, backend="torch")
    with pytest.raises(UnknownReward):
        learn(CopyTheBit(), reward=reward)


def test_rewards_of_whole_episodes_are_refused():
    reward = plaudit.reward(lambda obs: float(len(obs)), time="episode", backend="torch")
    with pytest.raises(Unsupported, match="EvalCallback"):
        learn(CopyTheBit(), reward=reward)


def test_a_reward_that_reads_the_past_streams():
    """1 if the action repeats that of the step before: only the past can tell."""
    played = learn(CopyTheBit(), reward=Repeats(), steps=5120).play(episodes=5)
    assert bool((played.action == played.action[:, :1]).all())


def test_a_reward_that_reads_what_the_task_lacks_is_refused_before_learning():
    with pytest.raises(BadInput, match="expected a task that gives info:lives"):
        class Lives(plaudit.Reward):
            needs = plaudit.Needs(fields=frozenset({"info:lives"}))

            def evaluate(self, episodes):
                raise AssertionError

        learn(CopyTheBit(), reward=Lives())


def test_too_few_steps_and_wrong_configs_are_refused():
    with pytest.raises(BadInput, match="at least one update of 256 steps"):
        learn(CopyTheBit(), steps=200)
    with pytest.raises(BadInput, match="algo"):
        train("ppp", CopyTheBit(), progress=False)
    with pytest.raises(BadInput, match="minibatches"):
        PPOConfig(num_envs=1, rollout=2, minibatches=4)
    with pytest.raises(BadInput, match="config: expected a PPOConfig"):
        train("ppo", CopyTheBit(), config={"lr": 1.0}, progress=False)


def test_pay_that_is_never_positive_with_a_true_end_is_warned_about(caplog):
    with caplog.at_level(logging.WARNING):
        learn(Quadratic(), steps=512)
    assert "a true terminal is the best state there is" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        learn(CopyTheBit(), steps=512)
    assert "true terminal" not in caplog.text
