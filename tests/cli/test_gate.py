"""What decides the exit code beside the findings: baselines, earlier reports, and annotations for GitHub."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from plaudit.auditing.check import register, unregister
from plaudit.auditing.finding import Finding
from plaudit.core.errors import BadInput

BOAT = ("audit", "boat.py:progress", "--env", "boat.py:Boat", "--steps", "1000", "--only", "answers")
ACCEPT = ("--write-baseline", "--reason", "watched, see the log")


@dataclass(frozen=True)
class Answers:
    """A check that finds what the test says, without any search."""

    findings: tuple[tuple[str, str], ...]
    name: str = "answers"
    question: str = "What does the test say?"

    def run(self, context):
        return [Finding(check=self.name, kind=kind, severity=severity, title=f"{kind} pays {time.perf_counter()}")
                for kind, severity in self.findings]


@pytest.fixture
def finds():
    """`finds(("loop", "high"))` makes the next audits find that."""
    def plug(*findings: tuple[str, str]) -> None:
        if plugged:
            unregister("answers")
        plugged.append(register(Answers(findings)))

    plugged: list[None] = []
    yield plug
    unregister("answers")


@pytest.fixture(autouse=True)
def page_in_no_time(monkeypatch):
    monkeypatch.setattr("plaudit.auditing.report.page.page", lambda report: "<html>")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


def test_an_accepted_finding_is_shown_and_fails_nothing_until_another_comes(run, finds):
    finds(("loop", "high"))
    assert run(*BOAT).code == 1
    written = run(*BOAT, *ACCEPT)
    assert written.code == 0 and "baseline plaudit-baseline.json: 1 accepted finding, written" in written.out
    again = run(*BOAT, "--baseline", "plaudit-baseline.json", "--seed", "4", "--steps", "1200")
    assert again.code == 0 and "(accepted: watched, see the log)" in again.out and "Known and accepted" in again.out
    data = json.loads(Path("audits/003/report.json").read_text())
    assert data["findings"][0]["accepted"] == {"reason": "watched, see the log", "expires": None}
    assert data["baseline"]["accepted"] == 1
    finds(("loop", "high"), ("death", "high"))
    assert run(*BOAT, "--baseline", "plaudit-baseline.json").code == 1


def test_a_baseline_that_matches_nothing_says_so(run, finds):
    finds(("loop", "high"))
    run(*BOAT, *ACCEPT)
    finds()
    gone = run(*BOAT, "--baseline", "plaudit-baseline.json")
    assert gone.code == 0 and "answers, loop): matches nothing any more; take it out" in " ".join(gone.out.split())
    other = run(*BOAT[:1], "boat.py:composed", *BOAT[2:], "--baseline", "plaudit-baseline.json")
    assert "accepts nothing of boat.py:composed on Boat (1 entries are for others)" in " ".join(other.out.split())


def test_an_old_report_shows_what_changed_and_only_what_is_new_need_fail(run, finds):
    finds(("loop", "high"), ("gone", "low"))
    run(*BOAT)
    finds(("loop", "high"))
    known = run(*BOAT, "--diff", "audits/001", "--seed", "3", "--fail-on-new")
    assert known.code == 0 and "- gone low answers: gone pays" in known.out
    assert "another seed: 0 then, 3 now" in known.out and "~ changed high answers" in known.out
    assert run(*BOAT, "--diff", "audits/001/report.json").code == 1, "without the option all findings count"
    finds(("loop", "high"), ("death", "high"))
    new = run(*BOAT, "--diff", "audits/001/report.json", "--fail-on-new")
    assert new.code == 1 and "+ new high answers: death" in new.out
    lines = json.loads(Path("audits/004/report.json").read_text())["difference"]["lines"]
    assert [line["what"] for line in lines] == ["new", "changed", "gone"]


@pytest.mark.parametrize(("words", "env", "marked"), [
    ((), "", False), ((), "true", True), (("--format", "github"), "", True), (("--format", "text"), "true", False)])
def test_github_reads_along_where_it_runs_or_where_it_is_asked(run, finds, monkeypatch, words, env, marked):
    monkeypatch.setenv("GITHUB_ACTIONS", env)
    finds(("loop", "high"))
    out = run(*BOAT, *words).out
    assert ("\n::error file=boat.py,line=" in out) is marked


@pytest.mark.parametrize(("words", "said"), [
    (("--baseline", "nope.json"), "--write-baseline --reason"), (("--baseline", "boat.py"), "a JSON file"),
    (("--write-baseline",), "why these findings are accepted"), (("--reason", "so"), "--write-baseline beside them"),
    ((*ACCEPT, "--expires", "soon"), "a day such as"), (("--diff", "nope"), "report.json of an earlier audit"),
    (("--fail-on-new",), "--diff OLD/report.json beside it"), (("--diff", "boat.py"), "report.json of an earlier")])
def test_what_is_wrong_is_said_in_one_line_before_any_work(run, finds, monkeypatch, words, said):
    finds(("loop", "high"))
    monkeypatch.setattr("plaudit.auditing.audit.recognise", lambda *a, **o: pytest.fail("work was done"))
    ran = run(*BOAT, *words)
    assert ran.code == 2 and ran.err.count("\n") == 1 and said in ran.err and "Traceback" not in ran.err
    assert not Path("audits").exists() and not Path("plaudit-baseline.json").exists()


def test_nothing_is_accepted_by_an_audit_that_did_not_end(run, finds, monkeypatch):
    finds(("loop", "high"))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("plaudit.auditing.audit._Run._repair", interrupted)
    ran = run(*BOAT, *ACCEPT)
    assert ran.code == 130 and not Path("plaudit-baseline.json").exists()


def test_a_reason_is_text_and_not_code():
    from plaudit.auditing.baseline import check_reason

    assert check_reason("  known\n since \x09May ", None) == ("known since May", None)
    with pytest.raises(BadInput):
        check_reason(None, None)
