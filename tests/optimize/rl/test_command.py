"""`plaudit optimize` from the command line."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

from plaudit.cli.main import main
from plaudit.core.episodes import Episodes
from plaudit.core.minari_io import from_minari

FAST = json.dumps({"num_envs": 4, "rollout": 8, "hidden": [8], "minibatches": 2})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rewards.py").write_text("def upright(obs, action):\n    return 1.0 - obs[..., 2] ** 2\nnumber = 3\n")
    yield tmp_path
    logging.getLogger("plaudit").setLevel(logging.NOTSET)


def run(*words):
    return main(["optimize", *words])


def test_trains_saves_evaluates_films_and_goes_on(folder, capsys):
    words = ["--env", "CartPole-v1", "--reward", "rewards.py:upright", "--population", "2", "--config", FAST,
             "--eval-episodes", "3"]
    assert run(*words, "--steps", "128", "--render", "film.gif", "--log-dir", "tb") == 0
    out = capsys.readouterr().out
    assert "agent 1: upright return" in out and "agent 0: env return" in out and "runs/1" in out
    film = Image.open(folder / "film.gif")
    assert film.format == "GIF" and getattr(film, "n_frames", 1) > 3
    assert list((folder / "tb/member_1").iterdir())
    assert run(*words, "--steps", "256", "--out", "runs/1", "--resume") == 0
    summary = json.loads((folder / "runs/1/summary.json").read_text())
    assert summary["steps"] == 256 and len(summary["return/upright"]) == 2
    assert run(*words, "--steps", "128") == 0 and (folder / "runs/2/policy.safetensors").exists()


@pytest.mark.parametrize("words, says", [
    (["--env", "Pendulum-v1", "--algo", "dqn"], "use ppo or sac"),
    (["--env", "CartPole-v1", "--algo", "sac"], "use ppo, or dqn"),
    (["--env", "CartPole-v1", "--reward", "rewards.py:uprigth"], "did you mean upright"),
    (["--env", "CartPole-v1", "--reward", "rewards.py:number"], "a Reward or a function"),
    (["--env", "CartPole-v1", "--config", '{"lrr": 1}'], "options out of num_envs"),
    (["--env", "CartPole-v1", "--config", '{"roll": 8}'], "received roll; did you mean rollout?"),
    (["--env", "CartPole-v1", "--config", "{"], "JSON"),
    (["--env", "CartPole-v1", "--render", "film.mp4"], "*.gif"),
    (["--env", "CartPole-v1", "--resume"], "--out: expected the folder of the run to go on with, received none"),
    (["--env", "CartPole-v1", "--resume", "--out", "runs/7"], "received runs/7, which does not exist"),
    (["--env", "CartPole-v1", "--resume", "--out", "."], "received ., which holds none"),
    (["--env", "CartPole-v1", "--out", "."], "new or empty folder"),
    (["--env", "CartPole-v1", "--steps", "10"], "at least one update"),
    (["--env", "CartPole-v1", "--population", "0"], "--population"),
    (["--env", "CartPole-v1", "--device", "gpu"], "device: expected a device of torch"),
    (["--env", "CartPole-v1", "--episodes", "e.safetensors", "--eval-episodes", "0"], "raise --eval-episodes"),
])
def test_bad_input_is_one_clear_line(words, says, capsys):
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and says in error and len(error.splitlines()) == 1
    assert not Path("runs/7").exists()


def test_ctrl_c_says_how_to_go_on(folder, capsys):
    """The reward itself sends the signal, once; the run ends in the bytes of one that was never stopped."""
    (folder / "rewards.py").write_text(
        "import os, pathlib, signal\ncalls = 0\ndef upright(obs):\n    global calls\n    calls += 1\n"
        "    if pathlib.Path('armed').exists() and calls > 30:\n        pathlib.Path('armed').unlink()\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n    return 1.0 - obs[..., 2] ** 2\n")
    words = ["--env", "CartPole-v1", "--reward", "rewards.py:upright", "--config", FAST, "--eval-episodes", "0",
             "--steps", "640"]
    assert run(*words, "--out", "whole") == 0
    (folder / "armed").touch()
    assert run(*words) == 130
    said = capsys.readouterr().err
    assert "interrupted; the same command with --out runs/1 --resume goes on" in said
    assert not (folder / "armed").exists() and not (folder / "runs/1/policy.safetensors").exists()
    assert run(*words, "--out", "runs/1", "--resume") == 0
    one, other = (folder / f / "policy.safetensors" for f in ("whole", "runs/1"))
    assert one.read_bytes() == other.read_bytes()


def test_evaluation_episodes_become_a_minari_data_set_that_an_audit_reads(folder, monkeypatch, capsys):
    """Out and in again by the command line alone, without loss."""
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder / "sets"))
    words = ["--env", "Pendulum-v1", "--config", FAST, "--steps", "64", "--eval-episodes", "2", "--population", "2",
             "--env-kwargs", '{"horizon": 12}']
    assert run(*words, "--out", "a", "--episodes", "me/swings-v0") == 0
    assert run(*words, "--out", "b", "--episodes", "swings.safetensors") == 0
    kept, found = Episodes.load("swings.safetensors"), from_minari("me/swings-v0")
    assert minari.load_dataset("me/swings-v0").total_episodes == kept.B == 4
    assert found.member is not None and found.member.tolist() == [0, 0, 1, 1]
    for (name, a), (_, b) in zip(sorted(kept.tensors()), sorted(found.tensors()), strict=True):
        assert torch.equal(a.double(), b.double()), name
    assert run(*words, "--out", "c", "--episodes", "me/swings-v0") == 2
    assert "a name that is not taken" in capsys.readouterr().err and not (folder / "c").exists()
    assert run(*words, "--episodes", "swings") == 2
    from plaudit.auditing.given import load_given
    from plaudit.tasks.making import make

    task = make("Pendulum-v1", horizon=12)
    behaviour, = load_given(task, episodes="me/swings-v0", policy=None, seed=0, trust=False, like=found)
    assert behaviour.origin == "logged" and behaviour.episodes.B == 4


def test_a_return_that_is_unknown_comes_with_its_cause_and_count(folder, capsys):
    (folder / "rewards.py").write_text("import torch\ndef hole(obs):\n    return "
                                       "torch.where(torch.as_tensor(obs[..., 0]) > 0, torch.nan, 1.0)\n")
    assert run("--env", "Pendulum-v1", "--reward", "rewards.py:hole", "--config", FAST, "--steps", "64",
               "--eval-episodes", "2", "--env-kwargs", '{"horizon": 12}') == 0
    out = capsys.readouterr().out
    assert "hole is unknown at " in out and " of 24 evaluation steps: " in out


@pytest.mark.parametrize(("config", "says"), [
    ({"lr": "a"}, "--config lr: expected a value such as"), ({"hidden": 64}, "--config hidden: expected a list"),
])
def test_config_values_of_the_wrong_kind_are_refused_by_name(config, says, capsys):
    assert run("--env", "CartPole-v1", "--config", json.dumps(config), "--steps", "600") == 2
    assert says in capsys.readouterr().err


def test_it_says_where_whole_updates_are_fewer_steps_than_asked(capsys):
    assert run("--env", "CartPole-v1", "--config", FAST, "--steps", "70", "--eval-episodes", "0") == 0
    assert "64 of the 70 steps each (whole updates)" in capsys.readouterr().out
