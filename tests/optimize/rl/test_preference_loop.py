from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.functions import EnvReward
from plaudit.core.seeds import Seeds
from plaudit.core.stacked_adam import MemberNoise
from plaudit.feedback.oracles import Oracle
from plaudit.feedback.preferences import Preferences
from plaudit.learn.bradley_terry import BradleyTerry, BradleyTerryConfig
from plaudit.learn.features import StepFeatures
from plaudit.learn.model import LearnedReward
from plaudit.optimize.rl.callbacks import Callback
from plaudit.optimize.rl.ppo import PPOConfig
from plaudit.optimize.rl.preference_loop import LoopConfig, PreferenceLoop, StepMemory
from plaudit.optimize.rl.relabel import RewardRelabel
from plaudit.optimize.rl.sac import SACConfig
from plaudit.optimize.rl.train import train

READ = StepFeatures(("obs", "action"), (3, 1))
ON_POLICY = PPOConfig(num_envs=2, rollout=16, hidden=(8,), epochs=1)
OFF_POLICY = SACConfig(hidden=(8,), batch=8, warmup=20, rounds=20, update_ratio=0.2)
OFTEN = LoopConfig(start=32, every=32, fragment=3, fragments=4, batches=2, updates=2, memory=60)


def loop(groups: Any = (), annotator: Any = None, **options: Any) -> PreferenceLoop:
    model = LearnedReward(READ, hidden=(8,), groups=groups, learning=True)
    return PreferenceLoop(model, annotator or Oracle(EnvReward(), rationality=1.0), config=LoopConfig(
        **{**OFTEN.__dict__, **options}), fit=BradleyTerryConfig(batch=12, lr=1e-2))


def run(hook: PreferenceLoop, *, population: Any = 1, callbacks: tuple[Callback, ...] = (), **options: Any) -> Any:
    return train("ppo", "Pendulum-v1", reward=hook.reward, callbacks=[hook, *callbacks], population=population,
                 steps=96, config=ON_POLICY, progress=False, **options)


def test_the_ring_gives_back_the_last_steps_in_order() -> None:
    memory, step = StepMemory(5), torch.arange(12.0).view(1, 12, 1)
    no = torch.zeros(1, 12, dtype=torch.bool)
    whole = Episodes(obs=step, action=step, next_obs=step, terminated=no, truncated=no, mask=~no)
    for at in range(0, 12, 3):
        memory.add(whole.steps(at, at + 3))
    assert len(memory) == 5
    assert memory.cut(torch.tensor([0]), torch.tensor([0]), 5).obs.flatten().tolist() == [7, 8, 9, 10, 11]


def test_fragments_hold_no_end_of_an_episode_inside() -> None:
    memory, step = StepMemory(50), torch.arange(50.0).view(1, 50, 1)
    ends = (torch.arange(50) % 10 == 9).view(1, 50)
    memory.add(Episodes(obs=step, action=step, next_obs=step, terminated=ends, truncated=torch.zeros_like(ends),
                        mask=torch.ones_like(ends)))
    row, age = memory.draw(MemberNoise([Seeds(0)]), 200, 4)
    cut = memory.cut(row[0], age[0], 4)
    assert not bool(cut.terminated[:, :-1].any()) and bool(cut.terminated[:, -1].any())


def test_the_reward_is_fitted_while_the_agent_learns_and_old_data_are_scored_anew() -> None:
    seen: list[bool] = []

    class Watch(Callback):
        def on_update(self, metrics: dict[str, torch.Tensor], trainer: Any) -> None:
            learner = trainer.learner
            assert isinstance(learner.relabel, RewardRelabel)
            stored = learner.replay.episodes(torch.arange(20).view(1, 20))
            sample = learner.replay._targets(torch.arange(20).view(1, 20, 1), learner.discount, learner.relabel)
            seen.append(torch.allclose(sample.reward, hook.reward(stored)[:, 0], atol=1e-6))
            assert torch.isfinite(metrics["preferences/loss"]).all()

    hook = loop(start=20, every=20)
    before = hook.reward.net.flat.detach().clone()
    train("sac", "Pendulum-v1", reward=hook.reward, callbacks=[hook, Watch()], steps=60, config=OFF_POLICY,
          progress=False)
    assert hook.rounds == 3 and hook.asked == 36 and not torch.equal(before, hook.reward.net.flat)
    assert seen == [True] * 3


def test_a_member_learns_the_same_alone() -> None:
    together, alone = (loop(groups=g, annotator=Oracle(EnvReward())) for g in ((0, 1), (1,)))
    run(together, population=[0, 1])
    run(alone, population=[1])
    assert torch.allclose(together.reward.net.flat[1], alone.reward.net.flat[0], atol=1e-6)


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_update(self, metrics: dict[str, torch.Tensor], trainer: Any) -> bool:
            return trainer.updates == 2

    whole, first, second = loop(remember=2), loop(remember=2), loop(remember=2)
    agent = run(whole)
    run(first, callbacks=(Stop(),), out=tmp_path, checkpoint_every=1)
    resumed = run(second, callbacks=(Callback(),), out=tmp_path, resume=True)
    assert torch.equal(whole.reward.net.flat, second.reward.net.flat) and second.rounds == 3
    assert torch.equal(agent.actor.net.flat, resumed.actor.net.flat)


def test_a_budget_of_answers_is_kept() -> None:
    hook = loop(budget=30)
    run(hook)
    assert hook.rounds == 2 and hook.asked == 24


def test_an_annotator_that_cannot_decide_leaves_the_reward_as_it_is() -> None:
    class Undecided:
        name = "undecided"

        def __call__(self, pairs: Preferences) -> Preferences:
            return pairs

    hook = loop(annotator=Undecided())
    before = hook.reward.net.flat.detach().clone()
    run(hook)
    assert hook.rounds == 3 and torch.equal(before, hook.reward.net.flat)


def test_an_annotator_that_only_says_equal_leaves_a_reward_without_ties_as_it_is() -> None:
    hook = loop(annotator=Oracle(EnvReward(), tie_within=1e6))
    hook.trainer = BradleyTerry(hook.reward, BradleyTerryConfig(batch=12, lr=1e-2, ties="drop"))
    before = hook.reward.net.flat.detach().clone()
    run(hook)
    assert hook.rounds == 3 and torch.equal(before, hook.reward.net.flat)
    assert bool((hook.reward.scale == 1).all()), "nothing was compared, so nothing is standardised"


def test_a_reward_of_another_population_or_one_that_stands_still_is_refused() -> None:
    with pytest.raises(BadInput, match="groups"):
        run(loop(groups=(0, 1)), population=3)
    with pytest.raises(BadInput, match="groups"):
        run(loop(), population=2)
    with pytest.raises(BadInput, match="learning=True"):
        PreferenceLoop(LearnedReward(READ), Oracle(EnvReward()))


@pytest.mark.parametrize("wrong", [{"every": 0}, {"fragments": 1}, {"memory": 3}])
def test_impossible_options_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(BadInput):
        loop(**wrong)
