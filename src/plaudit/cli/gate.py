"""What decides the exit code of an audit beside its findings: a baseline, an earlier report, and who reads along."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from plaudit.core.errors import BadInput

if TYPE_CHECKING:
    from plaudit.auditing.baseline import Baseline
    from plaudit.auditing.report.model import AuditReport

Format = Literal["auto", "text", "github"]
MARK = {"new": "[red]+ new[/]", "worse": "[red]↑ worse[/]", "changed": "[yellow]~ changed[/]",
        "better": "[green]↓ better[/]", "gone": "[green]- gone[/]"}


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The options that were read, and the files that they name, before any work."""

    fail_on: str = "high"
    baseline: Baseline | None = None
    write: bool = False
    reason: str = ""
    expires: str | None = None
    old: dict[str, object] | None = None
    """The earlier report."""
    only_new: bool = False
    format: Format = "auto"

    @staticmethod
    def read(*, fail_on: str, baseline: Path | None, write_baseline: bool, reason: str | None, expires: str | None,
             diff: Path | None, fail_on_new: bool, format: Format) -> Gate:
        """Reads the files and refuses options that do not go together.

        Raises:
            BadInput: when a file is missing or malformed, `--write-baseline` comes without a reason, or
                `--fail-on-new` without `--diff`.
        """
        from plaudit.auditing.baseline import USUAL, Baseline, check_reason
        from plaudit.auditing.difference import load_report

        if fail_on_new and diff is None:
            raise BadInput("--fail-on-new", expected="--diff OLD/report.json beside it", received="none")
        if not write_baseline and (reason is not None or expires is not None):
            raise BadInput("--reason, --expires", expected="--write-baseline beside them", received="none")
        accepted: Baseline | None = None
        if write_baseline:
            path = baseline or USUAL
            reason, expires = check_reason(reason, expires)
            accepted = Baseline.load(path) if path.exists() else Baseline(path)
        elif baseline is not None:
            accepted = Baseline.load(baseline)
        return Gate(fail_on=fail_on, baseline=accepted, write=write_baseline, reason=reason or "", expires=expires,
                    old=None if diff is None else load_report(diff), only_new=fail_on_new, format=format)

    def judge(self, report: AuditReport) -> AuditReport:
        """The report with its accepted findings marked, and compared with the earlier one."""
        from plaudit.auditing.difference import compare

        if self.baseline is not None:
            report = self._accepted().apply(report) if not self.write else self._accepting(report)
        return report if self.old is None else replace(report, difference=compare(self.old, report))

    def _accepted(self) -> Baseline:
        assert self.baseline is not None
        return self.baseline

    def _accepting(self, report: AuditReport) -> AuditReport:
        """Writes what is not accepted yet, unless the audit did not come to its end."""
        before = self._accepted().apply(report)
        if report.interrupted:
            return before
        after = self._accepted().accepting(before, reason=self.reason, expires=self.expires)
        after.save()
        return after.apply(report)

    def fails(self, report: AuditReport) -> bool:
        """Whether the exit code is 1."""
        if self.only_new and report.difference is not None:
            return report.difference.fails(self.fail_on)
        return report.fails(self.fail_on)

    @property
    def annotates(self) -> bool:
        return self.format == "github" or (self.format == "auto" and os.environ.get("GITHUB_ACTIONS") == "true")

    def tell(self, report: AuditReport, console: Console) -> None:
        """What the baseline and the comparison say, and the annotations where GitHub reads along."""
        if report.baseline is not None:
            n, file = report.baseline.accepted, report.baseline.file
            console.print(f"\nbaseline {escape(file)}: {n} accepted finding{'' if n == 1 else 's'}"
                          f"{', written' if self.write and not report.interrupted else ''}", soft_wrap=True)
            for note in report.baseline.notes:
                console.print(Padding(f"[yellow]{escape(note)}[/]", (0, 0, 0, 2)))
        if report.difference is not None:
            _show_difference(report, console)
        if self.annotates:
            from plaudit.auditing.report.github import github

            for line in github(report):
                print(line)


def _show_difference(report: AuditReport, console: Console) -> None:
    difference = report.difference
    assert difference is not None
    console.print(f"\nsince {escape(difference.old)}", soft_wrap=True)
    for note in difference.notes:
        console.print(Padding(f"[bright_black]{escape(note)}[/]", (0, 0, 0, 2)))
    changed = "[yellow]the verdict was another one:[/] " if difference.verdict_changed else "the verdict was: "
    console.print(Padding(f"{changed}{escape(difference.verdict_before)}", (0, 0, 0, 2)))
    for line in difference.lines:
        was = f" [bright_black](was {escape(line.before)})[/]" if line.before and line.what != "gone" else ""
        why = f" [bright_black]({escape(line.before)})[/]" if line.before and line.what == "gone" else ""
        known = " [bright_black](accepted)[/]" if line.accepted else ""
        console.print(Padding(f"{MARK[line.what]} {line.severity} [bold]{line.check}[/]: {escape(line.title)}"
                              f"{was}{why}{known}", (0, 0, 0, 2)))
    console.print(Padding(f"{difference.same} as before", (0, 0, 0, 2)))
