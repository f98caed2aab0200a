"""`plaudit.audit`: points every check at a reward and says in one sentence whether it is safe to optimise."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from plaudit.auditing.check import Check, checks
from plaudit.auditing.context import AuditContext
from plaudit.auditing.finding import Finding, Skipped, rank
from plaudit.auditing.given import load_given
from plaudit.auditing.intent import Intent, find_intent, parse_intent
from plaudit.auditing.repair import propose
from plaudit.auditing.report.model import AuditReport, CheckResult
from plaudit.auditing.subject import Subject, recognise
from plaudit.auditing.verdict import judge
from plaudit.core.algebra import as_reward
from plaudit.core.errors import BadInput
from plaudit.core.functions import EnvReward
from plaudit.core.reward import Reward, describe_failure
from plaudit.core.targets import load_target
from plaudit.optimize.behaviours import Behaviour, Budget
from plaudit.tasks.base import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened while an audit ran; the command line turns these into lines and bars."""

    kind: Literal["recognised", "started", "progress", "checked", "repaired"]
    check: str = ""
    done: float = 0.0
    text: str = ""
    result: CheckResult | None = None
    findings: Sequence[Finding] = ()


Listener = Callable[[Event], None]


def audit(target: str | Reward | Task | Callable[..., Any], *, env: str | Task | Callable[..., Any] | None = None,
          env_kwargs: Mapping[str, Any] | None = None, intent: str | Intent | Reward | None = None,
          reference: str | Reward | None = None, episodes: str | Path | None = None,
          policy: str | Path | None = None, seconds: float = 60.0, steps: int | None = None, seed: int = 0,
          discount: float = 0.99, trust: bool = False, time_limit_s: float | None = 10.0,
          only: Sequence[str] | None = None, listen: Listener | None = None) -> AuditReport:
    """Audits a reward by optimising it.

    Args:
        target: `file.py:name` or `module:name` (a reward function, an environment class or a factory), an
            environment id (its own reward), or such an object itself.
        env: The environment to optimise a reward in: an id, a class, a factory or a Task.
        env_kwargs: Arguments for the environment.
        intent: What is wanted: `file.py:name[:sum|last|max|any]`, `info:KEY[:...]`, `env`, or an object.
            Found in the environment's `info` where it can be.
        reference: A reward to measure distances to, or `env`.
        episodes: A file of logged episodes (`Episodes.save`) to look at as well.
        policy: A trained policy to look at as well (plaudit's folder, or stable-baselines3's zip with `trust`).
        seconds: About how long to search; turned into steps once, and recorded.
        steps: Environment steps to search, instead of seconds: the same steps and seed give the same report.
        seed: The root of all randomness.
        discount: In [0, 1): the learner's.
        trust: Whether files that can run code (a zip of stable-baselines3 unpickles) may be read.
        time_limit_s: Wall-clock limit of one call of a plain reward function.
        only: Names of the checks to run; all by default.
        listen: Called with every `Event`.

    Returns:
        An `AuditReport`: prints as text, shows as a page in a notebook, `save(folder)` writes all files.
        Interrupted by Ctrl-C, it holds what was found so far, and says so.

    Raises:
        BadInput: when an argument is wrong; before any work starts.

    Example:
        >>> def paid_to_drift(next_obs):
        ...     return abs(next_obs[..., 0])
        >>> report = audit(paid_to_drift, env="CartPole-v1", intent="env", steps=3000, only=["contract"])
        >>> report.checks[0].status
        'pass'
    """
    began, tell = time.perf_counter(), listen or (lambda event: None)
    subject = recognise(target, env=env, env_kwargs=env_kwargs, time_limit_s=time_limit_s)
    wanted = _chosen(only)
    aim = _read_intent(intent)
    ideal = None if reference is None else _read_reward("reference", reference)
    given = load_given(subject.task, episodes=episodes, policy=policy, seed=seed, trust=trust)
    budget = Budget.of(steps) if steps is not None else Budget.of(seconds=_positive("seconds", seconds))
    if not 0 <= discount < 1:
        raise BadInput("discount", expected="a number in [0, 1)", received=discount)
    context = AuditContext(task=subject.task, reward=subject.reward, intent=aim, reference=ideal, budget=budget,
                           seed=seed, discount=discount, given=given)
    if context.intent is None:
        context.intent = find_intent(context.random)
    tell(Event(kind="recognised", text=_recognised(subject, context.intent, wanted, given)))
    run = _Run(context, subject, tell)
    interrupted = run.all_of(wanted)
    return run.report(interrupted=interrupted, seconds=time.perf_counter() - began,
                      config={"seconds": None if steps is not None else seconds, "discount": discount})


