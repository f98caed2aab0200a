"""A file of findings that somebody has accepted, each with a reason: they are shown, and fail nothing.

An entry knows its finding by the fingerprint (target, environment, check, kind of claim), so another seed or effort
changes nothing. It covers the finding up to the severity at which it was accepted, until its last day.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.auditing.finding import SEVERITIES, Accepted, Finding, Severity
from plaudit.auditing.fingerprint import relative
from plaudit.auditing.verdict import judge
from plaudit.core.checkpoint import write_text
from plaudit.core.errors import BadInput

if TYPE_CHECKING:
    from plaudit.auditing.report.model import AuditReport

FORMAT = "plaudit.baseline.1"
USUAL = Path("plaudit-baseline.json")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One accepted finding."""

    fingerprint: str
    target: str
    env: str
    check: str
    kind: str
    severity: Severity
    """At most this bad: should it get worse, it counts again."""
    title: str
    """As it was when it was accepted, for people."""
    reason: str
    expires: str | None = None
    """Its last day, YYYY-MM-DD."""

    def expired(self, today: datetime.date) -> bool:
        return self.expires is not None and datetime.date.fromisoformat(self.expires) < today

    def covers(self, finding: Finding) -> bool:
        return SEVERITIES.index(finding.severity) <= SEVERITIES.index(self.severity)


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What a baseline did to a report."""

    file: str
    accepted: int
    notes: Sequence[str] = ()
    """Entries that matched nothing, are over or were outgrown, each in a sentence."""

    def to_dict(self) -> dict[str, Any]:
        return {"file": self.file, "accepted": self.accepted, "notes": list(self.notes)}


@dataclass(frozen=True)
class Baseline:
    """The accepted findings of a file, for any number of targets.

    Example:
        >>> Baseline(Path("plaudit-baseline.json")).entries
        ()
    """

    path: Path
    entries: Sequence[Entry] = ()

    @staticmethod
    def load(path: str | Path) -> Baseline:
        """Reads a file.

        Raises:
            BadInput: when it is missing, no JSON, of another format, or an entry lacks its reason.
        """
        path = Path(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInput("baseline", expected="a file of accepted findings", received=f"{path} ({error.strerror})",
                           fix="--write-baseline --reason '...' makes one") from error
        except ValueError as error:
            raise BadInput("baseline", expected="a JSON file", received=f"{path} ({error})") from error
        if not isinstance(data, Mapping) or data.get("format") != FORMAT or not isinstance(data.get("accepted"), list):
            found = data.get("format") if isinstance(data, Mapping) else type(data).__name__
            raise BadInput("baseline", expected=f"a file of format {FORMAT} with a list 'accepted'",
                           received=f"{path} ({found!r})")
        return Baseline(path, tuple(_entry(e, f"{path}: accepted[{i}]") for i, e in enumerate(data["accepted"])))

    def save(self) -> Path:
        """Writes the file, atomically, in an order that makes small differences under version control."""
        order = sorted(self.entries, key=lambda e: (e.target, e.env, e.check, e.kind, e.fingerprint))
        data = {"format": FORMAT, "accepted": [{k: v for k, v in asdict(e).items() if v is not None} for e in order]}
        write_text(self.path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
        return self.path

    def accepting(self, report: AuditReport, *, reason: str, expires: str | None = None) -> Baseline:
        """This baseline with an entry for each finding of a report that it does not cover yet.

        Raises:
            BadInput: without a reason, or with a date of another form.
        """
        reason, expires = check_reason(reason, expires)
        fresh: dict[str, Entry] = {}
        for f in (f for f in report.findings if f.accepted is None):  # worst first, so the first one covers the rest
            mark = report.fingerprint(f)
            fresh.setdefault(mark, Entry(
                fingerprint=mark, target=relative(report.target), env=report.env, check=f.check, kind=f.kind,
                severity=f.severity, title=f.title, reason=reason, expires=expires))
        return replace(self, entries=(*(e for e in self.entries if e.fingerprint not in fresh), *fresh.values()))

    def apply(self, report: AuditReport, *, today: datetime.date | None = None) -> AuditReport:
        """The report with its accepted findings marked, and its verdict led by those that are not."""
        today = today or datetime.date.today()
        mine = {e.fingerprint: e for e in self.entries if (e.target, e.env) == (relative(report.target), report.env)}
        findings, notes, met = list[Finding](), list[str](), set[str]()
        for f in report.findings:
            entry = mine.get(report.fingerprint(f))
            if entry is not None:
                met.add(entry.fingerprint)
                if not entry.expired(today) and entry.covers(f):
                    f = replace(f, accepted=Accepted(reason=entry.reason, expires=entry.expires))
                else:
                    notes.append(_no_longer(entry, f, today))
            findings.append(f)
        notes += self._unmet(mine, met, report)
        findings.sort(key=lambda f: f.accepted is not None)
        applied = Applied(file=str(self.path), accepted=sum(f.accepted is not None for f in findings), notes=notes)
        return _judged(replace(report, findings=findings, baseline=applied))

    def _unmet(self, mine: Mapping[str, Entry], met: set[str], report: AuditReport) -> list[str]:
        if not mine:
            return [f"{self.path} accepts nothing of {report.target} on {report.env} ({len(self.entries)} entries are "
                    "for others)"]
        ran = {c.name for c in report.checks if c.status != "skipped"}
        out: list[str] = []
        for mark, e in mine.items():
            if mark not in met:
                why = "matches nothing any more; take it out" if e.check in ran else f"the check {e.check} did not run"
                out.append(f"accepted entry {mark} ({e.check}{f', {e.kind}' if e.kind else ''}): {why}")
        return out


def check_reason(reason: str | None, expires: str | None) -> tuple[str, str | None]:
    """The reason without blanks around it, and the date, before any work is done.

    Raises:
        BadInput: without a reason, or with a date of another form.
    """
    text = " ".join((reason or "").split())
    if not text:
        raise BadInput("reason", expected="why these findings are accepted", received="nothing",
                       fix="add --reason 'watched by ..., see ...'")
    return text, None if expires is None else _date(expires, "expires")


def _date(text: object, name: str) -> str:
    try:
        return datetime.date.fromisoformat(str(text)).isoformat()
    except ValueError as error:
        raise BadInput(name, expected="a day such as 2027-01-31", received=repr(text)) from error


def _entry(data: Any, place: str) -> Entry:
    if not isinstance(data, Mapping):
        raise BadInput(place, expected="an object", received=repr(data))
    needed = ("fingerprint", "target", "env", "check", "severity", "reason")
    lacking = [n for n in needed if not isinstance(data.get(n), str) or not str(data[n]).strip()]
    if lacking:
        raise BadInput(place, expected=f"texts for {', '.join(needed)}", received=f"none for {', '.join(lacking)}")
    if data["severity"] not in SEVERITIES:
        raise BadInput(f"{place}.severity", expected=f"one of {', '.join(SEVERITIES)}", received=data["severity"])
    expires = data.get("expires")
    return Entry(**{n: str(data[n]) for n in needed if n != "severity"}, severity=data["severity"],
                 kind=str(data.get("kind", "")), title=str(data.get("title", "")),
                 expires=None if expires is None else _date(expires, f"{place}.expires"))


def _no_longer(entry: Entry, finding: Finding, today: datetime.date) -> str:
    if entry.expired(today):
        return f"accepted until {entry.expires}, which is over: {finding.check}: {finding.title}"
    return f"accepted as {entry.severity} and now {finding.severity}: {finding.check}: {finding.title}"


def _judged(report: AuditReport) -> AuditReport:
    """The verdict by the worst finding, where two are as bad by one that is not accepted; it says so if it is."""
    if not report.baseline or not report.baseline.accepted:
        return report
    worst_first = sorted(report.findings, key=lambda f: (-SEVERITIES.index(f.severity), f.accepted is not None))
    verdict = judge(report.context, worst_first, report.checks, interrupted=report.interrupted)
    if worst_first[0].accepted is not None:
        verdict = replace(verdict, sentence=f"Known and accepted: {verdict.sentence}")
    return replace(report, verdict=verdict)
