"""GitHub's workflow commands: a finding becomes a mark on the line of the reward, in the pull request itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plaudit.auditing.report.places import place_of

if TYPE_CHECKING:
    from plaudit.auditing.finding import Finding
    from plaudit.auditing.report.model import AuditReport

COMMAND = {"high": "error", "medium": "warning", "low": "notice"}


def github(report: AuditReport) -> list[str]:
    """One `::error file=...,line=...,title=...::message` for each finding; accepted ones are notices."""
    return [_one(report, finding) for finding in report.findings]


def _one(report: AuditReport, finding: Finding) -> str:
    place = place_of(report)
    where = {} if place is None else {"file": place.shown, "line": str(place.line)}
    command = "notice" if finding.accepted else COMMAND[finding.severity]
    note = f" (accepted: {finding.accepted.reason})" if finding.accepted else ""
    options = {**where, "title": f"plaudit {finding.check} ({finding.severity}): {report.target} on {report.env}"}
    shown = ",".join(f"{name}={escape_property(value)}" for name, value in options.items())
    return f"::{command} {shown}::{escape(f'{finding.title}{note}')}"


def escape(text: str) -> str:
    r"""A message as GitHub's runner reads it.

    Example:
        >>> escape("50% of\nboats")
        '50%25 of%0Aboats'
    """
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """The value of an option, in which a colon or a comma would end it.

    Example:
        >>> escape_property("boat.py:Boat, 3")
        'boat.py%3ABoat%2C 3'
    """
    return escape(text).replace(":", "%3A").replace(",", "%2C")
