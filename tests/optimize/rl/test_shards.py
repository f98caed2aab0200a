from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path

import pytest
import torch

from plaudit.core.algebra import Constant, PerMember
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.functions import EnvReward, reward
from plaudit.core.schedules import Linear, TargetController
from plaudit.optimize.parcels import pack_reward, unpack_reward, unpack_task
from plaudit.optimize.rl import shards
from plaudit.optimize.rl.logging import read_log
from plaudit.optimize.rl.ppo import PPOConfig
from plaudit.optimize.rl.sac import SACConfig
from plaudit.optimize.rl.td3 import TD3Config
from plaudit.optimize.rl.train import train
from plaudit.optimize.rl.trained import Trained
from plaudit.tasks.classic import CartPole, Pendulum
from plaudit.tasks.making import make

CONFIG = PPOConfig(num_envs=2, rollout=16, epochs=1, minibatches=2, hidden=(8, 8), normalise_obs=True,
                   lr=(1e-3, 2e-3, 3e-3))


@reward
def upright(next_obs):
    return 1.0 - next_obs[..., 2].abs()


@reward
def deadly(next_obs):
    """Kills the worker that first asks, while PLAUDIT_TEST_DEADLY names a file that is not there yet."""
    flag = os.environ.get("PLAUDIT_TEST_DEADLY")
    if flag and not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 1.0 - next_obs[..., 2].abs()


def options(**changes):
    found = {"reward": upright, "others": [EnvReward().with_role("watch")], "members": [0, 1, 2], "steps": 64,
             "seed": 5, "device": "cpu", "config": CONFIG, "on_unknown": "mask", "out": None, "log_dir": None,
             "resume": False, "checkpoint_every": None, "ray": None, "shards": 2}
    return {**found, **changes}


def whole(**changes):
    found = {"reward": upright, "others": [EnvReward().with_role("watch")], "population": 3, "steps": 64, "seed": 5,
             "config": CONFIG, "progress": False}
    return train("ppo", CartPole(), **{**found, **changes})


def same(a: Trained, b: Trained):
    state_a, state_b = a.actor.state_dict(), b.actor.state_dict()
    assert all(torch.equal(state_a["net"][k], state_b["net"][k]) for k in state_a["net"])
    assert (state_a["moments"] is None) == (state_b["moments"] is None)
    assert all(torch.equal(torch.as_tensor(state_a["moments"][k]), torch.as_tensor(state_b["moments"][k]))
               for k in state_a["moments"] or ())
    assert (a.members, a.steps, a.seed) == (b.members, b.steps, b.seed)


@pytest.mark.parametrize("n", [2, 7])
def test_shards_give_the_same_bits_as_one_process(n):
    same(shards.train_in_shards("ppo", CartPole(), **options(shards=n)), whole())


@pytest.mark.parametrize("algo, config", [
    ("sac", SACConfig(num_envs=2, hidden=(64, 64), warmup=100, rounds=50, batch=64)),
    ("td3", TD3Config(num_envs=3, hidden=(64, 33), warmup=100, rounds=50, batch=50))])
def test_off_policy_members_learn_the_same_bits_in_shards_of_one(algo, config):
    """A last bit that differs grows: 0.01 in a weight after 2,000 steps."""
    parts = shards.train_in_shards(algo, Pendulum(), **options(members=[0, 1], shards=2, steps=300, config=config,
                                                               reward=EnvReward(), others=[]))
    same(parts, train(algo, Pendulum(), population=2, steps=300, seed=5, config=config, progress=False))


def test_ids_are_those_of_the_members_not_their_places():
    part = shards.train_in_shards("ppo", CartPole(), **options(members=[2, 0], shards=2, config=PPOConfig(
        num_envs=2, rollout=16, epochs=1, minibatches=2, hidden=(8, 8), normalise_obs=True, lr=(3e-3, 1e-3))))
    all_three = whole().actor.state_dict()["net"]
    for name, tensor in part.actor.state_dict()["net"].items():
        assert torch.equal(tensor, all_three[name][[2, 0]])


def test_folder_holds_what_one_process_would_have_written(tmp_path):
    trained = shards.train_in_shards("ppo", CartPole(), **options(out=tmp_path / "parts"))
    one = whole(out=tmp_path / "one")
    same(Trained.load(tmp_path / "parts"), one)
    same(Trained.load(tmp_path / "parts"), trained)
    assert read_log(tmp_path / "parts") == read_log(tmp_path / "one")
    with pytest.raises(BadInput, match="resume=True"):
        shards.train_in_shards("ppo", CartPole(), **options(out=tmp_path / "parts"))


