"""Rates are counted as they should be, and a bad check shows."""

from __future__ import annotations

import pytest

from plaudit.auditing.record.page import draw, markdown, shares_by_family
from plaudit.auditing.record.quoting import Record, on_by_default
from plaudit.auditing.record.rates import rates_of
from plaudit.auditing.record.rewards import Entry


def flaw(name, *, caught_by=("exploit",), family="farmed", world="grid", split="fresh"):
    return Entry(name=f"flaw:{name}", family=family, world=world, split=split, caught_by=tuple(caught_by))


def sound(name, *, family="twin", world="grid"):
    return Entry(name=f"healthy:{name}", family=family, world=world)


def row(entry, found=None, *, skipped=(), checks=("exploit", "scale")):
    found = found or {}
    status = {c: "skipped" if c in skipped else "finding" if c in found else "pass" for c in checks}
    return {"name": entry.name, "effort": 1.0, "seed": 0, "found": found, "titles": {}, "checks": status, "safe": None,
            "verdict": "", "steps": 10, "error": None, "measured": {"cpu_s": 1.0, "commit": "c", "code": "h"}}


def counted(pairs):
    return rates_of([r for _, r in pairs], {e.name: e for e, _ in pairs})


def planted():
    a, b, c = flaw("a"), flaw("b", caught_by=("scale",), world="mujoco"), flaw("c", caught_by=("exploit", "scale"))
    x, y = sound("x"), sound("y", world="mujoco")
    return [(a, row(a, {"exploit": "high"})), (b, row(b, {"exploit": "high", "scale": "low"})),
            (c, row(c, {"scale": "medium"})), (x, row(x, {"scale": "low"})), (y, row(y, skipped=["exploit"]))]


def test_a_flaw_counts_for_the_checks_that_should_find_it_from_medium_on():
    rates = counted(planted())
    assert (rates["checks"]["exploit"]["detection"]["hits"], rates["checks"]["exploit"]["detection"]["n"]) == (1, 2)
    assert (rates["checks"]["scale"]["detection"]["hits"], rates["checks"]["scale"]["detection"]["n"]) == (1, 2)
    assert rates["with all checks"]["detection"]["hits"] == 2  # b was seen by a wrong check and by a note only


def test_false_alarms_are_counted_where_a_check_looked():
    rates = counted(planted())["checks"]
    assert rates["exploit"]["false alarms, any"]["n"] == 1  # it was skipped on y
    assert rates["scale"]["false alarms, high"]["mean"] == 0.0
    assert rates["scale"]["false alarms, any"]["mean"] == 0.5


def test_a_check_that_cries_too_often_is_off_and_the_overall_rates_go_without_it():
    rates = counted(planted())
    assert not rates["checks"]["scale"]["on_by_default"] and rates["checks"]["exploit"]["on_by_default"]
    assert rates["overall"]["detection"]["hits"] == 1
    assert rates["overall"]["false alarms, any"]["hits"] == 0
    record = Record.of({"date": "2026-01-01", "efforts": [{"effort": 1.0, **rates}]})
    assert on_by_default(["exploit", "scale", "mine"], record) == ["exploit", "mine"]
    assert "50%" in record.off()["scale"] and "--only scale" in record.off()["scale"]


def test_one_alarm_in_twenty_is_allowed_and_two_are_not():
    def of(alarms):
        pairs = [(e := sound(str(i)), row(e, {"scale": "low"} if i < alarms else {})) for i in range(20)]
        return counted(pairs)["checks"]["scale"]["on_by_default"]

    assert of(1) and not of(2)


def test_a_broken_check_shows_up():
    """A check that never finds has a detection of 0, one that always cries is off."""
    pairs = [(e := flaw(str(i), caught_by=("exploit", "scale")), row(e, {"scale": "high"})) for i in range(10)]
    pairs += [(e := sound(str(i)), row(e, {"scale": "high"})) for i in range(10)]
    rates = counted(pairs)["checks"]
    assert rates["exploit"]["detection"]["mean"] == 0.0 and rates["exploit"]["detection"]["high"] < 0.35
    assert rates["scale"]["false alarms, high"]["mean"] == 1.0 and not rates["scale"]["on_by_default"]


def test_rates_are_told_apart_by_family_world_and_split():
    rates = counted(planted())
    assert set(rates["families"]) == {"farmed", "twin"} and set(rates["worlds"]) == {"grid", "mujoco"}
    assert rates["worlds"]["mujoco"]["detection"]["hits"] == 0
    assert set(rates["splits"]) == {"fresh"} and rates["splits"]["fresh"]["false alarms, high"] is None


def test_what_nobody_measured_has_no_rate():
    rates = counted([(e := sound("x"), row(e))])
    assert rates["overall"]["detection"] is None and rates["checks"]["exploit"]["detection"] is None


@pytest.fixture
def record():
    pairs = planted()
    entries = {e.name: e for e, _ in pairs}
    rewards = [{"effort": 1.0, **entries[r["name"]].to_json(), **({"caught": False} if e.flawed else {}),
                "found": r["found"], "error": None} for e, r in pairs]
    return {"date": "2026-01-01", "machine": "m", "cpu_s": 7200.0, "config": {"checks": ["exploit", "scale"]},
            "code": [{"commit": "c", "hash": "h", "audits": 5}], "of": {"flaws": 4, "healthy": 2},
            "efforts": [{"effort": 1.0, **counted(pairs)}], "rewards": rewards}


def test_the_page_says_how_much_was_audited_and_what_was_missed(record):
    text = markdown(record, figure="x.png")
    assert "3 of 4 planted flaws and 2 of 2 healthy" in text and "2.0 CPU hours" in text
    assert "| scale (off by default) | 50%" in text and "| flaw:b | scale |" in text


def test_the_figure_holds_the_share_of_each_family(record):
    families, checks, values = shares_by_family(record, 1.0)
    assert families == ["farmed", "twin"] and checks == ["exploit", "scale"]
    assert values == [[pytest.approx(2 / 3), pytest.approx(1 / 3)], [0.0, 0.0]]
    assert len(draw(record).axes) == 2
