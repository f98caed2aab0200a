from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from plaudit.core.errors import BadInput
from plaudit.core.statistics import (
    Interval,
    bootstrap,
    curve_band,
    difference_interval,
    iqm,
    iqm_interval,
    mean_interval,
    paired_test,
    pearson,
    probability_of_improvement,
    proportion_interval,
    spearman,
)

RNG = np.random.default_rng


def covered(sample: Callable[[np.random.Generator], Interval], truth: float, sets: int = 300) -> float:
    """The share of intervals from `sets` simulated data sets that hold the truth."""
    rng = RNG(0)
    found = [sample(rng) for _ in range(sets)]
    return float(np.mean([i.low <= truth <= i.high for i in found]))


# --- Interval ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("interval", "text"), [
    (Interval(12.34, 11.02, 13.91, 8), "12.3 [11.0, 13.9]"), (Interval(0.5, 0.4512, 0.5488, 9), "0.500 [0.451, 0.549]"),
    (Interval(1234.5, 1000.0, 1500.0, 5), "1234 [1000, 1500]"),
    (Interval(3.0, -math.inf, math.inf, 1), "3 [-inf, inf]"),
    (Interval(2.0, 2.0, 2.0, 4), "2 [2, 2]"), (Interval(math.nan, 0.0, 1.0, 0), "nan [0.0, 1.0]"),
    (Interval(2e-9, 1e-9, 3e-9, 4), "2e-09 [1e-09, 3e-09]"),
])
def test_an_interval_prints_as_many_digits_as_it_has(interval: Interval, text: str) -> None:
    assert str(interval) == text


def test_an_interval_answers_only_what_it_can_tell() -> None:
    answers = {0.5: True, 1.0: None, 2.0: None, 3.0: None, 3.5: False}
    assert {v: Interval(2.0, 1.0, 3.0, 5).exceeds(v) for v in answers} == answers
    assert mean_interval([5.0]).exceeds(-1e300) is None


def test_an_interval_becomes_strict_json() -> None:
    assert json.loads(json.dumps(Interval(1.0, -math.inf, 2.0, 1).to_json(), allow_nan=False)) == {
        "mean": 1.0, "low": None, "high": 2.0, "n": 1}


# --- means --------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_iqm_is_the_trimmed_mean_of_scipy(x: list[float]) -> None:
    assert iqm(x) == pytest.approx(stats.trim_mean(x, 0.25), rel=1e-9, abs=1e-9)


def test_iqm_of_tasks_trims_over_all_runs() -> None:
    x = RNG(0).normal(size=(3, 8))
    assert iqm_interval(x).mean == pytest.approx(stats.trim_mean(x.ravel(), 0.25)) and iqm_interval(x).n == 24


@pytest.mark.parametrize("n", [3, 10, 40])
@pytest.mark.parametrize("kind", ["normal", "exponential"])
def test_95_percent_intervals_of_the_mean_hold_the_truth(n: int, kind: str) -> None:
    def sample(rng: np.random.Generator) -> Interval:
        return mean_interval(getattr(rng, kind)(size=n), resamples=300)

    assert 0.88 <= covered(sample, 0.0 if kind == "normal" else 1.0) <= 0.99


def test_plain_percentile_intervals_would_be_too_short() -> None:
    def sample(rng: np.random.Generator) -> Interval:
        x = rng.normal(size=3)
        draws = x[rng.integers(3, size=(300, 3))].mean(1)
        return Interval(x.mean(), *np.quantile(draws, [0.025, 0.975]), 3)

    assert covered(sample, 0.0) < 0.8


def test_95_percent_intervals_of_the_iqm_over_tasks_hold_the_truth() -> None:
    levels = np.array([[0.0], [1.0], [5.0]])
    truth = stats.trim_mean((levels + RNG(1).normal(size=(3, 200_000))).ravel(), 0.25)

    def sample(rng: np.random.Generator) -> Interval:
        return iqm_interval(levels + rng.normal(size=(3, 10)), resamples=300)

    assert 0.88 <= covered(sample, truth) <= 0.99


def test_95_percent_intervals_of_a_difference_hold_the_truth() -> None:
    def sample(rng: np.random.Generator) -> Interval:
        return difference_interval(rng.normal(2.0, 1.0, size=10), rng.normal(0.0, 3.0, size=6), resamples=300)

    assert 0.88 <= covered(sample, 2.0) <= 0.99


