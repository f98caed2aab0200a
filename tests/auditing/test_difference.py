"""Two reports side by side: what is new, gone or changed, and what makes them unlike."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from plaudit.auditing.difference import compare, load_report
from plaudit.auditing.finding import Accepted, Finding
from plaudit.core.errors import BadInput


def finding(check, severity="high", title="it earns 3", **more):
    return Finding(check=check, severity=severity, title=title, **more)


@pytest.fixture
def report(empty_report, harbour):
    return lambda *findings, **changes: replace(empty_report, findings=list(findings), **changes)


@pytest.fixture
def old(report, tmp_path):
    """Writes a report and reads it as an old one."""
    def make(*findings, **changes):
        (tmp_path / "report.json").write_text(json.dumps(report(*findings).to_dict() | changes))
        return load_report(tmp_path)

    return make


def lines(difference):
    return {line.check: line.what for line in difference.lines}


def test_findings_are_new_gone_changed_worse_better_or_as_before(report, old):
    before = old(finding("gone"), finding("same"), finding("words"), finding("worse", "low"), finding("better"))
    now = report(finding("new"), finding("same"), finding("words", title="it earns 4"), finding("worse"),
                 finding("better", "medium"))
    difference = compare(before, now)
    assert lines(difference) == {"new": "new", "gone": "gone", "words": "changed", "worse": "worse", "better": "better"}
    assert difference.same == 1 and [line.what for line in difference.lines][0] == "new"
    assert next(x for x in difference.lines if x.check == "words").before == "high: it earns 3"
    assert json.loads(json.dumps(difference.to_dict()))["lines"][0]["check"] == "new"


def test_a_report_has_no_difference_from_itself(report, old):
    difference = compare(old(finding("exploit")), report(finding("exploit")))
    assert (list(difference.lines), difference.same, difference.notes) == ([], 1, [])
    assert not difference.verdict_changed and not difference.fails("low")


def test_only_what_is_new_or_worse_and_not_accepted_fails(report, old):
    before = old(finding("old"), finding("worse", "medium"))
    known = finding("new", accepted=Accepted(reason="so"))
    assert not compare(before, report(finding("old"), known)).fails("low")
    assert compare(before, report(finding("old"), finding("new"))).fails("high")
    assert compare(before, report(finding("worse"))).fails("high")
    assert not compare(before, report(finding("worse"))).fails("never")


def test_of_several_findings_of_one_kind_the_worst_counts(report, old):
    difference = compare(old(finding("scale", kind="dead: a"), finding("scale", "low", kind="dead: a")),
                         report(finding("scale", "low", kind="dead: a")))
    assert lines(difference) == {"scale": "better"}


@pytest.mark.parametrize(("changes", "said"), [
    ({"seed": 7}, "another seed: 7 then, 0 now"), ({"env": "Sail"}, "another environment: Sail then, Boat now"),
    ({"intent": "env"}, "another intent: env then"), ({"target": "boat.py:spin"}, "another reward: boat.py:spin"),
    ({"code": {"target": "boat.py:progress", "sha256": "0" * 64}}, "the code of the reward has changed"),
    ({"interrupted": True}, "the earlier audit was interrupted"),
    ({"versions": {"torch": "2.0.0"}}, "other versions: torch 2.0.0 then"),
    ({"verdict": {"sentence": "", "safe": None, "effort": {"steps": 9_000}}}, "another effort: 9,000 steps then")])
def test_it_says_in_what_the_audits_differ(report, old, changes, said):
    difference = compare(old(finding("exploit"), **changes), report(finding("exploit")))
    assert [n for n in difference.notes if n.startswith(said)], difference.notes
    assert difference.same == 1, "the finding is the same all the same"


def test_a_gone_finding_of_a_check_that_did_not_run_is_not_called_mended(report, old):
    (line,) = compare(old(finding("exploit")), report()).lines
    assert line.what == "gone" and line.before == "the check did not run this time"


@pytest.mark.parametrize(("text", "said"), [
    (None, "No such file"), ("nonsense", "report.json of an earlier audit"), ("[]", "another JSON file"),
    ('{"findings": []}', "another JSON file"),
    (json.dumps({"target": "", "env": "", "verdict": {}, "findings": [], "checks": [], "seed": 0, "version": 9}),
     "version 9; audit the old code again")])
def test_what_is_no_report_is_named(tmp_path, text, said):
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=said) as error:
        load_report(path)
    assert str(path) in str(error.value)


def test_the_page_shows_what_has_changed_and_what_is_accepted(report, old):
    from plaudit.auditing.report.page import page

    known = finding("exploit", title="<circling> pays", accepted=Accepted(reason="we <know>", expires="2099-01-31"))
    now = report(known, finding("scale", title="sparse"))
    text = page(replace(now, difference=compare(old(finding("gone"), seed=7), now)))
    assert "Accepted until 2099-01-31:</b> we &lt;know&gt;" in text and "&lt;circling&gt; pays" in text
    assert text.count('<span class="chip new">new</span>') == 2 and '<span class="chip gone">gone</span>' in text
    assert "another seed: 7 then, 0 now" in text and "(accepted)" in text
    assert "chip accepted" not in page(report(finding("scale")))
