"""Checks are put to a reward one after another, and whoever listens is told of each, whatever is audited."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

from plaudit.auditing.finding import Finding, Passed, Skipped, rank
from plaudit.auditing.report.model import AuditReport, CheckResult
from plaudit.core.errors import PlauditError
from plaudit.core.reward import describe_failure

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened while an audit ran; the command line turns these into lines and bars."""

    kind: Literal["recognised", "note", "started", "progress", "checked", "repaired", "judging"]
    """`recognised`: what it is, and which searches and checks will run; `note`: something to know; `judging`: all
    checks are done, only the report is missing."""
    check: str = ""
    checks: Sequence[str] = ()
    done: float = 0.0
    text: str = ""
    result: CheckResult | None = None
    findings: Sequence[Finding] = ()
    so_far: Callable[[], AuditReport] | None = None
    """Makes the report of what is known now, for a listener that has to end the audit."""


Listener = Callable[[Event], None]


@runtime_checkable
class Question(Protocol):
    """A check of any kind; `plaudit.auditing.check.Check` says what each part is."""

    @property
    def name(self) -> str: ...

    @property
    def question(self) -> str: ...

    def run(self, context: Any) -> Sequence[Finding] | Skipped | Passed: ...


class Asking(ABC):
    """One audit while it runs.

    Attributes:
        findings: What was found so far.
        results: How each check ended that is done.
    """

    def __init__(self, context: Any, tell: Listener) -> None:
        self.tell = tell
        self.findings: list[Finding] = []
        self.results: list[CheckResult] = []
        self._asked = context

    @abstractmethod
    def report(self, *, interrupted: bool) -> AuditReport:
        """What is known now; checks that have not finished are skipped."""

    @abstractmethod
    def sourced(self, finding: Finding) -> Finding:
        """Writes into a finding what its check is worth, and into its witness where the reward comes from."""

    def begin(self, name: str, question: str) -> None:
        """Tells that a check begins, and lets the context tell how far it is."""
        self._asked.progress = lambda done, text: self.tell(Event(kind="progress", check=name, done=done, text=text))
        self.tell(Event(kind="started", check=name, text=question, so_far=lambda: self.report(interrupted=True)))

    def ask(self, check: Question) -> None:
        """Runs one check. One that raises must not lose what the others found: it is skipped, with the error."""
        began = time.perf_counter()
        self.begin(check.name, check.question)
        found: Sequence[Finding] = ()
        try:
            out = check.run(self._asked)
        except Exception as error:
            on_purpose = isinstance(error, PlauditError)
            log.log(logging.INFO if on_purpose else logging.ERROR, "check %s failed", check.name, exc_info=True)
            status, why = "skipped", describe_failure(f"the check {check.name}", error)
        else:
            if isinstance(out, Skipped):
                status, why = "skipped", out.why
            elif isinstance(out, Passed):
                status, why = "pass", out.why
            else:
                found = rank([self.sourced(f) for f in out])
                status = "finding" if found else "pass"
                why = found[0].title if found else check.question
        self.findings += found
        result = CheckResult(check.name, status, why, time.perf_counter() - began)
        self.results.append(result)
        self.tell(Event(kind="checked", check=check.name, result=result, findings=found))

    def known(self, wanted: Sequence[Question]) -> tuple[list[Finding], list[CheckResult]]:
        """The findings, worst first, and how each check ended, those that have not finished among them."""
        done = {r.name for r in self.results}
        return rank(self.findings), [*self.results, *(CheckResult(c.name, "skipped", "interrupted", 0.0)
                                                      for c in wanted if c.name not in done)]


def with_source(finding: Finding, *, rates: Mapping[str, Any], witness: type, subject: Any) -> Finding:
    """The finding with the rates of its check, its witness with the source of the reward.

    Args:
        finding: as its check made it.
        rates: of the record, for the check and the effort.
        witness: the class of witnesses that know where a reward comes from.
        subject: with `source` and `task_spec`.
    """
    finding = replace(finding, rates={k: rates[k] for k in ("detection", "false_alarm")})
    seen: Any = finding.witness
    if not isinstance(seen, witness):
        return finding
    return replace(finding, witness=replace(seen, reward=dict(subject.source), task=dict(subject.task_spec),
                                            check=finding.check))
