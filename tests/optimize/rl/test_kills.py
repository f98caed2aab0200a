"""A few kills in the tests; `benchmarks/kills.py` makes a hundred."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "kills.py"


@pytest.mark.slow(reason="trains tiny agents again and again in processes that are killed: half a minute")
def test_killed_at_random_moments_training_ends_in_the_same_bytes(tmp_path):
    out = tmp_path / "kills.json"
    subprocess.run([sys.executable, str(SCRIPT), "--kills", "6", "--only", "ppo,sac", "--out", str(out)], check=True,
                   cwd=tmp_path)
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    assert rows["kills"]["kills"] >= 6 and rows["kills"]["identical"] == rows["kills"]["runs"] >= 2
    assert all(0 <= moment <= 1 for moment in rows["kills_ppo"]["moments"])


@pytest.mark.slow(reason="trains a tiny agent some times: ten seconds")
def test_a_run_that_forgets_part_of_its_state_is_found_out(tmp_path, monkeypatch):
    """The broken variant: the optimiser's moments are not restored, so a struck run ends in other bytes."""
    spec = importlib.util.spec_from_file_location("kills", SCRIPT)
    assert spec is not None and spec.loader is not None
    kills = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "kills", kills)
    spec.loader.exec_module(kills)
    from plaudit.core.stacked_adam import PopulationAdam

    monkeypatch.setattr(PopulationAdam, "load_state_dict", lambda self, state: None)
    tally = kills.torment("sac", 3, random.Random(1), tmp_path)
    struck_in_training = [m for m in tally.moments if m > 0.3]  # before that no update was made
    assert tally.kills >= 3 and (not struck_in_training or tally.identical < tally.runs)
