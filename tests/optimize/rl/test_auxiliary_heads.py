from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_worlds import CopyTheBit

from plaudit.core.checkpoint import load_state
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.score import Score
from plaudit.core.seeds import Seeds
from plaudit.optimize import Callback, PPOConfig, read_log, train
from plaudit.optimize.rl.auxiliary_heads import RewardPrediction, StateReconstruction, balance
from plaudit.optimize.rl.collect import Rollout
from plaudit.optimize.rl.ppo import PPO

SMALL = PPOConfig(num_envs=4, rollout=16, hidden=(8,), lr=0.02, epochs=2)


def both(**options):
    return [StateReconstruction(weight=0.5, **options), RewardPrediction(weight=0.5, **options)]


def test_both_tasks_are_learnt_beside_the_policy(tmp_path):
    train("ppo", CopyTheBit(), steps=960, population=2, config=replace(SMALL, epochs=8), auxiliaries=both(),
          out=tmp_path, progress=False)
    log = read_log(tmp_path)
    assert max(log[-1]["loss/auxiliary/state"]) < 0.5 * min(log[0]["loss/auxiliary/state"])
    assert max(log[-1]["loss/auxiliary/reward"]) < min(log[0]["loss/auxiliary/reward"])


@pytest.mark.parametrize("shared", ["actor", "critic", "both"])
def test_the_gradient_reaches_the_layers_that_are_said_to_be_shared_and_no_others(shared):
    ppo = PPO(SMALL, CopyTheBit(), seeds=[Seeds(0)], auxiliaries=both(shared=shared))
    x, rollout = a_rollout(ppo)
    for task in ppo.auxiliaries:
        for flat in (ppo.actor.net.flat, ppo.critic.flat):
            flat.grad = None
        task.loss(x, x[..., :1], task.targets(rollout, x)).sum().backward()
        for name, net in (("actor", ppo.actor.net), ("critic", ppo.critic)):
            touched = net.flat.grad is not None and bool((net.flat.grad != 0).any())
            assert touched == (shared in (name, "both"))
            if touched:
                assert not bool(net.named(net.flat.grad)["weight_1"].any())  # the last layer is not shared


def a_rollout(ppo: PPO, ended=(), value=None):
    B, T, D = ppo.P * ppo.N, 6, ppo.encoder.size
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(B, T, D, generator=generator)
    no = torch.zeros(B, T, dtype=torch.bool)
    terminated = no.clone()
    for b, t in ended:
        terminated[b, t] = True
    value = torch.randn(B, T, generator=generator).sign() if value is None else value
    e = Episodes(obs=obs, action=torch.zeros(B, T), next_obs=obs, terminated=terminated, truncated=no, mask=~no)
    return obs.reshape(ppo.P, -1, D), Rollout(episodes=e, score=Score.of(value, mask=e.mask))


def test_the_sequence_does_not_look_into_the_episode_before():
    """The LSTM's answer after an end equals that of a fresh start; with the end ignored it would not."""
    head = RewardPrediction(length=3)
    ppo = PPO(SMALL, CopyTheBit(), seeds=[Seeds(0)], auxiliaries=[head])
    x, cut = a_rollout(ppo, ended=[(0, 2)])
    _, whole = a_rollout(ppo)
    with torch.no_grad():
        after_end = head.logits(x, head.targets(cut, x))[0]
        no_end = head.logits(x, head.targets(whole, x))[0]
        alone = RewardPrediction(length=3)
        alone.nets, alone.gates, alone.classes = head.nets, head.gates, head.classes
        fresh = x[:, 3:4]
        empty = torch.zeros(1, 1, 2 + 2 * (x.shape[-1] + 1))
        torch.testing.assert_close(after_end[3], alone.logits(fresh, empty)[0, 0])
        assert not torch.allclose(after_end[3], no_end[3])
        torch.testing.assert_close(after_end[5], no_end[5])  # three steps later nothing is left of it


