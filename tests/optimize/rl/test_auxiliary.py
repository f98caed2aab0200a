from __future__ import annotations

import pytest
import torch
from tiny_worlds import CopyTheBit

import plaudit
from plaudit.core.checkpoint import load_state
from plaudit.core.errors import BadInput
from plaudit.optimize import Callback, PPOConfig, read_log, train
from plaudit.optimize.rl.auxiliary import Auxiliary, features
from plaudit.optimize.rl.networks import PopulationMLP

SMALL = PPOConfig(num_envs=4, rollout=16, hidden=(8,), lr=0.02)


class PredictObs(Auxiliary):
    """Rebuilds the observation from the policy's first layer."""

    def __init__(self, name="obs", weight=1.0):
        self.name, self.weight = name, weight

    def start(self, ppo, generators):
        self.net = ppo.actor.net
        self.head = PopulationMLP((self.net.sizes[1], self.net.sizes[0]), generators=generators)
        return [self.head.flat]

    def targets(self, rollout, x):
        return x

    def loss(self, x, raw, target):
        error = (self.head(features(self.net, x, layers=1)) - target).square().mean(-1)
        return self.weight * error


def test_an_auxiliary_learns_beside_the_policy_and_is_logged(tmp_path):
    trained = train("ppo", CopyTheBit(), steps=6400, population=2, config=SMALL, auxiliaries=[PredictObs()],
                    out=tmp_path, progress=False)
    losses = [row["loss/auxiliary/obs"] for row in read_log(tmp_path)]
    assert max(losses[-1]) < 0.1 * min(losses[0])
    assert trained.evaluate(episodes=20).min() >= 9


def test_its_gradient_reaches_the_shared_layers_and_no_weight_leaves_the_run_as_it_was():
    def layers(*auxiliaries):
        trained = train("ppo", CopyTheBit(), steps=256, config=SMALL, auxiliaries=auxiliaries, progress=False)
        return trained.actor.net.flat

    plain = layers()
    assert torch.equal(plain, layers(PredictObs(weight=0.0)))
    assert not torch.allclose(plain, layers(PredictObs(weight=1.0)), atol=1e-3)


def test_steps_of_unknown_reward_are_left_out_also_where_the_target_is_the_unknown_reward():
    class PredictReward(PredictObs):
        def targets(self, rollout, x):
            return rollout.score.value.reshape(x.shape[0], -1, 1) / rollout.score.known.reshape(x.shape[0], -1, 1)

    half = plaudit.reward(lambda obs: torch.where(obs[..., 0] > 0.5, torch.nan, 1.0), vectorised=True, backend="torch")
    trained = train("ppo", CopyTheBit(), reward=half, steps=512, config=SMALL, auxiliaries=[PredictReward()],
                    progress=False)
    assert bool(torch.isfinite(trained.actor.net.flat).all())


def test_a_killed_run_goes_on_with_its_auxiliaries_and_asks_for_them(tmp_path):
    class KillAt(Callback):
        def on_update(self, metrics, trainer):
            if trainer.updates == 3:
                raise KeyboardInterrupt

    kw = {"steps": 64 * 6, "config": SMALL, "progress": False, "checkpoint_every": 2}
    train("ppo", CopyTheBit(), auxiliaries=[PredictObs()], out=tmp_path / "whole", **kw)
    with pytest.raises(KeyboardInterrupt):
        train("ppo", CopyTheBit(), auxiliaries=[PredictObs()], out=tmp_path / "parts", callbacks=[KillAt()], **kw)
    with pytest.raises(BadInput, match="auxiliaries"):
        train("ppo", CopyTheBit(), out=tmp_path / "parts", resume=True, callbacks=[Callback()], **kw)
    train("ppo", CopyTheBit(), auxiliaries=[PredictObs()], out=tmp_path / "parts", resume=True,
          callbacks=[Callback()], **kw)
    whole, parts = (load_state(tmp_path / name / "checkpoint.safetensors")["learner"] for name in ("whole", "parts"))
    assert torch.equal(whole["actor"]["net"]["weight_0"], parts["actor"]["net"]["weight_0"])
    assert torch.equal(whole["auxiliary_0"], parts["auxiliary_0"])


def test_names_differ_and_only_ppo_takes_them():
    with pytest.raises(BadInput, match="different names"):
        train("ppo", CopyTheBit(), steps=256, config=SMALL, auxiliaries=[PredictObs(), PredictObs()], progress=False)
    with pytest.raises(BadInput, match="auxiliaries: expected none for dqn"):
        train("dqn", CopyTheBit(), auxiliaries=[PredictObs()], progress=False)
