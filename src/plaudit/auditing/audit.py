"""`plaudit.audit`: points every check at a reward and says in one sentence whether it is safe to optimise."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from plaudit.auditing.asking import Asking, Event, Listener, with_source
from plaudit.auditing.check import Check, checks
from plaudit.auditing.checks.terms import random_score
from plaudit.auditing.context import AuditContext
from plaudit.auditing.effort import affordable, budget_of, effort_kind, effort_of
from plaudit.auditing.finding import Finding, rank
from plaudit.auditing.given import load_given
from plaudit.auditing.going_on import opened
from plaudit.auditing.intent import Intent, check_intent, find_intent, parse_intent
from plaudit.auditing.record.quoting import on_by_default, shipped
from plaudit.auditing.repair import propose
from plaudit.auditing.report.model import AuditReport, CheckResult
from plaudit.auditing.subject import Environment, Subject, option, recognise
from plaudit.auditing.verdict import judge
from plaudit.auditing.witness import Witness
from plaudit.core.algebra import as_reward
from plaudit.core.cluster import Cluster
from plaudit.core.devices import check_device
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.functions import EnvReward, FunctionReward
from plaudit.core.jobs import Kept
from plaudit.core.reward import Reward
from plaudit.core.saving import is_saved_reward, load_reward
from plaudit.core.targets import load_target
from plaudit.optimize.behaviours import Found
from plaudit.tasks.base import Task
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout

SEARCHES = ("search reward", "search intent")
"""What the checks share is searched first, under names of its own."""
SEARCHING = frozenset({"contract", "scale", "incentives", "exploit", "fragility"})
"""The built-in checks that look at what the searches found; others search only when they ask."""
GLANCE = 50
"""So many random steps show what an environment reports in `info`."""
log = logging.getLogger(__name__)


def audit(target: str | Path | Reward | Task | Callable[..., Any], *, env: Environment | None = None,
          env_kwargs: Mapping[str, Any] | None = None, intent: str | Intent | Reward | Callable[..., Any] | None = None,
          reference: str | Reward | Callable[..., Any] | None = None, episodes: str | Path | None = None,
          policy: str | Path | None = None, effort: float = 1.0, seconds: float | None = None,
          steps: int | None = None, seed: int = 0, discount: float = 0.99, trust: bool = False,
          time_limit_s: float | None = 10.0, only: Sequence[str] | None = None, repair: bool = True,
          listen: Listener | None = None, ray: str | bool | None = None, device: str = "cpu",
          keep: str | Path | None = None, resume: bool = False) -> AuditReport:
    """Audits a reward by optimising it.

    Args:
        target: `file.py:name` or `module:name` (a reward function, an environment class or a factory), an
            environment id (its own reward), a folder that `save_reward` wrote, or such an object itself.
        env: The environment to optimise a reward in: an id, a class, a factory or a Task.
        env_kwargs: Arguments for the environment.
        intent: What is wanted: `file.py:name[:sum|last|max|any]`, `info:KEY[:...]`, `env`, or an object.
            Found in the environment's `info` where it can be.
        reference: A reward to measure distances to, or `env`.
        episodes: A file of logged episodes (`Episodes.save`) to look at as well.
        policy: A trained policy to look at as well (plaudit's folder, or stable-baselines3's zip with `trust`).
        effort: How hard to look, in multiples of the default: a number of steps for the kind of task, the same on
            every machine. What each effort finds is measured (`plaudit audit-record`).
        seconds: About how long to search, instead; turned into steps once, and recorded.
        steps: Environment steps to search, instead: the same steps and seed give the same report.
        seed: The root of all randomness.
        discount: In [0, 1): the learner's.
        trust: Whether files that can run code (a zip of stable-baselines3 unpickles) may be read.
        time_limit_s: Wall-clock limit of one call of a plain reward function.
        only: Names of the checks to run; all by default.
        repair: Whether to propose a repair of the worst finding and to audit it again.
        listen: Called with every `Event`.
        ray: Sends the searches to workers, with the same numbers: True for the cores of this machine, or as for
            `plaudit.core.jobs.run_jobs`. What cannot travel is searched here.
        device: Where learners live, such as cpu or cuda; all else is played on the CPU.
        keep: A folder for the parts of the searches that are finished, for a `resume`; removed at the end.
        resume: Goes on with what an audit that was stopped, with the same arguments and files, left in `keep`: the
            report that comes out is the one that it would have written.

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
    wanted = _chosen(only)
    device = check_device(device)
    if not 0 <= discount < 1:
        raise BadInput("discount", expected="a number in [0, 1)", received=discount)
    if time_limit_s is not None:
        _positive("time_limit_s", time_limit_s)
    aim = _read_intent(intent)
    ideal = None if reference is None else _read_reward("reference", reference)
    subject = recognise(target, env=env, env_kwargs=env_kwargs, time_limit_s=time_limit_s, trust=trust)
    budget = budget_of(subject.task, subject.reward.needs, effort=effort, seconds=seconds, steps=steps)
    config = {"seconds": seconds, "discount": discount, "time_limit_s": time_limit_s,
              "only": None if only is None else [c.name for c in wanted]}
    context = AuditContext(task=subject.task, reward=subject.reward, intent=aim or find_intent(_glance(subject.task)),
                           reference=ideal, budget=budget, seed=seed, discount=discount, device=device, repairs=repair,
                           chosen=only is not None)
    tell(Event(kind="recognised", text=_recognised(subject, context.intent),
               checks=[*_searches(wanted), *(c.name for c in wanted)]))
    run = _Run(context, subject, tell, config, began, repair=repair)
    context.kept = opened(keep, context, asked=[effort, seconds, steps, env_kwargs], resume=resume, tell=tell)
    _look(context, tell)
    context.settle()
    if seconds is None and steps is None:
        _cut(context, tell)
    context.given = load_given(subject.task, episodes=episodes, policy=policy, seed=seed, trust=trust,
                               like=context.random, horizon=context.horizon)
    if context.given:
        tell(Event(kind="note", text=f"also looking at {', '.join(b.name for b in context.given)}"))
    with contextlib.ExitStack() as stack:
        if ray is not None and ray is not False:
            context.ray = stack.enter_context(Cluster(ray))
            context.ray.start()
        interrupted = run.all_of(wanted)
    if context.kept is not None and not interrupted:
        context.kept.forget()
    tell(Event(kind="judging"))
    return run.report(interrupted=interrupted)


