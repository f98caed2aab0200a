"""Accepted findings: known again by what they claim, shown, without say in the exit code, and never for longer."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace

import pytest

from plaudit.auditing.baseline import FORMAT, Baseline
from plaudit.auditing.finding import Finding
from plaudit.core.errors import BadInput

TODAY = datetime.date(2027, 1, 15)


def finding(severity="high", *, check="exploit", kind="", title="circling earns 312", **more):
    return Finding(check=check, kind=kind, severity=severity, title=title, **more)


@pytest.fixture
def report(empty_report, harbour):
    """Makes a report with some findings."""
    return lambda *findings: replace(empty_report, findings=list(findings))


@pytest.fixture
def accept(harbour):
    def make(report, **options):
        return Baseline(harbour / "b.json").accepting(report, **{"reason": "known, see the log", **options})

    return make


def test_the_same_claim_with_other_numbers_is_accepted_and_fails_nothing(report, accept):
    baseline = accept(report(finding()))
    again = baseline.apply(report(finding(title="drifting earns 298 with seed 7", cost=0.3)), today=TODAY)
    assert report(finding()).fails("high") and not again.fails("low")
    assert again.findings[0].accepted.reason == "known, see the log" and again.baseline.notes == []
    assert again.verdict.safe is False and again.verdict.sentence.startswith("Known and accepted: Not safe")


@pytest.mark.parametrize("other", [finding(kind="unknown"), finding(check="scale"), finding(kind="loop")])
def test_another_claim_is_not_accepted(report, accept, other):
    again = accept(report(finding())).apply(report(other), today=TODAY)
    assert again.fails("high") and again.baseline.accepted == 0


def test_the_same_claim_of_another_reward_or_environment_is_not_accepted(report, accept, harbour):
    baseline = accept(report(finding()))
    for changes in ({"target": str(harbour / "boat.py:spin")}, {"env": "Sail"}):
        again = baseline.apply(replace(report(finding()), **changes), today=TODAY)
        assert again.fails("high")
        assert "accepts nothing of" in again.baseline.notes[0] and "1 entries are for others" in again.baseline.notes[0]


def test_a_folder_that_moved_changes_nothing_but_another_file_does(report, accept, harbour):
    one = report(finding())
    absolute, relative = replace(one, target=str(harbour / "boat.py:progress")), replace(one, target="boat.py:progress")
    assert absolute.fingerprint(finding()) == relative.fingerprint(finding())
    assert one.fingerprint(finding()) != replace(one, target="other.py:progress").fingerprint(finding())


def test_a_finding_that_got_worse_counts_again_and_says_so(report, accept):
    baseline = accept(report(finding("medium")))
    assert not baseline.apply(report(finding("low")), today=TODAY).fails("low")
    worse = baseline.apply(report(finding("high")), today=TODAY)
    assert worse.fails("high") and "accepted as medium and now high" in worse.baseline.notes[0]


def test_the_last_day_counts_and_the_next_one_does_not(report, accept):
    baseline = accept(report(finding()), expires="2027-01-15")
    assert not baseline.apply(report(finding()), today=TODAY).fails("high")
    late = baseline.apply(report(finding()), today=TODAY + datetime.timedelta(days=1))
    assert late.fails("high") and "accepted until 2027-01-15, which is over" in late.baseline.notes[0]


def test_an_entry_that_matches_nothing_is_said_and_one_whose_check_did_not_run_is_another_matter(report, accept):
    one = report(finding(), finding("low", check="distance"))
    baseline = accept(one)
    ran = [replace(c, status="pass") for c in one.checks]
    notes = baseline.apply(replace(report(), checks=ran), today=TODAY).baseline.notes
    assert len(notes) == 2
    assert any("(distance): matches nothing any more; take it out" in n for n in notes)
    assert any("(exploit): the check exploit did not run" in n for n in notes)


def test_what_is_not_accepted_leads_the_verdict(report, accept):
    baseline = accept(report(finding()))
    both = baseline.apply(report(finding(), finding(kind="unknown", title="it is unknown at 4")), today=TODAY)
    assert both.verdict.sentence == "Not safe to optimise: it is unknown at 4"
    assert [f.accepted is None for f in both.findings] == [True, False]
    low = baseline.apply(report(finding(), finding("low", check="scale", title="sparse")), today=TODAY)
    assert low.verdict.sentence == "Known and accepted: Not safe to optimise: circling earns 312"


def test_what_is_written_is_read_again_and_keeps_older_entries(report, accept, harbour):
    first = accept(report(finding()), expires="2027-03-01")
    first.save()
    again = Baseline.load(harbour / "b.json")
    assert again.entries == first.entries
    more = again.accepting(again.apply(report(finding(), finding("low", check="scale")), today=TODAY), reason="later")
    assert [(e.check, e.reason) for e in more.entries] == [("exploit", "known, see the log"), ("scale", "later")]
    data = json.loads(first.save().read_text())
    assert data["format"] == FORMAT and data["accepted"][0]["target"] == "boat.py:progress"
    assert str(harbour) not in first.path.read_text(), "a baseline is committed: no paths of one machine"


@pytest.mark.parametrize(("options", "said"), [
    ({"reason": "  "}, "why these findings are accepted"), ({"expires": "soon"}, "a day such as 2027-01-31")])
def test_a_reason_is_needed_and_a_day_is_a_day(report, accept, options, said):
    with pytest.raises(BadInput, match=said):
        accept(report(finding()), **options)


ENTRY = {"fingerprint": "0" * 16, "target": "t", "env": "e", "check": "exploit", "severity": "high", "reason": "so"}


@pytest.mark.parametrize(("text", "said"), [
    (None, "No such file"), ("{", "a JSON file"), ("[]", "list"), ('{"format": "plaudit.baseline.9"}', "baseline.9"),
    (json.dumps({"format": FORMAT, "accepted": {}}), "a list 'accepted'"),
    (json.dumps({"format": FORMAT, "accepted": ["exploit"]}), r"accepted\[0\]: expected an object"),
    (json.dumps({"format": FORMAT, "accepted": [ENTRY, {**ENTRY, "reason": " "}]}), r"accepted\[1\].*none for reason"),
    (json.dumps({"format": FORMAT, "accepted": [{**ENTRY, "severity": "dire"}]}), "one of low, medium, high"),
    (json.dumps({"format": FORMAT, "accepted": [{**ENTRY, "expires": "31.1.2027"}]}), "a day such as")])
def test_a_malformed_file_is_named_with_its_place(tmp_path, text, said):
    path = tmp_path / "b.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=said) as error:
        Baseline.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
