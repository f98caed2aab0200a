"""Logs: errors that name row and column, and estimates that are right on average with intervals that cover."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plaudit.core.errors import BadInput
from plaudit.optimize.bandits import UCB1, GaussianThompson, LinUCB, play
from plaudit.tasks.bandits import Log, Replay, compare, effective_rows, evaluate
from plaudit.tasks.bandits.offpolicy import probabilities

MEANS = np.array([0.2, 0.5, 0.8])


def drawn(seed: int, N: int = 600) -> tuple[Log, np.ndarray]:
    """A log whose policy and rewards depend on a context, and the truth of a target that depends on it too."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=N)
    p = np.exp(np.outer(x, [0.5, 0.0, -0.5]))
    p /= p.sum(1, keepdims=True)
    arm = (rng.random((N, 1)) > p.cumsum(1)).sum(1)
    reward = MEANS[arm] + 0.3 * x * (arm == 2) + 0.2 * rng.normal(size=N)
    return Log.of(arm=arm, reward=reward, propensity=p[np.arange(N), arm], context={"x": x}), x


def target(context_ND: np.ndarray) -> np.ndarray:
    share = 0.2 + 0.6 * (context_ND[:, 0] > 0)
    return np.stack([np.full_like(share, 0.1), 0.9 - share, share], 1)


TRUTH = 0.1 * 0.2 + 0.4 * 0.5 + 0.5 * 0.8 + 0.3 * 0.6 * (1 / np.sqrt(2 * np.pi))
"""E[pi_0 .2 + pi_1 .5 + pi_2 (.8 + .3 x)], with pi_2 = .2 + .6 [x > 0] and E[x [x > 0]] = 1 / sqrt(2 pi)."""


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_estimates_are_right_on_average_and_their_intervals_cover(estimator: str) -> None:
    found = [evaluate(drawn(seed)[0], target, estimator=estimator) for seed in range(100)]
    means = np.array([f.mean for f in found])
    assert means.mean() == pytest.approx(TRUTH, abs=4 * means.std() / np.sqrt(100))
    assert np.mean([f.low <= TRUTH <= f.high for f in found]) > 0.86


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr", "dm"])
@pytest.mark.parametrize("worth", [(0.1, 0.9), (0.5, 0.5)])
@pytest.mark.parametrize("rows", [4, 10, 30, 100])
def test_intervals_of_few_rows_hold_the_truth_as_often_as_they_say(rows: int, worth: tuple[float, float],
                                                                   estimator: Any) -> None:
    rng, covered, runs = np.random.default_rng(rows), np.zeros(2), 200
    for _ in range(runs):
        arm = np.append([0, 1], rng.integers(2, size=rows - 2))  # both are tried
        reward = rng.random(rows) < np.array(worth)[arm]
        log = Log.of(arm=arm, reward=reward, propensity="uniform", vanished="keep")
        value, ahead = evaluate(log, "1", estimator=estimator), compare(log, "1", "0", estimator=estimator)
        covered += [i.low <= truth <= i.high for i, truth in ((value, worth[1]), (ahead, worth[1] - worth[0]))]
        assert value.low < value.high and ahead.low < ahead.high
    assert (covered >= 0.87 * runs).all()  # Student's interval of 50 coins of 0.9 covers 91%, less two standard errors


def test_rewards_that_are_all_the_same_leave_room_for_others_as_coins_do() -> None:
    rng, missed = np.random.default_rng(0), 0
    for _ in range(400):
        log = Log.of(arm=["a", "b"] * 10, reward=np.stack([np.ones(10), rng.random(10) < 0.05], 1).ravel(),
                     propensity="uniform")
        missed += evaluate(log, "b", estimator="snips").high < 0.05
    assert missed == 0  # ten zeros happen in 60% of the logs, and had an interval without width
    found = evaluate(Log.of(arm=["a", "b"] * 10, reward=[1.0, 0.0] * 10, propensity="uniform"), "b", estimator="snips")
    assert found.high == pytest.approx(1 - 0.025**0.1)  # Clopper and Pearson's bound for 0 of 10


def test_without_weights_the_log_answers_another_question() -> None:
    naive = np.mean([drawn(seed)[0].reward_N.mean() for seed in range(100)])
    assert abs(naive - TRUTH) > 0.03


def test_dr_spreads_less_than_ips_where_its_model_helps() -> None:
    spread = {e: np.std([evaluate(drawn(seed)[0], target, estimator=e).mean for seed in range(60)])
              for e in ("ips", "dr")}
    assert spread["dr"] < 0.8 * spread["ips"]


