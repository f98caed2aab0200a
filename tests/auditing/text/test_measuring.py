"""The numbers that checks rest on, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from plaudit.auditing.text.checks.calibration import expected_error
from plaudit.auditing.text.checks.overoptimisation import curve_of
from plaudit.auditing.text.checks.ranking import one_to_many
from plaudit.auditing.text.measuring import clustered_mean, smallest_seen


def test_rows_of_one_prompt_are_no_independent_evidence() -> None:
    rng = np.random.default_rng(0)
    per_prompt = rng.integers(0, 2, size=60).astype(float)
    values, clusters = np.repeat(per_prompt, 20), list(np.repeat(np.arange(60), 20))
    honest = clustered_mean(values, clusters)
    naive = clustered_mean(values, range(len(values)))
    assert honest.high - honest.low > 3 * (naive.high - naive.low)
    assert honest.n == 60


def test_an_interval_over_prompts_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(60):
        level = rng.normal(0, 1, size=40)
        values = (level[:, None] + rng.normal(0, 1, size=(40, 5))).ravel()
        i = clustered_mean(values, list(np.repeat(np.arange(40), 5)))
        hits += i.low <= 0 <= i.high
    assert hits >= 50


def test_an_effect_of_the_smallest_size_is_seen_in_about_four_of_five() -> None:
    rng = np.random.default_rng(2)
    size = smallest_seen(rng.normal(0, 1, size=200), range(200))
    seen = [clustered_mean(rng.normal(size, 1, size=200), range(200)).low > 0 for _ in range(60)]
    assert 0.6 < np.mean(seen) < 0.95


def test_one_to_many_on_fixed_scores_with_ties() -> None:
    """RewardMATH: strict accuracy, accuracy with ties, MRR with ties broken against the right answer."""
    right = [3.0, 2.0, 1.0, float("nan")]
    wrong = [[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]
    said = one_to_many(right, wrong)
    assert (said.accuracy, said.accuracy_with_ties) == (0.25, 0.5)
    assert said.mrr == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 4) / 4)


def test_random_scores_rank_as_chance_says() -> None:
    """Random: accuracy 10%, MRR 0.293 for one against nine (the card of RewardMATH)."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(4000, 10))
    said = one_to_many(scores[:, 0].tolist(), scores[:, 1:].tolist())
    assert said.accuracy == pytest.approx(0.1, abs=0.015)
    assert said.mrr == pytest.approx(sum(1 / k for k in range(1, 11)) / 10, abs=0.015)


def test_the_curve_of_best_of_n_is_the_mean_over_all_subsets() -> None:
    rng = np.random.default_rng(4)
    proxy, gold = rng.normal(size=8), rng.normal(size=8)
    curve = curve_of([proxy] * 4, [gold] * 4)
    for n, p, g in zip(curve.n, curve.proxy, curve.gold, strict=True):
        best = [max(s, key=lambda k: proxy[k]) for s in itertools.combinations(range(8), n)]
        assert p.mean == pytest.approx(np.mean(proxy[best]))
        assert g.mean == pytest.approx(np.mean(gold[best]))


def test_a_turning_point_is_found_and_a_rising_curve_has_none() -> None:
    rng = np.random.default_rng(5)
    proxies = [np.sort(rng.normal(size=32)) for _ in range(12)]
    rises = curve_of(proxies, [np.arange(32.0)] * 12)
    turns = curve_of(proxies, [np.minimum(np.arange(32.0), 4 * (31 - np.arange(32.0)))] * 12)
    assert (rises.turn.mean, rises.fall.mean) == (16.0, 0.0)
    assert turns.turn.high < 16
    assert turns.fall.low > 0


def test_calibration_error_of_a_calibrated_and_of_a_sure_model() -> None:
    rng = np.random.default_rng(6)
    p = rng.uniform(0.5, 1, size=20_000)
    won = (rng.uniform(size=20_000) < p).astype(float)
    assert expected_error(p, won) < 0.02
    assert expected_error(np.full(20_000, 0.999), won) > 0.2


def test_a_curve_of_sampled_texts_needs_gold_that_differs() -> None:
    """Right answers of the data are gold where no reward of the intent is named; all wrong says nothing."""
    from plaudit.auditing.text.audit import audit_text

    rows = [{"prompt": f"What is {a} + 27?", "answer": str(a + 27)} for a in range(11, 23)]

    def writes(share: float):
        def sample(prompt: str, n: int, seed: int) -> list[str]:
            right = str(int(prompt.split()[2]) + 27)
            return [f"It is {right}." if k < share * n else "It is 7, and that is " + "really " * k + "it." for k in
                    range(n)]

        return sample

    def told(share: float):
        report = audit_text(lambda completion_text: float(len(completion_text)), rows, mode="model",
                            generator=writes(share), only=["overoptimisation"])
        return report, report.checks[0]

    report, check = told(0.5)
    assert check.status == "finding" and report.findings[0].severity == "high"
    assert report.findings[0].evidence["turning point (n)"].mean == 1
    assert report.config["power"]["overoptimisation"] >= 0
    _, check = told(0.0)
    assert check.status == "skipped" and "all texts are worth the same (0)" in check.why


def test_a_folder_that_writes_nothing_is_no_generator(tiny_reward, tmp_path) -> None:
    from plaudit.auditing.text.sampling import sampler
    from plaudit.core.errors import BadInput

    (tmp_path / "config.json").write_text('{"model_type": "nothing"}')
    (tmp_path / "model.safetensors").write_bytes(b"half")
    for folder in (tmp_path / "missing", tmp_path):
        with pytest.raises(BadInput, match="generator: expected the folder of a causal language model"):
            sampler(folder)
