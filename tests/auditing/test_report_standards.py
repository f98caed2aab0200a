"""The files for other people's viewers: by the published schemas, by GitHub's rules, and as two viewers read them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from plaudit.auditing.finding import Accepted, Finding
from plaudit.auditing.report.github import github
from plaudit.auditing.report.junit import junit
from plaudit.auditing.report.model import CheckResult
from plaudit.auditing.report.places import place_of
from plaudit.auditing.report.sarif import sarif
from plaudit.core.functions import EnvReward

DATA = Path(__file__).parents[1] / "data"
NASTY = "50% of boats: circle, \x1b[31m<b>ring</b>\x00\nand & go"


@pytest.fixture
def report(empty_report, harbour):
    findings = [
        Finding(check="exploit", severity="high", title=NASTY, advice="Mend it."),
        Finding(check="scale", kind="dead", severity="medium", title="a term is dead"),
        Finding(check="scale", kind="dead", severity="low", title="another is"),
        Finding(check="contract", severity="high", title="slow", accepted=Accepted(reason="we know & accept"))]
    checks = [CheckResult("exploit", "finding", "", 1.5), CheckResult("scale", "finding", "", 12345.678),
              CheckResult("contract", "finding", "", 0.0), CheckResult("fragility", "skipped", "no \x00 intent", 0.1),
              CheckResult("distance", "pass", "", 0.0)]
    return replace(empty_report, findings=findings, checks=checks)


# --- SARIF -------------------------------------------------------------------------------------------


def broken_rules(log) -> list[str]:
    """What GitHub asks of a SARIF file beyond the schema."""
    out: list[str] = []
    for run in log["runs"]:
        rules = run["tool"]["driver"]["rules"]
        out += [f"{r['id']} lacks {k}" for r in rules for k in ("shortDescription", "fullDescription", "help")
                if not r.get(k, {}).get("text")]
        for r in run["results"]:
            if rules[r["ruleIndex"]]["id"] != r["ruleId"]:
                out.append("ruleIndex is another rule's")
            places = [x["physicalLocation"] for x in r["locations"] if "physicalLocation" in x]
            if not places or "://" in places[0]["artifactLocation"]["uri"] or places[0]["region"]["startLine"] < 1:
                out.append("no place in the repository")
            if not r.get("partialFingerprints", {}).get("primaryLocationLineHash"):
                out.append("no fingerprint")
            if r["level"] not in ("error", "warning", "note", "none"):
                out.append(f"level {r['level']}")
        marks = [r["partialFingerprints"]["primaryLocationLineHash"] for r in run["results"]]
        out += [] if len(set(marks)) == len(marks) else ["two results with one fingerprint"]
        out += [] if run["automationDetails"]["id"].endswith("/") else ["no category"]
    return out


def test_sarif_follows_the_schema_of_oasis_and_the_rules_of_github(report):
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft4Validator(json.loads((DATA / "sarif-2.1.0.json").read_text(encoding="utf-8")))
    log = json.loads(json.dumps(sarif(report)))
    assert [e.message for e in check.iter_errors(log)] == [] and broken_rules(log) == []
    results = log["runs"][0]["results"]
    assert [r["level"] for r in results] == ["error", "warning", "note", "error"]
    assert results[3]["suppressions"] == [{"kind": "external", "status": "accepted",
                                           "justification": "we know & accept"}]
    del log["version"]
    results[0]["level"], results[1]["ruleIndex"] = "fatal", 0
    assert len(list(check.iter_errors(log))) == 2, "the validator itself must see what is wrong"
    assert "ruleIndex is another rule's" in broken_rules(log)


def test_a_seed_or_a_number_changes_no_fingerprint(report):
    marks = lambda r: [x["partialFingerprints"] for x in sarif(r)["runs"][0]["results"]]  # noqa: E731
    other = [replace(f, title=f"{f.title} 17", severity="low", cost=0.9) for f in report.findings]
    assert marks(replace(report, findings=other, seed=9, seconds=1.0)) == marks(report)


def test_sarif_opens_in_a_code_scanning_tool(report, tmp_path):
    loader = pytest.importorskip("sarif.loader")
    (tmp_path / "report.sarif").write_text(json.dumps(sarif(report)))
    seen = loader.load_sarif_file(str(tmp_path / "report.sarif"))
    found = {(r["Severity"], r["Code"].removeprefix("plaudit-"), Path(r["Location"]).name, r["Line"])
             for r in seen.get_records()}
    line = 1 + Path("boat.py").read_text().split("def progress")[0].count("\n")
    assert {("error", "exploit", "boat.py", line), ("warning", "scale", "boat.py", line)} <= found
    assert seen.get_distinct_tool_names() == ["plaudit"]


# --- JUnit -------------------------------------------------------------------------------------------


def test_junit_follows_the_schema_of_jenkins(report):
    etree = pytest.importorskip("lxml.etree")
    schema = etree.XMLSchema(etree.parse(str(DATA / "junit-10.xsd")))
    tree = etree.fromstring(junit(report).encode())
    assert schema.validate(tree), schema.error_log
    tree[0][0].attrib.pop("name")
    tree[0].set("time", "soon")
    assert not schema.validate(tree), "the validator itself must see what is wrong"


def test_junit_opens_in_a_test_viewer(report):
    junitparser = pytest.importorskip("junitparser")
    (suite,) = junitparser.JUnitXml.fromstring(junit(report).encode())
    ends = {case.name: [type(r).__name__ for r in case.result] for case in suite}
    assert ends == {"exploit": ["Failure"], "scale": ["Failure"], "contract": ["Skipped"], "fragility": ["Skipped"],
                    "distance": []}
    assert (suite.tests, suite.failures, suite.skipped, suite.errors) == (5, 2, 2, 0)
    (skipped,) = next(case for case in suite if case.name == "contract").result
    assert skipped.message == "accepted: we know & accept"


# --- GitHub ------------------------------------------------------------------------------------------


def unescape(text: str) -> str:
    """What GitHub's runner makes of it."""
    for code, char in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        text = text.replace(code, char)
    return text


