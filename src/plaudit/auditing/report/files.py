"""Writes an audit into a folder: page, JSON, SARIF, JUnit and witnesses; a folder that is not ours is left alone."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from plaudit.auditing.finding import Finding
from plaudit.auditing.report.model import AuditReport, witness_file
from plaudit.core.checkpoint import write_text
from plaudit.core.errors import BadInput, PlauditError

LEVEL = {"high": "error", "medium": "warning", "low": "note"}


def next_folder(root: str | Path = "audits") -> Path:
    """The next numbered folder: `audits/001`, `audits/002`, ..."""
    root = Path(root)
    taken = [int(p.name) for p in root.iterdir() if p.name.isdigit()] if root.is_dir() else []
    return root / f"{max(taken, default=0) + 1:03d}"


def check_folder(folder: Path) -> None:
    """Refuses a folder that holds something other than an audit, before any work is done.

    Raises:
        BadInput: when the folder exists and is neither empty nor the output of an audit, or is a file.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BadInput("out", expected="a folder", received=f"the file {folder}")
    if any(folder.iterdir()) and not (folder / "report.json").is_file():
        raise BadInput("out", expected="a new or empty folder, or one that an audit wrote", received=str(folder),
                       fix="name another one; nothing was touched")


def write_all(report: AuditReport, folder: Path) -> Path:
    """Writes every file of the report; the folder appears whole, or not at all.

    Raises:
        BadInput: when the folder is not ours.
        PlauditError: when it cannot be written (a full disk, say); nothing half-written is left.
    """
    from plaudit.auditing.report.page import page

    check_folder(folder)
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.draft")
    try:
        draft.mkdir(parents=True)
        for i, finding in enumerate(report.findings, 1):
            if finding.witness is not None:
                finding.witness.save(draft / witness_file(i))
        data = report.to_dict()
        write_text(draft / "report.sarif", json.dumps(sarif(report), indent=1))
        write_text(draft / "junit.xml", junit(report))
        write_text(draft / "report.html", page(report))
        write_text(draft / "report.json", json.dumps(_with_paths(data, folder), indent=1, allow_nan=False))
        _move(draft, folder)
    except OSError as error:
        raise PlauditError(f"could not write the report to {folder}: {error.strerror or error}; nothing is left; "
                           "free some space or name another --out") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _move(draft: Path, folder: Path) -> None:
    """Puts the finished files in place; those of an earlier audit in this folder are replaced."""
    if not folder.exists():
        draft.rename(folder)
        return
    for old in [*folder.glob("witness-*.json"), *folder.glob("report.*"), *folder.glob("junit.xml")]:
        old.unlink()
    for new in sorted(draft.iterdir(), key=lambda p: p.name == "report.json"):
        new.replace(folder / new.name)


def _with_paths(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    for finding in data["findings"]:
        if finding["witness"]:
            finding["replay"] = f"plaudit replay {folder / finding['witness']}"
    return data


def sarif(report: AuditReport) -> dict[str, Any]:
    """SARIF 2.1.0, as code-scanning viewers read it."""
    path = (report.context.memo.get("source") or {}).get("path")
    rules = {f.check: {"id": f"plaudit/{f.check}", "shortDescription": {"text": f"plaudit check: {f.check}"}}
             for f in report.findings}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "plaudit", "version": report.versions.get("plaudit", "0"),
                                "rules": list(rules.values())}},
            "results": [_sarif_result(f, report.target, path) for f in report.findings],
            "invocations": [{"executionSuccessful": not report.interrupted}],
        }],
    }


def _sarif_result(finding: Finding, target: str, path: str | None) -> dict[str, Any]:
    file = path or target.split(":")[0]
    place = {"physicalLocation": {"artifactLocation": {"uri": Path(file).name if path else file},
                                  "region": {"startLine": 1}},
             "logicalLocations": [{"fullyQualifiedName": target}]}
    mark = hashlib.sha256(f"{target}/{finding.check}/{finding.severity}".encode()).hexdigest()
    return {"ruleId": f"plaudit/{finding.check}", "level": LEVEL[finding.severity],
            "message": {"text": f"{finding.title}. {finding.advice}".strip()}, "locations": [place],
            "partialFingerprints": {"plaudit/v1": mark}}


def junit(report: AuditReport) -> str:
    """JUnit XML: a test case for each check."""
    failed = {f.check for f in report.findings}
    suite = ET.Element("testsuite", name=f"plaudit audit {report.target}", tests=str(len(report.checks)),
                       failures=str(len(failed)), errors="0", time=f"{report.seconds:.3f}",
                       skipped=str(sum(c.status == "skipped" for c in report.checks)))
    for check in report.checks:
        case = ET.SubElement(suite, "testcase", classname="plaudit", name=check.name, time=f"{check.seconds:.3f}")
        mine = [f for f in report.findings if f.check == check.name]
        if mine:
            failure = ET.SubElement(case, "failure", message=mine[0].title, type=mine[0].severity)
            failure.text = "\n".join(f"[{f.severity}] {f.title}\n{f.advice}" for f in mine)
        elif check.status == "skipped":
            ET.SubElement(case, "skipped", message=check.why)
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True)
