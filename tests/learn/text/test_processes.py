"""Training in two processes over gloo: the batches of one process, one folder, and a kill that changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plaudit.core.chat import ChatFormat
from plaudit.core.checkpoint import read_tensors
from plaudit.core.errors import BadInput
from plaudit.feedback.text.spoken import SpokenFeedback
from plaudit.learn.text.feedback_training import fit_follow_up
from plaudit.learn.text.training import fit_text, options_of

ROWS = [{"prompt": f"What is {n} and one?", "chosen": f"It is {n + 1}.", "rejected": f"no {n}"} for n in range(40)]
OPTIONS = ["learn", "text", "--data", "pairs.jsonl", "--epochs", "2", "--lr", "0.003", "--validation", "0.2"]
KILLED = """
import os, sys
from plaudit.learn.text import trainer
from plaudit.cli.main import main
after = trainer._callback
def callback():
    class Dies(after()):
        def on_step_end(self, args, state, control, **more):
            if state.global_step == 6:
                os._exit(9)
    return Dies
trainer._callback = callback
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (tmp_path / "killed.py").write_text(KILLED)
    return tmp_path


def two(here: Path, *words: str, script: str = "-m plaudit.cli.main") -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *script.split()]
    return subprocess.run([*launch, *OPTIONS, *words], cwd=here, capture_output=True, text=True, check=False,
                          env={**os.environ, "ACCELERATE_USE_CPU": "true", "PLAUDIT_CHECK_SHAPES": "0"})


def one(here: Path, *words: str) -> None:
    subprocess.run([sys.executable, "-m", "plaudit.cli.main", *OPTIONS, *words], cwd=here, capture_output=True,
                   check=True)


def curve(folder: Path) -> list[float]:
    said = json.loads((folder / "plaudit.json").read_text())["training"]["history"]
    return [line[k] for line in said for k in ("loss", "eval_nll") if k in line]


@pytest.mark.slow(reason="five processes that import torch and transformers")
def test_two_processes_see_the_batches_of_one_and_write_once(here: Path, tiny_llama: Path) -> None:
    """32 records are trained on: 4 at a time in each of two processes are 8 at a time in one."""
    done = two(here, "--model", str(tiny_llama), "--out", "two", "--batch", "4")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("saved in two") == 1
    one(here, "--model", str(tiny_llama), "--out", "one", "--batch", "8")
    one(here, "--model", str(tiny_llama), "--out", "other", "--batch", "8", "--seed", "1")
    curves = [curve(here / name) for name in ("one", "two", "other")]
    assert len(curves[0]) == len(curves[1]) > 8
    assert np.abs(np.subtract(curves[0], curves[1])).max() < 2e-3
    assert len(curves[2]) != len(curves[0]) or np.abs(np.subtract(curves[0], curves[2])).max() > 2e-2
    states = [read_tensors(here / name / "model.safetensors")[0] for name in ("one", "two")]
    assert max(float((states[0][k] - states[1][k]).abs().max()) for k in states[0]) < 1e-3


@pytest.mark.slow(reason="six processes that import torch and transformers")
def test_two_processes_that_were_killed_end_with_the_same_bytes(here: Path, tiny_llama: Path) -> None:
    words = ["--model", str(tiny_llama), "--batch", "4"]
    assert two(here, *words, "--out", "whole").returncode == 0
    assert two(here, *words, "--out", "cut", script="killed.py").returncode != 0
    assert not (here / "cut" / "plaudit.json").exists() and list((here / "cut").rglob("whole.json"))
    alone = subprocess.run([sys.executable, "-m", "plaudit.cli.main", *OPTIONS, *words, "--out", "cut"], cwd=here,
                           capture_output=True, text=True, check=False)
    assert alone.returncode == 2 and "number of processes" in alone.stderr  # other batches: another training
    done = two(here, *words, "--out", "cut")
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("model.safetensors", "plaudit/head.safetensors"):
        assert (here / "whole" / name).read_bytes() == (here / "cut" / name).read_bytes()


