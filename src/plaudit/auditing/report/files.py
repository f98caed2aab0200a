"""Writes an audit into a folder: page, JSON, SARIF, JUnit and witnesses; a folder that is not ours is left alone."""

from __future__ import annotations

import hashlib
import html
import json
import logging
import re
import secrets
import shutil
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from plaudit.auditing.finding import Finding
from plaudit.auditing.report.folders import ROOT, check_folder, next_folder
from plaudit.auditing.report.model import AuditReport, witness_file
from plaudit.core.checkpoint import write_text
from plaudit.core.errors import PlauditError
from plaudit.core.functions import FunctionReward

__all__ = ["check_folder", "junit", "next_folder", "sarif", "write_all", "write_next"]

LEVEL = {"high": "error", "medium": "warning", "low": "note"}
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_OURS = ("report.html", "report.json", "report.sarif", "junit.xml", "witness-*.json", "witness-*.safetensors")
log = logging.getLogger(__name__)


def write_all(report: AuditReport, folder: Path, *, replace: bool = True) -> Path:
    """Writes every file of the report; a new folder appears whole, or not at all.

    In a folder of an earlier audit its files are replaced (unless `replace` is False), and others left alone.

    Raises:
        BadInput: when the folder is not ours.
        PlauditError: when it cannot be written (a full disk, say); nothing half-written is left.
    """
    check_folder(folder)
    texts = _texts(report, folder)
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.draft")
    try:
        draft.mkdir(parents=True)
        for i, finding in enumerate(report.findings, 1):
            if finding.witness is not None:
                finding.witness.save(draft / witness_file(i))
        for name, text in texts.items():
            write_text(draft / name, text)
        _move(draft, folder, replace=replace)
    except (OSError, PlauditError) as error:
        cause = error.__cause__ if isinstance(error, PlauditError) else error
        reason = getattr(cause, "strerror", None) or str(cause or error)
        raise PlauditError(f"could not write the report to {folder}: {reason}; nothing half-written is left; "
                           "free some space or name another --out") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def write_next(report: AuditReport, root: Path = ROOT) -> Path:
    """Writes a report into the next numbered folder, also where another audit takes the number meanwhile."""
    for _ in range(100):
        folder = next_folder(root)
        try:
            return write_all(report, folder, replace=False)
        except PlauditError:
            if next_folder(root) == folder:
                raise
    raise PlauditError(f"could not find a free number in {root}")


def _move(draft: Path, folder: Path, *, replace: bool) -> None:
    """Puts the finished files in place; those of an earlier audit in this folder are replaced one by one."""
    if not folder.exists() or not replace:
        draft.rename(folder)  # refused where somebody else was faster
        return
    new = sorted(draft.iterdir(), key=lambda p: p.name == "report.json")
    names = {p.name for p in new}
    for path in new:
        path.replace(folder / path.name)
    for old in (p for pattern in _OURS for p in folder.glob(pattern) if p.name not in names):
        old.unlink()


def _texts(report: AuditReport, folder: Path) -> dict[str, str]:
    data = report.to_dict()
    for finding in data["findings"]:
        if finding["witness"]:
            finding["replay"] = f"plaudit replay {folder / finding['witness']}"
    return {"report.html": _page(report), "report.sarif": json.dumps(sarif(report), indent=1, allow_nan=False),
            "junit.xml": junit(report), "report.json": json.dumps(data, indent=1, allow_nan=False)}


def _page(report: AuditReport) -> str:
    """The page; in words only, where it cannot be drawn: its loss must not cost the other files."""
    try:
        from plaudit.auditing.report.page import page

        return page(report)
    except Exception:
        log.exception("the page could not be drawn")
        return f"<!doctype html><meta charset=utf-8><title>plaudit</title><pre>{html.escape(str(report))}</pre>\n"


# --- SARIF -------------------------------------------------------------------------------------------


def sarif(report: AuditReport) -> dict[str, Any]:
    """SARIF 2.1.0, as code-scanning viewers read it."""
    checks = sorted({f.check for f in report.findings})
    count: Counter[str] = Counter()
    results: list[dict[str, Any]] = []
    for finding in report.findings:
        mark = f"{report.target}/{finding.check}/{finding.severity}"
        count[mark] += 1
        results.append(_sarif_result(finding, report, f"{mark}/{count[mark]}", checks.index(finding.check)))
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "plaudit", "version": report.versions.get("plaudit", "0"),
                "rules": [{"id": f"plaudit/{name}", "shortDescription": {"text": f"plaudit check: {name}"}}
                          for name in checks]}},
            "results": results, "invocations": [{"executionSuccessful": not report.interrupted}],
        }],
    }


def _sarif_result(finding: Finding, report: AuditReport, mark: str, rule: int) -> dict[str, Any]:
    place: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": report.target}]}
    path = report.subject.target.path if report.subject.target else None
    if path is not None:
        here = Path.cwd().resolve()
        uri = quote(path.relative_to(here).as_posix()) if path.is_relative_to(here) else path.as_uri()
        place["physicalLocation"] = {"artifactLocation": {"uri": uri}, "region": {"startLine": _line(report)}}
    text = f"{finding.title.rstrip('.')}. {finding.advice}".strip()
    return {"ruleId": f"plaudit/{finding.check}", "ruleIndex": rule, "level": LEVEL[finding.severity],
            "message": {"text": text}, "locations": [place],
            "partialFingerprints": {"plaudit/v1": hashlib.sha256(mark.encode()).hexdigest()}}


def _line(report: AuditReport) -> int:
    """Where the audited thing begins in its file."""
    thing = report.subject.target.thing if report.subject.target else None
    code = getattr(thing.fn if isinstance(thing, FunctionReward) else thing, "__code__", None)
    return getattr(code, "co_firstlineno", 1)


# --- JUnit -------------------------------------------------------------------------------------------


def junit(report: AuditReport) -> str:
    """JUnit XML: a test case for each check; findings of medium and high severity fail it, low ones are its output."""
    suite = ET.Element("testsuite", name=_xml(f"plaudit audit {report.target}"), tests=str(len(report.checks)),
                       errors="0", time=f"{report.seconds:.3f}")
    failures = skipped = 0
    for check in report.checks:
        case = ET.SubElement(suite, "testcase", classname="plaudit", name=_xml(check.name), time=f"{check.seconds:.3f}")
        mine = [f for f in report.findings if f.check == check.name]
        words = _xml("\n".join(f"[{f.severity}] {f.title}\n{f.advice}" for f in mine))
        if mine and mine[0].severity != "low":
            failures += 1
            ET.SubElement(case, "failure", message=_xml(mine[0].title), type=mine[0].severity).text = words
        elif mine:
            ET.SubElement(case, "system-out").text = words
        elif check.status == "skipped":
            skipped += 1
            ET.SubElement(case, "skipped", message=_xml(check.why))
    suite.set("failures", str(failures))
    suite.set("skipped", str(skipped))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


def _xml(text: str) -> str:
    """Without the characters that XML cannot hold, which an error of somebody's code may."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
