"""What a user points at is recognised; what is nothing of the kind is refused with the way out."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import gymnasium
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

import plaudit
from plaudit.auditing.finding import Finding
from plaudit.auditing.fingerprint import fingerprint
from plaudit.auditing.subject import recognise
from plaudit.core.errors import BadInput, MissingExtra
from plaudit.core.functions import EnvReward, FunctionReward, reward
from plaudit.tasks.classic import CartPole
from plaudit.tasks.gridworld import GridWorld
from plaudit.tasks.making import make


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).with_name("boat_world.py"), tmp_path / "boat.py")
    return tmp_path


@pytest.mark.parametrize(("target", "kind", "words"), [
    ("boat.py:progress", FunctionReward, "reward function progress on Boat"),
    ("boat.py:one_at_a_time", FunctionReward, "reward function one_at_a_time on Boat"),
    ("boat.py:declared", FunctionReward, "reward function declared on Boat"),
    ("boat.py:composed", plaudit.Reward, "reward sum on Boat"),
])
def test_rewards_in_a_file(here, target, kind, words):
    subject = recognise(target, env="boat.py:Boat")
    assert isinstance(subject.reward, kind) and subject.recognised == words and subject.name == target
    assert subject.source["target"] == target and len(subject.source["sha256"]) == 64
    assert subject.task_spec["target"] == "boat.py:Boat" and subject.task_spec["kind"] == "target"


def test_environments_in_a_file_by_class_by_factory_and_by_a_factory_of_tasks(here):
    for target, horizon in (("boat.py:Boat", 20), ("boat.py:marina", 15)):
        subject = recognise(target)
        assert isinstance(subject.reward, EnvReward) and subject.task.horizon == horizon
        assert subject.source == {"env": True} and subject.task_spec["target"] == target
    assert isinstance(recognise("boat.py:world").task, GridWorld)
    assert recognise("boat.py:world").task_spec["kind"] == "gridworld"
    with_options = recognise("boat.py:marina", env_kwargs={"limit": 7, "horizon": 5})
    assert with_options.task.horizon == 5
    assert with_options.task_spec["kwargs"] == {"limit": 7} and with_options.task_spec["horizon"] == 5


def test_an_id_and_a_module_and_a_saved_reward(here):
    assert recognise("CartPole-v1").task_spec["kind"] == "classic"
    boat_race = "plaudit.auditing.flaws.boat_race"
    assert recognise(f"{boat_race}:reward", env=f"{boat_race}:task").recognised == "reward function reward on Boat race"
    plaudit.save_reward(recognise("boat.py:composed", env="boat.py:Boat").reward, here / "saved")
    for path in ("saved", here / "saved", "saved/reward.json"):
        subject = recognise(path, env="boat.py:Boat")
        assert subject.recognised == "saved reward sum on Boat" and subject.source["saved"].endswith("reward.json")


def test_objects_in_hand(here):
    speed = reward(lambda next_obs: next_obs[..., 1], name="speed")
    subject = recognise(speed, env=CartPole())
    assert subject.source == {"object": "speed"} and subject.name == "speed"
    assert recognise(EnvReward() * 2.0, env="CartPole-v1").source["spec"]["kind"] == "sum"
    assert recognise(CartPoleEnv).task_spec["target"].endswith(":CartPoleEnv")
    assert recognise(lambda: gymnasium.make("CartPole-v1")).task_spec == {"kind": "object", "name": "<lambda>"}


def test_a_function_in_hand_is_known_as_on_the_command_line(here, monkeypatch):
    """Imported from a package below the folder, as a test does; from elsewhere it keeps its bare name."""
    (here / "mine").mkdir()
    (here / "mine/rewards.py").write_text("import plaudit\nfrom boat import Boat\n\n\ndef speed(next_obs):\n"
                                          "    return next_obs[..., 1]\n\n\n@plaudit.reward\ndef back(next_obs):\n"
                                          "    return -next_obs[..., 1]\n")
    for folder in (here, here / "mine"):
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "rewards", raising=False)
    monkeypatch.delitem(sys.modules, "boat", raising=False)
    rewards = importlib.import_module("rewards")
    monkeypatch.delitem(sys.modules, "boat")
    boat = importlib.import_module("boat")
    found = Finding(check="exploit", severity="high", title="backing earns 3")

    def mark(target, env="boat.py:Boat"):
        subject = recognise(target, env=env)
        return fingerprint(subject.name, subject.task.name, found)

    for name, thing in (("speed", rewards.speed), ("back", rewards.back), ("speed", reward(rewards.speed))):
        assert recognise(thing, env=boat.Boat).name == f"mine/rewards.py:{name}"
        assert mark(thing) == mark(f"mine/rewards.py:{name}") == mark(str(here / f"mine/rewards.py:{name}"))
    assert mark(rewards.speed) != mark(rewards.back)
    assert mark(boat.Boat, env=None) == mark("boat.py:Boat", env=None)
    assert recognise(reward(rewards.speed, name="fast"), env=boat.Boat).name == "fast"
    monkeypatch.chdir(here / "mine")
    assert recognise(rewards.speed, env=boat.Boat).name == "rewards.py:speed"
    (here / "other").mkdir()
    monkeypatch.chdir(here / "other")
    assert recognise(rewards.speed, env=boat.Boat).name == "speed"


def test_the_time_limit_reaches_every_part_and_leaves_the_users_reward_alone(here):
    a, b = reward(lambda obs: obs[..., 0]), reward(lambda obs: obs[..., 1], time_limit_s=3.0)
    both = a + 2.0 * b
    limited = recognise(both, env="CartPole-v1", time_limit_s=1.0).reward
    assert [p.time_limit_s for p in limited.parts] == [1.0, 3.0] and a.time_limit_s is None
    episodes = plaudit.rollout(make("CartPole-v1"), plaudit.tasks.policy.RandomPolicy(CartPole().action_space, 0),
                               seeds=[1])
    assert both(episodes).equal(limited(episodes))


@pytest.mark.parametrize(("target", "options", "expected"), [
    ("nope.py:f", {}, "a file that exists"),
    ("boad.py:f", {}, r"did you mean boat\.py"),
    ("boat.py:progres", {}, "did you mean progress"),
    ("boat.py", {}, "it defines boat.py:Boat"),
    (".", {}, "a saved reward"),
    ("nowhere/reward.json", {}, "a saved reward"),
    ("no_module_of_this_name:f", {}, "a module that imports"),
    ("boat.py:number", {}, "a reward function"),
    ("boat.py:progress", {}, "add --env"),
    ("boat.py:Boat", {"env": "CartPole-v1"}, "leave --env out"),
    ("CartPol-v1", {}, "did you mean CartPole-v1"),
    ("boat.py:progress", {"env": "boat.py:beyond"}, "an environment class or a factory"),
    ("boat.py:progress", {"env": "boat.py:Boot"}, "env: expected a name that boat.py defines.*did you mean Boat"),
    ("boat.py:misnamed", {"env": "boat.py:Boat"}, "rename it to 'obs'"),
    ("boat.py:InitFails", {}, "raised OSError: no file boat.xml"),
    ("boat.py:Boat", {"env_kwargs": {"depth": 3}}, "depth"),
    ("CartPole-v1", {"env_kwargs": {"g": 3}}, "sutton_barto_reward"),
])
def test_what_is_nothing_of_the_kind_is_refused_with_the_way_out(here, target, options, expected):
    with pytest.raises(BadInput, match=expected) as error:
        recognise(target, **options)
    assert "\n" not in str(error.value)


def test_a_file_that_fails_to_import_names_its_line(here):
    (here / "broken.py").write_text("import math\n\nx = math.nothing\n")
    with pytest.raises(BadInput, match=r"AttributeError.*line 3"):
        recognise("broken.py:x")


def test_a_missing_package_gives_the_line_that_installs_it(here):
    with pytest.raises(MissingExtra, match="pip install"):
        recognise("boat.py:progress", env="Adroit-v1")


def test_a_file_without_a_name_is_told_what_it_defines_and_is_not_run(here):
    (here / "rewards.py").write_text("raise SystemExit\n\n\ndef speed(obs):\n    pass\n\n\ndef _own(obs):\n    pass\n")
    with pytest.raises(BadInput, match=r"target: .*received rewards.py; it defines rewards.py:speed$"):
        recognise("rewards.py", env="CartPole-v1")
    with pytest.raises(BadInput, match=r"env: .*received rewards.py; it defines rewards.py:speed$"):
        recognise("boat.py:progress", env="rewards.py")
    with pytest.raises(BadInput, match=r"target: .*received rewards; did you mean rewards.py:speed\?"):
        recognise("rewards", env="CartPole-v1")
    with pytest.raises(BadInput, match=r"target: expected a reward beside --env.*CartPole-v1; leave --env out"):
        recognise("CartPole-v1", env="Pendulum-v1")