def test_small_logs_by_brute_force() -> None:
    log = Log.of(arm=["a", "b", "a", "b"], reward=[1.0, 2.0, 3.0, 6.0], propensity=[0.5, 0.25, 0.5, 0.5])
    w = np.array([0.3 / 0.5, 0.7 / 0.25, 0.3 / 0.5, 0.7 / 0.5])
    r = np.array([1.0, 2.0, 3.0, 6.0])
    assert evaluate(log, [0.3, 0.7], estimator="ips").mean == pytest.approx((w * r).mean())
    assert evaluate(log, [0.3, 0.7], estimator="snips").mean == pytest.approx((w * r).sum() / w.sum())
    assert effective_rows(log, [0.3, 0.7]) == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert evaluate(log, [0.3, 0.7], estimator="ips", clip=1.0).mean == pytest.approx((np.minimum(w, 1) * r).mean())
    both = compare(log, "b", "a", estimator="ips").mean
    assert both == pytest.approx(evaluate(log, "b", estimator="ips").mean - evaluate(log, "a", estimator="ips").mean)


def test_rows_of_one_cluster_are_one_observation() -> None:
    rng = np.random.default_rng(0)
    spell = np.repeat(np.arange(40), 25)
    arm = np.repeat(rng.integers(2, size=40), 25)
    reward = np.repeat(rng.normal(size=40), 25) + arm
    log = Log.of(arm=arm, reward=reward, propensity="uniform")
    alone, held = evaluate(log, "1"), evaluate(log, "1", clusters=spell)
    assert held.high - held.low > 3 * (alone.high - alone.low)
    assert held.n == 40 and held.mean == alone.mean


def test_settled_rows_have_been_held_for_long_enough() -> None:
    log = Log.of(arm=list("aaabbaaaab"), reward=range(10), propensity="uniform", vanished="keep")
    assert log.settled(2).reward_N.tolist() == [2, 7, 8]
    assert log.spell_N.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2, 3]
    with pytest.raises(BadInput, match="after"):
        log.settled(4)


# --- bad input ----------------------------------------------------------------------------------------------------


def write(path: Path, *rows: str) -> Path:
    path.write_text("arm,reward,propensity,x\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("row", "says"), [
    ("tv,,0.5,1", r"log.csv, row 3, column 'reward'.*nothing.*on_nan"),
    ("tv,nan,0.5,1", "row 3, column 'reward'"), ("tv,much,0.5,1", "row 3, column 'reward'.*'much'"),
    ("tv,inf,0.5,1", "row 3, column 'reward'"), ("tv,1,0,1", "row 3, column 'propensity'.*above 0"),
    ("tv,1,,1", "row 3, column 'propensity'.*nothing"), ("tv,1,1.5,1", "row 3, column 'propensity'.*1.5"),
    (",1,0.5,1", "row 3, column 'arm'"), ("tv,1,0.5,", "row 3, column 'x'"), ("tv,1", "row 3.*4 cells"),
])
def test_errors_name_row_and_column(tmp_path: Path, row: str, says: str) -> None:
    path = write(tmp_path / "log.csv", "tv,1,0.5,1", "web,0,0.5,2", row)
    with pytest.raises(BadInput, match=says):
        Log.read(path, context=["x"])


def test_rows_without_a_reward_can_be_left_out_and_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "tv,1,0.5,1", "web,nan,0.5,2", "web,,0.5,2", "web,3,0.5,2", "tv,n/a,0.5,1")
    log = Log.read(path, on_nan="drop")
    assert (log.N, log.dropped, log.reward_N.tolist(), log.row_N.tolist()) == (2, 3, [1.0, 3.0], [1, 4])


def test_an_arm_that_vanishes_in_mid_log_is_named_with_its_last_row() -> None:
    rng = np.random.default_rng(0)
    arm = np.array(["a", "b", "c"])[np.concatenate([rng.integers(3, size=100), rng.integers(2, size=100)])]
    last = int(np.flatnonzero(arm == "c")[-1]) + 1
    columns = {"reward": np.ones(200), "propensity": np.full(200, 0.4)}
    with pytest.raises(BadInput, match=f"row {last}, column 'arm'.*'c' is never taken after"):
        Log.of(arm=arm, **columns)
    with pytest.raises(BadInput, match="'c' is never taken before"):
        Log.of(arm=arm[::-1], **columns)
    log = Log.of(arm=arm, vanished="keep", **columns)
    with pytest.raises(BadInput, match="never tried"):
        evaluate(log.rows(slice(last, None)), "c")


def test_healthy_logs_with_rare_arms_are_not_called_broken() -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        arm = rng.choice(4, p=[0.6, 0.3, 0.08, 0.02], size=400)
        rare = Log.of(arm=arm, reward=np.ones(400), propensity="uniform")
        blocks = Log.of(arm=np.repeat(rng.integers(3, size=40), 12), reward=np.ones(480), propensity="uniform")
        assert (len(rare.reward_N), len(blocks.reward_N)) == (400, 480)


