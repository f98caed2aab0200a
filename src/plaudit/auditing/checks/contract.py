"""Contract: is the reward a finite, repeatable function of what it says it reads, in any company, and fast?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from plaudit.auditing.checks.corners import at_the_bounds, bounded
from plaudit.auditing.checks.outcomes import Outcome, table
from plaudit.auditing.checks.terms import random_score
from plaudit.auditing.finding import Finding, Severity
from plaudit.auditing.witness import Witness
from plaudit.core.border import as_rows, read_answer
from plaudit.core.check import Checked, CheckReport, check
from plaudit.core.episodes import Episodes
from plaudit.core.errors import PlauditError
from plaudit.core.functions import EnvReward, FunctionReward
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.tree import leaves, tree_map
from plaudit.tasks.rollouts import replay

if TYPE_CHECKING:
    from plaudit.auditing.context import AuditContext

EFFECT = 1e-3
"""A promise broken by less than this share of the reward's largest value is worth a note only."""
SLOW_US = 200.0
"""Microseconds a step from which a reward costs more than most environments."""
_SAMPLE = 2000
_TIMED = 200
_PATIENCE_US = 2e6
_CALLS = 40
"""About how often `plaudit.check` scores its sample."""
_BREAKS: dict[str, tuple[Severity, str]] = {
    "deterministic": ("high", "Make the reward a function of its inputs; noise and memory belong to the environment."),
    "row order": ("high", "Score each step from its own fields; declare across='batch' if rows must be compared."),
    "batch size": ("high", "Score each step from its own fields; normalise in the learner, with fixed statistics."),
    "padding": ("high", "Read the mask, or no other steps than one's own."),
    "reads single steps": ("high", "Declare time='prefix' or 'episode', so that learners hand over whole episodes."),
    "reads no future": ("medium", "Declare time='episode'."),
    "streams": ("medium", "Make `stream` give the numbers of `score`."),
    "inputs unchanged": ("medium", "Copy an input before writing into it."),
    "declared fields": ("medium", "Declare every field that is read, or a learner may leave it out."),
    "state": ("medium", "Let state_dict hold everything that the numbers depend on."),
}
"""For each promise of `plaudit.check` how bad breaking it is, and what to do."""


@dataclass(frozen=True)
class ContractCheck:
    """Tries what `plaudit.check` tries, on random steps and on those that the search visited."""

    name: str = "contract"
    question: str = "Is the reward finite, repeatable, the same in any company, and as declared?"

    def run(self, context: AuditContext) -> list[Finding]:
        """Finds broken promises; a reward that is unknown on every random step is not searched."""
        score = random_score(context)
        if not bool(score.known[score.mask].any()):
            return [_never_known(context, score.counts())]
        findings = list(_unknown_steps(context))
        micros = _microseconds(context.reward, context.random)
        sample = _sample(context, micros)
        if bool(context.reward.score(sample).known.any()):
            report = check(context.reward, sample)
            findings += [*_broken(report), *_extremes(context, report, found=bool(findings))]
        if not any(f.kind == "deterministic" for f in findings):
            findings += _memory(context, score)
        findings += [*_company(context.reward, context.random), *_slow(context.reward, micros),
                     *_replays(context), *_not_finite(context)]
        return findings


CHECK = ContractCheck()


# --- unknown steps ---------------------------------------------------------------------------------------


def _never_known(context: AuditContext, counts: dict[str, int]) -> Finding:
    reason = max(counts, key=lambda r: counts[r], default="no step was scored")
    title = f"the reward is unknown at all {int(context.random.mask.sum())} steps of random actions: {reason}"
    return Finding(check=CHECK.name, kind=f"unknown: {reason}", severity="high", title=title,
                   evidence={"reason": reason}, cost=1.0,
                   witness=Witness.of(context, context.wandering, title=title, check=CHECK.name, row=0),
                   advice="Nothing can be learnt from this reward before it returns a number.")