def test_resampling_stays_within_tasks() -> None:
    far_apart = np.array([[0.0, 0.1, 0.2, 0.3], [1000.0, 1000.1, 1000.2, 1000.3]])
    stratified, pooled = mean_interval(far_apart), mean_interval(far_apart.ravel())
    assert stratified.mean == pooled.mean and stratified.high - stratified.low < 1 < pooled.high - pooled.low


def test_other_confidences_give_nested_intervals() -> None:
    x = RNG(0).normal(size=12)
    narrow, wide = mean_interval(x, confidence=0.5), mean_interval(x, confidence=0.99)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_the_same_seed_gives_the_same_interval() -> None:
    x = RNG(0).normal(size=12)
    assert iqm_interval(x, seed=3) == iqm_interval(x, seed=3) != iqm_interval(x, seed=4)


@pytest.mark.parametrize("of", [mean_interval, iqm_interval])
def test_one_run_says_nothing_and_constant_runs_have_no_width(of: Any) -> None:
    assert of([3.0]) == Interval(3.0, -math.inf, math.inf, 1)
    assert of([[3.0], [5.0]]) == Interval(4.0, -math.inf, math.inf, 2)
    same = of([0.1] * 7)
    assert (same.low, same.mean, same.high, same.n) == pytest.approx((0.1, 0.1, 0.1, 7), abs=1e-15)


def test_torch_and_lists_are_arrays() -> None:
    x = [1.0, 2.0, 4.0]
    assert mean_interval(x) == mean_interval(torch.tensor(x, requires_grad=True)) == mean_interval(np.array(x))


def test_much_data_needs_little_memory() -> None:
    x = RNG(0).normal(size=50_000)
    interval = mean_interval(x, resamples=200)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / math.sqrt(50_000), rel=0.2)


# --- bootstrap ----------------------------------------------------------------------------------------


def test_bootstrap_of_any_function_agrees_with_the_closed_form_of_the_mean() -> None:
    x = RNG(0).normal(size=60)
    slow = bootstrap(np.mean, x, seed=0, n=3000)
    fast = bootstrap(lambda sets: sets.mean(1), x, seed=0, n=3000, vectorised=True)
    assert (slow.low, slow.high) == pytest.approx((fast.low, fast.high))
    t = stats.t.interval(0.95, 59, x.mean(), x.std(ddof=1) / math.sqrt(60))
    assert (slow.low, slow.high) == pytest.approx(t, abs=0.03)


def test_bootstrap_resamples_whole_rows() -> None:
    x = RNG(0).normal(size=(80, 1))
    pairs = np.concatenate([x, 2 * x], 1)
    interval = bootstrap(lambda rows: np.corrcoef(rows.T)[0, 1], pairs, seed=0, n=200)
    assert (interval.low, interval.mean, interval.high) == pytest.approx((1.0, 1.0, 1.0)) and interval.n == 80


# --- comparisons --------------------------------------------------------------------------------------

SMALL = st.lists(st.integers(0, 4).map(float), min_size=1, max_size=7)


@given(SMALL, SMALL)
def test_probability_of_improvement_counts_all_pairs(x: list[float], y: list[float]) -> None:
    brute = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(x, y)])
    found = probability_of_improvement(x, y)
    assert found.mean == pytest.approx(brute)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    mirrored = probability_of_improvement(y, x)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-9)


def test_probability_of_improvement_is_the_mean_over_tasks() -> None:
    x, y = RNG(0).normal(size=(4, 5)), RNG(1).normal(size=(4, 7))
    each = [probability_of_improvement(a, b) for a, b in zip(x, y, strict=True)]
    found = probability_of_improvement(x, y)
    assert found.mean == pytest.approx(np.mean([i.mean for i in each]))
    assert found.high - found.low < max(i.high - i.low for i in each) and found.n == 48


