"""The fused engine against the one that differentiates: the same update, the same rollout, the same run.

The first test here compiles the loops (some 10 s, once; they are kept in `__pycache__`).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math

import numpy as np
import pytest
import torch
from tiny_worlds import CopyTheBit, CopyTwoBits, PayPerStep, Quadratic, Repeats

import plaudit
from plaudit.core.checkpoint import load_state
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.functions import EnvReward
from plaudit.core.seeds import Seeds
from plaudit.optimize import Callback, PPOConfig, Trained, train
from plaudit.optimize.rl import fused
from plaudit.optimize.rl.collect import Collector
from plaudit.optimize.rl.ppo import PPO
from plaudit.optimize.rl.scoring import Scorer
from plaudit.tasks.classic import Acrobot, CartPole, MountainCar, MountainCarContinuous, Pendulum

pytest.importorskip("numba")
SMALL = {"num_envs": 4, "rollout": 16, "hidden": (16, 8), "minibatches": 2, "epochs": 3, "lr": 0.01}


def half_known(obs, action):
    return torch.where(obs[..., 0] > 0.5, torch.nan, 1.0 * (action == 1))


HALF = plaudit.reward(half_known, vectorised=True, backend="torch")


def pair(task, engine, *, reward=None, population=2, **options):
    """A learner and its environments."""
    config = PPOConfig(**{**SMALL, **options}, engine=engine)
    seeds = [Seeds(5).child("member", p) for p in range(population)]
    learner = PPO(config, task, seeds=seeds)
    scorer = Scorer(reward or EnvReward(), population=population, rows=population * learner.N)
    learner.prepare(scorer, planned_steps=1000)
    return learner, Collector(task, seeds=seeds, rows=learner.N, scorer=scorer)


CASES = {
    "one choice": (CopyTheBit, {}),
    "two choices, rectified, bonus": (CopyTwoBits, {"activation": "relu", "entropy_coef": 0.05}),
    "numbers, everything clipped": (Quadratic, {"clip_value": 0.1, "clip": 0.05, "max_grad_norm": 0.1}),
    "uneven parts, each member its own": (Quadratic, {"minibatches": 3, "lr": (0.01, 0.003), "clip": (0.1, 0.3),
                                                      "entropy_coef": (0.0, 0.1)}),
    "stops where it moved too far": (CopyTheBit, {"target_kl": 1e-3, "lr": 0.05}),
    "as they are": (Quadratic, {"normalise_advantage": False, "hidden": (8,)}),
    "unknown rewards": (CopyTheBit, {"reward": HALF, "clip_value": 0.2}),
}


@pytest.mark.parametrize("task, options", CASES.values(), ids=CASES)
def test_an_update_is_that_of_autograd(task, options):
    (torch_side, collector), (fused_side, _) = (pair(task(), engine, **options) for engine in ("torch", "fused"))
    for _ in range(2):
        rollout = torch_side._collect(collector)
        data, same = torch_side._prepare(rollout), fused_side._prepare(rollout)
        for field in dataclasses.fields(data):
            mine, theirs = getattr(data, field.name), getattr(same, field.name)
            if isinstance(mine, torch.Tensor):
                torch.testing.assert_close(theirs.to(mine.dtype), mine, rtol=1e-5, atol=1e-5)
        fused_side.noise.load_state_dict(torch_side.noise.state_dict())
        wanted, found = torch_side._update(data, torch_side.lr), fused_side._update(data, fused_side.lr)
        assert wanted.keys() == found.keys()
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-6, msg=name)
        for a, b in zip(torch_side.adam.params, fused_side.adam.params, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-5, atol=2e-6)
    assert torch.equal(torch_side.adam.count, fused_side.adam.count)


def test_members_do_stop_where_they_moved_too_far():
    learner, collector = pair(CopyTheBit(), "fused", target_kl=1e-3, lr=0.05)
    learner.iterate(collector, progress=0.0)
    assert 0 < learner.adam.count.min() < 6


@pytest.mark.parametrize("broken", [{"clip": 0.21}, {"entropy_coef": 0.01}, {"value_coef": 0.55}, {"lr": 0.0501}])
def test_an_update_that_differs_a_little_would_be_noticed(broken):
    learner, collector = pair(CopyTwoBits(), "torch", lr=0.05)
    other, _ = pair(CopyTwoBits(), "fused", **{"lr": 0.05, **broken})
    data = learner._prepare(learner._collect(collector))
    other.noise.load_state_dict(learner.noise.state_dict())
    learner._update(data, learner.lr)
    other._update(data, other.lr)
    assert not all(torch.allclose(b, a, rtol=1e-5, atol=2e-6)
                   for a, b in zip(learner.adam.params, other.adam.params, strict=True))


def test_steps_of_unknown_reward_move_nothing():
    learner, collector = pair(CopyTheBit(), "fused", reward=HALF)
    data = learner._prepare(learner._collect(collector))
    assert data.weight is not None and 0 < float(data.weight.mean()) < 1
    wild = dataclasses.replace(data, target=torch.where(data.weight > 0, data.target, 1e6))
    state = learner.state_dict()["noise"]["generators"].clone()
    learner._update(data, learner.lr)
    again, _ = pair(CopyTheBit(), "fused", reward=HALF)
    again.noise.load_state_dict({"generators": state})
    again._update(wild, again.lr)
    assert torch.equal(learner.critic.flat, again.critic.flat)


def test_what_diverges_shows_it():
    learner, collector = pair(Quadratic(), "fused")
    data = learner._prepare(learner._collect(collector))
    metrics = learner._update(dataclasses.replace(data, advantage=data.advantage * torch.nan), learner.lr)
    assert bool(metrics["loss/policy"].isnan().all())


def test_the_quick_tanh_is_a_tanh():
    from plaudit.optimize.rl.fused_kernels import _tanh

    x = np.linspace(-12, 12, 4001, dtype=np.float32)
    y = np.array([_tanh.py_func(v) for v in x])
    assert y.dtype == np.float32 and np.abs(y - np.tanh(x.astype(float))).max() < 3e-7
    assert math.isnan(_tanh.py_func(np.float32(math.nan)))


@pytest.mark.slow  # compiles the loops once more, for double precision
@pytest.mark.parametrize("task, options", [(CopyTwoBits, {"entropy_coef": 0.1}), (Quadratic, {"entropy_coef": 0.1}),
                                           (Quadratic, {"clip_value": 0.05, "activation": "relu"})])
def test_gradients_are_those_of_autograd_to_many_digits(task, options, monkeypatch):
    """Double precision and the library's tanh; after one step the first moment of Adam is 0.1 times the gradient."""
    options = {**options, "epochs": 1, "minibatches": 1, "max_grad_norm": 1e9}
    learner, collector = pair(task(), "fused", **options)
    data = learner._prepare(learner._collect(collector))
    double = dataclasses.replace(data, **{f.name: getattr(data, f.name).double() for f in dataclasses.fields(data)
                                          if isinstance(getattr(data, f.name), torch.Tensor)})
    double = dataclasses.replace(double, log_prob=double.log_prob + 0.1 * torch.randn_like(double.log_prob))
    learner.actor.net.flat, learner.critic.flat = (
        w.detach().double().requires_grad_() for w in (learner.actor.net.flat, learner.critic.flat))
    for moments in (learner.adam.mean, learner.adam.square):
        moments[:] = [m.double() for m in moments]
    learner._loss(double)[0].sum().backward()
    wanted = [w.grad for w in (learner.actor.net.flat, learner.critic.flat)]
    monkeypatch.setitem(fused._ACTIVATIONS, "tanh", 2)
    fused.update(learner, double, learner.lr)
    for moment, gradient in zip(learner.adam.mean, wanted, strict=True):
        found = moment / (1 - learner.adam.betas[0])
        assert float((found - gradient).norm() / gradient.norm()) < 1e-6