def _unknown_steps(context: AuditContext) -> Iterator[Finding]:
    """Unknown steps among those that some behaviour visited, a finding for each reason."""
    rows = [_random_outcome(context), *table(context).rows]
    steps = sum(int(r.score.mask.sum()) for r in rows)
    for reason in sorted({reason for r in rows for reason in r.score.why}):
        hit = [r for r in rows if reason in r.score.why and bool(r.score.why[reason].any())]
        if not hit:
            continue
        where = [r.score.why[reason] for r in hit]
        unknown = sum(int(w.sum()) for w in where)
        worst = max(hit, key=lambda r: float(r.score.why[reason].any(1).double().mean()))
        row, step = (int(i) for i in worst.score.why[reason].nonzero()[0])
        title = (f"the reward is unknown at {unknown} of {steps} visited steps ({len(hit)} of {len(rows)} behaviours), "
                 f"first at step {step} of {worst.behaviour.name!r}: {reason}")
        yield Finding(
            check=CHECK.name, kind=f"unknown: {reason}", severity=_severity_of_unknown(reason), title=title,
            evidence={"unknown steps": unknown, "visited steps": steps, "behaviours": len(hit), "reason": reason,
                      "first step": step, **_state(worst, row, step)},
            witness=Witness.of(context, worst.behaviour, title=title, check=CHECK.name, row=row,
                               frames=[max(0, step - 1), step]),
            advice="Define the reward there (limit what goes into a root, a logarithm or a quotient). A learner would "
                   "have to stop or to leave these steps out; read as 0 they would be worth visiting.")


def _severity_of_unknown(reason: str) -> Severity:
    """NaN, an error or a timeout breaks a run; a wrong declaration or a deliberate `None` does not."""
    return "medium" if "declared range" in reason or "returned None" in reason else "high"


def _state(row: Outcome, episode: int, step: int) -> dict[str, str]:
    obs = row.behaviour.episodes.next_obs
    if not isinstance(obs, Tensor) or obs[episode, step].numel() > 12:
        return {}
    return {"next_obs": ", ".join(f"{x:.4g}" for x in obs[episode, step].flatten().tolist())}


def _extremes(context: AuditContext, report: CheckReport, *, found: bool) -> Iterator[Finding]:
    """Unknown at the corners of the spaces, or beyond them: a note, since nobody went there."""
    if found:
        return
    corners = at_the_bounds(context.task, context.random)
    if corners is not None:
        score = context.reward.score(corners)
        unknown, steps = int((~score.known[score.mask]).sum()), int(score.mask.sum())
        if unknown:
            reason = max(score.counts(), key=lambda r: score.counts()[r])
            yield Finding(check=CHECK.name, kind="bounds", severity="low",
                          title=f"the reward is unknown at {unknown} of {steps} points on the bounds of the spaces, "
                                f"where no behaviour of this search went: {reason}",
                          evidence={"unknown points": unknown, "points": steps, "reason": reason},
                          advice="If these points can be reached, define the reward there.")
            return
    beyond = next((r for r in report.results if r.name == "extreme inputs"), None)
    if beyond is not None and beyond.status != "pass" and not bounded(context.task):
        yield Finding(check=CHECK.name, kind="beyond", severity="low",
                      title=f"beyond what was visited the reward breaks: {beyond.text}",
                      advice="Limit what goes into powers, roots and exponentials, if a learner can get there.")


# --- promises ----------------------------------------------------------------------------------------------


def _broken(report: CheckReport) -> Iterator[Finding]:
    for result in _causes(report):
        severity, advice = _BREAKS[result.name]
        gap = result.evidence.get("gap")
        if gap is not None and gap <= EFFECT:
            severity = "low"
        yield Finding(check=CHECK.name, kind=result.name, severity=severity, title=result.text,
                      evidence=dict(result.evidence), advice=advice)


def _causes(report: CheckReport) -> list[Checked]:
    """The broken promises that do not merely follow from another broken one."""
    broken = {r.name: r for r in report.failures if r.name in _BREAKS}
    for cause in (("deterministic",), ("batch size", "row order")):
        first = next((broken[name] for name in cause if name in broken), None)
        if first is not None:
            return [first, *(broken[n] for n in ("inputs unchanged", "declared fields") if n in broken
                             and first.name != "deterministic")]
    return list(broken.values())


