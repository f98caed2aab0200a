from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.specify.match import other_side
from plaudit.specify.soccer import UTILITY_WEIGHTS
from plaudit.zoo import lucy_skg_krc as zoo
from plaudit.zoo import lucy_worlds as worlds
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
    task = worlds.make_task(config)
    reference = worlds.random_matches(config, task, Seeds(0))
    for arm in ("linear", "KRC"):
        for weights in worlds.candidates(config, Seeds(0)):
            reward = worlds.reward_of(config, task, arm, weights, reference=reference)
            score = reward.score(reference)
            gained = score.contribution("gain(utilities)")[reference.mask]
            assert float(gained.std()) == pytest.approx(0.7, rel=1e-4)
    assert "gain(utilities)" not in worlds.reward_of(config, task, "sparse", UTILITY_WEIGHTS,
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

    def found_in(krc, linear, sparse):
        return {"KRC": krc, "linear": linear, "sparse": sparse, "KRC, tuned": krc, "linear, tuned": linear}

    static = {"linear, away": 1.0, "krc, away": 0.0, "krc, towards": 1.0}
    helped = {"KRC": arm(3), "KRC + RP": arm(2)}
    good = zoo.judge(found_in(arm(3), arm(8), arm(14)), helped, static, 100)
    assert {c.verdict for c in good} == {"holds"}
    turned = zoo.judge(found_in(arm(14), arm(3), arm(8)),
                       {"KRC": helped["KRC + RP"], "KRC + RP": helped["KRC"]}, {**static, "krc, away": 1.0}, 100)
    assert [c.verdict for c in turned] == ["does not hold", "holds", *["does not hold"] * 4]
    assert zoo.judge(found_in(arm(3), arm(14), arm(8)), helped, static, 100)[1].verdict == "does not hold"
    never = zoo.judge(found_in(arm(30), arm(30), arm(30)), helped, static, 100)[3]
    assert never.verdict == "inconclusive"
    assert "never there: 5 and 5 of 5 runs" in never.says


def reached_at(*points):
    """An arm whose runs get there after so many thousand steps; None is never, after 20 of them."""
    return {zoo.FIFTY: np.array([20.0 if p is None else p for p in points]),
            "reached": np.array([p is not None for p in points])}


@pytest.mark.parametrize(("linear", "krc", "verdict", "why"), [
    ([16, 17, 18, 17, 16], [5, 6, 5, 6, 5], "holds", "all are there"),
    ([6, 7, 6, 7, 6], [6, 6, 7, 7, 6], "does not hold", "all are there"),
    ([None, None, None, 18, 17], [5, 6, 5, 6, 5], "holds", "the truth is larger still"),
    ([None, None, None, None, None], [16, 17, 18, 17, 16], "inconclusive", "the truth is larger, unknown by how much"),
    ([5, 6, 5, 6, 5], [None, None, None, 19, 18], "does not hold", "the truth is smaller still"),
    ([None] * 5, [None] * 5, "inconclusive", "nobody gets there"),
    ([None, None, None, 18, 17], [5, 6, None, None, 5], "inconclusive", "the truth may be smaller"),
])
def test_runs_that_never_reach_half_of_the_matches_leave_open_what_they_leave_open(linear, krc, verdict, why):
    ratio = zoo.steps_ratio(reached_at(*linear), reached_at(*krc), above=zoo.FASTER)
    assert zoo.Criterion(says=why, value=ratio, above=zoo.FASTER).verdict == verdict


def test_ends_of_the_ratio_that_censoring_leaves_open_are_open():
    late, soon = reached_at(None, None, 18, 19), reached_at(17, 18, 18, 17)
    assert zoo.steps_ratio(late, soon, above=1.3).high == np.inf  # 19.25 / 17.5, were all there
    assert zoo.steps_ratio(soon, late, above=1.3).low == 0.0


def test_a_candidate_is_judged_by_all_its_agents_and_not_by_the_luckiest():
    lucky, steady = [0.9, 0.1, 0.1], [0.5, 0.5, 0.6]
    assert worlds.best_of(np.array([lucky, steady])) == 1
    assert worlds.spread(np.array([lucky, steady])) == pytest.approx([np.std(lucky, ddof=1), np.std(steady, ddof=1)])


def test_every_candidate_of_both_arms_is_kept_with_what_each_of_its_agents_won():
    config = replace(SMOKE, candidates=3, tune_seeds=2)
    found = {arm: worlds.tune(config, Seeds(0), arm=arm) for arm in ("linear", "KRC")}
    assert found["linear"]["tried"] == found["KRC"]["tried"] == worlds.candidates(config, Seeds(0))
    for kept in found.values():
        assert np.shape(kept["wins"]) == (3, 2)
        assert kept["mean"] == pytest.approx(np.mean(kept["wins"], axis=1))
        assert len(kept["spread"]) == 3
        assert kept["best"] == int(np.argmax(kept["mean"]))


def test_the_points_of_a_curve_are_all_of_the_same_number_of_updates():
    config = replace(SMOKE, bin=2, matched_rows=2)
    task = worlds.make_task(config)
    reward = worlds.reward_of(config, task, "sparse", {}, reference=worlds.random_matches(config, task, Seeds(0)))
    five = worlds.play(config, task, [reward], 0, 5 * 256)
    four = worlds.play(config, task, [reward], 0, 4 * 256)
    assert five == four  # the fifth update fills no point


def test_the_static_test_is_of_the_rule_and_not_of_the_numbers():
    found = worlds.wrong_direction(SMOKE, Seeds(0))
    assert found == {"linear, away": 1.0, "krc, away": 0.0, "linear, towards": 1.0, "krc, towards": 1.0}


# --- the switches -------------------------------------------------------------------------------------------


def seen_by(config):
    """What the KRC arm of these options pays in random matches."""
    task = worlds.make_task(config)
    matches = worlds.random_matches(config, task, Seeds(0))
    return task, matches, worlds.reward_of(config, task, "KRC", UTILITY_WEIGHTS, reference=matches)


BUSY = replace(SMOKE, matched_rows=16, matched_steps=120)


def test_a_touch_is_paid_for_where_the_ball_goes_or_for_any_acceleration():
    _, e, directed = seen_by(BUSY)
    _, _, any_touch = seen_by(worlds.switched(BUSY, "any touch"))
    touched = e.info["touch"] & e.mask
    gained = any_touch(e) - directed(e)
    assert (gained[touched] > 0).all()  # |a| is more than its part towards the goal
    torch.testing.assert_close(gained[~touched & e.mask], torch.zeros(int((~touched & e.mask).sum())))


def test_the_distances_have_the_dispersion_and_density_of_the_options():
    _, e, published = seen_by(BUSY)
    for options in ({"w_dis": 3.0}, {"w_den": 3.0}, {"w_dis_goal": 3.0}, {"w_dis_own": 3.0}):
        assert not torch.allclose(seen_by(replace(BUSY, **options))[2](e), published(e))
    nothing = {"w_dis": 1.1, "w_den": 1.1, "w_dis_goal": 0.6, "w_dis_own": 0.4}
    torch.testing.assert_close(seen_by(replace(BUSY, **nothing))[2](e), published(e), atol=0, rtol=0)


@pytest.mark.parametrize("form", ["gain", "difference", "state"])
def test_every_form_of_the_utilities_has_the_same_standard_deviation(form):
    config = replace(BUSY, form=form)
    task, e, reward = seen_by(config)
    happened = worlds.events(worlds.Pitch.of(task))
    assert float((reward(e) - happened(e))[e.mask].std()) == pytest.approx(config.dense, rel=1e-3)
    own = worlds.utilities(worlds.Pitch.of(task))
    expected = worlds.utility(own, form=form)(e)[e.mask]
    torch.testing.assert_close((reward(e) - happened(e))[e.mask], expected * config.dense / expected.std(), atol=1e-3,
                               rtol=1e-3)


def test_the_opponents_reward_is_taken_off():
    task, e, own = seen_by(BUSY)
    _, _, sided = seen_by(worlds.switched(BUSY, "less the opponent"))
    theirs = other_side(worlds.Pitch.of(task).fields, e)
    torch.testing.assert_close(sided(e), own(e) - own(theirs), atol=1e-4, rtol=1e-4)


def test_the_agent_sees_less_or_more():
    plain = worlds.make_task(SMOKE).obs_space.shape[0]
    assert worlds.make_task(worlds.switched(SMOKE, "simple view")).obs_space.shape[0] == 17 < plain == 28
    assert worlds.make_task(worlds.switched(SMOKE, "past actions")).obs_space.shape[0] == plain + 5 * 12
    with pytest.raises(BadInput, match="observation"):
        worlds.make_task(replace(SMOKE, world="rocket league", observation="simple"))
    with pytest.raises(BadInput, match="ablation"):
        worlds.switched(SMOKE, "no ball")


@pytest.mark.parametrize("name", list(worlds.ABLATIONS))
def test_every_ablation_is_trained_beside_krc(name):
    job = {"arm": "KRC", "weights": dict(UTILITY_WEIGHTS), "tasks": []}
    found = worlds.one_arm(SMOKE, Seeds(0), **job, ablation=name)
    assert np.shape(found["win"]) == (SMOKE.seeds, SMOKE.aux_steps // (SMOKE.num_envs * SMOKE.rollout))


def test_ablations_stand_in_the_result_of_a_run(tmp_path):
    config = replace(SMOKE, ablations=("any touch",))
    result = run_system(zoo.SYSTEM, scale="smoke", config=config, out=tmp_path)
    assert result.arm("KRC, any touch").metric == result.arm("KRC + RP").metric
    assert len(result.data["win"]["KRC, any touch"]) == config.seeds


@pytest.mark.parametrize("scale", list(zoo.SYSTEM.scales))
def test_every_scale_can_play_its_ablations(scale):
    config = zoo.SYSTEM.scales[scale]
    changed = [worlds.switched(config, name) for name in config.ablations]
    assert all(c != config for c in changed)
    assert all(worlds.make_task(c).horizon > 0 for c in changed)
