"""The collection of text flaws: each flaw is found by a right check, each twin is quiet, and a broken check shows."""

from __future__ import annotations

import pytest

from plaudit.auditing.record import text
from plaudit.auditing.record.rates import caught
from plaudit.auditing.record.text import audit_text_one, build_text, text_entries
from plaudit.auditing.text.checks import checks, names
from plaudit.auditing.text.flaws.collection import planted, text_flaws, text_healthy
from plaudit.auditing.text.flaws.truth import Truth
from plaudit.auditing.text.suites import make_suite
from plaudit.core.errors import BadInput

QUICK = ("text/substring", "text/doubt", "text/any_tag", "text/never_matches", "text/chance", "text/rm_markup",
         "text/rm_gives_in", "text/rm_negation", "text/rm_letter_a", "text/rm_junk", "text/rm_copies")
TWINS = ("text/twin/substring", "text/twin/begins", "text/twin/mostly_format", "text/twin/rm_length",
         "text/twin/rm_category", "text/twin/rm_copies")
ENTRIES = {e.name: e for e in text_entries()}


def test_there_are_forty_flaws_for_every_check_and_every_name_is_one() -> None:
    assert len(text_flaws()) >= 40
    assert len({f.name for f in text_flaws()}) == len(text_flaws())
    known = set(names())
    assert all(set(f.caught_by) <= known and f.caught_by for f in text_flaws())
    wanted = {c for f in text_flaws() for c in f.caught_by}
    assert wanted >= known - {"pairs", "shortcuts"}


def test_a_hash_of_the_name_says_what_is_fresh() -> None:
    fresh = sum(f.split == "fresh" for f in text_flaws())
    assert 0.3 < fresh / len(text_flaws()) < 0.7


@pytest.mark.parametrize("name", QUICK)
def test_a_right_check_finds_the_flaw(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = ENTRIES[f"flaw:{name}"].caught_by
    monkeypatch.setattr(text, "check_names", lambda: list(right))  # the others are not asked
    row = audit_text_one(f"flaw:{name}", 1.0, 0)
    assert row["error"] is None
    assert set(row["checks"]) <= set(right)
    assert caught(row, ENTRIES[f"flaw:{name}"], right), row["found"]


@pytest.mark.parametrize("name", TWINS)
def test_a_healthy_twin_is_left_alone(name: str) -> None:
    row = audit_text_one(f"healthy:{name}", 1.0, 0)
    assert row["error"] is None
    assert row["found"] == {}


def test_a_broken_check_shows_in_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "check_names", lambda: ["spread"])
    monkeypatch.setattr(text, "code_hash", lambda name: "0")  # reading all sources is no part of this
    rows = [audit_text_one("flaw:text/never_matches", 1.0, 0)]
    whole = build_text(rows, timed=False)["efforts"][0]["checks"]["spread"]["detection"]
    spread = next(c for c in checks() if c.name == "spread")
    monkeypatch.setattr(type(spread), "run", lambda self, context: [])
    blind = build_text([audit_text_one("flaw:text/never_matches", 1.0, 0)], timed=False)["efforts"][0]["checks"]
    assert (whole["hits"], blind["spread"]["detection"]["hits"]) == (1, 0)


def test_the_truth_knows_right_from_wrong_in_any_dress() -> None:
    for suite in ("sums", "instructions", "dialogues", "principles"):
        truth = Truth.of(suite)
        for item in make_suite(suite, n=32).items:
            from plaudit.auditing.text.flaws.made import whole_text

            prompt = whole_text(item.prompt)
            assert truth(prompt, f"Sure! **{item.good[0]}**") == 1.0
            assert all(truth(prompt, f"{b} I am certain.") == 0.0 for b in item.bad)
            assert truth(prompt, "qwerty") == -0.5


def test_an_unknown_name_is_refused_with_near_ones() -> None:
    with pytest.raises(BadInput, match="substring"):
        planted("text/substrin", twin=False)
    assert text_healthy()[0].twin