def _memory(context: AuditContext, first: Score) -> Iterator[Finding]:
    """Scores the random steps again, after all that was asked since: what fades or adapts is seen only so."""
    if context.reward.needs.state != "none":
        return
    again = context.reward.score(context.random)
    both = first.mask & first.known & again.known
    if not bool(both.any()):
        return
    gap = float((first.value - again.value)[both].abs().max()) / max(float(first.value[both].abs().max()), 1e-12)
    if gap > 1e-5:
        yield Finding(
            check=CHECK.name, kind="deterministic", severity="high" if gap > EFFECT else "low",
            title=f"the reward remembers what it was asked: after the search the same random steps are paid otherwise, "
                  f"by up to {gap:.3g} of the largest value",
            evidence={"gap": gap, "steps": int(both.sum())}, cost=1.0 if gap > EFFECT else 0.0,
            advice="Make the reward a function of its inputs, or declare its state (a Reward with needs.state and "
                   "state_dict), so that learners save it and know that it moves.")


def _company(reward: Reward, episodes: Episodes) -> Iterator[Finding]:
    """Calls a function that was called row by row with a batch, as a trainer may: do rows get other numbers there?

    The last half alone, in reverse order, must get the numbers that it got in the whole: means over the batch change
    with its half, differences along it with the order.
    """
    inner = _plain(reward)
    if inner is None or inner.mode is None or inner.mode.vectorised or inner.needs.time != "step":
        return
    where = episodes.mask
    fields = {k: tree_map(lambda x: x[where][:64], v) for k, v in inner.inputs(episodes).items()}
    n = int(where.sum().clamp(max=64))
    try:
        whole = read_answer(inner.fn(**as_rows(fields, inner.mode.backend)), (n,), like=episodes.device).value
        half = {k: tree_map(lambda x: x[n // 2:].flip(0), v) for k, v in fields.items()}
        part = read_answer(inner.fn(**as_rows(half, inner.mode.backend)), (n - n // 2,), like=episodes.device).value
    except Exception:  # a function of single transitions may fail on a batch in any way: then nobody can mix rows
        return
    whole, part = torch.nan_to_num(whole[n // 2:].flip(0).double()), torch.nan_to_num(part.double())
    scale = max(float(whole.abs().max()), float(part.abs().max()), 1e-12)
    gap = float((whole - part).abs().max()) / scale
    if gap > 1e-5:
        yield Finding(
            check=CHECK.name, kind="mixed rows", severity="high" if gap > EFFECT else "low",
            title=f"{inner.name} mixes the rows of a batch: beside other steps the same ones differ by "
                  f"{gap:.3g} of the largest value, so a step has no reward of its own",
            evidence={"gap": gap, "transitions": n}, cost=1.0 if gap > EFFECT else 0.0,
            advice="Reduce over the features of a step (axis -1) alone. Normalise in the learner, with statistics that "
                   "do not change within a batch.")


def _plain(reward: Reward) -> FunctionReward | None:
    if isinstance(reward, FunctionReward):
        return reward
    return next((f for child in reward.children() if (f := _plain(child)) is not None), None)


def _microseconds(reward: Reward, episodes: Episodes) -> float:
    """The least time of a step in three calls."""
    few = episodes.transitions()[:_TIMED] if reward.needs.time == "step" else episodes[:2]
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        reward.score(few)
        best = min(best, time.perf_counter() - start)
    return best * 1e6 / max(int(few.mask.sum()), _TIMED // 2)


def _slow(reward: Reward, micros: float) -> Iterator[Finding]:
    if micros > SLOW_US:
        how = reward.how if isinstance(reward, FunctionReward) else ""
        yield Finding(check=CHECK.name, kind="slow", severity="low",
                      title=f"slow: a step costs over {SLOW_US:g} microseconds, more than a step of most environments",
                      advice=how or "Score whole batches at once.")  # no measured time: it differs from run to run


# --- the environment itself --------------------------------------------------------------------------------


def _replays(context: AuditContext) -> Iterator[Finding]:
    """The same seeds and actions twice: an environment's own reward must come again."""
    if not isinstance(context.reward, EnvReward):
        return
    rows = context.random[:2].steps(0, 200)
    rows = rows.steps(0, int(rows.lengths.max()))
    seeds = context.seeds.child("random").integers(16)[:2]
    try:
        again = replay(context.task, rows.action, seeds)
    except PlauditError:
        return
    T = min(rows.T, again.T)
    a, b = rows.steps(0, T), again.steps(0, T)
    assert a.env_reward is not None and b.env_reward is not None
    both = a.mask & b.mask
    scale = max(float(a.env_reward[both].abs().max()), 1e-12)
    paid = float((a.env_reward - b.env_reward)[both].abs().max()) / scale
    moved = bool((a.mask != b.mask).any()) or _differ(a.next_obs, b.next_obs, both)
    if paid > 1e-6 or moved:
        cause = "the episodes themselves differ" if moved else "the episodes are the same, only the reward differs"
        severity: Severity = "high" if paid > EFFECT and not moved else "medium" if moved else "low"
        yield Finding(
            check=CHECK.name, kind="not repeatable", severity=severity,
            title=f"the same seed and actions twice give rewards that differ by {paid:.3g} of the largest; {cause}",
            evidence={"gap": paid, "episodes differ": moved},
            advice="Draw all randomness of the environment from the generator that `reset(seed=...)` sets.")


def _not_finite(context: AuditContext) -> Iterator[Finding]:
    """NaN or infinity in what the environment shows: searches here read it as 0, a learner may break on it."""
    steps = bad = 0
    for e in (context.random, *(b.episodes for b in context.behaviours)):
        wrong = torch.zeros_like(e.mask)
        for _, x in leaves(e.next_obs):
            wrong |= ~torch.isfinite(x).flatten(2).all(-1) if x.ndim > 2 else ~torch.isfinite(x)
        steps, bad = steps + int(e.mask.sum()), bad + int((wrong & e.mask).sum())
    if bad:
        yield Finding(
            check=CHECK.name, kind="observations not finite", severity="medium",
            title=f"observations hold NaN or infinity at {bad} of {steps} visited steps",
            evidence={"steps": bad, "visited steps": steps},
            advice="Mend the environment: the search read such numbers as 0, and a network makes NaN of them.")


def _differ(a: object, b: object, both: Tensor) -> bool:
    return any(not torch.allclose(x[both].double(), y[both].double(), atol=1e-6, equal_nan=True)
               for (_, x), (_, y) in zip(leaves(a), leaves(b), strict=True))  # type: ignore[arg-type]


# --- samples -------------------------------------------------------------------------------------------------


def _sample(context: AuditContext, micros: float) -> Episodes:
    """Random episodes and an episode of some found behaviours, short enough to be scored forty times."""
    affordable = _PATIENCE_US / (_CALLS * micros)
    limit = next((n for n in (_SAMPLE, 200) if n <= affordable), 40)  # few sizes, so that the clock hardly matters
    names = [n for n, _ in context.random.tensors()]
    found = [b.episodes[0] for b in context.behaviours[:6] if [n for n, _ in b.episodes.tensors()] == names]
    parts = [context.random[:4], *found]
    each = max(2, limit // sum(p.B for p in parts))
    return _known(context.reward, Episodes.cat([p.steps(0, min(each, int(p.lengths.max()))) for p in parts]))


def _known(reward: Reward, episodes: Episodes) -> Episodes:
    """The rows on which the reward is known: what is unknown has findings of its own."""
    good = reward.score(episodes).known.all(1)
    return episodes[good.nonzero()[:, 0]] if bool(good.any()) and not bool(good.all()) else episodes


def _random_outcome(context: AuditContext) -> Outcome:
    behaviour = context.wandering
    score = random_score(context)
    nothing = torch.full((context.random.B,), torch.nan, dtype=torch.float64)
    return replace(Outcome(behaviour=behaviour, score=score, paid_E=score.returns()[0].double(), worth_E=nothing,
                           meant_E=nothing), behaviour=behaviour)
