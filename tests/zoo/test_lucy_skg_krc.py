from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plaudit.core.seeds import Seeds
from plaudit.specify.soccer import UTILITY_WEIGHTS
from plaudit.zoo import lucy_skg_krc as zoo
from plaudit.zoo.contract import load_result
from plaudit.zoo.lab import run_system

SMOKE = zoo.SYSTEM.scales["smoke"]


def test_smoke_runs_and_writes_its_result(tmp_path):
    result = run_system(zoo.SYSTEM, scale="smoke", out=tmp_path)
    kept = load_result(tmp_path / "lucy-skg-krc.json")
    assert kept.verdict == result.verdict
    assert kept.criteria[-1].verdict == "holds"  # the static test does at any size
    assert {a.name for a in kept.arms} >= {*zoo.MAIN, *zoo.HELPED}
    assert (tmp_path / "lucy-skg-krc.png").stat().st_size > 10_000


def test_the_utilities_of_every_arm_have_one_standard_deviation_under_random_play():
    config = replace(SMOKE, dense=0.7)
    task = zoo.make_task(config)
    reference = zoo.random_matches(config, task, Seeds(0))
    for arm in ("linear", "KRC"):
        for weights in zoo.candidates(config, Seeds(0)):
            reward = zoo.reward_of(task, arm, weights, dense=0.7, reference=reference)
            score = reward.score(reference)
            gained = score.contribution("gain(utilities)")[reference.mask]
            assert float(gained.std()) == pytest.approx(0.7, rel=1e-4)
    assert "gain(utilities)" not in zoo.reward_of(task, "sparse", UTILITY_WEIGHTS, dense=0.7,
                                                  reference=reference).score(reference).terms


def curves(*rows):
    return {"win": [list(r) for r in rows], "score": [list(r) for r in rows]}


def test_steps_to_fifty_percent_are_read_off_the_smoothed_curve_and_censored_at_the_end():
    config = replace(SMOKE, bin=1, num_envs=1, rollout=1000)
    fast = [0.0, 0.2, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7]
    slow = [0.0, 0.1, 0.2, 0.9, 0.2, 0.1, 0.2, 0.1]  # one lucky point is not half of the matches
    found = zoo.measures(config, curves(fast, slow))
    assert found["reached"].tolist() == [True, False]
    assert found[zoo.FIFTY].tolist() == [3.0, 8.0]
    assert found[zoo.WIN].tolist() == [0.7, 0.1]
    np.testing.assert_allclose(found[zoo.EARLY], [np.mean(fast[:4]), np.mean(slow[:4])])
    assert zoo.measures(config, curves(fast), 3)["whole"].tolist() == [pytest.approx(np.mean(fast[:3]))]


def test_the_claim_holds_on_planted_curves_and_not_on_those_turned_round():
    config = replace(SMOKE, bin=1, num_envs=1, rollout=1000)
    rng = np.random.default_rng(0)

    def arm(start: int, level: float = 0.8):
        rows = [np.where(np.arange(20) >= start, level, 0.1) + rng.normal(0, 0.01, 20) for _ in range(5)]
        return zoo.measures(config, curves(*rows))

    static = {"linear, away": 1.0, "krc, away": 0.0, "krc, towards": 1.0}
    found = {"KRC": arm(3), "linear": arm(8), "sparse": arm(14)}
    helped = {"KRC": arm(3), "KRC + RP": arm(2)}
    good = zoo.judge(found, helped, static, 100)
    assert {c.verdict for c in good} == {"holds"}
    turned = zoo.judge({"KRC": found["sparse"], "linear": found["KRC"], "sparse": found["linear"]},
                       {"KRC": helped["KRC + RP"], "KRC + RP": helped["KRC"]}, {**static, "krc, away": 1.0}, 100)
    assert [c.verdict for c in turned] == ["does not hold", "holds", *["does not hold"] * 3]
    never = {name: arm(30) for name in ("KRC", "linear", "sparse")}
    assert zoo.judge(never, helped, static, 100)[2].verdict == "inconclusive"


def test_the_static_test_is_of_the_rule_and_not_of_the_numbers():
    found = zoo.wrong_direction(SMOKE, Seeds(0))
    assert found == {"linear, away": 1.0, "krc, away": 0.0, "linear, towards": 1.0, "krc, towards": 1.0}
