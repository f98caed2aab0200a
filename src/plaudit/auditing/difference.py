"""What has changed since an earlier report: findings that are new, gone or changed, and how the audits differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.auditing.finding import SEVERITIES, at_least
from plaudit.auditing.fingerprint import claim, relative
from plaudit.core.errors import BadInput

if TYPE_CHECKING:
    from plaudit.auditing.report.model import AuditReport


@dataclass(frozen=True, kw_only=True)
class Line:
    """One finding that is new, gone or changed."""

    what: str
    """`new`, `worse`, `better`, `changed` (its words) or `gone`."""
    check: str
    severity: str
    """Now; for what is gone, then."""
    title: str
    before: str = ""
    """Its severity and title then, where they differ."""
    accepted: bool = False


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two reports side by side."""

    old: str
    """Where the earlier report lies."""
    verdict_before: str
    verdict_changed: bool
    """Whether safe, not safe or cannot tell has become another of them."""
    effort_before: int
    effort_now: int
    """Environment steps of search."""
    lines: Sequence[Line] = ()
    same: int = 0
    """Findings that are as they were."""
    notes: Sequence[str] = ()
    """In what the two audits differ: seed, effort, code, intent, versions."""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "lines": [asdict(line) for line in self.lines], "notes": list(self.notes)}

    def fails(self, threshold: str) -> bool:
        """Whether a finding that is new, or worse than it was, reaches a severity."""
        return any(line.what in ("new", "worse") and not line.accepted and at_least(line.severity, threshold)  # type: ignore[arg-type]
                   for line in self.lines)


def load_report(path: str | Path) -> dict[str, Any]:
    """The data of an earlier report: its `report.json`, or the folder that holds it.

    Raises:
        BadInput: when there is none, or it was written by a plaudit whose reports are of another form.
    """
    from plaudit.auditing.report.model import VERSION

    path = Path(path)
    file = path / "report.json" if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput("diff", expected="the report.json of an earlier audit", received=f"{file} ({error.strerror})"
                       ) from error
    except ValueError as error:
        raise BadInput("diff", expected="the report.json of an earlier audit", received=f"{file} ({error})") from error
    needed = ("target", "env", "verdict", "findings", "checks", "seed")
    if not isinstance(data, Mapping) or any(n not in data for n in needed):
        raise BadInput("diff", expected="the report.json of an earlier audit", received=f"{file}, another JSON file")
    if data.get("version") != VERSION:
        raise BadInput("diff", expected=f"a report of version {VERSION}", received=f"{file}, version "
                       f"{data.get('version')}", fix="audit the old code again with this plaudit")
    return {**data, "file": str(file)}


def compare(old: Mapping[str, Any], report: AuditReport) -> Difference:
    """What has changed from an earlier report (`load_report`) to this one.

    Findings are the same if check and kind are (so a reward that was renamed can be compared); of several the worst
    counts.
    """
    now = report.to_dict()
    before, after = _by_mark(old), _by_mark(now)
    lines: list[Line] = []
    same = 0
    for mark, f in after.items():
        line = _line(before.get(mark), f)
        if line is None:
            same += 1
        else:
            lines.append(line)
    looked = {c["name"] for c in now["checks"] if c["status"] != "skipped"}
    for mark, f in before.items():
        if mark not in after:
            why = "" if f["check"] in looked else "the check did not run this time"
            lines.append(Line(what="gone", check=f["check"], severity=f["severity"], title=f["title"], before=why))
    order = ["new", "worse", "changed", "better", "gone"]
    lines.sort(key=lambda line: (order.index(line.what), -SEVERITIES.index(line.severity)))  # type: ignore[arg-type]
    return Difference(
        old=old["file"], verdict_before=old["verdict"]["sentence"],
        verdict_changed=old["verdict"]["safe"] != now["verdict"]["safe"], effort_before=_steps(old),
        effort_now=_steps(now), lines=lines, same=same, notes=_unlike(old, now))


def _by_mark(data: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Findings by what they claim, the worst of each."""
    out: dict[str, Mapping[str, Any]] = {}
    for f in data["findings"]:  # worst first, but for the accepted ones
        mark = claim(f["check"], f.get("kind", ""))
        if mark not in out or SEVERITIES.index(f["severity"]) > SEVERITIES.index(out[mark]["severity"]):
            out[mark] = f
    return out


def _line(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> Line | None:
    accepted = bool(new.get("accepted"))
    if old is None:
        return Line(what="new", check=new["check"], severity=new["severity"], title=new["title"], accepted=accepted)
    step = SEVERITIES.index(new["severity"]) - SEVERITIES.index(old["severity"])
    if step == 0 and old["title"] == new["title"]:
        return None
    return Line(what="worse" if step > 0 else "better" if step < 0 else "changed", check=new["check"],
                severity=new["severity"], title=new["title"], before=f"{old['severity']}: {old['title']}",
                accepted=accepted)


def _steps(data: Mapping[str, Any]) -> int:
    return int(data["verdict"].get("effort", {}).get("steps", 0))


def _unlike(old: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Why the two audits may differ although the reward is what it was, or although it is not."""
    notes: list[str] = []
    for name, word in (("target", "reward"), ("env", "environment"), ("intent", "intent"), ("seed", "seed")):
        a, b = (relative(str(d[name])) if name == "target" else d.get(name) for d in (old, now))
        if a != b:
            notes.append(f"another {word}: {a} then, {b} now")
    a, b = ((d.get("code") or {}).get("sha256") for d in (old, now))
    if a and b and a != b:
        notes.append("the code of the reward has changed")
    if _steps(old) != _steps(now):
        notes.append(f"another effort: {_steps(old):,} steps then, {_steps(now):,} now")
    if old.get("interrupted"):
        notes.append("the earlier audit was interrupted")
    changed = [f"{p} {v} then, {now['versions'].get(p, 'none')} now" for p, v in old.get("versions", {}).items()
               if now["versions"].get(p) != v]
    return notes + ([f"other versions: {', '.join(changed)}"] if changed else [])
