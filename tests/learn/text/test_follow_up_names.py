from __future__ import annotations

import json
from pathlib import Path

import pytest

from plaudit.auditing.text.subject import recognise
from plaudit.cli.main import main
from plaudit.cli.models import load_model
from plaudit.learn.text.followup import FollowUpReward


def test_every_command_that_takes_a_reward_takes_a_follow_up_reward(tiny_llama: Path, tmp_path: Path,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "feedback.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"Say {i}.", "response": "so", "feedback": "No."}) + "\n"
                            for i in range(8)))
    out = tmp_path / "tuned"
    learn = ["learn", "text", "--loss", "follow-up", "--model", str(tiny_llama), "--data", str(rows)]
    assert main([*learn, "--out", str(out), "--validation", "0"]) == 0
    assert "no sequence-classification form" in capsys.readouterr().out
    tuned = load_model(str(out))
    assert isinstance(tuned, FollowUpReward) and tuned.turn.swapped
    untuned = load_model(f"follow-up:{tiny_llama}")
    assert isinstance(untuned, FollowUpReward) and not untuned.turn.swapped and len(untuned.follow_ups) == 120
    subject = recognise(str(out))
    assert subject.mode == "model" and isinstance(subject.reward, FollowUpReward)
    assert main([*learn, "--out", str(tmp_path / "other"), "--ensemble", "2"]) == 2
    assert "--ensemble" in capsys.readouterr().err
