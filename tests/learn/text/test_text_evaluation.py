from __future__ import annotations

import json
import math

import numpy as np
import pytest

from plaudit.core.errors import BadInput
from plaudit.feedback.records import Fragment, Preference
from plaudit.learn.text.evaluation import clustered, evaluate
from plaudit.learn.text.scored import Scored


class Table:
    """Scores from a dictionary of completions; unknown words are unknown."""

    def __init__(self, scores, noise=0.0):
        self.scores, self.noise, self.calls = scores, noise, 0

    def rows(self, prompts, completions, *, per_token=False, raw=False):
        self.calls += 1
        return [Scored(value=self.scores[c] + self.noise * n, length=1) if c in self.scores
                else Scored(value=None, why="not in the table") for n, c in enumerate(completions)]


def planted(share: float, n: int = 200, per_prompt: int = 1) -> tuple[Table, list[Preference]]:
    """A model that is right in a known share of the pairs, with unit margins."""
    scores: dict[str, float] = {}
    records = []
    for i in range(n):
        right = (i // per_prompt) % 10 < 10 * share
        scores[f"c{i}"], scores[f"r{i}"] = (1.0, 0.0) if right else (0.0, 1.0)
        first = i % 2 == 0  # the better one stands first in half of the records
        records.append(Preference(options=(f"c{i}", f"r{i}") if first else (f"r{i}", f"c{i}"), label=float(first),
                                  context=f"p{i // per_prompt}", provenance={"subset": "even" if i % 2 else "odd"}))
    return Table(scores), records


def test_accuracy_is_the_planted_one_whatever_side_the_better_stands_on():
    model, records = planted(0.8)
    found = evaluate(model, records)
    assert found.accuracy.mean == pytest.approx(0.8) and found.accuracy.low < 0.8 < found.accuracy.high
    assert found.mrr.mean == pytest.approx(0.8 + 0.2 / 2) and set(found.by_category) == {"even", "odd"}
    assert found.margins.mean.mean == pytest.approx(0.6) and found.margins.negative == pytest.approx(0.2)
    upside_down = evaluate(Table({k: -v for k, v in model.scores.items()}), records)
    assert upside_down.accuracy.mean == pytest.approx(0.2)


def test_pairs_of_one_prompt_are_no_independent_evidence():
    model, records = planted(0.8, n=200, per_prompt=1)
    width = evaluate(model, records).accuracy
    model, records = planted(0.8, n=200, per_prompt=10)
    wider = evaluate(model, records).accuracy
    assert wider.n == 20 and wider.high - wider.low > 2 * (width.high - width.low)


def test_intervals_over_clusters_cover():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(60):
        rate = rng.beta(4, 2, size=30)  # prompts differ: the mean is 2/3
        values = [float(rng.random() < r) for r in rate for _ in range(8)]
        found = clustered(values, [str(i) for i in range(30) for _ in range(8)], seed=seed)
        hits += found.low <= 2 / 3 <= found.high
    assert hits >= 53


def test_all_right_is_not_certainty():
    assert clustered([1.0] * 5, list("abcde")).low < 0.8


def test_unknown_scores_are_counted_apart():
    model, records = planted(0.8, n=100)
    del model.scores["c0"]
    found = evaluate(model, records)
    assert found.unknown == 1 and found.reasons == {"not in the table": 1} and found.accuracy.n == 99


@pytest.mark.parametrize("ties, expected", [("against", 0.0), ("half", 0.5), ("for", 1.0)])
def test_ties_count_as_was_said_and_are_told(ties, expected):
    records = [Preference(options=("a", "b"), label=1.0, context=str(i)) for i in range(4)]
    found = evaluate(Table({"a": 1.0, "b": 1.0}), records, ties=ties)
    assert found.accuracy.mean == expected and found.tied == 4 and found.ties == ties


def test_one_right_answer_among_several():
    records = [Preference(options=("a", "b", "c"), correct=(True, False, False), context=str(i)) for i in range(3)]
    found = evaluate(Table({"a": 1.0, "b": 2.0, "c": 0.0}), records)
    assert found.accuracy.mean == 0.0 and found.mrr.mean == 0.5 and found.calibration is None


def test_a_calibrated_model_is_told_from_one_that_is_too_sure():
    rng = np.random.default_rng(0)
    gaps = rng.normal(0, 2, 1200)
    records, scores = [], {}
    for i, gap in enumerate(gaps):
        scores[f"a{i}"], scores[f"b{i}"] = gap, 0.0
        label = float(rng.random() < 1 / (1 + math.exp(-gap)))
        records.append(Preference(options=(f"a{i}", f"b{i}"), label=label, context=str(i)))
    honest = evaluate(Table(scores), records, orders=1).calibration
    sure = evaluate(Table({k: 4 * v for k, v in scores.items()}), records, orders=1).calibration
    assert honest is not None and sure is not None
    assert honest.error < 0.05 and honest.temperature == pytest.approx(1, abs=0.15)
    assert sure.error > 0.1 and sure.temperature == pytest.approx(4, rel=0.15) and sure.error_after < 0.05


def test_the_error_that_a_temperature_leaves_is_not_measured_on_the_pairs_that_chose_it():
    """Prompt a says to trust the gap wholly, b not at all: each is judged by what the other taught."""
    records = [Preference(options=(f"{c}{i}", f"{c}{i}-"), label=float(c == "a"), context=c) for c in "ab"
               for i in range(4)]
    scores = {o: float(not o.endswith("-")) for r in records for o in r.options}
    both = evaluate(Table(scores), records, orders=1).calibration
    least, most = 1 / (1 + math.exp(-1 / 64)), 1 / (1 + math.exp(-64))
    assert both is not None and both.error_after == pytest.approx(((1 - least) + most) / 2, abs=1e-3)
    one = evaluate(Table(scores), records[:4], orders=1).calibration
    assert one is not None and math.isnan(one.error_after)


def test_what_the_order_of_rows_changes_is_seen():
    model, records = planted(0.8, n=60)
    steady = evaluate(model, records, orders=3).orders
    assert steady is not None and steady.largest == 0.0 and steady.accuracy[0] == steady.accuracy[1]
    moody = evaluate(Table(model.scores, noise=0.05), records, orders=3).orders
    assert moody is not None and moody.largest > 1.0 and moody.accuracy[0] < moody.accuracy[1]


def test_rewardbench_1_and_2_are_recognised():
    def pair(i, subset):
        return Preference(options=("a", "b"), label=1.0, context=str(i), provenance={"subset": subset})

    table = Table({"a": 1.0, "b": 0.0, "c": 0.0})
    one = evaluate(table, [pair(0, "hep-go"), pair(1, "mt-bench-easy")]).rewardbench
    assert one["Reasoning"] == 1.0 and one["Safety"] == 0.0 and one["score"] == 0.5
    two = [Preference(options=("a", "b", "c", "c"), correct=(True, False, False, False), context="1",
                      provenance={"subset": "Focus", "id": "1"}),
           Preference(options=("a", "a", "b"), correct=(True, True, False), context="2",
                      provenance={"subset": "Ties", "id": "tied:0"}),
           Preference(options=("a", "b", "c"), correct=(True, False, False), context="3",
                      provenance={"subset": "Ties", "id": "ref:0"})]
    found = evaluate(table, two)
    assert found.rewardbench["Focus"] == 1.0 and found.rewardbench_ties is not None
    assert found.rewardbench["Ties"] == pytest.approx(1.01)  # as there: the margin's 0.01 comes on top
    assert json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("records", [[], [Preference(options=("a", "b"))], [Preference(options=("a", "b"), label=0.5)]])
def test_nothing_that_is_decided_is_refused(records):
    with pytest.raises(BadInput, match="records"):
        evaluate(Table({}), records)


def test_fragments_and_all_unknown_are_refused():
    with pytest.raises(BadInput, match="fragments"):
        evaluate(Table({}), [Preference(options=(Fragment(0, 0, 1), Fragment(1, 0, 1)), label=1.0)])
    with pytest.raises(BadInput, match="not in the table"):
        evaluate(Table({}), [Preference(options=("a", "b"), label=1.0)])
