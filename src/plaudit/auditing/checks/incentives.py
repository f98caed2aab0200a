"""Incentives: does ending early, never ending, or running in circles pay more than doing what is intended?"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from plaudit.auditing.checks.culprit import Culprit, culprit_evidence, culprit_of, fit_of
from plaudit.auditing.checks.cycles import Loop, best_loop, endless_optimum, loop_in
from plaudit.auditing.checks.exploit import achieves, evidence_of, how_to_say_the_intent, witness_of
from plaudit.auditing.checks.outcomes import Outcome, interval, late_rate, shown
from plaudit.auditing.checks.potential import paid_by
from plaudit.auditing.checks.ranking import Exploit, Ranking, flat, ranking
from plaudit.auditing.finding import Finding, Number, Skipped
from plaudit.core.errors import PlauditError
from plaudit.core.tree import tree_map
from plaudit.tasks.tabular import TabularMDP

if TYPE_CHECKING:
    from plaudit.auditing.context import AuditContext

log = logging.getLogger(__name__)
_NAMED = re.compile(r"shap|potential|progress|bonus|closer|approach|dense|checkpoint", re.IGNORECASE)
UNEXPLAINED = 0.05
"""A term with at least this share unexplained is no potential difference."""
_STATES_SHOWN = 12
_EXPLAINS = 0.25
"""A loop explains an exploit if its rounds pay this share of what it gains."""


@dataclass(frozen=True)
class IncentivesCheck:
    """Looks at how episodes end, at loops that pay, and at shaping that is none."""

    name: str = "incentives"
    question: str = "Does ending early, never ending or going round in circles pay more than what is intended?"

    def run(self, context: AuditContext) -> list[Finding] | Skipped:
        """Finds out how the exploits are paid: by an early end, by no end, by a loop, by a term that farms.

        Without an intent only a proof in a finite process is made: a loop beats every way to an end that the
        reward itself pays for. Leaves `context.memo["culprit"]`, `["loop"]` and `["unexplained"]`.
        """
        if context.intent is None:
            return self._without_intent(context)
        ranked = ranking(context)
        findings: list[Finding] = []
        kinds: set[str] = set()
        for exploit in ranked.exploits:
            loop = find_loop(context, ranked, exploit.outcome)
            if loop is not None and _wanted_too(context, ranked, exploit.intended):
                loop = None
            kind = kind_of(ranked, exploit, loop)
            if kind is not None and kind not in kinds:
                kinds.add(kind)
                findings.append(_finding(context, ranked, exploit, kind, loop))
        if not findings and ranked.exploits:
            findings += _shaping(context, ranked, ranked.exploits[0])
        if not findings and not ranked.reached:
            return Skipped("nobody reached what is intended, so what ends an episode cannot be compared with it")
        return findings

    def _without_intent(self, context: AuditContext) -> list[Finding] | Skipped:
        mdp = exact(context)
        if mdp is None:
            return Skipped(how_to_say_the_intent(context))
        return _proof(context, mdp)


CHECK = IncentivesCheck()


def exact(context: AuditContext) -> TabularMDP | None:
    """The exact process with the reward, or None where it has none (or is unknown somewhere)."""
    try:
        return context.mdp
    except PlauditError as error:
        log.info("no exact process: %s", error)
        return None


# --- how an exploit is paid --------------------------------------------------------------------------------


def kind_of(ranked: Ranking, exploit: Exploit, loop: Loop | None) -> str | None:
    """`early`, `endless` or `loop`, or None where the way that episodes end has nothing to do with it."""
    row, best = exploit.outcome, exploit.intended
    failed = float(ranked.failed(row).double().mean())
    if row.terminated >= 0.8 and failed >= 0.8 and row.length < best.length:
        return "early"
    if row.terminated > 0.2:
        return None
    if best.terminated >= 0.8:
        return "endless"
    explains = loop is not None and loop.pays.low > 0 and loop.total >= _EXPLAINS * exploit.gain.mean
    return "loop" if explains else None


def find_loop(context: AuditContext, ranked: Ranking, row: Outcome) -> Loop | None:
    """The loop that the typical episode of a behaviour runs for its pay."""
    return _loop(context, ranked, row, row.score.value)


def _wanted_too(context: AuditContext, ranked: Ranking, row: Outcome) -> bool:
    """Whether the intended behaviour goes round in a loop as well and gains by each round, as walking does."""
    assert context.intent is not None
    gains = context.intent.as_reward().score(row.behaviour.episodes)
    return gains.all_known and _loop(context, ranked, row, gains.value) is not None


def _loop(context: AuditContext, ranked: Ranking, row: Outcome, value_ET: torch.Tensor) -> Loop | None:
    index = int(row.paid_E.argsort()[len(row.paid_E) // 2])
    episode = row.behaviour.episodes[index]
    n = int(episode.lengths[0])
    place = flat(tree_map(lambda x: x[0, :n], episode.obs)).double() / _scale(context, ranked)
    return loop_in(place, value_ET[index, :n])


def _scale(context: AuditContext, ranked: Ranking) -> torch.Tensor:
    """The standard deviation of each number of the observation over all behaviours [D]."""
    if "_scale" not in context.memo:
        rows = [r.behaviour.episodes for r in ranked.table.rows[:64]]
        x = torch.cat([flat(tree_map(lambda leaf, e=e: leaf[e.mask], e.obs)) for e in rows])
        context.memo["_scale"] = x.double().std(0, correction=0).clamp(min=1e-6)
    return context.memo["_scale"]


def _finding(context: AuditContext, ranked: Ranking, exploit: Exploit, kind: str, loop: Loop | None) -> Finding:
    row, best = exploit.outcome, exploit.intended
    earns, other = shown(interval(row.paid_E)), shown(interval(best.paid_E))
    if kind == "early":
        title = (f"ending early pays: {row.behaviour.name} is over after {row.length:.3g} steps, earns {earns} and "
                 f"{achieves(context, row)}; doing what is intended takes {best.length:.3g} steps and earns {other}")
        advice = ("Make an end without success cost what the remaining steps would have cost, or pay for success "
                  "instead of charging for time.")
        if _largest_step(ranked) <= 0:
            advice += " No step pays more than 0, so an end is the best state there is, whatever brings it about."
    elif kind == "endless":
        how = f"{row.behaviour.name} ({loop.words})" if loop else row.behaviour.name
        title = (f"never finishing pays: {how} earns {earns} and {achieves(context, row)}; "
                 f"finishing earns {other}{' and ends the income' if _earns_on(row) else ''}")
        advice = ("Pay for a gain instead of a state (a potential difference), pay each event once, or make success "
                  "worth more than all that could be earned without it.")
    else:
        assert loop is not None
        title = (f"{loop.words} pays {shown(loop.pays)} a round: {row.behaviour.name} earns {earns} and "
                 f"{achieves(context, row)}; doing what is intended earns {other}")
        advice = "Take back on the way out what is paid on the way in (a potential difference), or pay each event once."
    evidence = {**evidence_of(context, ranked, exploit), **_endings(ranked, exploit), **_about(loop),
                **_exact_loop(context), **culprit_evidence(context, ranked, exploit)}
    context.memo.setdefault("loop", loop)
    frames = loop.frames if loop else None
    return Finding(check=CHECK.name, kind=kind, severity=exploit.severity, title=title, cost=exploit.cost,
                   evidence=evidence, advice=advice,
                   witness=witness_of(context, row, title, check=CHECK.name, frames=frames))


def _earns_on(row: Outcome) -> bool:
    return float(late_rate(row.score.value, row.score.mask).mean()) > 0


def _largest_step(ranked: Ranking) -> float:
    return max(float(r.score.value[r.score.mask & r.score.known].max()) for r in ranked.table.known)


def _endings(ranked: Ranking, exploit: Exploit) -> dict[str, Number]:
    row, best = exploit.outcome, exploit.intended
    return {"episodes of the exploit that end": row.terminated,
            "episodes of the best intended that end": best.terminated,
            "steps of the exploit": row.length, "steps of the best intended": best.length,
            "largest reward of a step": _largest_step(ranked),
            "reward a step of the exploit, late": interval(late_rate(row.score.value, row.score.mask))}


def _about(loop: Loop | None) -> dict[str, Number]:
    if loop is None:
        return {}
    return {"steps of a round": loop.steps, "reward of a round": loop.pays, "rounds seen": len(loop.visits) - 1}


def _exact_loop(context: AuditContext) -> dict[str, Number]:
    mdp = exact(context)
    cycle = None if mdp is None else best_loop(mdp)
    if cycle is None:
        return {}
    return {"best loop of all, reward a step (exact)": cycle.mean_reward,
            "best loop of all, steps": len(cycle.states), "best loop of all": _walk(context, cycle.states)}


def _walk(context: AuditContext, states: tuple[int, ...]) -> str:
    """The states of a loop, as row and column where the task is a grid."""
    cells, flags = getattr(context.task, "cells", None), getattr(context.task, "F", 1)
    names = [f"({cells[s // flags][0]}, {cells[s // flags][1]})" if cells is not None else str(s) for s in states]
    return " -> ".join(names[:_STATES_SHOWN]) + (" -> ..." if len(names) > _STATES_SHOWN else f" -> {names[0]}")


# --- shaping that is none ----------------------------------------------------------------------------------


def _shaping(context: AuditContext, ranked: Ranking, exploit: Exploit) -> list[Finding]:
    """A finding where a term that looks like shaping pays for the exploit and is no potential difference."""
    culprit = culprit_of(context, exploit)
    if culprit is None or not culprit.decides or culprit.mean <= 0:
        return []
    fit = fit_of(context, ranked, culprit.term)
    looks = bool(_NAMED.search(culprit.term)) or (culprit.dense >= 0.3 and _pays_for_the_end(culprit, exploit.intended))
    if fit is None or fit.unexplained < UNEXPLAINED or not looks:
        return []
    row, best = exploit.outcome, exploit.intended
    title = (f"{culprit.term} is no potential difference ({fit.unexplained:.0%} of it cannot be one) and changes what "
             f"is best: {row.behaviour.name} earns {shown(interval(row.paid_E))} and {achieves(context, row)}; "
             f"doing what is intended earns {shown(interval(best.paid_E))}")
    return [Finding(
        check=CHECK.name, kind=f"no potential: {culprit.term}", severity=exploit.severity, title=title,
        cost=exploit.cost,
        evidence={**evidence_of(context, ranked, exploit), **culprit_evidence(context, ranked, exploit)},
        witness=witness_of(context, row, title, check=CHECK.name),
        advice="Write it as discount * potential(next_obs) - potential(obs), with potential 0 at the end: "
               "reward.shaped_by(potential, discount=...).")]


def _pays_for_the_end(culprit: Culprit, intended: Outcome) -> bool:
    """Whether something else than the term pays for an intended end, so that the term can be meant as its shaping."""
    episodes = intended.behaviour.episodes
    rest = intended.score.value - paid_by(intended.score, culprit.term, episodes.terminated)
    return bool((rest[episodes.terminated & episodes.mask] > 0).any())


# --- without an intent: what a finite process proves ---------------------------------------------------------


def _proof(context: AuditContext, mdp: TabularMDP) -> list[Finding]:
    proof = endless_optimum(mdp)
    if proof is None:
        return []
    loop = proof.cycle
    how = f"a loop of {len(loop.states)} steps pays {loop.mean_reward:.4g} a step" if loop else "never ending pays"
    title = (f"{how} and is worth {proof.value:.4g} for ever; the best way to an end is worth "
             f"{proof.ending_value:.4g}, although ending is the largest single pay ({proof.prize:.4g})")
    evidence: dict[str, Number] = {
        "worth of never ending": proof.value, "worth of the best end": proof.ending_value,
        "pay of the end": proof.prize, "discount": context.discount, "proven exactly": True}
    if loop is not None:
        evidence |= {"reward a step of the loop": loop.mean_reward, "loop": _walk(context, loop.states)}
    table = [r for r in ranking(context).table.rows if r.known and r.terminated <= 0.2]
    row = max(table, key=lambda r: r.worth, default=None)
    return [Finding(
        check=CHECK.name, kind="proven endless", severity="high", title=title, evidence=evidence,
        witness=witness_of(context, row, title, check=CHECK.name) if row else None,
        advice="The reward pays for an end that it makes nobody want. Pay each event once, or as a potential "
               "difference.")]
