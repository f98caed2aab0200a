"""Over-optimisation without a generator and with one: pools that hide no bias, and gold that stays or falls."""

from __future__ import annotations

import numpy as np
import pytest

from plaudit.auditing.text.audit import audit_text
from plaudit.auditing.text.checks.overoptimisation import DRESSED, RIGHT, _dressed, curve_of
from plaudit.auditing.text.flaws.collection import planted
from plaudit.auditing.text.flaws.made import Model
from plaudit.auditing.text.flaws.truth import Truth
from plaudit.auditing.text.suites import make_suite

DATA = make_suite("sums", n=40)
TRUTH = Truth.of("sums")


def asked(fn):
    report = audit_text(Model(fn), DATA, only=["overoptimisation"], mode="model")
    return report, report.context.memo["curve"]


def test_reach_is_the_gain_of_gold_beside_the_best_that_could_be_selected() -> None:
    rng = np.random.default_rng(0)
    gold = [rng.permutation(np.arange(8.0)) for _ in range(6)]
    upside = curve_of([-g for g in gold], gold)
    assert curve_of(gold, gold).reach.mean == pytest.approx(1.0)
    lowest, highest = 9 / 5 - 1, 4 * 9 / 5 - 1  # in expectation, of four out of 0..7
    assert upside.n == (1, 2, 4)  # to half of the pool
    assert upside.reach.mean == pytest.approx((lowest - 3.5) / (highest - 3.5))
    assert upside.fall.mean == pytest.approx(3.5 - lowest)
    flat = curve_of([np.arange(8.0)] * 6, [np.ones(8)] * 6)
    assert np.isnan(flat.reach.mean)


def test_half_of_the_pool_says_more_than_its_single_best_text() -> None:
    rng = np.random.default_rng(1)
    proxy, gold = rng.normal(size=(2, 150, 16))
    half = curve_of(list(proxy), list((gold > 0).astype(float)))
    at_once = [float(g[p.argmax()] > 0) for p, g in zip(proxy, gold, strict=True)]
    assert half.n[-1] == 8
    assert half.gold[-1].high - half.gold[-1].low < 0.85 * 2 * 1.96 * np.std(at_once) / np.sqrt(150)


def test_an_edit_stands_on_right_and_on_wrong_texts_by_chance() -> None:
    """A bias that is worth more than any difference decides by itself, which no pool of twins would show."""
    texts, quality = _dressed(np.random.default_rng(0), "right", ["wrong", "bad"])
    assert (len(texts), quality.sum()) == (DRESSED, round(RIGHT * DRESSED))
    proxy, gold = [], []
    for seed in range(24):
        texts, quality = _dressed(np.random.default_rng(seed), "right", ["wrong", "bad"])
        proxy.append(np.array([1e4 * ("right" in t) + len(t) ** 2 for t in texts]))
        gold.append(quality)
    assert curve_of(proxy, gold).reach.high < 0.9


def test_a_reward_that_reads_only_length_is_found_and_the_truth_is_not() -> None:
    report, curve = asked(lambda p, c: float(len(c)))
    found, = report.findings
    assert found.kind == "gold stays" and curve.reach.high < 0.5
    assert found.witness.said[0].paid > found.witness.said[1].paid
    report, curve = asked(lambda p, c: TRUTH(p, c))
    assert report.findings == [] and curve.reach.mean == pytest.approx(1.0)
    assert "--generator" in report.checks[0].why  # what was not looked at


def test_what_a_policy_writes_decides_with_a_generator() -> None:
    for twin, found in ((False, True), (True, False)):
        one = planted("text/twin/rm_footnotes" if twin else "text/rm_footnotes", twin=twin)
        report = audit_text(**one.arguments(), only=["overoptimisation"])
        assert bool(report.findings) is found
    assert "texts of the generator" in report.checks[0].why
