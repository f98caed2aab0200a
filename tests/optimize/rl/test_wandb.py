"""Weights & Biases: a run on this machine alone, read back from its file."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time

import pytest
import torch
from tiny_worlds import CopyTheBit

from plaudit.core.checkpoint import load_state
from plaudit.core.errors import BadInput, MissingExtra
from plaudit.optimize import Callback, PPOConfig, WandbLog, read_log, train

SMALL = PPOConfig(num_envs=4, rollout=8, hidden=(8,))
KW = {"config": SMALL, "progress": False, "population": 2}


def records(file):
    """The records of a `.wandb` file: a header of 7 bytes, then blocks of 32 KiB with (checksum, length, type) each."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, part, out = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at:at + 7])
        part += data[at + 7:at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            out.append(Record.FromString(part))
            part = b""
    return out


def finished(file, patience_s=20.0):
    """W&B's own process writes the file; wait for its last record."""
    end = time.monotonic() + patience_s
    while not any(r.WhichOneof("record_type") == "exit" for r in records(file)):
        assert time.monotonic() < end, f"{file} was never finished"
        time.sleep(0.05)
    return file


def history(file):
    rows = []
    for record in records(file):
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            rows.append({**items, "_step": record.history.step.num or items.get("_step", 0)})
    return rows


@pytest.fixture
def offline(monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    for name in ("MODE", "DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", "offline" if name == "MODE" else str(tmp_path / "w"))
    (tmp_path / "w").mkdir()
    return tmp_path / "w"


@pytest.mark.slow(reason="starts W&B's own process: several seconds")
def test_every_member_gets_a_run_with_the_numbers_of_the_log(offline, tmp_path):
    train("ppo", CopyTheBit(), steps=96, out=tmp_path / "run", log_dir=tmp_path / "log", wandb="rewards", **KW)
    files = sorted((tmp_path / "log/wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    logged = read_log(tmp_path / "run")
    found = {}
    for file in map(finished, files):
        run = next(r.run for r in records(file) if r.WhichOneof("record_type") == "run")
        member = int(json.loads(next(u.value_json for u in run.config.update if u.key == "member")))
        assert run.project == "rewards" and run.run_group == "ppo CopyTheBit 0"
        found[member] = history(file)
    for p in range(2):
        assert [row["_step"] for row in found[p]] == [row["steps"] for row in logged] == [32, 64, 96]
        for mine, row in zip(found[p], logged, strict=True):
            numbers = {k: v[p] for k, v in row.items() if isinstance(v, list) and v[p] is not None
                       and not k.startswith("unknown_reason/")}
            assert {k: mine[k] for k in numbers} == pytest.approx(numbers)


@pytest.mark.slow(reason="starts W&B's own process: several seconds")
def test_a_resumed_run_goes_on_under_the_same_ids(offline, tmp_path):
    class Stop(Callback):
        def on_update(self, metrics, trainer):
            if trainer.updates == 2:
                raise KeyboardInterrupt

    kw = {**KW, "steps": 128, "out": tmp_path / "run", "checkpoint_every": 1}
    first = WandbLog("rewards", folder=offline)
    with pytest.raises(KeyboardInterrupt):
        train("ppo", CopyTheBit(), callbacks=[Stop(), first], **kw)
    assert first._runs == [], "an interrupted run must be finished too"
    second = WandbLog("rewards", folder=offline)
    trained = train("ppo", CopyTheBit(), callbacks=[Callback(), second], resume=True, **kw)
    assert second.ids == first.ids and len(set(first.ids)) == 2
    plain = train("ppo", CopyTheBit(), steps=128, **KW)
    assert torch.equal(plain.actor.net.flat, trained.actor.net.flat), "watching must not change the run"
    assert load_state(tmp_path / "run/checkpoint.safetensors")["callbacks"][1]["ids"] == first.ids


def test_it_is_never_imported_unless_asked_for(tmp_path):
    code = ("import sys; from plaudit.optimize import PPOConfig, train; "
            "train('ppo', 'CartPole-v1', steps=64, progress=False, config=PPOConfig(num_envs=2, rollout=32)); "
            "sys.exit('wandb' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0


def test_bad_names_and_a_missing_package_are_said_before_any_work(monkeypatch):
    with pytest.raises(BadInput, match="wandb: expected the name of a project"):
        train("ppo", CopyTheBit(), steps=64, wandb="", **KW)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtra, match=r"plaudit\[wandb\]"):
        train("ppo", CopyTheBit(), steps=64, wandb="rewards", **KW)
