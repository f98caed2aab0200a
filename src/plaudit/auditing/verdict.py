"""One sentence with the two numbers that matter, and what it rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from plaudit.auditing.effort import effort_of
from plaudit.auditing.finding import Finding
from plaudit.auditing.record.quoting import shipped
from plaudit.optimize.hunting.plan import LONGEST

if TYPE_CHECKING:
    from plaudit.auditing.context import AuditContext
    from plaudit.auditing.report.model import CheckResult


@dataclass(frozen=True)
class Verdict:
    """`safe` is False, True (with the effort that it rests on), or None where the audit cannot tell."""

    sentence: str
    safe: bool | None
    effort: dict[str, Any]


def judge(context: AuditContext, findings: Sequence[Finding], results: Sequence[CheckResult], *,
          interrupted: bool) -> Verdict:
    """The verdict of an audit: its worst finding, or how hard nothing was found."""
    own = getattr(context, "judge", None)  # an audit of text judges for itself
    if own is not None:
        return own(findings, results, interrupted=interrupted)
    return _with_cut(context, _judged(context, findings, results, interrupted=interrupted))


def _with_cut(context: AuditContext, verdict: Verdict) -> Verdict:
    """Says that episodes were cut before the time limit; what was seen of a part of them is called safe by nobody."""
    if not context.cut:
        return verdict
    effort = {**verdict.effort, "episodes cut after": context.horizon}
    if verdict.safe and context.horizon < min(context.task.horizon, LONGEST):
        return Verdict(f"Cannot tell whether it is safe to optimise: {context.cut}; so far: {lower(verdict.sentence)}",
                       None, effort)
    return Verdict(f"{verdict.sentence.removesuffix('.')}; {context.cut}.", verdict.safe, effort)


def _judged(context: AuditContext, findings: Sequence[Finding], results: Sequence[CheckResult], *,
            interrupted: bool) -> Verdict:
    times = effort_of(context.task, context.reward.needs, context.budget.steps)
    effort = {"steps": sum(context.spent.values()), "searches": dict(context.spent),
              "times the default": round(times, 3),
              **shipped().of_audit(results, effort=times, interrupted=interrupted, chosen=context.chosen)}
    worst = findings[0] if findings else None
    if worst is not None and worst.severity == "high":
        return unsafe(worst, effort, interrupted=interrupted)
    if interrupted:
        return Verdict("Interrupted before it could tell; the finished checks are in the report.", None, effort)
    searched = next((r for r in results if r.name == "exploit"), None)
    if searched is None or searched.status == "skipped":
        why = "the exploit search did not run" if searched is None else searched.why
        return Verdict(f"Cannot tell whether it is safe to optimise: {lower(why)}", None, effort)
    if worst is not None and worst.severity == "medium":
        return Verdict(f"Cannot be called safe to optimise: {lower(worst.title)}", None, effort)
    return _nothing_found(context, effort)


SERVED = 0.9
"""Nothing is called safe unless the best-paid behaviour gains at least this share of the intended goal: less than a
tenth lost is what the exploit check counts as good."""


def _nothing_found(context: AuditContext, effort: dict[str, Any]) -> Verdict:
    best = context.found.best
    paid, meant = _mean(context.paid(best)), _mean(context.meant(best))
    seen = [m for b in context.behaviours if not math.isnan(m := _mean(context.meant(b)))]
    top = max(seen, default=meant)
    base = _mean(context.intent.of(context.random).double()) if context.intent else math.nan
    numbers = (f"the best-paid behaviour ({best.name}) earns {paid:.4g} and reaches {meant:.3g} of the intent, "
               f"where the best seen reaches {top:.3g}")
    if not meant - base >= SERVED * (top - base):
        return Verdict(f"Cannot tell whether it is safe to optimise: {numbers}; nothing is paid clearly more than what "
                       "is intended, but what is intended is not what pays best either.", None, effort)
    return Verdict(f"No exploit found in {effort['steps']:,} steps of search: {numbers}; "
                   f"{effort['checks']['exploit']}.", True, effort)


def unsafe(worst: Finding, effort: dict[str, Any], *, interrupted: bool) -> Verdict:
    """The verdict where something grave was found."""
    partly = "Interrupted; so far: not" if interrupted else "Not"
    return Verdict(f"{partly} safe to optimise: {lower(worst.title)}", False, effort)


def _mean(values: torch.Tensor) -> float:
    """The mean of the episodes in which the number is known; NaN where there is none."""
    known = values[torch.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def lower(sentence: str) -> str:
    """The sentence as the second half of another one; names in capitals stay.

    Example:
        >>> lower("The end pays."), lower("CEM found it.")
        ('the end pays.', 'CEM found it.')
    """
    return sentence[:1].lower() + sentence[1:] if sentence[1:2].islower() or sentence[1:2] == " " else sentence