def _glance(task: Task) -> Episodes:
    """A few random steps: what does the environment report?"""
    return rollout(task, RandomPolicy(task.action_space, seeds=[0]), seeds=[0], max_steps=min(task.horizon, GLANCE))


def _look(context: AuditContext, tell: Listener) -> None:
    """Refuses what random behaviour shows to be hopeless, before any search."""
    began = time.perf_counter()
    score = random_score(context)
    context.memo["seconds a step"] = (time.perf_counter() - began) / max(1, int(context.random.mask.sum()))
    if not bool(score.known[context.random.mask].any()):
        raise BadInput("reward", expected="numbers", received=f"none on {context.random.B} episodes of random actions: "
                       + "; ".join(score.why))
    if not score.all_known:
        reason, where = next(iter(score.why.items()))
        row, step = (int(i) for i in where.nonzero()[0])
        tell(Event(kind="note", text=f"the reward is unknown at {int((~score.known).sum())} of "
                                     f"{int(context.random.mask.sum())} random steps, first at step {step} of episode "
                                     f"{row}: {reason}"))
    if isinstance(context.reward, FunctionReward) and context.reward.mode and not context.reward.mode.vectorised:
        tell(Event(kind="note", text=context.reward.how))
    if context.intent is None:
        context.intent = find_intent(context.random)
        if context.intent is not None:
            tell(Event(kind="note", text=f"intent found in info: {context.intent.statement}"))
    else:
        check_intent(context.intent, context.random)


def _cut(context: AuditContext, tell: Listener) -> None:
    """The default effort is steps, whatever they cost; where an environment is very slow it is cut, and says so."""
    planned = context.budget.steps
    assert planned is not None
    if effort_kind(context.task, context.reward.needs).startswith("dear"):
        kept = context.kept or Kept()  # an audit that goes on is cut as it was, however fast this machine is now
        steps = int(kept.get_or("steps", lambda: affordable(planned, context.memo["seconds a step"])))
        if steps < planned:
            context.rebudget(steps)
            tell(Event(kind="note", text=f"a step of this environment takes {1e3 * context.memo['seconds a step']:.3g} "
                       f"ms: {steps:,} steps of search instead of {planned:,}; --steps {planned} does them all"))


def _searches(wanted: Sequence[Check]) -> tuple[str, ...]:
    return SEARCHES if any(check.name in SEARCHING for check in wanted) else ()


