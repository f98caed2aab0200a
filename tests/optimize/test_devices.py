"""`device=` on everything that learns: checked before any work, and handed on to the learner."""

from __future__ import annotations

import pytest
import torch

import plaudit
from plaudit.core.errors import BadInput
from plaudit.optimize import PPOConfig, Trained, train
from plaudit.optimize.hunting import learnt
from plaudit.optimize.maximise import maximise
from plaudit.tasks.classic import CartPole

SMALL = PPOConfig(num_envs=4, rollout=8, hidden=(8,))


def calls(folder):
    return {"train": lambda device: train("ppo", CartPole(), steps=64, config=SMALL, progress=False, device=device),
            "load": lambda device: Trained.load(folder, device=device),
            "audit": lambda device: plaudit.audit("CartPole-v1", steps=2000, device=device),
            "maximise": lambda device: maximise(plaudit.EnvReward(), CartPole(horizon=20), 2000, device=device)}


@pytest.mark.parametrize("name", ["train", "load", "maximise", "audit"])
@pytest.mark.parametrize("device, says", [("gpu", "a device of torch"), ("meta", "on this machine"),
                                          ("cuda:77", "on this machine")])
def test_a_device_that_is_not_there_is_said_at_once(tmp_path, name, device, says):
    with pytest.raises(BadInput, match=f"device: expected .*{says}"):
        calls(tmp_path)[name](device)


def test_a_search_hands_its_device_to_the_learner(monkeypatch):
    seen = []

    def recording(*args, device, **kwargs):
        seen.append(device)
        return train(*args, device=device, **kwargs)

    monkeypatch.setattr(learnt, "train", recording)
    monkeypatch.setattr(learnt, "_WORTH_IT", 2)
    maximise(plaudit.EnvReward(), CartPole(horizon=20), 60_000, optimisers=["random", "ppo"], episodes=3, device="cpu")
    assert seen == ["cpu"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_a_run_on_a_gpu_can_be_saved_loaded_and_played_on_the_cpu(tmp_path, algo):
    config = SMALL if algo == "ppo" else None
    trained = train(algo, CartPole(), steps=4096, config=config, progress=False, device="cuda", population=2,
                    out=tmp_path / "run")
    there, here = trained.play(episodes=2), Trained.load(tmp_path / "run").play(episodes=2)
    assert there.action.device.type == "cuda" and here.action.device.type == "cpu"
    assert here.lengths.float().mean() == pytest.approx(float(there.lengths.float().mean()), rel=0.3)