def test_newcombes_interval_solves_its_equation() -> None:
    theta, m, n, z = 0.75, 4, 5, stats.norm.ppf(0.975)
    found = probability_of_improvement([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 1.0, 1.0, 6.0])
    theta = found.mean
    more = (m + n) / 2 - 1
    for t in (found.low, found.high):
        variance = t * (1 - t) * (1 + more * (1 - t) / (2 - t) + more * t / (1 + t)) / (m * n)
        assert (theta - t) ** 2 == pytest.approx(z**2 * variance, rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_intervals_of_the_improvement_hold_the_truth(shift: float) -> None:
    truth = stats.norm.cdf(shift / math.sqrt(2))

    def sample(rng: np.random.Generator) -> Interval:
        return probability_of_improvement(rng.normal(shift, size=8), rng.normal(size=10))

    def of_tasks(rng: np.random.Generator) -> Interval:
        return probability_of_improvement(rng.normal(shift, size=(3, 5)), rng.normal(size=(3, 5)))

    assert 0.9 <= covered(sample, truth) <= 0.995 and 0.9 <= covered(of_tasks, truth) <= 0.995


def test_complete_separation_of_few_runs_keeps_its_width() -> None:
    assert probability_of_improvement([2.0], [1.0]).exceeds(0.5) is None
    few, many = (probability_of_improvement(np.ones(n), np.zeros(n)) for n in (3, 30))
    assert few.mean == many.mean == few.high == 1.0 and few.low < 0.7 < 0.9 < many.low


def test_the_sign_flip_test_agrees_with_brute_force_and_with_scipy() -> None:
    x, y = RNG(0).normal(0.8, size=8), RNG(1).normal(size=8)
    found = paired_test(x, y)
    d = x - y
    flips = [abs(np.mean(d * s)) for s in itertools.product((1, -1), repeat=8)]
    assert found.exact and found.p == np.mean(np.array(flips) >= abs(d.mean()) - 1e-12)
    for alternative in ("greater", "less", "two-sided"):
        scipys = stats.permutation_test((x, y), lambda a, b: np.mean(a - b), permutation_type="samples",
                                        alternative=alternative, n_resamples=np.inf).pvalue
        assert paired_test(x, y, alternative=alternative).p == pytest.approx(scipys)


def test_the_random_sign_flips_agree_with_all_of_them() -> None:
    x = RNG(0).normal(0.3, size=14)
    found = paired_test(x, np.zeros(14), seed=1)
    flips = np.abs((np.array(list(itertools.product((1, -1), repeat=14))) * x).mean(1))
    assert not found.exact and found.p == pytest.approx(np.mean(flips >= abs(x.mean())), abs=0.015)


def test_the_paired_test_is_right_about_chance() -> None:
    rng = RNG(0)
    p = [paired_test(rng.normal(size=6), rng.normal(size=6), resamples=50).p for _ in range(300)]
    assert np.mean(np.array(p) <= 0.05) <= 0.08
    assert paired_test([1.0, 1.0], [1.0, 1.0]).p == 1.0 and paired_test([2.0], [1.0]).p == 1.0


def test_pairing_finds_what_an_unpaired_comparison_cannot() -> None:
    level = np.arange(8) * 100.0
    x = level + 1 + 0.1 * RNG(0).normal(size=8)
    assert paired_test(x, level).difference.exceeds(0.0) and paired_test(x, level).p < 0.01
    assert difference_interval(x, level).exceeds(0.0) is None


# --- proportions and correlations ---------------------------------------------------------------------


COUNTS = st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS, st.sampled_from([0.8, 0.95, 0.99]))
def test_wilsons_interval_is_scipys(counts: tuple[int, int], confidence: float) -> None:
    successes, n = counts
    scipys = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    found = proportion_interval(successes, n, confidence=confidence)
    assert (found.low, found.high) == pytest.approx((scipys.low, scipys.high), abs=1e-12)
    assert found.mean == successes / n and found.low <= found.mean <= found.high


def test_no_trials_tell_nothing() -> None:
    found = proportion_interval(0, 0)
    assert math.isnan(found.mean) and (found.low, found.high, found.n) == (0.0, 1.0, 0)


def test_pearson_and_its_interval_are_scipys() -> None:
    x = RNG(0).normal(size=20)
    y = x + RNG(1).normal(size=20)
    scipys = stats.pearsonr(x, y)
    found, low_high = pearson(x, y), scipys.confidence_interval(0.95)
    assert found.mean == pytest.approx(scipys.statistic) and (found.low, found.high) == pytest.approx(tuple(low_high))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=4, max_size=20))
