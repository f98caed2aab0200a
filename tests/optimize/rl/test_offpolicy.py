from __future__ import annotations

import gymnasium
import pytest
import torch
from tiny_worlds import CopyTheBit, CopyTwoBits, PayPerStep, Quadratic, Repeats

import plaudit
from plaudit.core.algebra import Constant, PerMember
from plaudit.core.errors import BadInput, Unsupported
from plaudit.optimize import DQNConfig, SACConfig, train

DQN = {"num_envs": 16, "collect": 4, "rounds": 2, "warmup": 64, "batch": 64, "hidden": (16,), "lr": 0.02,
       "update_ratio": 1 / 12, "target_every": 10}
SAC = {"num_envs": 16, "collect": 4, "rounds": 2, "warmup": 64, "batch": 64, "hidden": (16,), "actor_lr": 0.02,
       "critic_lr": 0.02, "temperature_lr": 0.02, "update_ratio": 1 / 16, "tau": 0.05}


def dqn(task, *, steps=3200, options=None, **kw):
    return train("dqn", task, steps=steps, progress=False, config=DQNConfig(**{**DQN, **(options or {})}), **kw)


def sac(task, *, steps=4000, options=None, **kw):
    return train("sac", task, steps=steps, progress=False, config=SACConfig(**{**SAC, **(options or {})}), **kw)


@pytest.mark.parametrize("options", [{}, {"n_step": 3, "discount": 0.5}, {"double": False, "layer_norm": True}])
def test_dqn_copies_the_bit(options):
    assert dqn(CopyTheBit(), population=2, options=options).evaluate(episodes=20).min() >= 9


@pytest.mark.parametrize("options", [{}, {"critics": 3, "layer_norm": False, "actor_every": 2}])
def test_sac_finds_the_best_number_of_a_quadratic(options):
    trained = sac(Quadratic(), population=2, options=options)
    assert trained.evaluate(episodes=50).mean(-1).min() > -0.02
    action = trained.play(episodes=50).action
    assert float(action.max()) > 1.0, "numbers beyond 1 need the scale of the box"


@pytest.mark.parametrize("ends, worth", [(False, 2.0), (True, 1.0)])
def test_values_count_what_follows_truncation_and_not_what_follows_the_end(ends, worth):
    """A step pays 1: cut after each step at discount 0.5 it is worth 2, and where the world ends 1."""
    found = []

    class Look(plaudit.optimize.Callback):
        def on_update(self, metrics, trainer):
            found.append(float(metrics["value/mean"].mean()) if "value/mean" in metrics else 0.0)

    dqn(PayPerStep(horizon=1, ends=ends), options={"discount": 0.5, "target_every": 5}, callbacks=[Look()])
    assert found[-1] == pytest.approx(worth, abs=0.2)


@pytest.mark.parametrize("learn, task", [(dqn, CopyTheBit), (sac, Quadratic)])
def test_same_seed_same_bits(learn, task):
    a, b, c = (learn(task(), steps=512, seed=s).actor.net.flat for s in (3, 3, 4))
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize("learn, task, options", [(dqn, CopyTheBit, {}), (dqn, CopyTheBit, {"n_step": 2}),
                                                  (sac, Quadratic, {})])
def test_a_member_learns_in_a_population_what_it_learns_alone(learn, task, options):
    together = learn(task(), population=3, steps=384, options={**options, "discount": (0.9, 0.8, 0.7)})
    for p, discount in enumerate((0.9, 0.8, 0.7)):
        alone = learn(task(), population=[p], steps=384, options={**options, "discount": discount})
        torch.testing.assert_close(alone.actor.net.flat[0], together.actor.net.flat[p], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(together.actor.net.flat[0], together.actor.net.flat[1])


class Turning(plaudit.Reward):
    """Pays for copying the bit, and in the second half of the run for the opposite: stored numbers are stale."""

    name = "turning"

    def __init__(self, state):
        self.needs = plaudit.Needs(fields=frozenset({"obs", "action"}), state=state)
        self.turned = False

    def evaluate(self, episodes):
        right = (episodes.obs[..., 0] > 0.5).long() == episodes.action
        return plaudit.Score.of((right != self.turned).float(), mask=episodes.mask)

    def advance(self, progress, metrics=None):
        self.turned = progress >= 0.5


@pytest.mark.parametrize("options, follows", [({}, True), ({"relabel": "never"}, False)])
def test_a_reward_that_changes_is_scored_anew_when_sampled(options, follows):
    """All data is collected before the reward turns; only a learner that scores it anew follows."""
    options = {**options, "epsilon": (1.0, 1.0), "update_ratio": 0.2}
    returns = dqn(CopyTheBit(), reward=Turning("learns"), options=options).evaluate(episodes=20)
    assert (returns.mean() < 2) == follows


def test_each_member_is_scored_anew_by_its_own_reward_wherever_its_id_begins():
    """Members 1 and 2 of three, whose rewards are 1, 2 and 3."""
    seen = []

    class Watch(plaudit.optimize.Callback):
        def on_update(self, metrics, trainer):
            seen.append(trainer.learner.sample())

    own = PerMember([Constant(1.0), Constant(2.0), Constant(3.0)])
    train("dqn", CopyTheBit(), reward=own, population=[1, 2], steps=40, callbacks=[Watch()], progress=False,
          config=DQNConfig(num_envs=1, collect=1, warmup=20, batch=16, rounds=20, hidden=(8,), relabel="always"))
    for sample in seen:
        assert torch.equal(sample.reward, torch.tensor([[2.0], [3.0]]).expand(2, 16))
        assert bool((sample.weight == 1).all())


def test_relabelling_can_be_any_function():
    def opposite(episodes, targets):
        from dataclasses import replace

        return replace(targets, reward=1 - targets.reward)

    assert dqn(CopyTheBit(), relabel=opposite).evaluate(episodes=20).mean() < 1
    with pytest.raises(BadInput, match="relabel"):
        train("ppo", CopyTheBit(), relabel=opposite, progress=False)


def test_a_reward_that_reads_the_past_is_scored_when_collected():
    played = dqn(CopyTheBit(), reward=Repeats(), steps=6400).play(episodes=5)
    assert bool((played.action == played.action[:, :1]).all())
    with pytest.raises(Unsupported, match="reads the past and changes"):
        dqn(CopyTheBit(), reward=Repeats(), options={"relabel": "always"})


def test_unknown_rewards_teach_nothing():
    """Wrong answers are unknown and right ones pay -1: a learner that reads zeros would answer wrongly."""

    def only_right(obs, action):
        right = (obs[..., 0] > 0.5).long() == action
        return torch.where(right, -1.0, torch.nan)

    q = dqn(CopyTheBit(), reward=plaudit.reward(only_right, vectorised=True, backend="torch"),
            options={"discount": 0.0}).actor.net
    bits = torch.tensor([[[0.0], [1.0]]])
    values = q(bits)[0].detach()
    torch.testing.assert_close(values.diagonal(), torch.tensor([-1.0, -1.0]), atol=0.05, rtol=0)


def test_wrong_spaces_are_refused_before_any_work():
    class Unbounded(Quadratic):
        action_space = gymnasium.spaces.Box(-float("inf"), float("inf"), (1,))

    with pytest.raises(Unsupported, match="use ppo, or dqn"):
        sac(CopyTheBit())
    with pytest.raises(Unsupported, match="bounds"):
        sac(Unbounded())
    with pytest.raises(Unsupported, match="use ppo or sac"):
        dqn(Quadratic())
    with pytest.raises(Unsupported, match="one choice"):
        dqn(CopyTwoBits())
