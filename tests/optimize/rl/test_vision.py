"""Policies that see: what counts as a picture, grouped convolutions against plain ones, tasks that need eyes."""

from __future__ import annotations

import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from tiny_worlds import TinyTask
from torch import Tensor
from torch.nn import functional as F

import plaudit
from plaudit.core.seeds import Seeds
from plaudit.core.tree import Tree
from plaudit.optimize import Callback, DQNConfig, PPOConfig, SACConfig, TD3Config, Trained, train
from plaudit.optimize.maximise import maximise
from plaudit.optimize.rl.spaces import ObsEncoder
from plaudit.optimize.rl.vision import Picture, PopulationConv, convolutions, picture_axes

SIDE = 8


class Lamp(TinyTask):
    """A lamp burns somewhere in the left or the right half of a picture; the choice of its side earns 1."""

    name = "Lamp"
    obs_space: gymnasium.Space = spaces.Box(0, 255, (SIDE, SIDE, 1), np.uint8)

    def picture(self, uniform: Tensor) -> Tensor:
        where = torch.frac(uniform[:, 0] * 7919)
        row, column = (torch.frac(uniform[:, 0] * 104729) * SIDE).long(), (where * SIDE).long()
        y, x = torch.arange(SIDE).view(1, -1, 1), torch.arange(SIDE).view(1, 1, -1)
        lit = ((y - row.view(-1, 1, 1)).abs() <= 1) & ((x - column.view(-1, 1, 1)).abs() <= 1)
        return (255 * lit).to(torch.uint8).unsqueeze(-1)

    def right(self, uniform: Tensor) -> Tensor:
        return (torch.frac(uniform[:, 0] * 7919) * SIDE).long() >= SIDE // 2

    def see(self, uniform: Tensor) -> Tree:
        return self.picture(uniform)

    def pay(self, uniform: Tensor, action: Tensor) -> Tensor:
        return (self.right(uniform).long() == action).float()


class LampAndSwitch(Lamp):
    """Two choices for half a point each: the side of the lamp in the picture, and the switch beside it."""

    name = "LampAndSwitch"
    obs_space = spaces.Dict({"lamp": Lamp.obs_space, "switch": spaces.Discrete(2, start=5),
                             "flags": spaces.MultiBinary(2)})
    action_space = spaces.MultiDiscrete([2, 2])

    def switch(self, uniform: Tensor) -> Tensor:
        return (torch.frac(uniform[:, 0] * 31) > 0.5).long()

    def see(self, uniform: Tensor) -> Tree:
        on = self.switch(uniform)
        return {"lamp": self.picture(uniform), "switch": on + 5, "flags": torch.zeros(len(on), 2)}

    def pay(self, uniform: Tensor, action: Tensor) -> Tensor:
        seen, read = self.right(uniform) == action[:, 0], self.switch(uniform) == action[:, 1]
        return 0.5 * seen.float() + 0.5 * read.float()


class PointAtTheLamp(Lamp):
    """One number: 1 if it has the sign of the lamp's side."""

    name = "PointAtTheLamp"
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def pay(self, uniform: Tensor, action: Tensor) -> Tensor:
        return 1 - (action[:, 0] - torch.where(self.right(uniform), 0.5, -0.5)).abs()


@pytest.mark.parametrize("shape, axes, channels", [
    ((84, 84, 3), (2, 0, 1), 3), ((4, 84, 84), (0, 1, 2), 4), ((16, 16), (0, 1), 1),
    ((4, 64, 60, 3), (0, 3, 1, 2), 12), ((4, 3, 64, 60), (0, 1, 2, 3), 12), ((7, 7, 3), None, 0), ((300,), None, 0)])
def test_what_counts_as_a_picture(shape, axes, channels):
    assert picture_axes(spaces.Box(0, 255, shape, np.uint8)) == axes
    assert picture_axes(spaces.Box(0, 255, shape, np.float32)) is None
    if axes is not None:
        assert Picture(0, shape, axes).channels == channels


def test_pictures_are_scaled_and_their_columns_are_known():
    space = spaces.Dict({"a": spaces.Box(0, 255, (8, 8, 3), np.uint8), "b": spaces.Box(-1, 1, (2,)),
                         "c": spaces.Box(0, 1, (9, 9), np.uint8)})
    encoder = ObsEncoder(space)
    assert [(p.start, p.size) for p in encoder.pictures] == [(0, 192), (194, 81)]
    x = encoder({"a": torch.full((1, 8, 8, 3), 51, dtype=torch.uint8), "b": torch.tensor([[3.0, 4.0]]),
                 "c": torch.ones(1, 9, 9, dtype=torch.uint8)})
    assert x.unique_consecutive().tolist() == pytest.approx([0.2, 3.0, 4.0, 1.0]) and encoder.size == 192 + 2 + 81