def test_annotations_stand_on_the_line_of_the_reward_and_nothing_escapes_from_them(report):
    lines = github(report)
    assert len(lines) == 4 and not any("\n" in x for x in lines)
    command, options, message = lines[0][2:].split(" ", 1)[0], *lines[0][2:].split(" ", 1)[1].split("::", 1)
    pairs = dict(p.split("=", 1) for p in options.split(","))
    assert command == "error" and pairs["file"] == "boat.py" and int(pairs["line"]) == place_of(report).line
    assert unescape(message) == NASTY and "progress on Boat" in unescape(pairs["title"])
    assert [x.split(" ")[0] for x in lines] == ["::error", "::warning", "::notice", "::notice"]
    assert lines[3].endswith("(accepted: we know & accept)")


@pytest.mark.parametrize(("name", "text"), [
    ("speed", "import math\n\n\ndef speed(obs):\n    return obs\n"),
    ("speed", "def other(): ...\n\n\nspeed = 0.7 * 3\n"),
    ("speed", "@wrap\n# so\n\ndef speed(obs): ...\n"),
    ("speed", "class slow: ...\nx: int = 3\n\nspeed: int = 3\n")])
def test_the_line_is_that_of_the_definition_whatever_it_defines(tmp_path, name, text):
    from plaudit.auditing.report.places import line_of

    (tmp_path / "r.py").write_text(text)
    assert line_of(tmp_path / "r.py", name) == 4 and line_of(tmp_path / "r.py", "nothing") is None


def test_below_the_root_of_a_checkout_the_path_is_as_seen_from_there(report, harbour, monkeypatch):
    monkeypatch.setenv("GITHUB_WORKSPACE", str(harbour.parent))
    assert place_of(report).shown == f"{harbour.name}/boat.py"
    monkeypatch.delenv("GITHUB_WORKSPACE")
    monkeypatch.chdir("/")
    assert place_of(report).uri.count("boat.py") == 1


def test_an_environment_of_no_file_has_a_place_of_its_own(report):
    bare = replace(report, target="CartPole-v1", subject=replace(report.subject, target=None, reward=EnvReward()))
    assert place_of(bare) is None and broken_rules(sarif(bare)) == []
    assert github(bare)[0].startswith("::error title=")