class _Run:
    """The checks of one audit, in order, with what they found."""

    def __init__(self, context: AuditContext, subject: Subject, tell: Listener) -> None:
        self.context, self.subject, self.tell = context, subject, tell
        self.findings: list[Finding] = []
        self.results: list[CheckResult] = []

    def all_of(self, wanted: Sequence[Check]) -> bool:
        """Runs the checks, then the repair of the worst finding; returns whether it was interrupted."""
        try:
            for check in wanted:
                self._one(check)
            self._repair()
        except KeyboardInterrupt:
            done = {r.name for r in self.results}
            self.results += [CheckResult(c.name, "skipped", "interrupted", 0.0) for c in wanted if c.name not in done]
            return True
        return False

    def _one(self, check: Check) -> None:
        began = time.perf_counter()
        self.context.progress = lambda done, text: self.tell(
            Event(kind="progress", check=check.name, done=done, text=text))
        self.tell(Event(kind="started", check=check.name, text=check.question))
        found: Sequence[Finding] = ()
        try:
            out = check.run(self.context)
        except Exception as error:  # one check that fails must not lose what the others found
            log.exception("check %s failed", check.name)
            status, why = "skipped", describe_failure(f"the check {check.name}", error)
        else:
            if isinstance(out, Skipped):
                status, why = "skipped", out.why
            else:
                found = rank([self._sourced(f) for f in out])
                status = "finding" if found else "pass"
                why = found[0].title if found else check.question
        self.findings += found
        result = CheckResult(check.name, status, why, time.perf_counter() - began)
        self.results.append(result)
        self.tell(Event(kind="checked", check=check.name, result=result, findings=found))

    def _sourced(self, finding: Finding) -> Finding:
        """Writes into a witness where the reward comes from."""
        if finding.witness is None:
            return finding
        return replace(finding, witness=replace(finding.witness, reward=dict(self.subject.source),
                                                check=finding.check))

    def _repair(self) -> None:
        """Promise 4: a suggested change is applied and audited again."""
        self.findings = rank(self.findings)
        self.context.progress = lambda done, text: self.tell(
            Event(kind="progress", check="repair", done=done, text=text))
        for i, finding in enumerate(self.findings[:2]):
            if finding.severity == "low":
                continue
            try:
                mended = propose(self.context, finding)
            except Exception:  # no repair is better than no report
                log.exception("repairing %s failed", finding.check)
                continue
            if mended.fix is not None:
                self.findings[i] = mended
                self.tell(Event(kind="repaired", check=finding.check, text=mended.fix.description, findings=[mended]))
                return

    def report(self, *, interrupted: bool, seconds: float, config: Mapping[str, Any]) -> AuditReport:
        findings = rank(self.findings)
        verdict = judge(self.context, findings, self.results, interrupted=interrupted)
        return AuditReport.of(self.context, self.subject, verdict=verdict, findings=findings, checks=self.results,
                              seconds=seconds, interrupted=interrupted, config=config)


def _chosen(only: Sequence[str] | None) -> list[Check]:
    known = {c.name: c for c in checks()}
    if only is None:
        return list(known.values())
    strange = [name for name in only if name not in known]
    if strange:
        raise BadInput("only", expected=f"names out of {', '.join(known)}", received=", ".join(strange))
    return [known[name] for name in known if name in only]


def _read_intent(intent: str | Intent | Reward | None) -> Intent | None:
    if intent is None or isinstance(intent, Intent):
        return intent
    if isinstance(intent, str):
        return parse_intent(intent)
    reward = as_reward(intent)
    return Intent(reward.name, f"a high total {reward.name}", reward, "sum")


def _read_reward(name: str, text: str | Reward) -> Reward:
    if isinstance(text, Reward):
        return text
    if text == "env":
        return EnvReward()
    thing = load_target(text).thing
    if not callable(thing) and not isinstance(thing, Reward):
        raise BadInput(name, expected="a reward function, a Reward or env", received=type(thing).__name__)
    return as_reward(thing)


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise BadInput(name, expected="a positive number", received=value)
    return value


def _recognised(subject: Subject, intent: Intent | None, wanted: Sequence[Check], given: Sequence[Behaviour]) -> str:
    if intent is None:
        aim = "no intent: give one with --intent, such as info:KEY or file.py:name"
    else:
        aim = f"intent: {intent.statement}" + (" (found in info)" if intent.found else "")
    brought = f"; also looking at {', '.join(b.name for b in given)}" if given else ""
    return f"{subject.recognised}; {aim}; checks: {', '.join(c.name for c in wanted)}{brought}"
