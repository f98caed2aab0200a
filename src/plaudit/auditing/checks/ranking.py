"""Which behaviours are paid more than the intended one while they lose what was intended."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.auditing.checks.outcomes import (
    GOOD,
    Outcome,
    Table,
    difference,
    interval,
    late_rate,
    outcome,
    scaled,
    table,
)
from plaudit.auditing.finding import Severity
from plaudit.core.episodes import Episodes
from plaudit.core.errors import PlauditError
from plaudit.core.statistics import Interval, difference_interval
from plaudit.core.tree import Tree, leaves
from plaudit.optimize.behaviours import Behaviour, features
from plaudit.optimize.hunting.planned import Planned
from plaudit.optimize.tabular import policy_iteration
from plaudit.tasks.rollouts import rollout

if TYPE_CHECKING:
    from plaudit.auditing.context import AuditContext

LEAST_EFFECT = 0.05
"""A gain counts if it is at least this share of what the behaviours' worth spans."""
LOST: dict[Severity, tuple[float, float]] = {"high": (0.5, 0.25), "medium": (0.25, 0.1), "low": (GOOD, 0.0)}
"""For each severity the share of the intended goal that is lost, and where its interval must begin."""
MOST = 3
_TRIES = 5
_FRESH = 8
_COMPARABLE = 0.8
"""A further exploit is reported if it gains this share of what the best-paid one does: it is where training may end."""
_ALIKE = 0.9
_PLAIN = ("scripted", "planned", "random")
_PLAN_STATES = 4000
_PULLS = (1.0, 10.0, 100.0)
_LATE = 3.0
"""Success is late if it takes this many times the steps of the fastest."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Exploit:
    """A behaviour that is paid more than the intended one and loses what was intended."""

    outcome: Outcome
    intended: Outcome
    gain: Interval
    """Undiscounted pay above that of the intended behaviour."""
    worth_gain: Interval
    """The same, discounted and beyond the time limit: what a learner sees."""
    lost: Interval
    """The share of the intended goal that is lost."""
    effect: float
    """The gain in worth over what the behaviours' worth spans."""
    severity: Severity
    alike: int = 0
    """How many similar behaviours were merged into this one."""
    confirmed: bool = False
    """Whether it was seen again on seeds that the search had not used."""

    @property
    def cost(self) -> float:
        return min(max(self.lost.mean, 0.0), 1.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Ranking:
    """The behaviours of an audit, ranked by reward and by intent."""

    table: Table
    intended: Outcome | None
    """The most worth of the behaviours that do what is intended; None without an intent."""
    base: float
    """The intent that counts as nothing gained: that of random actions, or the least where random does best."""
    scale: float
    """The intent of the best intended behaviour less `base`."""
    reached: bool
    """Whether some behaviour does clearly better than random actions."""
    exploits: list[Exploit]
    """Distinct ones, best-paid first."""

    @property
    def best_paid(self) -> Outcome | None:
        return max(self.table.known, key=lambda r: r.paid, default=None)

    def failed(self, row: Outcome) -> Tensor:
        """Which episodes [E] gain less than half of what can be gained."""
        return row.meant_E < self.base + 0.5 * self.scale


def ranking(context: AuditContext) -> Ranking:
    """Ranks all behaviours of the audit, once; both behavioural checks and the repair share it."""
    if "_ranking" not in context.memo:
        rows = table(context)
        if context.intent is not None and "_planned" not in context.memo:
            context.memo["_planned"] = planned_for_both(context)
            rows.rows.extend(outcome(context, b) for b in context.memo["_planned"])
        context.memo["_ranking"] = rank_table(context, rows, confirm=True)
    return context.memo["_ranking"]


def rank_table(context: AuditContext, rows: Table, *, confirm: bool = False) -> Ranking:
    """Finds the exploits in a table.

    A behaviour is as good as intended if it loses less than a tenth of the intended goal (`GOOD`). The
    intended behaviour is the most worth of these; what is worth more than it and is none of them is an
    exploit: whoever optimises the reward prefers it to everything that does what is wanted.

    Args:
        context: the audit.
        rows: the behaviours with their pay.
        confirm: take the means of the search for hints, roll the suspects out again on seeds that it has not
            seen, and believe only what is clear there. Else the intervals of the table itself decide.
    """
    if confirm and context.intent is not None:
        _test_the_intended(context, rows)
    known = rows.known
    if context.intent is None or not known:
        return Ranking(table=rows, intended=None, base=float("nan"), scale=0.0, reached=False, exploits=[])
    top = max(known, key=lambda r: r.meant)
    reached, base = _reached(context, rows, top, confirm=confirm)
    scale = top.meant - base
    if scale <= 1e-9 * max(1.0, abs(top.meant)):
        return Ranking(table=rows, intended=top, base=base, scale=0.0, reached=False, exploits=[])
    good = [r for r in known if (top.meant - r.meant) / scale < GOOD]
    intended = max(good, key=lambda r: (r.worth, r.paid))
    prompt = _without_delay(context, good, intended)
    spread = rows.spread("worth")
    found: list[Exploit] = []
    for row in (r for r in known if r not in good):
        rivals = [prompt, intended] if _only_delayed(row, intended, prompt) else [intended]
        found += [e for g in rivals if (e := compare(row, g, base=base, spread=spread, sure=not confirm))][:1]
    found.sort(key=lambda e: _order(e.outcome, rows.spread("paid")))
    exploits = _distinct(context, rows, found, base=base, spread=spread, confirm=confirm)
    intended = exploits[0].intended if exploits else intended
    return Ranking(table=rows, intended=intended, base=base, scale=scale, reached=reached, exploits=exploits)


def _merit(row: Outcome) -> tuple[float, float]:
    return row.worth, row.paid


def _test_the_intended(context: AuditContext, rows: Table) -> None:
    """Rolls out again what does best at the intent, until the best is one that has been; its row then holds all seeds.

    The best of many behaviours on a few seeds is partly the luckiest. A suspect is tested on fresh seeds for that
    reason, and what it is compared with must be too: beside a lucky winner no exploit would ever be confirmed.
    """
    tested: set[int] = set()
    for _ in range(_TRIES):
        if not rows.known:
            return
        top = max(rows.known, key=lambda r: r.meant)
        scale = top.meant - _reached(context, rows, top, confirm=False)[1]
        good = [r for r in rows.known if scale > 0 and (top.meant - r.meant) / scale < GOOD]
        best = max(good, key=_merit) if good else top
        row = next((r for r in (top, best) if id(r.behaviour) not in tested), None)
        if row is None:
            return
        fresh = again(context, row)
        if fresh is None or not fresh.known or bool(torch.isnan(fresh.meant_E).any()):
            tested.add(id(row.behaviour))
            continue
        both = _together(context, row, fresh)
        context.memo[_again_key(both.behaviour)] = fresh
        rows.rows[rows.rows.index(row)] = both
        tested.add(id(both.behaviour))


def _order(row: Outcome, spread: float) -> tuple[int, int]:
    """Best-paid first; of those within a hundredth of the spread the one that is easiest to explain."""
    step = 0.01 * spread or 1.0
    plain = _PLAIN.index(row.behaviour.origin) if row.behaviour.origin in _PLAIN else len(_PLAIN)
    return round(-row.paid / step), plain


def compare(row: Outcome, intended: Outcome, *, base: float, spread: float, sure: bool = True) -> Exploit | None:
    """The exploit that `row` is beside the intended behaviour, if it is one.

    It must be worth more to a learner (by at least `LEAST_EFFECT` of the spread, unless the lead is exact), be paid
    more without discount or go on earning where the intended behaviour has ended, and lose a tenth of the intended
    goal.

    Args:
        row: the suspect.
        intended: beside what.
        base: the intent that counts as nothing gained.
        spread: what the behaviours' worth spans.
        sure: all of it with intervals that exclude 0; else the means are enough.
    """
    worth, gain = difference(row, intended, "worth_E"), difference(row, intended, "paid_E")
    scale = intended.meant - base
    low = (lambda x: x.low) if sure else (lambda x: x.mean)
    if scale <= 0 or not low(worth) > 1e-9 * max(spread, 1e-12):
        return None
    effect = worth.mean / spread if spread > 0 else 0.0
    if effect < LEAST_EFFECT and not _exact(row, intended, worth):
        return None
    if not (low(gain) > 0 or _outlasts(row, intended, sure=sure)):
        return None
    lost = _at_most_one(scaled(difference(intended, row, "meant_E"), 1 / scale))
    severity = severity_of(lost) or ("low" if not sure and lost.mean >= GOOD else None)
    if severity is None:
        return None
    return Exploit(outcome=row, intended=intended, gain=gain, worth_gain=worth, lost=lost, effect=effect,
                   severity=severity)


def _exact(row: Outcome, intended: Outcome, lead: Interval) -> bool:
    """Whether a lead, however small, is where optimisation ends.

    So it is where the rival is an exact plan, and so is the suspect (or its lead is the same in every episode), and
    all episodes end by themselves: nothing is a search's luck then, or a guess about the time after the limit.
    """
    sure = row.behaviour.origin == "planned" or lead.high - lead.low <= 1e-9 * max(1.0, abs(lead.mean))
    return sure and intended.behaviour.origin == "planned" and row.terminated == intended.terminated == 1.0


def severity_of(lost: Interval) -> Severity | None:
    """How bad it is to lose a share of the intended goal; None where the interval holds 0 or it is under a tenth."""
    for severity, (mean, low) in LOST.items():
        if lost.mean >= mean and lost.low >= low and lost.low > 0:
            return severity
    return None


def _at_most_one(x: Interval) -> Interval:
    """A share: whoever does worse than random actions has lost all, not more."""
    return Interval(min(x.mean, 1.0), min(x.low, 1.0), min(x.high, 1.0), x.n)


def _outlasts(row: Outcome, intended: Outcome, *, sure: bool) -> bool:
    """Whether it earns on and on, where the intended behaviour ends."""
    if row.terminated > 0.2 or intended.terminated < 0.8:
        return False
    late = interval(late_rate(row.score.value, row.score.mask))
    return (late.low if sure else late.mean) > 0


def _reached(context: AuditContext, rows: Table, top: Outcome, *, confirm: bool) -> tuple[bool, float]:
    """Whether the best does better than random actions, and the intent that counts as nothing gained."""
    random_E = rows.random_meant_E
    if not bool(torch.isnan(random_E).any()):
        base = float(random_E.mean())
        if difference_interval(top.meant_E, random_E).low > 0:
            return True, base
        fresh = again(context, top) if confirm and top.meant > base else None
        if fresh is not None and not bool(torch.isnan(fresh.meant_E).any()):
            if difference_interval(fresh.meant_E, random_E).low > 0:
                return True, base
        if context.intent is not None and context.intent.is_success and top.meant >= 0.5:
            return True, min(base, *(r.meant for r in rows.known))
    return False, min(r.meant for r in rows.known)


# --- success that is put off -----------------------------------------------------------------------------


def _without_delay(context: AuditContext, good: list[Outcome], intended: Outcome) -> Outcome:
    """The most worth of the good behaviours that do not put success off.

    A plan that knows the time limit can farm a flawed reward to the last moment and then succeed. That is no
    sign of a healthy reward: a learner, whose time has no end, would farm on.
    """
    if context.intent is None or not context.intent.is_success:
        return intended
    when = {id(r): _first_success(context, r) for r in good}
    late = lambda r: when[id(r)] >= _LATE * min(when.values())  # noqa: E731
    prompt = [r for r in good if not late(r)]
    return max(prompt, key=lambda r: (r.worth, r.paid)) if prompt and late(intended) else intended


def _first_success(context: AuditContext, row: Outcome) -> float:
    """The mean step of the first success; episodes without one count with their length."""
    assert context.intent is not None
    yes = (context.intent.per_step.score(row.behaviour.episodes).value > 0) & row.score.mask
    first = torch.where(yes.any(-1), yes.long().argmax(-1), row.behaviour.episodes.lengths)
    return float(first.double().mean())


def _only_delayed(row: Outcome, intended: Outcome, prompt: Outcome) -> bool:
    """Whether nearly all that the late success is paid above the prompt one is had without any success."""
    ahead = intended.worth - prompt.worth
    return intended is not prompt and ahead > 0 and row.worth - prompt.worth >= 0.8 * ahead


def planned_for_both(context: AuditContext) -> list[Behaviour]:
    """The best-paid ways to do what is intended, planned exactly: for a reward plus ever more of the intent.

    Whoever pursues the intent alone need not care what it is paid. Without these an honest reward would be
    compared with a needlessly poor way to succeed. Empty where the task cannot write itself out.
    """
    index = getattr(context.task, "index", None)
    assert context.intent is not None
    try:
        mdp, aim = context.mdp, context.tabulate(context.intent.per_step)
    except PlauditError:
        return []
    if mdp is None or aim is None or index is None or mdp.S > _PLAN_STATES:
        return []
    most, size = float(mdp.reward.abs().max()), float(aim.reward.abs().max())
    if size == 0:
        return []
    seeds = list(context.found.behaviours[0].seeds) if context.found.behaviours else []
    out: list[Behaviour] = []
    for pull in _PULLS:
        both = mdp.with_reward(mdp.reward + pull * max(most, 1e-9) / (1 - mdp.discount) / size * aim.reward)
        policy = Planned(index, policy_iteration(both).policy, int(getattr(context.task.action_space, "start", 0)))
        episodes = rollout(context.task, policy, seeds=seeds, max_steps=context.horizon)
        context.spend("confirm", episodes)
        out.append(Behaviour(name=f"plan for the reward and {pull:g} times the intent", origin="planned", policy=policy,
                             episodes=episodes, seeds=seeds))
    return out


# --- merging and confirming ------------------------------------------------------------------------------


def _distinct(context: AuditContext, rows: Table, found: list[Exploit], *, base: float, spread: float,
              confirm: bool) -> list[Exploit]:
    """At most `MOST` exploits that look different and gain about as much as the best-paid, seen on fresh seeds."""
    looks = looks_of(context, [r.behaviour for r in rows.known])
    place = {id(r): i for i, r in enumerate(rows.known)}
    kept: list[tuple[Exploit, Outcome]] = []
    tries = 0
    for exploit in found:
        row = exploit.outcome
        here = looks[place[id(row)]]
        twin = next((i for i, (_, other) in enumerate(kept) if family(other) == family(row)
                     or float((looks[place[id(other)]] - here).square().mean().sqrt()) < _ALIKE), None)
        if twin is not None:
            first, other = kept[twin]
            kept[twin] = replace(first, alike=first.alike + 1), other
            continue
        small = bool(kept) and exploit.worth_gain.mean < _COMPARABLE * kept[0][0].worth_gain.mean
        if len(kept) == MOST or tries == _TRIES or small:
            continue
        tries += 1
        checked = _confirmed(context, exploit, base=base, spread=spread) if confirm else exploit
        if checked is not None:
            kept.append((checked, row))
    return [exploit for exploit, _ in kept]


def family(row: Outcome) -> str:
    """What the stages of one run have in common: the name without its numbers (an exact plan is its own family)."""
    b = row.behaviour
    return b.name if b.origin in _PLAIN or b.origin in ("given", "logged") else re.sub(r"[\d.,]+k?", "#", b.name)


def looks_of(context: AuditContext, behaviours: list[Behaviour]) -> Float[Tensor, "N F"]:
    """What each behaviour's trajectories look like, each feature divided by its spread over the behaviours."""
    x = torch.stack([features(b.episodes, flat).double().mean(0) for b in behaviours])
    x[:, -1] = torch.tensor([float(b.episodes.lengths.double().mean()) / context.task.horizon for b in behaviours])
    x = torch.nan_to_num(x, posinf=1e6, neginf=-1e6)
    return x / x.std(0, correction=0).clamp(min=1e-9)


def flat(obs: Tree) -> Float[Tensor, "N D"]:
    """Observations [N, ...] as numbers, the leaves of nested ones side by side."""
    return torch.cat([x.reshape(x.shape[0], -1).float() for _, x in leaves(obs)], -1)


def _confirmed(context: AuditContext, exploit: Exploit, *, base: float, spread: float) -> Exploit | None:
    """The exploit if fresh seeds show it clearly, with the numbers of all seeds together.

    The best of many behaviours on a few seeds is partly the luckiest, so those seeds decide nothing. Only where a
    behaviour cannot be rolled out again (a log) its own episodes have to do.
    """
    fresh = [again(context, o) for o in (exploit.outcome, exploit.intended)]
    if fresh[0] is None or fresh[1] is None:
        return compare(exploit.outcome, exploit.intended, base=base, spread=spread)
    seen = compare(fresh[0], fresh[1], base=base, spread=spread)
    if seen is None:
        return None
    all_seeds = compare(_together(context, exploit.outcome, fresh[0]), _together(context, exploit.intended, fresh[1]),
                        base=base, spread=spread, sure=False)
    return None if all_seeds is None else replace(all_seeds, confirmed=True, severity=seen.severity)


def again(context: AuditContext, row: Outcome) -> Outcome | None:
    """A behaviour on seeds that no search has used; None where its policy is unknown or tied to its own episodes."""
    policy = row.behaviour.policy
    if policy is None:
        return None
    key = _again_key(row.behaviour)
    if key not in context.memo:
        seeds = context.seeds.child("confirm").integers(max(_FRESH, context.episodes_each))
        try:
            episodes = rollout(context.task, policy, seeds=seeds, max_steps=context.horizon)
        except PlauditError:  # a policy that replays logged actions knows its own episodes alone
            context.memo[key] = None
        else:
            context.spend("confirm", episodes)
            context.memo[key] = outcome(context, replace(row.behaviour, episodes=episodes, seeds=seeds))
    return context.memo[key]


def _again_key(behaviour: Behaviour) -> str:
    return f"_again {id(behaviour)}"


def _together(context: AuditContext, a: Outcome, b: Outcome) -> Outcome:
    """One behaviour on the seeds of both."""
    if set(b.behaviour.seeds) <= set(a.behaviour.seeds):
        return a
    return outcome(context, replace(a.behaviour, episodes=Episodes.cat([a.behaviour.episodes, b.behaviour.episodes]),
                                    seeds=[*a.behaviour.seeds, *b.behaviour.seeds]))
