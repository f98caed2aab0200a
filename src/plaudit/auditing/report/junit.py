"""JUnit XML, as test viewers read it (the schema of Jenkins' xUnit plug-in)."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from plaudit.auditing.report.model import AuditReport, CheckResult

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: AuditReport) -> str:
    """A test case for each check: findings of medium and high severity fail it, low ones are its output.

    A check of which all such findings are accepted counts as skipped, with the reasons.
    """
    suite = ET.Element("testsuite", name=_xml(f"plaudit audit {report.target}"), tests=str(len(report.checks)),
                       errors="0", time=f"{report.seconds:.3f}")
    ends = [_case(suite, check, report) for check in report.checks]
    suite.set("failures", str(ends.count("failure")))
    suite.set("skipped", str(ends.count("skipped")))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


def _case(suite: ET.Element, check: CheckResult, report: AuditReport) -> str:
    """Adds a test case; returns how it ended."""
    case = ET.SubElement(suite, "testcase", classname="plaudit", name=_xml(check.name), time=f"{check.seconds:.3f}")
    mine = [f for f in report.findings if f.check == check.name]
    words = "\n".join(f"[{f.severity}{', accepted: ' + f.accepted.reason if f.accepted else ''}] {f.title}\n{f.advice}"
                      for f in mine)
    bad = [f for f in mine if f.severity != "low"]
    open_ones = [f for f in bad if f.accepted is None]
    end = "failure" if open_ones else "skipped" if bad or check.status == "skipped" else ""
    if end == "failure":
        ET.SubElement(case, "failure", message=_xml(open_ones[0].title), type=open_ones[0].severity).text = _xml(words)
        return end
    if end == "skipped":
        reasons = sorted({f.accepted.reason for f in bad if f.accepted is not None})
        ET.SubElement(case, "skipped", message=_xml(f"accepted: {'; '.join(reasons)}" if reasons else check.why))
    if mine:
        ET.SubElement(case, "system-out").text = _xml(words)
    return end


def _xml(text: str) -> str:
    """Without the characters that XML cannot hold, which an error of somebody's code may."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