@pytest.mark.parametrize("shape", [(9, 11, 2), (3, 24, 20), (2, 50, 52, 3)])
def test_grouped_convolutions_equal_one_network_after_the_other(shape):
    axes = picture_axes(spaces.Box(0, 255, shape, np.uint8))
    assert axes is not None
    picture = Picture(2, shape, axes)
    P, N, D = 3, 4, 2 + picture.size + 1
    net = PopulationConv((D, 8, 5), pictures=[picture], generators=[Seeds(p).torch() for p in range(P)], stack=2)
    x = torch.rand(2 * P, N, D)
    out = net(x)
    for p in range(2 * P):
        part = {name: value[p] for name, value in net.named().items()}
        image = x[p, :, 2:-1].reshape(N, *shape).permute(0, *(a + 1 for a in axes)).reshape(N, -1, *picture.sides)
        for j, (_, _, stride, padding) in enumerate(convolutions(picture.sides)):
            image = torch.relu(F.conv2d(image, part[f"filter_0_{j}"], part[f"offset_0_{j}"], stride, padding))
        hidden = torch.cat([x[p][:, [0, 1, D - 1]], image.flatten(1)], -1)
        hidden = torch.tanh(hidden @ part["weight_0"] + part["bias_0"])
        torch.testing.assert_close(out[p], hidden @ part["weight_1"] + part["bias_1"], rtol=1e-4, atol=1e-5)
    out[1].sum().backward()
    moved = net.flat.grad.abs().sum(-1) > 0
    assert moved.tolist() == [False, True] + [False] * 4, "the gradient of one network reached another"
    torch.testing.assert_close(net.select([1])(x[1:2]), out[1:2].detach())


PPO = PPOConfig(num_envs=32, rollout=8, epochs=4, minibatches=2, lr=5e-3, discount=0.0, hidden=(32,))
OFF = {"num_envs": 32, "collect": 4, "rounds": 2, "warmup": 256, "batch": 64, "update_ratio": 1 / 16, "discount": 0.0,
       "hidden": (32,)}
DQN = DQNConfig(**OFF, lr=3e-3, target_every=10)
NUMBERS = {**OFF, "actor_lr": 1e-3, "critic_lr": 3e-3, "critics": 1}


@pytest.mark.parametrize("algo, config, task", [("ppo", PPO, LampAndSwitch()), ("dqn", DQN, Lamp())])
def test_it_learns_what_only_the_picture_shows(algo, config, task):
    trained = train(algo, task, steps=3072, progress=False, config=config)
    assert float(trained.evaluate(episodes=30, seed=7).mean()) > 8.5  # guessing earns 5 of 10


@pytest.mark.slow(reason="convolutions of actor and critic for some hundred updates: 10 seconds")
@pytest.mark.parametrize("algo, config", [
    ("sac", SACConfig(**NUMBERS, temperature=0.05, temperature_lr=0.0)),
    ("td3", TD3Config(**{**NUMBERS, "actor_lr": 3e-4}, explore_noise=0.3))])
def test_numbers_can_be_chosen_by_sight(algo, config):
    trained = train(algo, PointAtTheLamp(), steps=6144, progress=False, config=config)
    assert float(trained.evaluate(episodes=30, seed=7).mean()) > 7.0  # 5 is the best of the blind


def test_a_blind_policy_does_not_learn_it():
    class Blind(Lamp):
        def see(self, uniform: Tensor) -> Tree:
            return torch.zeros_like(self.picture(uniform))

    assert float(train("ppo", Blind(), steps=1280, progress=False, config=PPO).evaluate(episodes=30).mean()) < 7.0


def test_the_memory_keeps_pictures_as_bytes_and_resumes_to_the_same_bits(tmp_path):
    learners = []

    class Look(Callback):
        def on_end(self, trainer):
            learners.append(trainer.learner)

    kw = {"config": DQN, "progress": False, "population": 2, "callbacks": [Look()]}
    whole = train("dqn", Lamp(), steps=768, out=tmp_path / "whole", **kw)
    train("dqn", Lamp(), steps=512, out=tmp_path / "parts", **kw)
    parts = train("dqn", Lamp(), steps=768, out=tmp_path / "parts", resume=True, **kw)
    assert learners[0].replay.data["obs"].dtype == torch.uint8
    assert not math.isnan(float(whole.actor.net.flat.detach().sum()))
    again = Trained.load(tmp_path / "whole", task=Lamp())
    assert torch.equal(again.play(episodes=3).action, whole.play(episodes=3).action)
    assert parts.steps == whole.steps


def test_searches_that_read_numbers_go_blind_where_pictures_are_seen():
    """A linear policy of a picture's pixels would have thousands of parameters; actions by time alone still work."""
    found = maximise(plaudit.EnvReward(), Lamp(), 1500, optimisers=["random", "scripted", "cem"], episodes=3)
    assert found.behaviours and found.steps <= 1500 and not found.config["left_out"].get("cem")
