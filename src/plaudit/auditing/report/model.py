"""The report of an audit as data: what is written to `report.json`, and what the page is drawn from."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from plaudit.auditing.finding import Finding, at_least
from plaudit.auditing.fingerprint import fingerprint, relative
from plaudit.auditing.verdict import Verdict
from plaudit.core.statistics import Interval

if TYPE_CHECKING:
    from plaudit.auditing.baseline import Applied
    from plaudit.auditing.context import AuditContext
    from plaudit.auditing.difference import Difference
    from plaudit.auditing.subject import Subject

VERSION = 1
Status = Literal["pass", "finding", "skipped"]


@dataclass(frozen=True)
class CheckResult:
    """How one check ended."""

    name: str
    status: Status
    why: str
    """What it asked and answered, or why it was skipped."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """What `plaudit.audit` returns."""

    target: str
    env: str
    intent: str | None
    verdict: Verdict
    findings: Sequence[Finding]
    """Worst first."""
    checks: Sequence[CheckResult]
    seconds: float
    seed: int
    interrupted: bool
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    context: AuditContext = field(repr=False)
    """Everything that was looked at, for figures and for further questions."""
    subject: Subject = field(repr=False)
    """What was audited, and where it comes from."""
    baseline: Applied | None = None
    """What a file of accepted findings said."""
    difference: Difference | None = None
    """What has changed since an earlier report."""

    @staticmethod
    def of(context: AuditContext, subject: Subject, *, verdict: Verdict, findings: Sequence[Finding],
           checks: Sequence[CheckResult], seconds: float, interrupted: bool, config: Mapping[str, Any]) -> AuditReport:
        """Gathers what an audit found."""
        budget = {"steps": context.budget.steps, "rl_cost": context.budget.rl_cost}
        return AuditReport(
            target=subject.name,
            env=context.task.name, intent=context.intent.text if context.intent else None, verdict=verdict,
            findings=findings, checks=checks, seconds=seconds, seed=context.seed, interrupted=interrupted,
            config={**config, "recognised": subject.recognised, "budget": budget, "task": dict(subject.task_spec),
                    "intent": context.intent.statement if context.intent else None},
            versions=versions(), context=context, subject=subject,
        )

    def fails(self, threshold: str = "high") -> bool:
        """Whether any finding reaches `low`, `medium` or `high` (`never`: no)."""
        return any(f.accepted is None and at_least(f.severity, threshold) for f in self.findings)

    def fingerprint(self, finding: Finding) -> str:
        """What the finding is known by in baselines, in SARIF and in comparisons."""
        return fingerprint(self.target, self.env, finding)

    def to_dict(self) -> dict[str, Any]:
        """The content of `report.json`; witnesses are named by their files once saved."""
        return {
            "version": VERSION, "target": self.target, "env": self.env, "intent": self.intent,
            "verdict": {"sentence": self.verdict.sentence, "safe": self.verdict.safe, "effort": self.verdict.effort},
            "findings": [{**_finding(f, i), "fingerprint": self.fingerprint(f)}
                         for i, f in enumerate(self.findings, 1)],
            "checks": [{"name": c.name, "status": c.status, "why": c.why, "seconds": round(c.seconds, 3)}
                       for c in self.checks],
            "interrupted": self.interrupted, "seconds": round(self.seconds, 2), "config": plain(self.config),
            "versions": dict(self.versions), "seed": self.seed, "code": self.code(),
            "baseline": None if self.baseline is None else self.baseline.to_dict(),
            "difference": None if self.difference is None else self.difference.to_dict(),
        }

    def code(self) -> dict[str, str | None]:
        """The audited thing as seen from the working folder, and the hash of its file."""
        source = self.subject.source
        return {"target": relative(self.target), "sha256": source.get("sha256")}

    def save(self, folder: str | Path) -> Path:
        """Writes report.html, report.json, report.sarif, junit.xml and the witnesses into a new folder.

        Raises:
            BadInput: when the folder exists and holds other things than an audit.
            PlauditError: when it cannot be written (a full disk, say); nothing half-written is left.
        """
        from plaudit.auditing.report.files import write_all

        return write_all(self, Path(folder))

    def __str__(self) -> str:
        lines = [self.verdict.sentence]
        lines += [f"  [{f.severity}] {f.check}: {f.title}" for f in self.findings if f.accepted is None]
        lines += [f"  [accepted] {f.check}: {f.title} ({f.accepted.reason})" for f in self.findings if f.accepted]
        lines += [f"  [{c.status}] {c.name}: {c.why}" for c in self.checks if c.status != "finding"]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from plaudit.auditing.report.page import embedded

        return embedded(self)


def witness_file(index: int) -> str:
    """The name of the file of the n-th finding's witness, counted from 1."""
    return f"witness-{index:02d}.json"


def _finding(finding: Finding, index: int) -> dict[str, Any]:
    name = witness_file(index) if finding.witness else None
    fix = finding.fix
    return {
        "check": finding.check, "kind": finding.kind, "severity": finding.severity, "title": finding.title,
        "accepted": None if finding.accepted is None else {"reason": finding.accepted.reason,
                                                           "expires": finding.accepted.expires},
        "evidence": plain(finding.evidence), "witness": name, "replay": f"plaudit replay {name}" if name else None,
        "advice": finding.advice, "cost": plain(finding.cost),
        "fix": None if fix is None else {"description": fix.description, "before": plain(fix.before),
                                         "after": plain(fix.after)},
        "rates": dict(finding.rates),
    }


def plain(value: Any) -> Any:
    """JSON values; numbers that JSON lacks (NaN, infinity) become None."""
    if isinstance(value, Interval):
        return {"mean": plain(value.mean), "low": plain(value.low), "high": plain(value.high), "n": value.n}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, torch.Tensor):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, bool) or value is None or isinstance(value, int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def versions() -> dict[str, str]:
    """What the numbers were computed with."""
    out = {"python": platform.python_version()}
    for package in ("plaudit", "torch", "numpy", "gymnasium", "mujoco"):
        try:
            out[package] = version(package)
        except PackageNotFoundError:
            continue
    return out
