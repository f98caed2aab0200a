"""Reports quote the row of their own effort."""

from __future__ import annotations

import json

import pytest

from plaudit.auditing import audit as auditing
from plaudit.auditing import verdict
from plaudit.auditing.effort import affordable, budget_of, default_steps
from plaudit.auditing.record.quoting import FORMAT, Record, shipped
from plaudit.auditing.report.model import CheckResult
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs
from plaudit.optimize.hunting.plan import USUAL_STEPS
from plaudit.tasks.classic import CartPole
from plaudit.tasks.gridworld import GridWorld


def share(hits, n):
    return {"hits": hits, "mean": hits / n, "low": hits / n - 0.1, "high": hits / n + 0.05, "n": n}


def rates(found, cried, *, on=True):
    alarms = share(cried, 50)
    return {"detection": share(found, 100), "false alarms, high": alarms, "false alarms, any": alarms,
            "on_by_default": on}


RECORD = Record.of({"date": "2026-11-22", "efforts": [
    {"effort": 5.0, "overall": rates(95, 2), "checks": {"exploit": rates(90, 1)}},
    {"effort": 1.0, "overall": rates(87, 1), "checks": {"exploit": rates(80, 1), "contract": rates(99, 9, on=False)}}]})


@pytest.mark.parametrize(("effort", "quoted"), [(1.0, "80%"), (4.99, "80%"), (5.0, "90%"), (80.0, "90%"),
                                                (0.99999, "80%"), (0.9, "untested")])
def test_between_two_rows_the_lower_one_is_quoted_and_below_all_none(effort, quoted):
    assert RECORD.of_check("exploit", effort=effort)["detection"].startswith(quoted)


def test_the_sentence_says_what_is_found_at_what_price_and_when_it_was_measured():
    assert RECORD.overall(effort=5.0) == (
        "at 5 times the default effort an audit finds 95% [85%, 100%] of 100 flaws planted by its authors and raises a "
        "high finding on 4% [-6%, 9%] of 50 healthy rewards (audit-record of 2026-11-22)")
    said = RECORD.of_check("exploit", effort=1.0)["sentence"]
    assert said.startswith("at the default effort the exploit check finds 80%")


def test_an_audit_that_was_interrupted_quotes_the_checks_that_it_finished_and_no_rate_of_the_whole():
    results = [CheckResult("exploit", status, "", 0.1) for status in ("pass", "skipped")]
    whole = [RECORD.of_audit([r], effort=1.0, interrupted=False) for r in results]
    assert all("87%" in w["detection"] and "80%" in w["checks"]["exploit"] for w in whole)
    cut = [RECORD.of_audit([r], effort=1.0, interrupted=True) for r in results]
    assert "80%" in cut[0]["checks"]["exploit"] and cut[1]["checks"] == {}
    assert all("%" not in c["detection"] and "interrupted" in c["detection"] for c in cut)


def test_an_audit_of_chosen_checks_quotes_theirs_and_no_rate_of_the_whole():
    results = [CheckResult("exploit", "pass", "", 0.1), CheckResult("mine", "pass", "", 0.1)]
    one, two, three = (RECORD.of_audit(some, effort=1.0, interrupted=False, chosen=True)["detection"] for some in (
        results[:1], results, [*results, CheckResult("other", "pass", "", 0.1)]))
    assert "80%" in one and "87%" not in one
    assert "80%" in two and "the mine check is untested" in two
    assert "%" not in three and "only some" in three


def test_a_check_without_a_record_is_untested():
    assert RECORD.of_check("mine", effort=9.0)["false_alarm"] == "untested"
    assert Record(date="", rows=()).overall(effort=1.0) == "untested"


@pytest.fixture
def with_record(monkeypatch):
    for module in (auditing, verdict):
        monkeypatch.setattr(module, "shipped", lambda: RECORD)
    monkeypatch.setattr(auditing, "on_by_default", lambda names: [n for n in names if n not in RECORD.off()])


def upright(next_obs):
    return 1.0 - abs(next_obs[..., 2]) * 5


def test_an_audit_quotes_its_own_row_and_leaves_out_what_cries_too_often(with_record):
    report = auditing.audit(upright, env=CartPole(horizon=20), steps=1500)
    off = next(c for c in report.checks if c.name == "contract")
    assert off.status == "skipped" and "18%" in off.why
    assert report.verdict.effort["detection"].startswith("untested")  # 1,500 steps are far below the default effort
    assert all(f.rates["detection"] == "untested" for f in report.findings)
    assert json.loads(json.dumps(report.to_dict()))["verdict"]["effort"]["checks"]["exploit"].endswith("at this effort")


def test_a_check_that_is_off_runs_when_it_is_named(with_record, monkeypatch):
    monkeypatch.setitem(USUAL_STEPS, "cheap", 1500)
    report = auditing.audit(upright, env=CartPole(horizon=20), effort=1.0, only=["contract"], intent="env")
    assert [c.status for c in report.checks if c.name == "contract"] in (["pass"], ["finding"])
    assert report.verdict.effort["checks"]["contract"].startswith("at the default effort the contract check finds 99%")


def test_the_default_effort_is_a_number_of_steps_that_no_clock_changes():
    grid = GridWorld("S.G", [])
    assert default_steps(grid, Needs()) < default_steps(CartPole(), Needs())
    assert default_steps(grid, Needs(time="prefix")) == default_steps(CartPole(), Needs())
    assert budget_of(CartPole(), Needs(), effort=5).steps == 5 * default_steps(CartPole(), Needs())
    assert budget_of(CartPole(), Needs(), steps=7).steps == 7 and budget_of(CartPole(), Needs(), seconds=3).seconds == 3


def test_a_slow_environment_gets_fewer_steps():
    assert affordable(80_000, 1e-4) == 80_000 and affordable(80_000, 0.05) == 6_000


@pytest.mark.parametrize(("options", "name"), [
    ({"effort": 0.0}, "effort"), ({"effort": float("nan")}, "effort"), ({"effort": 2.0, "steps": 10}, "effort"),
    ({"seconds": 1.0, "steps": 10}, "seconds"), ({"seconds": -1.0}, "seconds")])
def test_an_effort_is_one_number(options, name):
    with pytest.raises(BadInput, match=name):
        budget_of(CartPole(), Needs(), **options)


def test_the_shipped_record_can_be_read_and_a_foreign_file_is_refused(tmp_path):
    assert isinstance(shipped(), Record)
    (tmp_path / "x.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(BadInput, match=FORMAT):
        Record.load(tmp_path / "x.json")