def test_a_log_without_propensities_says_what_can_be_done() -> None:
    log = Log.of(arm=["a", "b"] * 5, reward=[1.0, 0.0] * 5)
    for estimator in ("ips", "snips", "dr"):
        with pytest.raises(BadInput, match="uniform"):
            evaluate(log, "a", estimator=estimator)
    assert evaluate(log, "a", estimator="dm").mean == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(BadInput, match="uniform"):
        Replay(log)


@pytest.mark.parametrize(("policy", "says"), [
    ("radio", "an arm out of a, b"), ([0.5, 0.6], "add up to 1"), ([1.0], "probabilities of 2 arms"),
    (lambda x: x, "context"),
])
def test_a_policy_that_is_none_is_refused(policy: object, says: str) -> None:
    log = Log.of(arm=["a", "b"] * 5, reward=[1.0, 0.0] * 5, propensity="uniform")
    with pytest.raises(BadInput, match=says):
        probabilities(log, policy)  # type: ignore[arg-type]


def test_missing_files_and_columns(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="CSV or Parquet"):
        Log.read(tmp_path / "none.csv")
    path = write(tmp_path / "log.csv", "tv,1,0.5,1")
    with pytest.raises(BadInput, match="column 'p'.*uniform"):
        Log.read(path, propensity="p")
    (tmp_path / "empty.csv").write_text("arm,reward\n", encoding="utf-8")
    with pytest.raises(BadInput, match="rows below"):
        Log.read(tmp_path / "empty.csv")


def test_parquet_and_csv_hold_the_same_log(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = write(tmp_path / "log.csv", "tv,1,0.5,1", "web,0,0.25,2")
    parquet.write_table(pyarrow.table({"arm": ["tv", "web"], "reward": [1.0, 0.0], "propensity": [0.5, 0.25],
                                       "x": [1, 2]}), tmp_path / "log.parquet")
    one, two = (Log.read(p, context=["x"]) for p in (path, tmp_path / "log.parquet"))
    assert one.arms == two.arms and np.array_equal(one.context_ND, two.context_ND)
    assert np.array_equal(one.propensity_N, two.propensity_N)


# --- replay -------------------------------------------------------------------------------------------------------


def test_replayed_learners_earn_what_they_would_have_earned() -> None:
    rng = np.random.default_rng(0)
    p = np.array([0.6, 0.3, 0.1])
    arm = rng.choice(3, p=p, size=3000)
    log = Log.of(arm=arm, reward=rng.random(3000) < MEANS[arm], propensity=p[arm])
    history = play(Replay(log), UCB1(), rounds=3000, runs=8, seed=0)
    heard = np.isfinite(history.reward_RT)
    assert 0.05 < heard.mean() < 0.15  # one row in ten is accepted for any arm
    assert np.nanmean(history.reward_RT[:, 2000:]) > 0.6
    late = np.array([history.reward_RT[(history.arm_RT == k) & heard].mean() for k in range(3)])
    assert np.allclose(late, MEANS, atol=0.06)


def test_a_linear_policy_reads_the_context_of_a_log() -> None:
    rng = np.random.default_rng(1)
    x, arm = rng.choice([-1.0, 1.0], size=4000), rng.integers(2, size=4000)
    log = Log.of(arm=arm, reward=x * (2 * arm - 1), propensity="uniform", context={"x": x})
    bandit = Replay(log)
    history = play(bandit, LinUCB(), rounds=800, runs=2, seed=0)
    assert np.nanmean(history.reward_RT[:, 400:]) > 0.9
    blind = play(bandit, GaussianThompson(), rounds=800, runs=2, seed=0)
    assert abs(np.nanmean(blind.reward_RT)) < 0.2
    with pytest.raises(BadInput, match="rows of the log"):
        play(Replay(log.rows(slice(0, 5))), UCB1(), rounds=6, runs=1, seed=0)


@pytest.mark.skipif(importlib.util.find_spec("obp") is None, reason="obp with the small Open Bandit data is missing")
def test_open_bandit_data_agree_with_their_own_uniform_log() -> None:
    spec = importlib.util.find_spec("obp")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "dataset" / "obd"
    columns = {"arm": "item_id", "reward": "click", "propensity": "propensity_score", "vanished": "keep"}
    bts, uniform = (Log.read(folder / kind / "all" / "all.csv", **columns) for kind in ("bts", "random"))
    target = np.full(bts.K, 1 / bts.K)
    found = evaluate(bts, target, estimator="snips")
    truth = uniform.reward_N.mean()  # the click rate of a uniform policy, as it was measured
    assert found.low < truth < found.high
