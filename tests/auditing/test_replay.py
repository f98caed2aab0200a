"""The witness of an audit replays to the numbers of the audit, from its file alone, and runs no code unasked."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

import plaudit
from plaudit.auditing.audit import audit
from plaudit.auditing.check import register, unregister
from plaudit.auditing.finding import Finding
from plaudit.auditing.replaying import play
from plaudit.auditing.witness import Witness, differences
from plaudit.core.errors import BadInput
from plaudit.core.functions import reward


@dataclass(frozen=True)
class Points:
    """A check that points at one random episode, or at what the user brought."""

    name: str = "points"
    question: str = "Where is it?"

    def run(self, context):
        return [Finding(check=self.name, severity="low", title=b.name, witness=Witness.of(context, b, title=b.name,
                                                                                          row=1))
                for b in (context.wandering, *context.given)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).with_name("boat_world.py"), tmp_path / "boat.py")
    register(Points())
    yield tmp_path
    unregister("points")


def witnesses(folder: Path, target, **options) -> list[Path]:
    report = audit(target, steps=30_000, only=["points"], **options)
    report.save(folder)
    return sorted(folder.glob("witness-*.json"))


@pytest.mark.parametrize(("target", "options"), [
    ("boat.py:progress", {"env": "boat.py:Boat", "intent": "boat.py:beyond:any"}),
    ("boat.py:terms", {"env": "boat.py:Sail", "intent": "boat.py:beyond"}),
    ("boat.py:one_at_a_time", {"env": "boat.py:marina", "intent": "info:is_success"}),
    ("boat.py:composed", {"env": "CartPole-v1", "intent": "env"}),
    ("boat.py:nan_late", {"env": "boat.py:Boat"}),
    ("boat.py:Boat", {}), ("boat.py:Sail", {}), ("boat.py:marina", {}), ("boat.py:world", {}), ("Pendulum-v1", {}),
    ("plaudit.auditing.flaws.boat_race:reward", {"env": "plaudit.auditing.flaws.boat_race:task",
                                                 "intent": "plaudit.auditing.flaws.boat_race:intended:any"}),
], ids=lambda x: x if isinstance(x, str) else "")
def test_the_numbers_of_the_audit_come_out_again(here, target, options):
    (file,) = witnesses(here / "out", target, **options)
    saved, played = Witness.load(file), play(file)
    assert played.same and played.steps == len(saved.actions)
    assert played.paid == saved.reward_return or (played.paid != played.paid) == (saved.reward_return !=
                                                                                  saved.reward_return)
    assert played.intent == saved.intent_value
    assert all(len(played.row(t)) >= 4 for t in played.telling_steps())


def test_the_episode_itself_comes_out_again_bit_for_bit(here):
    report = audit("boat.py:progress", env="boat.py:Sail", steps=1000, only=["points"])
    report.save(here / "out")
    before = report.context.random[1]
    after = play(here / "out" / "witness-01.json").episodes
    assert differences(before.steps(0, after.T), after) == []
    assert differences(before.steps(0, after.T), after.replace(next_obs=after.next_obs + 1)) == ["next_obs"]


def test_a_broken_witness_is_not_the_same(here):
    (file,) = witnesses(here / "out", "boat.py:progress", env="boat.py:Boat")
    for change in ({"reward_return": 99.0}, {"reward_return": None}):
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
        assert not play(file).same
    (file,) = witnesses(here / "out2", "boat.py:progress", env="boat.py:Boat")
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"actions": [2 for _ in content["actions"]]}))
    assert not play(file).same


def test_arguments_of_a_class_are_kept_and_those_of_a_function_ask(here):
    (file,) = witnesses(here / "out", "boat.py:Boat", env_kwargs={"limit": 7})
    assert play(file).steps == 7
    (file,) = witnesses(here / "out2", "boat.py:marina", env_kwargs={"limit": 7})
    with pytest.raises(BadInput, match="call a function with arguments"):
        play(file)
    assert play(file, trust=True).same


def test_a_saved_reward_replays_and_says_when_it_has_changed(here):
    plaudit.save_reward(2.0 * reward(audit_module().progress) - 0.5, here / "saved")
    (file,) = witnesses(here / "out", "saved", env="boat.py:Boat")
    assert play(file).same
    plaudit.save_reward(3.0 * reward(audit_module().progress), here / "saved")
    with pytest.raises(BadInput, match="has changed"):
        play(file)
    assert not play(file, trust=True).same


def audit_module():
    from plaudit.core.targets import load_target

    class Module:
        progress = staticmethod(load_target("boat.py:progress").thing)

    return Module


def test_logged_episodes_replay_without_any_environment(here):
    report = audit("boat.py:progress", env="boat.py:Boat", steps=1000, only=["points"])
    report.context.random.replace(info={}).save(here / "log.safetensors")
    files = witnesses(here / "out", "boat.py:progress", env="boat.py:Boat", episodes=here / "log.safetensors",
                      intent="boat.py:beyond:any")
    assert len(files) == 2 and (here / "out" / "witness-02.safetensors").is_file()
    played = play(files[1])
    assert played.task is None and played.same and "no GIF" in played.film(here / "x.gif")
    (here / "out" / "witness-02.safetensors").unlink()
    with pytest.raises(BadInput, match="no such file"):
        play(files[1])


def test_rewards_of_a_session_replay_by_their_composition_or_are_asked_for(here):
    (file,) = witnesses(here / "out", plaudit.EnvReward() * 2.0, env="CartPole-v1")
    assert play(file).same
    nameless = reward(lambda next_obs: next_obs[..., 0], name="nameless")
    (file,) = witnesses(here / "out2", nameless, env="CartPole-v1")
    with pytest.raises(BadInput, match=r"reward=\.\.\."):
        play(file)
    assert play(file, reward=nameless).same


# --- consent -----------------------------------------------------------------------------------------


def test_code_that_has_changed_is_run_only_with_consent(here):
    (file,) = witnesses(here / "out", "boat.py:progress", env="CartPole-v1", intent="env")
    (here / "boat.py").write_text((here / "boat.py").read_text() + "\nopen('ran', 'w')\n")
    with pytest.raises(BadInput, match="has changed; pass --trust"):
        play(file)
    assert not (here / "ran").exists()
    assert play(file, trust=True).same and (here / "ran").exists()


def test_environments_and_intents_that_have_changed_are_run_only_with_consent(here):
    (here / "worlds.py").write_text((here / "boat.py").read_text())
    (here / "aims.py").write_text((here / "boat.py").read_text())
    (file,) = witnesses(here / "out", "boat.py:progress", env="worlds.py:Boat", intent="aims.py:beyond:any")
    assert play(file).same
    for name in ("worlds.py", "aims.py"):
        whole = (here / name).read_text()
        (here / name).write_text(whole + "\nopen('ran', 'w')\n")
        with pytest.raises(BadInput, match=f"{name}, which has changed"):
            play(file)
        assert not (here / "ran").exists()
        (here / name).write_text(whole)


def test_code_that_lies_elsewhere_is_run_only_with_consent(here, tmp_path_factory, monkeypatch):
    (file,) = witnesses(here / "out", "boat.py:progress", env="CartPole-v1")
    monkeypatch.chdir(tmp_path_factory.mktemp("another"))
    with pytest.raises(BadInput, match="code below this folder"):
        play(file)
    assert play(file, trust=True).same


@pytest.mark.parametrize("change", [
    {"reward": {"target": "os:system", "path": None, "sha256": None}},
    {"reward": {"target": "boat.py:plaudit", "path": None, "sha256": None}},
    {"task": {"kind": "gym", "id": "antigravity:CartPole-v1"}},
    {"task": {"kind": "target", "target": "subprocess:run", "kwargs": {"args": ["touch", "ran"]}}},
    {"task": {"kind": "target", "target": "plaudit.core.checkpoint:os.system", "kwargs": {"command": "touch ran"}}},
    {"task": {"kind": "target", "target": "plaudit.core.checkpoint:write_text", "kwargs": {"path": "ran",
                                                                                           "text": ""}}},
])
def test_a_witness_of_somebody_else_runs_nothing_unasked(here, change):
    (file,) = witnesses(here / "out", "boat.py:progress", env="CartPole-v1")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BadInput):
        play(file)
    assert not (here / "ran").exists()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "plaudit.witness.1"}',
                                  '{"format": "plaudit.witness.1", "reward_return": "x", "seed": 1}'])
def test_what_is_no_witness_is_named(here, text):
    (here / "w.json").write_text(text)
    with pytest.raises(BadInput, match=r"w\.json"):
        play(here / "w.json")


def test_a_missing_witness_is_named(here):
    with pytest.raises(BadInput, match=r"nope\.json \(No such file"):
        play("nope.json")


# --- the file ----------------------------------------------------------------------------------------


def test_a_witness_is_json_also_where_nothing_is_known(here):
    (file,) = witnesses(here / "out", "boat.py:progress", env="boat.py:Boat")
    odd = replace(Witness.load(file), reward_return=float("nan"), intent_value=None)
    odd.save(here / "odd.json")
    json.loads((here / "odd.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert str(Witness.load(here / "odd.json")) == str(odd)


@pytest.mark.parametrize("action", [torch.tensor([[0, 2]]), torch.tensor([[[0.1], [1 / 3]]]),
                                    torch.tensor([[[1, 0], [0, 1]]]), torch.tensor([[[0.1], [1 / 3]]]).double()])
def test_actions_keep_their_bits_and_their_dtype(here, action):
    (file,) = witnesses(here / "out", "boat.py:progress", env="boat.py:Boat")
    witness = replace(Witness.load(file), actions=action[0].tolist(), action_dtype=str(action.dtype)[6:])
    back = Witness.load(witness.save(here / "w.json")).action_tensor()
    assert back.dtype == action.dtype and torch.equal(back, action[0])
