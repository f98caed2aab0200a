"""The checks find the planted flaws, and cry no wolf on their twins."""

from __future__ import annotations

import pytest

from plaudit.auditing.finding import Finding
from plaudit.auditing.flaws import flaw
from plaudit.auditing.flaws.scoring import CollectionScore, FlawScore, score_collection


def score(name: str, *, found: list[tuple[str, str]], alarms: list[tuple[str, str]] = ()) -> FlawScore:
    make = lambda pairs: [Finding(check=c, severity=s, title=c) for c, s in pairs]  # noqa: E731
    return FlawScore(flaw=flaw(name), findings=make(found), alarms=make(alarms), seconds=1.0)


def test_a_flaw_is_caught_by_a_right_check_and_not_by_a_note_or_a_wrong_one():
    assert score("boat_race", found=[("exploit", "high")]).caught
    assert not score("boat_race", found=[("exploit", "low"), ("scale", "high")]).caught


def test_rates_count_flaws_caught_and_twins_with_a_high_finding():
    both = CollectionScore([score("boat_race", found=[("exploit", "high")], alarms=[("scale", "medium")]),
                            score("noisy", found=[], alarms=[("contract", "high")])])
    assert (both.detection.mean, both.false_alarms.mean) == (0.5, 0.5)
    assert both.of_check("contract")[0].mean == 0.0 and both.of_check("exploit")[0].mean == 1.0
    assert "MISSED noisy" in str(both) and "FALSE ALARM contract" in str(both)


@pytest.mark.slow  # a dozen audits with their searches: about a minute
def test_every_flaw_of_a_grid_world_is_caught_and_no_twin_is_high():
    names = ["boat_race", "dirt", "escape", "lingering", "swapped", "near_exit"]
    out = score_collection(steps=30_000, names=names)
    assert out.detection.mean == 1.0 and out.false_alarms.mean == 0.0, str(out)


@pytest.mark.slow  # thirty-two audits at the default effort: half an hour or more
def test_thirteen_of_sixteen_flaws_are_caught_at_the_default_effort_and_no_twin_is_high():
    out = score_collection(seconds=60.0)
    assert sum(s.caught for s in out.scores) >= 13, str(out)
    assert not any(s.cried for s in out.scores), str(out)