def test_sharding_without_accelerators_is_refused(tiny_llama: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """The Trainer would overlook it without a word."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BadInput, match="no fsdp on a machine without accelerators"):
        fit_text([], model=tiny_llama, out=tmp_path, arguments={"fsdp": "full_shard"})
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert options_of(model="m", arguments={"fsdp": "full_shard"}).loop.arguments == {"fsdp": "full_shard"}


@pytest.mark.parametrize(("options", "fault"), [
    ({"frozen": True}, "together with frozen"),
    ({"loss": "regression > bradley-terry", "expo": True}, "together with expo, the loss"),
    ({"loss": "contrastive-swav"}, "together with the loss"),
    ({"arguments": {"fsdp": True, "fsdp_config": {"version": 1}}}, "version 2"),
])
def test_what_does_not_go_with_sharding_is_refused_by_name(options: dict[str, Any], fault: str,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(BadInput, match=fault):
        options_of(**{"model": "m", "arguments": {"fsdp": True}, **options})


@pytest.mark.slow(reason="eleven processes that import torch and transformers")
def test_sharded_weights_are_trained_as_whole_ones_are(here: Path, tiny_llama: Path) -> None:
    """Two processes with half of the weights each: the curve and the model of two that hold all, and kills."""
    script, shard = str(Path(__file__).parent / "sharded.py"), ["--arguments", '{"fsdp": "full_shard"}']
    words = ["--model", str(tiny_llama), "--batch", "4"]
    done = two(here, *words, *shard, "--out", "sharded", script=script)
    assert done.returncode == 0, done.stderr[-2000:]
    assert two(here, *words, "--out", "two").returncode == 0
    curves = [curve(here / name) for name in ("two", "sharded")]
    assert len(curves[0]) == len(curves[1]) > 8
    assert np.abs(np.subtract(curves[0], curves[1])).max() < 1e-5
    states = [read_tensors(here / name / "model.safetensors")[0] for name in ("two", "sharded")]
    assert max(float((states[0][k] - states[1][k]).abs().max()) for k in states[0]) < 1e-5
    assert two(here, *words, *shard, "--out", "cut", script=f"{script} --die-at 6").returncode != 0
    assert not (here / "cut" / "plaudit.json").exists() and list((here / "cut").rglob("whole.json"))
    assert two(here, *words, *shard, "--out", "cut", script=script).returncode == 0
    assert (here / "sharded" / "model.safetensors").read_bytes() == (here / "cut" / "model.safetensors").read_bytes()


@pytest.mark.slow(reason="four processes that import torch and transformers")
def test_feedback_is_learnt_by_two_processes_as_by_one(here: Path, tiny_llama: Path) -> None:
    """Feedback of as many tokens everywhere: the mean over the tokens of two halves is that of the whole."""
    tokens = ChatFormat.load(tiny_llama).tokenizer
    marks = [f"{m}{m}{m}{m}" for m in "qxzjvkw"]
    marks = [m for m in marks if len(tokens(m)["input_ids"]) == len(tokens(marks[0])["input_ids"])]
    rows = [{"prompt": f"What is {n} and one?", "response": f"It is {n + 1}.", "feedback": marks[n * n % len(marks)]}
            for n in range(40)]
    assert len(marks) > 3
    (here / "feedback.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["--model", str(tiny_llama), "--data", "feedback.jsonl", "--loss", "follow-up"]
    done = two(here, *words, "--out", "two", "--batch", "4")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("saved in two") == 1 and not (here / "two" / "checkpoints").exists()
    one(here, *words, "--out", "one", "--batch", "8")
    one(here, *words, "--out", "other", "--batch", "8", "--seed", "1")
    said = [json.loads((here / name / "follow_up.json").read_text())["training"] for name in ("one", "two", "other")]
    curves = [[line[k] for line in s["history"] for k in ("loss", "eval_nats") if k in line] for s in said]
    assert len(curves[0]) == len(curves[1]) > 8
    off = [np.abs(np.subtract(curves[0], other)).max() for other in curves[1:]]
    assert off[0] < 2e-3 and off[0] < off[1] / 5, "broken: another order"
    assert abs(said[0]["held_out_nats"] - said[1]["held_out_nats"]) < 2e-3
    states = [read_tensors(here / name / "model.safetensors")[0] for name in ("one", "two")]
    assert max(float((states[0][k] - states[1][k]).abs().max()) for k in states[0]) < 1e-3


def test_feedback_is_not_learnt_with_sharded_weights(tiny_llama: Path, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(BadInput, match="fsdp together with the loss 'follow-up'"):
        fit_follow_up([SpokenFeedback("a", "b", "c")], model=tiny_llama, out=tmp_path / "out",
                      arguments={"fsdp": "full_shard"})
