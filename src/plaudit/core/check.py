"""`plaudit.check(reward, episodes)`: does a reward keep its promises? Each line says what was tried and what came."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast

import torch
from torch import Tensor

from plaudit.core.algebra import as_reward
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.functions import FunctionReward
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.tree import leaves, tree_map

Status = Literal["pass", "note", "fail"]


@dataclass(frozen=True)
class Checked:
    """One promise and whether it was kept."""

    name: str
    status: Status
    text: str
    evidence: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class CheckReport:
    """What `check` found; prints as a list, is true when nothing failed."""

    reward: str
    results: tuple[Checked, ...]

    @property
    def failures(self) -> tuple[Checked, ...]:
        return tuple(r for r in self.results if r.status == "fail")

    def __bool__(self) -> bool:
        return not self.failures

    def __getitem__(self, name: str) -> Checked:
        return next(r for r in self.results if r.name == name)

    def raise_if_failed(self) -> None:
        """Raises `PlauditError` with every failure, for use in a test."""
        if self.failures:
            raise PlauditError("; ".join(f"{r.name}: {r.text}" for r in self.failures))

    def __str__(self) -> str:
        sign = {"pass": "ok  ", "note": "note", "fail": "FAIL"}
        head = f"{self.reward}: {'all promises kept' if self else f'{len(self.failures)} promises broken'}"
        return "\n".join([head, *(f"  {sign[r.status]} {r.name}: {r.text}" for r in self.results)])


def check(reward: Reward | Callable[..., Any], episodes: Episodes) -> CheckReport:
    """Tries a reward on episodes in every way that a learner or an audit will use it.

    Looks at the answer (shape, dtype, finiteness, declared range), repeats the call, changes the batch (order,
    neighbours, padding), changes fields that it says it does not read, cuts the future, streams it
    step by step, feeds extreme numbers, saves and restores its state, and times it.

    Args:
        reward: A Reward, or a plain function as `plaudit.reward` takes it.
        episodes: Some typical episodes; two rows and more steps say more.

    Raises:
        BadInput: when the episodes hold no step.

    Example:
        >>> e = Episodes.of_steps(obs=torch.randn(6, 2), action=torch.randn(6, 1), next_obs=torch.randn(6, 2))
        >>> bool(check(lambda obs: -(obs ** 2).sum(-1), e))
        True
    """
    if not bool(episodes.mask.any()):
        raise BadInput("episodes", expected="at least one step", received="an empty mask")
    subject = as_reward(reward)
    results = [_answers(subject, episodes)]
    if results[0].status != "fail":
        for test in (_repeats, _leaves_inputs, _rows_alone, _padding, _declared_fields, _declared_time, _streams,
                     _extremes, _state, _terms):
            results += list(test(subject, episodes))
    results += list(_speed(subject, episodes))
    return CheckReport(subject.name, tuple(results))


def _answers(reward: Reward, episodes: Episodes) -> Checked:
    score = reward.score(episodes)
    steps, unknown = int(episodes.mask.sum()), int((~score.known).sum())
    if tuple(score.value.shape) != tuple(episodes.mask.shape) or not score.value.is_floating_point():
        return Checked("answer", "fail", f"expected floats {list(episodes.mask.shape)}, received "
                                         f"{score.value.dtype} {list(score.value.shape)}")
    if unknown:
        why = "; ".join(f"{reason} ({n} steps)" for reason, n in score.counts().items())
        return Checked("answer", "fail" if unknown == steps else "note",
                       f"{unknown} of {steps} steps are unknown: {why}",
                       {"unknown": unknown, "steps": steps})
    low, high = float(score.value[episodes.mask].min()), float(score.value[episodes.mask].max())
    return Checked("answer", "pass", f"{steps} finite numbers in [{low:.4g}, {high:.4g}]", {"low": low, "high": high})


def _repeats(reward: Reward, episodes: Episodes) -> Iterator[Checked]:
    gap = _gap(reward.score(episodes), reward.score(episodes))
    yield _verdict("deterministic", gap, "the same numbers twice",
                   "two equal calls differ by {gap:.3g}; make the reward "
                   "a function of its inputs, or declare state='remembers'", soft=reward.needs.state != "none")


def _leaves_inputs(reward: Reward, episodes: Episodes) -> Iterator[Checked]:
    before = {name: leaf.clone() for name, leaf in episodes.tensors()}
    changed: set[str] = set()
    if isinstance(reward, FunctionReward):
        changed = _written_fields(reward, episodes)
    reward.score(episodes)
    changed |= {name for name, leaf in episodes.tensors() if not _equal(leaf, before[name])}
    yield Checked("inputs unchanged", "fail",
                  f"the reward writes into {sorted(changed)}; copy before changing") if changed \
        else Checked("inputs unchanged", "pass", "it writes into none of its inputs")


def _written_fields(reward: FunctionReward, episodes: Episodes) -> set[str]:
    """Fields that the function writes into (it only ever gets copies, but a trainer may pass the originals)."""
    from plaudit.core.border import as_rows

    if reward.mode is None or not reward.mode.vectorised or reward.needs.across != "row":
        return set()
    where = episodes.mask
    given = as_rows({k: tree_map(lambda x: x[where], v) for k, v in reward.inputs(episodes).items()},
                    reward.mode.backend)
    kept = {n: leaf.clone() for n, leaf in leaves(_as_tensors(given))}
    reward.fn(**given)
    return {n.split("/")[0] for n, leaf in leaves(_as_tensors(given)) if not _equal(leaf, kept[n])}


def _as_tensors(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _as_tensors(v) for k, v in cast(dict[str, Any], tree).items()}
    return torch.as_tensor(tree)


def _rows_alone(reward: Reward, episodes: Episodes) -> Iterator[Checked]:
    if reward.needs.across != "row":
        return
    if episodes.B < 2 and reward.needs.time == "step":
        episodes = episodes.transitions()  # steps of one episode are company enough for each other
    if episodes.B < 2:
        lacking = "steps" if reward.needs.time == "step" else "episodes"
        yield Checked("batch size", "note", f"not tested: that a row alone scores as in company needs two {lacking}")
        return
    whole = reward.score(episodes)
    order = torch.arange(episodes.B - 1, -1, -1)
    back = reward.score(episodes[order])
    yield _verdict("row order", _gap_of(whole.value[order], back.value), "the order of the rows does not matter",
                   "reversing the rows changes values by {gap:.3g}; read one row only, or declare across='batch'")
    alone = torch.cat([reward.score(episodes[b]).value for b in range(min(episodes.B, 4))])
    yield _verdict("batch size", _gap_of(whole.value[: len(alone)], alone), "a row alone scores as in company",
                   "a row alone scores otherwise by {gap:.3g}; do not normalise over the batch inside a reward")


def _padding(reward: Reward, episodes: Episodes) -> Iterator[Checked]:
    score, longer = reward.score(episodes), reward.score(episodes.pad(episodes.T + 3))
    gap = max(_gap_of(score.value, longer.value[:, : episodes.T]), float(longer.value[:, episodes.T:].abs().max()))
    yield _verdict("padding", gap, "masked steps change nothing and score 0", "padding changes values by {gap:.3g}")


def _declared_fields(reward: Reward, episodes: Episodes) -> Iterator[Checked]:
    """Fields that are not declared are filled with other numbers: nothing may change."""
    declared = {f.split(":")[0] for f in reward.needs.fields}
    value = reward.score(episodes)
    read: list[str] = []
    for f in fields(Episodes):
        if f.name in declared | {"mask", "group", "agent", "member"} or getattr(episodes, f.name) is None:
            continue
        other = episodes.replace(**{f.name: tree_map(_otherwise, getattr(episodes, f.name))})
        if _gap(value, reward.score(other)) > _TOLERANCE:
            read.append(f.name)
    yield Checked("declared fields", "fail", f"it also reads {read}, but declares {sorted(declared)}") if read else \
        Checked("declared fields", "pass", f"reads {', '.join(sorted(declared)) or 'nothing'}, as declared")


def _declared_time(reward: Reward, episodes: Episodes) -> Iterator[Checked]:
    if episodes.T < 2 or reward.needs.time == "episode":
        return
    whole = reward.score(episodes)
    if reward.needs.time == "step":
        single = reward.score(episodes.transitions()).value.squeeze(1)
        yield _verdict("reads single steps", _gap_of(whole.value[episodes.mask], single),
                       "each step scores alone as in its "
                       "episode", "steps alone score otherwise by {gap:.3g}; declare time='prefix' or 'episode'")
        return
    half = max(1, episodes.T // 2)
    first = reward.score(episodes.steps(0, half))
    yield _verdict("reads no future", _gap_of(whole.value[:, :half], first.value), "cutting the future changes nothing",
                   "cutting the future changes values by {gap:.3g}; declare time='episode'")


def _streams(reward: Reward, episodes: Episodes) -> Iterator[Checked]:
    if reward.needs.time != "prefix" or reward.needs.state != "none":
        return
    carry = reward.start(episodes.B)
    columns: list[Tensor] = []
    for t in range(episodes.T):
        score, carry = reward.stream(episodes.steps(t, t + 1), carry)
        columns.append(score.value)
    gap = _gap_of(torch.where(episodes.mask, torch.cat(columns, 1), 0.0), reward.score(episodes).value)
    yield _verdict("streams", gap, "step by step as at once", "streaming differs from scoring at once by {gap:.3g}")


def _extremes(reward: Reward, episodes: Episodes) -> Iterator[Checked]:
    """Large, tiny and zero observations and actions: a learner will visit them."""
    bad: list[str] = []
    for name, factor in (("zeros", 0.0), ("1e6 times as large", 1e6), ("1e-6 times as large", 1e-6), ("negated", -1.0)):
        def other(x: Tensor, factor: float = factor) -> Tensor:
            return (x * factor if factor else torch.zeros_like(x)) if x.is_floating_point() else x

        odd = episodes.replace(obs=tree_map(other, episodes.obs), action=other(episodes.action),
                               next_obs=tree_map(other, episodes.next_obs))
        score = reward.score(odd)
        if not score.all_known:
            bad.append(f"{name}: {next(iter(score.counts()))}")
    yield Checked("extreme inputs", "note", "; ".join(bad)[:300]) if bad else \
        Checked("extreme inputs", "pass", "finite on zeros, negated, tiny and huge observations and actions")


def _state(reward: Reward, episodes: Episodes) -> Iterator[Checked]:
    if not reward.state_dict():
        return
    before = reward.score(episodes)
    reward.load_state_dict(reward.state_dict())
    yield _verdict("state", _gap(before, reward.score(episodes)), "saved and restored to the same numbers",
                   "restoring its own state changes values by {gap:.3g}", soft=reward.needs.state != "none")


def _terms(reward: Reward, episodes: Episodes) -> Iterator[Checked]:
    score = reward.score(episodes)
    if len(score.terms) < 2 or not score.all_known:
        return
    rest = score.value - sum(score.contribution(n) for n in score.terms)
    gap = float(rest.abs().max()) / max(float(score.value.abs().max()), 1e-12)
    text = f"{', '.join(score.terms)} add up to the reward" if gap < 1e-4 else \
        f"{', '.join(score.terms)} leave {gap:.1%} of the largest value unexplained (a clip or a gate does that)"
    yield Checked("terms", "pass" if gap < 1e-4 else "note", text, {"unexplained": gap})


def _speed(reward: Reward, episodes: Episodes) -> Iterator[Checked]:
    start = time.perf_counter()
    reward.score(episodes)
    micros = (time.perf_counter() - start) * 1e6 / max(int(episodes.mask.sum()), 1)
    text = f"{micros:.2f} microseconds a step"
    if isinstance(reward, FunctionReward) and reward.mode is not None and not reward.mode.vectorised:
        yield Checked("speed", "note", f"{text}; {reward.how}", {"us_per_step": micros})
    else:
        yield Checked("speed", "pass", text, {"us_per_step": micros})


_TOLERANCE = 1e-5


def _verdict(name: str, gap: float, kept: str, broken: str, *, soft: bool = False) -> Checked:
    if gap <= _TOLERANCE:
        return Checked(name, "pass", kept, {"gap": gap})
    return Checked(name, "note" if soft else "fail", broken.format(gap=gap), {"gap": gap})


def _gap(a: Score, b: Score) -> float:
    return _gap_of(a.value, b.value)


def _gap_of(a: Tensor, b: Tensor) -> float:
    """The largest difference relative to the largest value; NaN against NaN is none, NaN against a number infinite."""
    if bool((torch.isnan(a) != torch.isnan(b)).any()):
        return math.inf
    a, b = torch.nan_to_num(a.double()), torch.nan_to_num(b.double())
    return float((a - b).abs().max()) / max(float(a.abs().max()), 1e-9) if a.numel() else 0.0


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.equal(torch.nan_to_num(a.double()), torch.nan_to_num(b.double()))


def _otherwise(x: Tensor) -> Tensor:
    return ~x if x.dtype == torch.bool else x * 0 + 7 if not x.is_floating_point() else -1.7 * x + 0.3
