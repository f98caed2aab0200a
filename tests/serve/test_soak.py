"""The service among clients that vanish, send nonsense or too much: no accepted request is lost, nothing is left over.

`benchmarks/text_serving.py` does the same with 10,000 requests; its figures are in `benchmarks/results`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from plaudit.learn.text.reward import TextReward

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
KINDS = {"good", "leaves", "nonsense", "large", "breaks"}


def sound(found: dict, requests: int) -> None:
    """What has to hold of a soak of any size."""
    assert found["requests"] == requests and set(found["counts"]) <= KINDS and found["lost_or_wrong"] == 0
    assert found["counts"]["good"] > requests / 2
    assert found["left_over"]["connections"] == found["left_over"]["tasks"] == found["left_over"]["waiting"] == 0
    assert found["alive"] and found["ended"] and found["growth_mb"] < 20


@pytest.mark.slow(reason="a thousand requests by clients in processes of their own; PLAUDIT_SOAK says how many")
def test_rough_clients_cost_nobody_else_an_answer(tiny_reward: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    serving = __import__("text_serving")
    requests = int(os.environ.get("PLAUDIT_SOAK", "1000"))
    try:
        sound(serving.soak(TextReward.load(tiny_reward), requests), requests)
    finally:
        sys.modules.pop("text_serving", None)


def test_the_published_soak_lost_nothing_and_its_latencies_are_there() -> None:
    kept = json.loads((BENCHMARKS / "results" / "text_serving.json").read_text())
    sound(kept["soak"], 10_000)
    (row,) = kept["rows"]
    assert row["interval"][0] >= 0.7 and set(row["latency_s"]) == {"p50", "p90", "p99"}


def test_a_lost_answer_would_show() -> None:
    kept = json.loads((BENCHMARKS / "results" / "text_serving.json").read_text())["soak"]
    for bad in ({"lost_or_wrong": 1}, {"growth_mb": 90.0}, {"alive": False},
                {"left_over": {**kept["left_over"], "connections": 2}},
                {"counts": {**kept["counts"], "good, but 500": 1}}):
        with pytest.raises(AssertionError):
            sound({**kept, **bad}, 10_000)
