"""How good are the checks? Audits every planted flaw and its twin, and counts what was found and what was cried."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from plaudit.auditing.audit import audit
from plaudit.auditing.finding import Finding, at_least
from plaudit.auditing.flaws import Flaw, flaws
from plaudit.core.statistics import Interval, proportion_interval

Progress = Callable[["FlawScore"], None]


@dataclass(frozen=True, kw_only=True)
class FlawScore:
    """What one audit of a flaw and one of its twin came to."""

    flaw: Flaw
    findings: Sequence[Finding]
    """Of the flawed reward, worst first."""
    alarms: Sequence[Finding]
    """Of the healthy twin."""
    seconds: float

    @property
    def found_by(self) -> tuple[str, ...]:
        """Checks with a finding of at least medium severity on the flawed reward."""
        return tuple(dict.fromkeys(f.check for f in self.findings if at_least(f.severity, "medium")))

    @property
    def caught(self) -> bool:
        """Whether a check that is right to find it did."""
        return any(check in self.flaw.caught_by for check in self.found_by)

    @property
    def cried(self) -> tuple[Finding, ...]:
        """High findings on the healthy twin: each is one too many."""
        return tuple(f for f in self.alarms if f.severity == "high")

    def __str__(self) -> str:
        cried = "; ".join(f"{f.check}: {f.title}" for f in self.cried)
        return (f"{'caught' if self.caught else 'MISSED':6} {self.flaw.name:14} by {', '.join(self.found_by) or 'none'}"
                + (f" | FALSE ALARM {cried}" if cried else ""))


@dataclass(frozen=True)
class CollectionScore:
    """The scores of all flaws; prints as a list."""

    scores: list[FlawScore] = field(default_factory=list)

    @property
    def detection(self) -> Interval:
        """The share of flaws that a right check caught."""
        return proportion_interval(sum(s.caught for s in self.scores), len(self.scores))

    @property
    def false_alarms(self) -> Interval:
        """The share of twins with a high finding."""
        return proportion_interval(sum(bool(s.cried) for s in self.scores), len(self.scores))

    def of_check(self, name: str) -> tuple[Interval, Interval]:
        """A check's detection rate on the flaws that it should find, and its rate of high findings on all twins."""
        own = [s for s in self.scores if name in s.flaw.caught_by]
        alarms = sum(any(f.check == name for f in s.cried) for s in self.scores)
        return (proportion_interval(sum(name in s.found_by for s in own), len(own)),
                proportion_interval(alarms, len(self.scores)))

    def __str__(self) -> str:
        return "\n".join([*map(str, self.scores), f"detection {self.detection}, false alarms {self.false_alarms}"])


def score_collection(*, seconds: float = 60.0, steps: int | None = None, names: Sequence[str] | None = None,
                     seed: int = 0, only: Sequence[str] | None = None,
                     on_score: Progress | None = None) -> CollectionScore:
    """Audits flaws and twins at one effort.

    Args:
        seconds: Of search for each audit (two for each flaw).
        steps: Environment steps of search instead, so that the scores are the same again.
        names: Which flaws; all by default.
        seed: Of every audit.
        only: Which checks.
        on_score: Called after each flaw.

    Returns:
        What was caught by which check, and which twins raised a high finding.
    """
    chosen = [f for f in flaws() if names is None or f.name in names]
    scores: list[FlawScore] = []
    for one in _scored(chosen, seconds=seconds, steps=steps, seed=seed, only=only):
        scores.append(one)
        if on_score is not None:
            on_score(one)
    return CollectionScore(scores)


def _scored(chosen: Sequence[Flaw], *, seconds: float, steps: int | None, seed: int,
            only: Sequence[str] | None) -> Iterator[FlawScore]:
    for f in chosen:
        flawed, healthy = (audit(r, env=f.task(), intent=f.intent(), seconds=seconds, steps=steps, seed=seed, only=only)
                           for r in (f.reward(), f.twin()))
        yield FlawScore(flaw=f, findings=flawed.findings, alarms=healthy.findings,
                        seconds=flawed.seconds + healthy.seconds)