def test_interrupted_run_goes_on_with_its_own_division(tmp_path, monkeypatch):
    begun = []
    real = shards.train_shard

    def dies(**job):
        begun.append(job["members"])
        if len(begun) == 2:
            raise KeyboardInterrupt
        return real(**job)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shards, "run_jobs", lambda function, jobs, **rest: [dies(**job) for job in jobs])
        shards.train_in_shards("ppo", CartPole(), **options(out=tmp_path))
    resumed = shards.train_in_shards("ppo", CartPole(), **options(out=tmp_path, resume=True, shards=3))
    same(resumed, whole())
    assert sorted(p.name for p in (tmp_path / "shards").iterdir()) == ["0-1", "2-2"]
    with pytest.raises(BadInput, match="interrupted run"):
        shards.train_in_shards("ppo", CartPole(), **options(out=tmp_path, resume=True, members=[0, 1]))
    with pytest.raises(BadInput, match="seed"):
        shards.train_in_shards("ppo", CartPole(), **options(out=tmp_path, resume=True, seed=6))


def test_rewards_that_couple_members_are_refused():
    learns = upright + TargetController("kl", 0.1, initial=1.0, rate=0.1) * EnvReward()
    with pytest.raises(Unsupported, match="controller"):
        shards.train_in_shards("ppo", CartPole(), **options(reward=learns))
    with pytest.raises(Unsupported, match="controller"):
        shards.train_in_shards("ppo", CartPole(), **options(reward=upright.clip(max=0.5) + 2 * learns.clip(max=1.0)))
    moves = upright + Linear(1.0, 0.0) * EnvReward()
    same(shards.train_in_shards("ppo", CartPole(), **options(reward=moves)), whole(reward=moves))


def test_each_member_keeps_its_own_reward():
    own = PerMember([Constant(1.0), upright, upright * 2])
    same(shards.train_in_shards("ppo", CartPole(), **options(reward=own)), whole(reward=own))


@pytest.mark.parametrize("ray", [None, True])
def test_members_without_a_reward_are_refused_before_any_work(ray):
    """Wherever the rewards of the members stand inside the reward, or among the watched ones."""
    two = PerMember([Constant(1.0), upright])
    nested = PerMember([two, upright * 2])  # of the inner ones, only row 0 is asked for
    for wrong in ({"reward": two}, {"reward": 2 * two.clip(max=1.0) + upright},
                  {"others": [two.named("two").with_role("watch")]}):
        with pytest.raises(BadInput, match=r"population: expected ids in 0..1, since .* 2 rewards, received \[10\]"):
            train("ppo", _NeverMade(), population=[1, 10], ray=ray, progress=False, **wrong)
    with pytest.raises(AssertionError, match="made"):
        train("ppo", _NeverMade(), reward=nested, population=2, steps=2000, progress=False)


class _NeverMade(CartPole):
    def make(self, num_envs, **options):
        raise AssertionError("made")


def test_hooks_do_not_travel():
    from plaudit.optimize.rl.callbacks import EvalCallback

    with pytest.raises(Unsupported, match="callbacks, wandb cannot travel"):
        train("ppo", CartPole(), ray=True, callbacks=[EvalCallback()], wandb="project")
    with pytest.raises(Unsupported, match="lambda"):
        shards.train_in_shards("ppo", CartPole(), **options(reward=reward(lambda obs: obs[..., 0], name="x")))


def test_wrong_join_is_noticed():
    """The broken variant: states whose scalars differ are not states of one population."""
    with pytest.raises(AssertionError):
        shards._stacked([{"count": 3}, {"count": 4}])


# --- parcels ------------------------------------------------------------------------------------------------


def test_reward_travels_with_its_state():
    learns = upright + TargetController("kl", 0.1, initial=1.0, rate=0.1) * EnvReward()
    learns.advance(0.5, {"kl": 3.0})
    again, fresh = unpack_reward(pack_reward(learns)), unpack_reward({**pack_reward(learns), "state": None})
    assert again.state_dict() == learns.state_dict() != fresh.state_dict()


def test_task_of_the_users_code_travels(tmp_path):
    file = tmp_path / "worlds.py"
    file.write_text("import gymnasium\n\ndef world(length=3):\n"
                    "    return gymnasium.make('CartPole-v1', max_episode_steps=length)\n")
    from plaudit.core.targets import load_target

    task = make(load_target(f"{file}:world").thing, length=7)
    again = unpack_task(task.spec())
    assert (again.spec(), again.horizon) == (task.spec(), 7)


# --- on Ray -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
@pytest.mark.slow  # a local Ray needs 5 seconds to start and its workers 3 more
def test_two_workers_one_killed_give_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAUDIT_TEST_DEADLY", str(tmp_path / "died"))
    trained = train("ppo", CartPole(), reward=deadly, others=[EnvReward().with_role("watch")], population=3, steps=64,
                    seed=5, config=CONFIG, out=tmp_path / "out", progress=False, ray="2")
    assert (tmp_path / "died").exists()
    same(trained, whole(reward=deadly))
    same(Trained.load(tmp_path / "out"), trained)