class _Run(Asking):
    """The checks of one audit, in order, with what they found."""

    def __init__(self, context: AuditContext, subject: Subject, tell: Listener, config: Mapping[str, Any],
                 began: float, *, repair: bool) -> None:
        super().__init__(context, tell)
        self.context, self.subject, self.config, self.began = context, subject, config, began
        self.repair = repair
        self.wanted: Sequence[Check] = ()

    def all_of(self, wanted: Sequence[Check]) -> bool:
        """Runs the checks, then the repair of the worst finding; returns whether it was interrupted."""
        self.wanted = wanted
        try:
            self._search()
            for check in wanted:
                self.ask(check)
            if self.repair:
                self._repair()
        except KeyboardInterrupt:
            return True
        return False

    def _search(self) -> None:
        """Makes the behaviours that the checks share, so that their cost does not stand under one of them."""
        if _searches(self.wanted):
            self._timed(SEARCHES[0], lambda: self.context.found)
            self._timed(SEARCHES[1], lambda: self.context.intended)

    def _timed(self, name: str, go: Callable[[], Found | None]) -> None:
        began = time.perf_counter()
        self.begin(name, "")
        try:
            found = go()
        except PlauditError as error:  # each check that needs it will say that it could not look
            text, behaviours = str(error), 0
        else:
            text = "no intent" if found is None else f"{found.steps:,} steps, {len(found.behaviours)} behaviours"
            behaviours = 0 if found is None else len(found.behaviours)
        status = "pass" if behaviours else "skipped"
        self.tell(Event(kind="checked", check=name,
                        result=CheckResult(name, status, text, time.perf_counter() - began)))

    def sourced(self, finding: Finding) -> Finding:
        """Writes into a finding what its check is worth, and into its witness where the reward comes from."""
        times = effort_of(self.context.task, self.context.reward.needs, self.context.budget.steps)
        return with_source(finding, rates=shipped().of_check(finding.check, effort=times), witness=Witness,
                           subject=self.subject)

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

    def _off(self) -> list[CheckResult]:
        """The checks that are off by default, where nobody chose."""
        known = {c.name for c in checks()}
        off = {} if self.config["only"] is not None else shipped().off()
        return [CheckResult(name, "skipped", why, 0.0) for name, why in off.items() if name in known]

    def report(self, *, interrupted: bool) -> AuditReport:
        """What is known now; checks that have not finished are skipped."""
        findings, results = self.known(self.wanted)
        results += self._off()
        verdict = judge(self.context, findings, results, interrupted=interrupted)
        return AuditReport.of(self.context, self.subject, verdict=verdict, findings=findings, checks=results,
                              seconds=time.perf_counter() - self.began, interrupted=interrupted, config=self.config)


def _chosen(only: Sequence[str] | None) -> list[Check]:
    """The checks of these names; without names all that do not cry wolf too often (see `plaudit audit-record`)."""
    known = {c.name: c for c in checks()}
    if only is None:
        return [known[name] for name in on_by_default(list(known))]
    strange = [name for name in only if name not in known]
    if strange:
        raise BadInput("only", expected=f"names out of {', '.join(known)}", received=", ".join(strange))
    return [known[name] for name in known if name in only]


def _read_intent(intent: str | Intent | Reward | Callable[..., Any] | None) -> Intent | None:
    if intent is None or isinstance(intent, Intent):
        return intent
    if isinstance(intent, str):
        return parse_intent(intent)
    reward = as_reward(intent)
    return Intent(reward.name, f"a high total {reward.name}", reward, "sum")


def _read_reward(name: str, thing: str | Reward | Callable[..., Any]) -> Reward:
    if isinstance(thing, str):
        if thing == "env":
            return EnvReward()
        if is_saved_reward(thing):
            return load_reward(thing)
        with option(name):
            thing = load_target(thing).thing
    if not isinstance(thing, Reward) and (not callable(thing) or isinstance(thing, type)):
        raise BadInput(name, expected="a reward function, a Reward or env", received=type(thing).__name__)
    return as_reward(thing)


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise BadInput(name, expected="a positive number", received=value)
    return value


def _recognised(subject: Subject, intent: Intent | None) -> str:
    if intent is None:
        return f"{subject.recognised}; no intent yet (give one with --intent, such as info:KEY or file.py:name)"
    return f"{subject.recognised}; intent: {intent.statement}" + (" (found in info)" if intent.found else "")