def test_spearman_with_ties_is_scipys(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, dtype=float).T
    found = spearman(x, y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert math.isnan(found.mean) and (found.low, found.high) == (-1.0, 1.0)
    else:
        assert found.mean == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
        assert -1 <= found.low <= found.mean <= found.high <= 1


@pytest.mark.parametrize("of", [pearson, spearman])
def test_intervals_of_a_correlation_hold_the_truth(of: Any) -> None:
    rho = 0.6
    truth = rho if of is pearson else 6 / math.pi * math.asin(rho / 2)

    def sample(rng: np.random.Generator) -> Interval:
        x, y = rng.normal(size=(2, 15))
        return of(x, rho * x + math.sqrt(1 - rho**2) * y)

    assert 0.9 <= covered(sample, truth) <= 0.985


def test_few_pairs_and_perfect_ranks_stay_uncertain() -> None:
    up = np.arange(12.0)
    assert spearman(up[:3], up[:3]) == Interval(1.0, -1.0, 1.0, 3)
    lows = [spearman(up[:n], up[:n] ** 3).low for n in (4, 6, 12)]
    assert lows == sorted(lows) and lows[0] < 0 and 0.9 < lows[-1] < 1
    assert spearman(up, -up).high == pytest.approx(-lows[-1]) and spearman(up, -up).low == -1.0
    assert pearson([1.0], [2.0]).low == -1.0 and math.isnan(pearson(up, np.full(12, 0.1)).mean)
    assert pearson(up, 3 - 0.7 * up) == Interval(-1.0, -1.0, -1.0, 12)


# --- curves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("centre", "interval"), [("mean", mean_interval), ("iqm", iqm_interval)])
def test_a_band_is_the_interval_of_each_point(centre: Any, interval: Any) -> None:
    x = RNG(0).normal(size=(8, 5)) + np.arange(5)
    middle, low, high = curve_band(x, centre=centre, resamples=1000, seed=2)
    for t in range(5):
        one = interval(x[:, t], resamples=1000, seed=2)
        assert (middle[t], low[t], high[t]) == pytest.approx((one.mean, one.low, one.high))


def test_a_band_in_parts_is_the_same_band(monkeypatch: pytest.MonkeyPatch) -> None:
    x = RNG(0).normal(size=(5, 40))
    whole = curve_band(x, resamples=50)
    monkeypatch.setattr("plaudit.core.statistics.CELLS", 700)
    parts = curve_band(x, resamples=50)
    assert all((a == b).all() for a, b in zip(whole, parts, strict=True))


def test_a_band_of_one_curve_or_of_the_unknown_is_nan() -> None:
    middle, low, high = curve_band([[1.0, 2.0]])
    assert middle.tolist() == [1.0, 2.0] and np.isnan(low).all() and np.isnan(high).all()
    middle, low, high = curve_band([[1.0, math.nan], [2.0, 5.0]])
    assert np.isnan([middle[1], low[1], high[1]]).all() and low[0] < middle[0] < high[0]
    assert [len(part) for part in curve_band(np.zeros((3, 0)))] == [0, 0, 0]


# --- bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [
    lambda: mean_interval([]), lambda: mean_interval([1.0, math.nan]), lambda: iqm_interval([1.0, math.inf]),
    lambda: mean_interval(np.zeros((2, 2, 2))), lambda: mean_interval(3.0), lambda: mean_interval(["a"]),
    lambda: mean_interval([1.0, 2.0], confidence=1.0), lambda: mean_interval([1.0, 2.0], resamples=0),
    lambda: paired_test([1.0], [1.0, 2.0]), lambda: probability_of_improvement([[1.0], [2.0]], [1.0]),
    lambda: pearson([1.0, 2.0], [1.0]), lambda: spearman([[1.0]], [[1.0]]), lambda: proportion_interval(3, 2),
    lambda: proportion_interval(-1, 2), lambda: bootstrap(np.mean, np.zeros((0, 2)), seed=0),
    lambda: curve_band(np.zeros(3)), lambda: curve_band(np.zeros((0, 3))), lambda: curve_band([[math.inf]]),
    lambda: difference_interval([1.0], [math.nan]),
])
def test_bad_data_are_refused(call: Any) -> None:
    with pytest.raises(BadInput):
        call()
