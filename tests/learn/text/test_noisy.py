from __future__ import annotations

from dataclasses import replace

import pytest

from plaudit.core.errors import BadInput
from plaudit.feedback.records import Fragment, Preference
from plaudit.learn.text.embedding import HashedEncoder
from plaudit.learn.text.noisy import measure_strengths, spot_check


def records(n: int = 60) -> list[Preference]:
    made = [Preference(context=f"What is {i} plus one?", options=(f"It is {i + 1}.", f"No idea, ask {i} others."),
                       label=1.0) for i in range(n)]
    made = [r.swapped() if i % 2 else r for i, r in enumerate(made)]
    return [replace(r, label=1 - float(r.label or 0)) if i % 6 == 0 else r for i, r in enumerate(made)]


def test_turned_labels_are_the_weakest_by_an_encoder_and_by_a_language_model(tiny_llama) -> None:
    wrong = set(range(0, 60, 6))
    by_encoder = measure_strengths(records(), by=HashedEncoder(), seed=1)
    assert set(by_encoder.order[:10].tolist()) == wrong and len(by_encoder) == 60
    by_model = measure_strengths(records(), by=tiny_llama, seed=1)
    assert len(set(by_model.order[:20].tolist()) & wrong) >= 9, "a random model's states still tell the words apart"


def test_rows_to_read_come_from_each_group() -> None:
    rows = spot_check(measure_strengths(records(), by=HashedEncoder()), groups=6, each=3)
    assert [len(g) for g in rows] == [3] * 6 and all(i % 6 == 0 for i in rows[0])
    assert rows == spot_check(measure_strengths(records(), by=HashedEncoder()), groups=6, each=3)


def test_what_is_no_pair_of_texts_is_named() -> None:
    steps = Preference(options=(Fragment(0, 0, 1), Fragment(1, 0, 1)), label=1.0)
    with pytest.raises(BadInput, match=r"records\[2\]: expected texts, received steps"):
        measure_strengths([*records(2), steps], by=HashedEncoder())
    three = Preference(options=("a", "b", "c"), correct=(True, False, False))
    with pytest.raises(BadInput, match=r"records\[1\]: expected a labelled pair"):
        measure_strengths([records(1)[0], three], by=HashedEncoder())
    with pytest.raises(BadInput, match="two different texts"):
        measure_strengths([*records(9), Preference(options=("a", "a"), label=1.0)], by=HashedEncoder())
