"""The files of a report: by their schemas, all or nothing, and never over somebody else's."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from plaudit.auditing.audit import audit
from plaudit.auditing.check import register, unregister
from plaudit.auditing.finding import Finding, Fix, Skipped
from plaudit.auditing.report import files
from plaudit.auditing.report.files import check_folder, junit, next_folder, sarif, write_all, write_next
from plaudit.auditing.witness import Witness
from plaudit.core.algebra import Constant
from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.statistics import Interval

NAMES = {"report.html", "report.json", "report.sarif", "junit.xml", "witness-01.json"}


@dataclass(frozen=True)
class Everything:
    """A check with findings of all kinds."""

    name: str = "everything"
    question: str = "Does it all?"

    def run(self, context):
        fix = Fix(description="multiply by 0", reward=Constant(0.0), before={"paid": 3.0}, after={"paid": 0.0})
        title = "it pays \x1b[31m<b>nothing</b>\x00 & more: 3 against 1"
        return [
            Finding(check=self.name, severity="high", title=title, cost=0.5, fix=fix, advice="Mend it.",
                    evidence={"paid": Interval(3.0, 2.0, 4.0, 8), "share": float("nan"), "n": 3, "why": "so"},
                    witness=Witness.of(context, context.wandering, title="here", row=0)),
            Finding(check=self.name, severity="high", title="another one"),
            Finding(check=self.name, severity="low", title="a note")]


@dataclass(frozen=True)
class Declines:
    name: str = "declines"
    question: str = "Can it look?"

    def run(self, context):
        return Skipped("there is nothing to look at")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    shutil.copy(Path(__file__).with_name("boat_world.py"), folder / "my boat.py")
    register(Everything())
    register(Declines())
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            yield audit("my boat.py:progress", env="my boat.py:Boat", intent="info:is_success", steps=1000,
                        only=["everything", "declines"])
    finally:
        unregister("everything")
        unregister("declines")


@pytest.fixture(autouse=True)
def page_in_no_time(monkeypatch):
    """Drawing takes seconds, and has tests of its own."""
    monkeypatch.setattr("plaudit.auditing.report.page.page", lambda report: "<html>")


# --- schemas -----------------------------------------------------------------------------------------

JSON = {
    "version": int, "target": str, "env": str, "intent": (str, None), "config": dict, "versions": dict, "seed": int,
    "verdict": {"sentence": str, "safe": (bool, None), "effort": dict},
    "findings": [{"check": str, "severity": ("low", "medium", "high"), "title": str, "evidence": dict,
                  "witness": (str, None), "replay": (str, None), "advice": str,
                  "fix": ({"description": str, "before": dict, "after": dict}, None),
                  "rates": {"detection": (str, float), "false_alarm": (str, float)}}],
    "checks": [{"name": str, "status": ("pass", "finding", "skipped"), "why": str, "seconds": float}],
}
"""The schema of `report.json`: a tuple lists what is allowed."""


def problems(value: Any, schema: Any, place: str = "report") -> list[str]:
    """Where a value does not follow a schema; keys beyond it are allowed."""
    if isinstance(schema, tuple):
        return [] if any(not problems(value, s, place) for s in schema) else [f"{place}: {value!r} is none of {schema}"]
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{place}: no object"]
        return [p for k, s in schema.items() for p in (problems(value[k], s, f"{place}.{k}") if k in value else
                                                       [f"{place}.{k} is missing"])]
    if isinstance(schema, list):
        return [p for i, v in enumerate(value) for p in problems(v, schema[0], f"{place}[{i}]")]
    if schema is None or isinstance(schema, str):
        return [] if value == schema else [f"{place}: {value!r} is not {schema!r}"]
    good = type(value) in (int, float) if schema is float else type(value) is schema
    return [] if good else [f"{place}: {value!r} is no {schema.__name__}"]


def strictly(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_report_json_follows_its_schema(report, tmp_path):
    write_all(report, tmp_path / "out")
    data = strictly((tmp_path / "out" / "report.json").read_text())
    assert problems(data, JSON) == []
    assert data["findings"][0]["evidence"] == {"paid": {"mean": 3.0, "low": 2.0, "high": 4.0, "n": 8}, "share": None,
                                               "n": 3, "why": "so"}
    assert data["findings"][0]["replay"] == f"plaudit replay {tmp_path / 'out' / 'witness-01.json'}"
    assert {p.name for p in (tmp_path / "out").iterdir()} == NAMES
    del data["verdict"]["safe"]
    data["findings"][0]["severity"] = "dire"
    assert len(problems(data, JSON)) == 2, "the schema check itself must see what is wrong"


def test_sarif_has_what_its_standard_requires(report):
    out = strictly(json.dumps(sarif(report)))
    assert out["version"] == "2.1.0" and out["$schema"].endswith("sarif-2.1.0.json") and len(out["runs"]) == 1
    run = out["runs"][0]
    driver = run["tool"]["driver"]
    assert driver["name"] == "plaudit" and [r["id"] for r in driver["rules"]] == ["plaudit-everything"]
    assert [r["level"] for r in run["results"]] == ["error", "error", "note"]
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert isinstance(result["message"]["text"], str) and result["message"]["text"]
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "my%20boat.py" and place["region"]["startLine"] > 1
    assert len({r["partialFingerprints"]["plaudit/v1"] for r in run["results"]}) == 3
    assert isinstance(run["invocations"][0]["executionSuccessful"], bool)


def test_junit_is_well_formed_whatever_an_error_says(report):
    root = ET.fromstring(junit(report).split("?>", 1)[1])
    (suite,) = root
    assert [suite.get(k) for k in ("tests", "failures", "skipped", "errors")] == ["2", "1", "1", "0"]
    assert [case.get("name") for case in suite] == ["everything", "declines"]
    assert suite[0][0].tag == "failure" and suite[0][0].get("type") == "high"
    assert "<b>nothing</b>" in suite[0][0].get("message", "") and "\x1b" not in junit(report)
    low = replace(report, findings=[f for f in report.findings if f.severity == "low"])
    assert ET.fromstring(junit(low).split("?>", 1)[1])[0].get("failures") == "0"


# --- all or nothing ----------------------------------------------------------------------------------


def test_a_second_report_replaces_the_first_and_keeps_what_is_not_ours(report, tmp_path):
    write_all(report, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    bare = replace(report, findings=[])
    write_all(bare, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == NAMES - {"witness-01.json"} | {"notes.txt"}
    assert strictly((tmp_path / "out" / "report.json").read_text())["findings"] == []


@pytest.mark.parametrize("fails_at", range(1, 6))
def test_a_full_disk_leaves_nothing_half_written(report, tmp_path, monkeypatch, fails_at):
    written = []

    def write(path, text, real=files.write_text):
        written.append(path)
        if len(written) == fails_at:
            raise OSError(28, "No space left on device")
        real(path, text)

    write_all(report, tmp_path / "old")
    before = {p.name: p.read_bytes() for p in (tmp_path / "old").iterdir()}
    monkeypatch.setattr(files, "write_text", write)
    monkeypatch.setattr("plaudit.core.checkpoint.write_text", write)
    for folder in (tmp_path / "new", tmp_path / "old"):
        written.clear()
        with pytest.raises(PlauditError, match="No space left on device; nothing half-written is left"):
            write_all(report, folder)
    assert {p.name: p.read_bytes() for p in (tmp_path / "old").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_a_full_disk_under_the_writer_itself_names_the_folder_and_the_reason(report, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(PlauditError, match=f"could not write the report to {tmp_path / 'out'}: No space left"):
        write_all(report, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_drawn_does_not_cost_the_other_files(report, tmp_path, monkeypatch):
    monkeypatch.setattr("plaudit.auditing.report.page.page", lambda report: 1 / 0)
    write_all(report, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == NAMES
    assert report.verdict.sentence[:30] in (tmp_path / "out" / "report.html").read_text()


# --- folders -----------------------------------------------------------------------------------------


def test_folders_are_numbered_and_a_number_that_is_taken_meanwhile_is_left(report, tmp_path, monkeypatch):
    assert next_folder(tmp_path / "audits").name == "001"
    (tmp_path / "audits" / "007").mkdir(parents=True)
    (tmp_path / "audits" / "mine").mkdir()
    assert next_folder(tmp_path / "audits").name == "008"
    stale = iter([tmp_path / "audits" / "008"])
    write_all(report, tmp_path / "audits" / "008")
    marker = tmp_path / "audits" / "008" / "report.json"
    marker.write_text("the other's")
    monkeypatch.setattr(files, "next_folder", lambda root: next(stale, None) or next_folder(root))
    assert write_next(report, tmp_path / "audits").name == "009" and marker.read_text() == "the other's"


def test_somebody_elses_folder_is_left_alone(report, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("five years")
    with pytest.raises(BadInput, match="nothing was touched"):
        write_all(report, tmp_path / "thesis")
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]
    check_folder(tmp_path / "new" / "deep")
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty")


@pytest.mark.parametrize("out", ["file", "file/below", "broken link"])
def test_a_file_in_the_way_is_named(tmp_path, out):
    (tmp_path / "file").write_text("")
    (tmp_path / "broken link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="file"):
        check_folder(tmp_path / out)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_folder_that_only_an_attempt_shows_to_be_closed_is_refused_before_any_work():
    with pytest.raises(BadInput, match="out: expected a folder that may be written"):
        check_folder(Path("/proc/nope"))