def test_the_lstm_is_the_one_of_torch():
    head = RewardPrediction(length=4, hidden=5)
    ppo = PPO(SMALL, CopyTheBit(), seeds=[Seeds(0)], auxiliaries=[head])
    x, rollout = a_rollout(ppo)
    part = head.gates.named(head.gates.flat.detach())
    width = part["weight_0"].shape[1] - 5
    lstm = torch.nn.LSTM(width, 5, batch_first=True)
    with torch.no_grad():
        w = part["weight_0"][0].T
        lstm.weight_ih_l0.copy_(w[:, :width]), lstm.weight_hh_l0.copy_(w[:, width:])
        lstm.bias_ih_l0.copy_(part["bias_0"][0, 0]), lstm.bias_hh_l0.zero_()
        seen = head._features(x)[0, 2:6].unsqueeze(0)  # steps 2 ... 5 of the first row
        expected = head.classes(lstm(seen)[0][:, -1:])[0, 0]
        torch.testing.assert_close(head.logits(x, head.targets(rollout, x))[0, 5], expected)


def test_classes_count_the_same_in_total_for_each_member_and_unknown_steps_not_at_all():
    label = torch.tensor([[0, 1, 1, 1, 2, 2], [1, 1, 1, 1, 1, 2]])
    weight = balance(label)
    for p, present in ((0, (0, 1, 2)), (1, (1, 2))):
        totals = [float(weight[p][label[p] == k].sum()) for k in present]
        assert totals == pytest.approx([6 / len(present)] * len(present))
    known = torch.ones_like(label, dtype=torch.bool)
    known[:, 0] = False
    assert balance(label, known)[0, 0] == 0


def test_the_classes_are_the_signs_outside_the_dead_zone():
    head = RewardPrediction(length=1, dead_zone=0.1)
    ppo = PPO(SMALL, CopyTheBit(), seeds=[Seeds(0)], auxiliaries=[head])
    value = torch.tensor([[-1.0, -0.05, 0.0, 0.05, 1.0, float("nan")]]).expand(4, 6).clone()
    x, rollout = a_rollout(ppo, value=value)
    target = head.targets(rollout, x)
    assert target[0, :5, 0].tolist() == [0, 1, 1, 1, 2] and target[0, 5, 1] == 0


def test_a_killed_run_goes_on_to_the_same_numbers(tmp_path):
    class KillAt(Callback):
        def on_update(self, metrics, trainer):
            if trainer.updates == 3:
                raise KeyboardInterrupt

    kw = {"steps": 64 * 4, "config": SMALL, "progress": False, "checkpoint_every": 2, "population": 2}
    train("ppo", CopyTheBit(), auxiliaries=both(), out=tmp_path / "whole", **kw)
    with pytest.raises(KeyboardInterrupt):
        train("ppo", CopyTheBit(), auxiliaries=both(), out=tmp_path / "parts", callbacks=[KillAt()], **kw)
    train("ppo", CopyTheBit(), auxiliaries=both(), out=tmp_path / "parts", resume=True, callbacks=[Callback()], **kw)
    whole, parts = (load_state(tmp_path / name / "checkpoint.safetensors")["learner"] for name in ("whole", "parts"))
    assert torch.equal(whole["actor"]["net"]["weight_0"], parts["actor"]["net"]["weight_0"])


def test_a_member_learns_the_same_alone_and_beside_others():
    def weights(population):
        kw = {"steps": 64 * 3, "config": SMALL, "progress": False}
        return train("ppo", CopyTheBit(), auxiliaries=both(), population=population, **kw).actor.net.flat[-1]

    torch.testing.assert_close(weights([0, 1]), weights([1]), atol=1e-5, rtol=1e-4)


def test_bad_options_are_refused():
    for wrong in ({"weight": -1.0}, {"shared": "none"}, {"layers": 0}):
        with pytest.raises(BadInput):
            StateReconstruction(**wrong)
    for wrong in ({"length": 0}, {"dead_zone": -1.0}):
        with pytest.raises(BadInput):
            RewardPrediction(**wrong)
    with pytest.raises(BadInput, match="layers"):
        PPO(SMALL, CopyTheBit(), seeds=[Seeds(0)], auxiliaries=[StateReconstruction(layers=2)])
