"""TD3 and its preset DDPG: targets in closed form, delays, noise, a toy."""

from __future__ import annotations

import gymnasium
import pytest
import torch
from tiny_worlds import CopyTheBit, PayPerStep, Quadratic

from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.seeds import Seeds
from plaudit.optimize import Callback, TD3Config, train
from plaudit.optimize.rl.replay import Sample
from plaudit.optimize.rl.td3 import TD3

SMALL = {"num_envs": 16, "collect": 4, "rounds": 2, "warmup": 64, "batch": 64, "hidden": (32, 32), "actor_lr": 0.005,
         "critic_lr": 0.01, "update_ratio": 1 / 8, "tau": 0.05}


def td3(task, *, steps=2400, config=TD3Config, options=None, **kw):
    return train("td3", task, steps=steps, progress=False, config=config(**{**SMALL, **(options or {})}), **kw)


def learner(**options):
    return TD3(TD3Config(**{**SMALL, **options}), Quadratic(), seeds=[Seeds(0).child(p) for p in range(2)])


def one_sample(n=64):
    torch.manual_seed(0)
    return Sample(obs=torch.rand(2 * n, 1), action=torch.rand(2 * n, 1), next_obs=torch.rand(2 * n, 1),
                  reward=torch.rand(2, n), discount=torch.full((2, n), 0.9), weight=torch.ones(2, n))


def linear(net, weights):
    """Makes every network of the stack x -> x . weights (no hidden layer)."""
    with torch.no_grad():
        for name, part in net.named().items():
            part.zero_()
            if name == "weight_0":
                part.copy_(torch.tensor(weights, dtype=torch.float32).view(-1, len(weights[0]), 1))


@pytest.mark.parametrize("critics, believed", [(1, 1.0), (2, 1.0), (3, -2.0)])
def test_the_target_is_the_lowest_critic_at_the_target_actors_action(critics, believed):
    """Critics Q(s, a) = w a, actor atanh(s): y = r + 0.9 min_w(w s) for s > 0."""
    agent = learner(hidden=(), critics=critics, target_noise=0.0)
    linear(agent.critics.net, [[0.0, w] for w in (1.0, 3.0, -2.0)[:critics]] * 2)
    agent.critics.target.copy_(agent.critics.net.flat.detach())
    linear(agent.actor.net, [[0.5], [0.5]])
    agent.actor_target.copy_(agent.actor.net.flat.detach())
    linear(agent.actor.net, [[7.0], [7.0]])  # the target must not look at the actor itself
    sample = one_sample()
    next_x = sample.next_obs.view(2, -1, 1)
    expected = sample.reward + 0.9 * believed * torch.tanh(0.5 * next_x[..., 0])
    torch.testing.assert_close(agent.target(sample, next_x), expected)


def test_the_noise_on_targets_is_clipped_and_stays_in_the_box():
    agent = learner(hidden=(), critics=1, target_noise=50.0, noise_clip=0.25)
    linear(agent.critics.net, [[0.0, 1.0]] * 2)
    agent.critics.target.copy_(agent.critics.net.flat.detach())
    sample = one_sample()
    for slope, low, high in ((0.0, -0.25, 0.25), (50.0, 0.75, 1.0)):
        linear(agent.actor.net, [[slope]] * 2)
        agent.actor_target.copy_(agent.actor.net.flat.detach())
        action = (agent.target(sample, torch.ones(2, 64, 1)) - sample.reward) / 0.9
        assert float(action.min()) == pytest.approx(low, abs=1e-4)
        assert float(action.max()) == pytest.approx(high, abs=1e-4)


def test_actor_and_targets_move_at_every_second_update():
    agent = learner(tau=1.0)
    for update in range(1, 5):
        before = agent.actor.net.flat.detach().clone()
        metrics = agent.gradient_step(one_sample())
        delayed = update % 2 == 1
        assert torch.equal(before, agent.actor.net.flat.detach()) == delayed
        assert ("loss/actor" in metrics) != delayed
        assert torch.equal(agent.critics.target, agent.critics.net.flat.detach()) != delayed


def test_the_actor_climbs_the_first_critic_alone():
    """The second critic wants the opposite: an actor that climbed the lowest or the mean would not go to 1."""
    agent = learner(hidden=(), critics=2, actor_every=1, critic_lr=0.0, actor_lr=0.1)
    linear(agent.critics.net, [[0.0, 1.0], [0.0, -3.0]] * 2)
    for _ in range(100):
        agent.gradient_step(one_sample())
    assert float(agent.actor.act(torch.full((2, 1), 0.5)).min()) > 2.5  # the box ends at 3


@pytest.mark.parametrize("config", [TD3Config, TD3Config.ddpg])
def test_it_finds_the_best_number_of_a_quadratic(config):
    trained = td3(Quadratic(), population=2, config=config)
    assert trained.evaluate(episodes=50).mean(-1).min() > -0.02
    assert float(trained.play(episodes=50).action.max()) > 1.0, "numbers beyond 1 need the scale of the box"


@pytest.mark.parametrize("ends, worth", [(False, 2.0), (True, 1.0)])
def test_values_count_what_follows_truncation_and_not_what_follows_the_end(ends, worth):
    class Boxed(PayPerStep):
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    found = []

    class Look(Callback):
        def on_update(self, metrics, trainer):
            found.append(float(metrics["value/mean"].mean()) if "value/mean" in metrics else 0.0)

    td3(Boxed(horizon=1, ends=ends), options={"discount": 0.5}, callbacks=[Look()])
    assert found[-1] == pytest.approx(worth, abs=0.2)


def test_a_member_learns_in_a_population_what_it_learns_alone():
    together = td3(Quadratic(), population=3, steps=384)
    alone = td3(Quadratic(), population=[2], steps=384)
    torch.testing.assert_close(alone.actor.net.flat[0], together.actor.net.flat[2], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(together.actor.net.flat[0], together.actor.net.flat[2])


def test_played_samples_have_the_noise_of_exploration():
    trained = td3(Quadratic(), steps=256, options={"explore_noise": 0.3})
    still, noisy = (trained.play(episodes=200, deterministic=d).action for d in (True, False))
    assert float((noisy - still).std()) == pytest.approx(0.3 * 2.0, rel=0.3)  # half the box is 2


def test_bad_options_are_named():
    with pytest.raises(BadInput, match="config.target_noise"):
        TD3Config(target_noise=-1.0)
    with pytest.raises(BadInput, match="config.actor_every"):
        TD3Config(actor_every=0)
    with pytest.raises(Unsupported, match="td3 chooses numbers"):
        td3(CopyTheBit())


@pytest.mark.slow(reason="trains 4 agents for thousands of updates: minutes")
def test_it_swings_the_pendulum_up():
    """Three agents of four: with little noise on its actions, one or the other TD3 agent stays in a local optimum."""
    options = {"num_envs": 4, "update_ratio": 0.5, "hidden": (64, 64), "batch": 128}
    trained = train("td3", "Pendulum-v1", population=4, steps=20_000, progress=False, config=TD3Config(**options))
    assert int((trained.evaluate(episodes=50, seed=1).mean(-1) >= -200).sum()) >= 3
