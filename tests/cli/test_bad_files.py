"""Files from elsewhere and from before: one clear line for each, and nothing run unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

BOAT = ("audit", "boat.py:progress", "--env", "boat.py:Boat", "--steps", "1000", "--only", "distance")
WITNESS = "audits/001/witness-01.json"


@pytest.fixture
def witness(here, monkeypatch) -> Path:
    """The witness of an audit of `boat.py`, by hand."""
    from dataclasses import replace

    from plaudit.auditing.audit import audit
    from plaudit.auditing.witness import Witness
    from plaudit.optimize.behaviours import Behaviour

    report = audit("boat.py:progress", env="boat.py:Boat", steps=1000, only=["distance"])
    random = Behaviour(name="random actions", origin="random", policy=None, episodes=report.context.random,
                       seeds=report.context.seeds.child("random").integers(16))
    one = Witness.of(report.context, random, title="drifting", row=0)
    path = here / WITNESS
    path.parent.mkdir(parents=True)
    return replace(one, reward=dict(report.subject.source), task=dict(report.subject.task_spec)).save(path)


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and "Traceback" not in text


def test_a_witness_of_this_version_replays_without_a_word_about_versions(run, witness):
    ran = run("replay", WITNESS)
    assert ran.code == 0 and "other versions" not in ran.out


def test_a_witness_made_with_other_packages_says_which(run, witness):
    data = json.loads(witness.read_text())
    witness.write_text(json.dumps(data | {"versions": {**data["versions"], "gymnasium": "0.29.1", "jax": "0.4"}}))
    ran = run("replay", WITNESS)
    assert ran.code == 0, "the numbers are the same all the same"
    assert "other versions: gymnasium 0.29.1 then," in ran.out and "jax 0.4 then, none now" in " ".join(ran.out.split())


def test_a_witness_of_a_plaudit_that_did_not_note_versions_replays(run, witness):
    data = json.loads(witness.read_text())
    del data["versions"]
    witness.write_text(json.dumps(data))
    assert run("replay", WITNESS).code == 0


@pytest.mark.parametrize("form", ["plaudit.witness.0", "plaudit.witness.2"])
def test_a_witness_of_another_form_says_what_to_do(run, witness, form):
    witness.write_text(json.dumps(json.loads(witness.read_text()) | {"format": form}))
    ran = run("replay", WITNESS)
    assert ran.code == 2 and one_line(ran.err) and form in ran.err and "audit again with this one" in ran.err


def test_a_reward_file_that_has_changed_is_said_and_with_trust_the_other_numbers_too(run, witness, here):
    text = (here / "boat.py").read_text()
    (here / "boat.py").write_text(text.replace("return next_obs[..., 0] - obs[..., 0]",
                                               "return 2 * (next_obs[..., 0] - obs[..., 0])"))
    ran = run("replay", WITNESS)
    assert ran.code == 2 and one_line(ran.err) and "boat.py, which has changed" in ran.err and "--trust" in ran.err
    again = run("replay", WITNESS, "--trust")
    assert again.code == 1 and "the code or the environment has changed since" in " ".join(again.out.split())


def test_a_stable_baselines3_file_is_not_opened_without_trust(run, here, monkeypatch):
    (here / "policy.zip").write_bytes(b"PK\x03\x04 whatever it holds")
    ran = run(*BOAT, "--policy", "policy.zip")
    assert ran.code == 2 and one_line(ran.err) and "unpickles" in ran.err and "--trust" in ran.err
    assert not Path("audits").exists()


def test_with_trust_a_file_that_is_no_model_is_named_all_the_same(run, here):
    pytest.importorskip("stable_baselines3")
    (here / "policy.zip").write_bytes(b"PK\x03\x04 whatever it holds")
    ran = run(*BOAT, "--policy", "policy.zip", "--trust")
    assert ran.code == 2 and one_line(ran.err) and "a model of stable-baselines3" in ran.err
