"""`plaudit optimize` from the command line."""

from __future__ import annotations

import json
import logging

import pytest
from PIL import Image

from plaudit.cli.main import main

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
    (["--env", "CartPole-v1", "--config", "{"], "JSON"),
    (["--env", "CartPole-v1", "--render", "film.mp4"], "*.gif"),
    (["--env", "CartPole-v1", "--resume"], "folder of the run"),
    (["--env", "CartPole-v1", "--out", "."], "new or empty folder"),
    (["--env", "CartPole-v1", "--steps", "10"], "at least one update"),
    (["--env", "CartPole-v1", "--population", "0"], "--population"),
])
def test_bad_input_is_one_clear_line(words, says, capsys):
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and says in error and len(error.splitlines()) == 1