# --- rollouts ---------------------------------------------------------------------------------------------------

CLASSIC = [CartPole(horizon=30), CartPole(sutton_barto_reward=True), MountainCar(horizon=40), Pendulum(horizon=40),
           MountainCarContinuous(horizon=40), Acrobot(horizon=40)]


@pytest.mark.parametrize("task", CLASSIC, ids=lambda t: t.name)
@pytest.mark.parametrize("options", [{}, {"normalise_obs": True}], ids=["plain", "normalised"])
def test_a_rollout_in_loops_is_that_of_the_task(task, options):
    sides = [pair(task, engine, rollout=64, log_std=1.0, **options) for engine in ("torch", "fused")]
    for _ in range(2):
        ours, theirs = (learner._collect(collector) for learner, collector in sides)
        assert theirs.episodes.info.keys() == ours.episodes.info.keys()
        assert bool((ours.episodes.terminated | ours.episodes.truncated).any())
        for (name, a), (other, b) in zip(ours.episodes.tensors(), theirs.episodes.tensors(), strict=True):
            assert name == other and a.dtype == b.dtype, name
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5, msg=name)
        torch.testing.assert_close(theirs.extras["raw"].to(torch.float32), ours.extras["raw"].to(torch.float32),
                                   rtol=1e-5, atol=1e-5)
    for (_, collector), (_, other) in [sides]:
        a, b = collector.batch.state_dict(), other.batch.state_dict()
        assert all(torch.equal(a[k], b[k]) for k in ("seed", "episode", "elapsed", "root"))
        action = torch.as_tensor(np.stack([task.action_space.sample() for _ in range(collector.B)]))
        for _ in range(45):  # past the episodes that the batch had looked ahead to
            a, b = collector.batch.step(action), other.batch.step(action)
            torch.testing.assert_close(b.obs, a.obs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("task", [CopyTwoBits(), Quadratic()], ids=lambda t: t.name)
def test_actions_in_a_task_that_no_loop_knows_are_those_of_the_plain_way(task):
    ours, theirs = (learner._collect(collector) for learner, collector in (pair(task, e) for e in ("torch", "fused")))
    torch.testing.assert_close(theirs.episodes.action, ours.episodes.action, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(theirs.extras["out"], ours.extras["out"], rtol=1e-5, atol=1e-6)


def test_a_reward_that_reads_the_past_and_other_tasks_take_the_plain_way():
    for task, reward in ((CartPole(), Repeats()), (CopyTheBit(), None), (type("Mine", (CartPole,), {})(), None)):
        learner, collector = pair(task, "fused", reward=reward)
        assert fused.rollout(learner, collector) is None
        learner.iterate(collector, progress=0.0)


@pytest.mark.parametrize("task", [PayPerStep(ends=True), PayPerStep(), CartPole(horizon=9), Pendulum(horizon=7)])
def test_values_at_ends_and_cuts_are_those_of_the_plain_way(task):
    learner, collector = pair(task, "torch", discount=(0.9, 0.99), gae_lambda=(0.5, 0.95), scale_reward=True)
    other, _ = pair(task, "fused", discount=(0.9, 0.99), gae_lambda=(0.5, 0.95), scale_reward=True)
    rollout = learner._collect(collector)
    a, b = learner._prepare(rollout), other._prepare(rollout)
    torch.testing.assert_close(b.advantage, a.advantage, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(b.target, a.target, rtol=1e-5, atol=1e-5)


# --- runs -------------------------------------------------------------------------------------------------------


def learn(task, **kw):
    config = PPOConfig(**{**SMALL, "num_envs": 8, "rollout": 32, "lr": 0.02, **kw.pop("options", {})}, engine="fused")
    return train("ppo", task, progress=False, config=config, **kw)


def test_it_learns():
    assert learn(CopyTheBit(), steps=4096).evaluate(episodes=20).min() >= 9
    balanced = learn(CartPole(), population=2, steps=40_960, options={"hidden": (32,), "lr": 0.005})
    assert balanced.evaluate(episodes=10).mean(-1).min() > 100  # 22 by chance


@pytest.mark.parametrize("task", [CartPole(), CopyTwoBits()], ids=lambda t: t.name)
def test_same_seed_same_bits_and_a_member_alone_is_the_same_to_the_last_bit(task):
    options = {"lr": (0.01, 0.003, 0.02)}
    together = learn(task, population=3, steps=768, options=options).actor.net.flat
    again = learn(task, population=3, steps=768, options=options).actor.net.flat
    assert torch.equal(together, again) and not torch.equal(together[0], together[1])
    for p, lr in enumerate(options["lr"]):
        alone = learn(task, population=[p], steps=768, options={"lr": lr}).actor.net.flat
        assert torch.equal(together[p], alone[0])


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


class KillAt(Callback):
    def on_update(self, metrics, trainer):
        if trainer.updates == 5:
            raise KeyboardInterrupt


@pytest.mark.parametrize("task", [CartPole(), Pendulum(), CopyTheBit()], ids=lambda t: t.name)
def test_a_killed_and_resumed_run_equals_one_that_was_not_bit_for_bit(task, tmp_path):
    kw = {"steps": 256 * 8, "population": 2, "checkpoint_every": 3}
    whole = learn(task, out=tmp_path / "whole", callbacks=[Callback()], **kw)
    with pytest.raises(KeyboardInterrupt):
        learn(task, out=tmp_path / "parts", callbacks=[KillAt()], **kw)
    parts = learn(task, out=tmp_path / "parts", resume=True, callbacks=[Callback()], **kw)
    assert torch.equal(whole.actor.net.flat, parts.actor.net.flat)
    assert (tmp_path / "whole/log.jsonl").read_text() == (tmp_path / "parts/log.jsonl").read_text()
    states = [load_state(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "parts")]
    assert same(*states) and states[0]["learner"]["engine"] == "fused"
    assert Trained.load(tmp_path / "parts", task=task).config.engine == "fused"


def test_auto_takes_it_for_long_runs_within_its_scope_only():
    def chosen(steps, **options):
        learner = PPO(PPOConfig(**{**SMALL, **options}), CartPole(), seeds=[Seeds(0)])
        learner.prepare(Scorer(EnvReward(), population=1, rows=4), planned_steps=steps)
        return learner.fused

    assert chosen(1_000_000) and not chosen(10_000)
    assert not chosen(1_000_000, engine="torch") and chosen(10_000, engine="fused")
    assert not chosen(1_000_000, layer_norm=True) and not chosen(1_000_000, activation="silu")


def test_a_resumed_run_keeps_the_engine_it_began_with(tmp_path):
    seen = []

    class Look(Callback):
        def on_update(self, metrics, trainer):
            seen.append(trainer.learner.fused)
            return True

    kw = {"progress": False, "config": PPOConfig(**SMALL), "out": tmp_path, "callbacks": [Look()]}
    train("ppo", CartPole(), steps=128, **kw)
    train("ppo", CartPole(), steps=1_000_000, resume=True, **kw)
    with pytest.raises(BadInput, match="config.engine: expected auto, or what the interrupted run had: torch"):
        train("ppo", CartPole(), steps=256, resume=True, **{**kw, "config": PPOConfig(**SMALL, engine="fused")})
    assert seen == [False, False]


def test_what_is_out_of_scope_is_said(monkeypatch):
    with pytest.raises(Unsupported, match="layer_norm; .*engine='torch'|activation silu; layer_norm"):
        learn(CopyTheBit(), steps=512, options={"layer_norm": True, "activation": "silu"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unsupported, match=r"pip install 'plaudit\[fast\]'"):
        learn(CopyTheBit(), steps=512)
