"""Logged episodes and trained policies that the user brings."""

from __future__ import annotations

import pytest
import torch

from plaudit.auditing.given import load_given, load_policy
from plaudit.core.errors import BadInput
from plaudit.tasks.classic import CartPole
from plaudit.tasks.making import make
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout


def some(task, seeds=(1, 2)):
    return rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=list(seeds))


def given(task, **options):
    return load_given(task, **{"episodes": None, "policy": None, "seed": 0, "trust": False, **options})


def test_a_log_becomes_a_behaviour_of_the_same_numbers(tmp_path):
    log = some(CartPole())
    log.save(tmp_path / "log.safetensors")
    (behaviour,) = given(CartPole(), episodes=tmp_path / "log.safetensors", like=log)
    assert behaviour.origin == "logged" and behaviour.policy is None and behaviour.seeds == []
    assert torch.equal(behaviour.episodes.next_obs, log.next_obs)


def test_a_log_of_another_task_is_refused(tmp_path):
    some(make("Pendulum-v1")).save(tmp_path / "log.safetensors")
    with pytest.raises(BadInput, match=r"'obs': \[4\].*'obs': \[3\]"):
        given(CartPole(), episodes=tmp_path / "log.safetensors", like=some(CartPole()))


@pytest.mark.parametrize("make_file", [lambda p: None, lambda p: p.write_text("{}"), lambda p: p.mkdir()])
def test_what_is_no_log_is_named(tmp_path, make_file):
    make_file(tmp_path / "log.safetensors")
    with pytest.raises(BadInput, match="Episodes.save wrote") as error:
        given(CartPole(), episodes=tmp_path / "log.safetensors")
    assert "log.safetensors" in str(error.value)


def test_a_minari_data_set_is_read_by_its_name(tmp_path, monkeypatch):
    pytest.importorskip("minari")
    from plaudit.core.minari_io import to_minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    log = some(CartPole())
    to_minari(log, "boats/random-v0", env="CartPole-v1")
    (behaviour,) = given(CartPole(), episodes="boats/random-v0", like=log)
    assert torch.equal(behaviour.episodes.next_obs, log.next_obs) and behaviour.name == "logged in random-v0"
    with pytest.raises(BadInput, match="minari download boats/other-v0"):
        given(CartPole(), episodes="boats/other-v0")


@pytest.fixture(scope="module")
def zipped(tmp_path_factory):
    """A tiny policy of stable-baselines3, before and after its training."""
    sb3 = pytest.importorskip("stable_baselines3")
    path = tmp_path_factory.mktemp("sb3") / "mine.zip"
    model = sb3.PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu",
                    policy_kwargs={"net_arch": [4]})
    model.learn(32).save(path)
    return model, path


def test_a_policy_of_stable_baselines3_needs_trust_and_then_acts_as_it_does(zipped):
    model, path = zipped
    with pytest.raises(BadInput, match="unpickles.*--trust"):
        given(CartPole(), policy=path)
    (behaviour,) = given(CartPole(), policy=path, trust=True)
    steps = behaviour.episodes
    assert behaviour.origin == "given" and steps.B == len(behaviour.seeds) == 8
    wanted, _ = model.predict(steps.obs[steps.mask].numpy(), deterministic=True)
    assert steps.action[steps.mask].tolist() == wanted.tolist()


def test_a_policy_for_another_task_is_refused_in_one_line(zipped):
    with pytest.raises(BadInput, match="a policy for Pendulum-v1") as error:
        given(make("Pendulum-v1"), policy=zipped[1], trust=True)
    assert "\n" not in str(error.value)


def test_what_is_no_policy_is_named(tmp_path):
    with pytest.raises(BadInput, match="that exists"):
        load_policy(tmp_path / "nope.zip", trust=True)
    (tmp_path / "no.zip").write_bytes(b"PK nothing")
    with pytest.raises(BadInput, match=r"a model of stable-baselines3.*no\.zip"):
        load_policy(tmp_path / "no.zip", trust=True)
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput):
        load_policy(tmp_path / "folder", trust=False)


def test_a_policy_that_plaudit_trained_is_read_without_trust(tmp_path):
    from plaudit.optimize.rl.ppo import PPOConfig
    from plaudit.optimize.rl.train import train

    trained = train("ppo", CartPole(), steps=64, seed=0, progress=False,
                    config=PPOConfig(num_envs=4, rollout=16, epochs=1))
    trained.save(tmp_path / "mine")
    (behaviour,) = given(CartPole(), policy=tmp_path / "mine")
    assert behaviour.episodes.B == 8


WORLD = """
import numpy as np
from gymnasium import Env, spaces

class World(Env):
    wide = 2
    def __init__(self):
        self.observation_space, self.action_space = spaces.Box(-9, 9, (self.wide,)), spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(self.wide, np.float32), {}
    def step(self, action):
        self.t += 1
        return np.full(self.wide, self.t, np.float32), float(action), False, self.t >= 6, {}

class Wider(World):
    wide = 3
"""


@pytest.mark.parametrize("trust", [[], ["--trust"]])
def test_a_policy_for_an_environment_in_a_file_is_audited_there(tmp_path, monkeypatch, capsys, trust):
    """`plaudit optimize` wrote it from file.py:Name, so the folder alone cannot make its task again."""
    from plaudit.cli.main import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "world.py").write_text(WORLD)
    config = '{"num_envs": 2, "rollout": 6, "epochs": 1, "hidden": [4], "minibatches": 1}'
    assert main(["optimize", "--env", "world.py:World", "--steps", "24", "--out", "run", "--eval-episodes", "0",
                 "--config", config]) == 0
    words = ["--policy", "run", "--steps", "500", "--only", "contract", "--out", "report", *trust]
    assert main(["audit", "world.py:World", *words]) == 0
    assert "your policy run" in capsys.readouterr().out
    assert main(["audit", "world.py:Wider", *words]) == 2
    error = capsys.readouterr().err
    assert "a policy for Wider" in error and "[1, 2, 4]" in error and len(error.splitlines()) == 1
