"""Where a run was interrupted: what must not reach from old episodes into new ones, and a plan that became shorter."""

from __future__ import annotations

import pytest
import torch
from tiny_worlds import CopyTheBit, PayPerStep

from plaudit.core.functions import EnvReward
from plaudit.core.seeds import Seeds
from plaudit.core.stacked_adam import MemberNoise
from plaudit.feedback.oracles import Oracle
from plaudit.learn.features import StepFeatures
from plaudit.learn.model import LearnedReward
from plaudit.optimize import Callback, DQNConfig, PPOConfig, train
from plaudit.optimize.rl.preference_loop import LoopConfig, PreferenceLoop

DQN = DQNConfig(num_envs=2, collect=4, rounds=1, warmup=8, batch=8, hidden=(8,), n_step=3)
PPO = PPOConfig(num_envs=2, rollout=4, hidden=(8,), minibatches=1, scale_reward=True)
CONFIGS = {"dqn": DQN, "ppo": PPO}


class Endless(PayPerStep):
    """One episode for ever, each step of which shows the number of its episode."""

    name = "Endless"

    def __init__(self, *, saveable=False):
        super().__init__(horizon=10**6)
        self.saveable = saveable

    def see(self, uniform):
        return uniform[:1].expand_as(uniform)


class Stop(Callback):
    def __init__(self, at):
        self.at = at

    def on_start(self, trainer):
        self.trainer = trainer

    def on_update(self, metrics, trainer):
        return trainer.updates >= self.at


def two_lives(algo, folder, *, task=None, hooks=()):
    """A run that is stopped after two updates and goes on for two."""
    for at, resume in ((2, False), (4, True)):
        stop = Stop(at)
        train(algo, task or Endless(), steps=64, config=CONFIGS[algo], out=folder, resume=resume, progress=False,
              callbacks=[stop, *hooks])
    return stop.trainer


def test_sums_of_several_steps_stay_on_their_side_of_the_seam(tmp_path):
    learner = two_lives("dqn", tmp_path / "run").learner
    replay = learner.replay
    ends = replay.data["truncated"][0].view(-1, 2)[:16]
    assert ends.nonzero()[:, 0].tolist() == [7, 7] and not bool(replay.data["terminated"].any())
    sample = replay.sample(learner.noise, 300, discount=torch.tensor([1.0]), steps=3)
    assert set(sample.reward[0].tolist()) == {1.0, 2.0, 3.0}  # short at the seam and at the newest step


def test_a_task_that_can_be_saved_has_no_seam(tmp_path):
    """The broken variant: were ends marked at every resumption, this would find one."""
    learner = two_lives("dqn", tmp_path / "run", task=Endless(saveable=True)).learner
    assert not bool(learner.replay.data["truncated"].any())


def test_the_end_of_the_world_is_not_called_a_truncation(tmp_path):
    learner = two_lives("dqn", tmp_path / "run", task=_EndsAtOnce()).learner
    assert bool(learner.replay.data["terminated"][:, :32].all()) and not bool(learner.replay.data["truncated"].any())


class _EndsAtOnce(PayPerStep):
    saveable = False

    def __init__(self):
        super().__init__(horizon=1, ends=True)


def test_fragments_stay_on_their_side_of_the_seam(tmp_path):
    model = LearnedReward(StepFeatures(("obs",), (1,)), hidden=(4,), learning=True)
    loop = PreferenceLoop(model, Oracle(EnvReward()), config=LoopConfig(start=10**6, fragment=4))
    two_lives("ppo", tmp_path / "run", hooks=[loop])
    memory = loop.memory
    assert memory.data["truncated"][:, :len(memory)].nonzero()[:, 1].tolist() == [7, 7]
    row, age = memory.draw(MemberNoise([Seeds(0)]), 200, 4)
    assert not set(age.flatten().tolist()) & {5, 6, 7}  # these would hold the seam inside


def test_the_running_sum_of_rewards_begins_anew_at_the_seam(tmp_path):
    """Each row pays 1 a step, so its discounted sum says how many steps it holds."""
    for saveable, steps in ((False, 8), (True, 16)):
        learner = two_lives("ppo", tmp_path / str(saveable), task=Endless(saveable=saveable)).learner
        expected = (1 - 0.99**steps) / (1 - 0.99)
        assert learner.discounted.flatten().tolist() == pytest.approx([expected, expected])


def test_fewer_steps_than_were_made_keep_all_that_is_remembered(tmp_path):
    kw = {"config": DQN, "out": tmp_path / "run", "progress": False}
    made = train("dqn", CopyTheBit(), steps=64, callbacks=[Stop(99)], **kw)
    fewer = train("dqn", CopyTheBit(), steps=32, resume=True, callbacks=[Stop(99)], **kw)
    assert fewer.steps == 64 and torch.equal(fewer.actor.net.flat, made.actor.net.flat)
    more = Stop(99)
    assert train("dqn", CopyTheBit(), steps=96, resume=True, callbacks=[more], **kw).steps == 96
    assert len(more.trainer.learner.replay) == 96
