"""What the rewards of a run say about the data: the one that is trained on, and those that are only watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.core.controlled import costs_of
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.joining import equally_many
from plaudit.core.reward import Reward
from plaudit.core.score import Score

OnUnknown = Literal["mask", "stop"]


class Meter:
    """Means per member of what was added since the last `flush`; NaN entries (unknown, or no episode) do not count.

    Example:
        >>> meter = Meter()
        >>> meter.mean("x", torch.tensor([[1.0, float("nan")], [2.0, 4.0]]))
        >>> meter.flush()["x"].tolist()
        [1.0, 3.0]
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor | None] = {}

    def mean(self, name: str, values: Float[Tensor, "P N"]) -> None:
        """Adds values to a mean."""
        here = ~torch.isnan(values)
        total, count = torch.where(here, values, 0.0).sum(-1, dtype=torch.float64), here.sum(-1)
        if name in self._sums:
            old = self._counts[name]
            total, count = total + self._sums[name], count + (old if old is not None else 0)
        self._sums[name], self._counts[name] = total, count

    def count(self, name: str, values: Tensor) -> None:
        """Adds [P, N] to a number of occurrences."""
        self._sums[name] = self._sums.get(name, 0) + values.sum(-1, dtype=torch.float64)
        self._counts[name] = None

    def flush(self) -> dict[str, Float[Tensor, "P"]]:
        """The means (NaN where nothing was added) and counts since the last call."""
        out: dict[str, Tensor] = {}
        for name, total in self._sums.items():
            count = self._counts[name]
            out[name] = total if count is None else total / torch.where(count > 0, count, torch.nan)
        self._sums, self._counts = {}, {}
        return out


class Scorer:
    """Scores every rollout with the train reward and with others, and keeps their sums over episodes.

    Args:
        train: What the agents are trained on.
        others: Rewards with the roles `watch` and `gold`, scored on the same data and only logged.
        population: P; rows are grouped by member.
        rows: The number of rows B, a multiple of P.
        on_unknown: `mask` leaves unknown steps out of the losses; `stop` ends the run with `UnknownReward`.
        member_ids: What `Episodes.member` says of each member's rows (None: 0 to P - 1).

    Raises:
        Unsupported: for rewards of whole episodes and of groups.
        BadInput: when two rewards share a name, or one of `others` has the role `train`.
    """

    def __init__(self, train: Reward, others: Sequence[Reward] = (), *, population: int, rows: int,
                 on_unknown: OnUnknown = "mask", device: str | torch.device = "cpu",
                 member_ids: Sequence[int] | None = None) -> None:
        self.train, self.others, self.rewards = train, list(others), [train, *others]
        self.population, self.rows, self.on_unknown = population, rows, on_unknown
        self.member_ids = list(range(population) if member_ids is None else member_ids)
        self.meter, self.measured = Meter(), Meter()
        costs_of(train)  # refuses two costs of one name
        self._refuse()
        self.streaming = [r for r in self.rewards if r.needs.time == "prefix"]
        self._carries: list[Any] = [r.start(rows) for r in self.streaming]
        self._parts: list[list[Score]] = [[] for _ in self.streaming]
        self._sums = torch.zeros(2 + 2 * len(self.rewards), rows, dtype=torch.float64, device=device)
        self._checked = False
        self.largest, self.smallest = -float("inf"), float("inf")
        self.terminations = 0

    def _refuse(self) -> None:
        if self.on_unknown not in ("mask", "stop"):
            raise BadInput("on_unknown", expected="mask or stop", received=self.on_unknown)
        names = [r.name for r in self.rewards]
        if len(set(names)) < len(names):
            raise BadInput("others", expected="rewards with different names", received=names,
                           fix='rename one with reward.named("...")')
        for r in self.others:
            if r.role == "train":
                raise BadInput(f"others: the role of {r.name}", expected="watch or gold", received="train",
                               fix='use reward.with_role("watch")')
        for r in self.rewards:
            if r.needs.time == "episode":
                raise Unsupported(f"{r.name} reads whole episodes, and these learners reward single steps; train on it "
                                  "with a learner that scores finished episodes (maximise with the cross-entropy "
                                  "method), or only watch it with EvalCallback(rewards=[...])")
            if r.needs.across == "group":
                raise Unsupported(f"{r.name} compares the samples of one prompt (across='group'), which an environment "
                                  "does not have; use a learner of sampled answers")
            if r.needs.across == "batch" and r.needs.time == "prefix":
                raise Unsupported(f"{r.name} reads the past of all rows at once, which cannot be streamed; make it a "
                                  "reward of single steps (time='step'), or of one row (across='row')")

    # --- scoring ----------------------------------------------------------------------------------------

    def stream(self, step: Episodes) -> None:
        """Shows one step [B, 1] to the rewards that read the past."""
        for i, r in enumerate(self.streaming):
            score, carry = r.stream(step, self._carries[i])
            self._parts[i].append(score)
            self._carries[i] = r.restart(carry, (step.terminated | step.truncated)[:, 0])

    def score(self, episodes: Episodes) -> Score:
        """The train reward's score of a rollout [B, T]; all rewards go into the meter.

        Raises:
            BadInput: when a reward reads a field that the task does not give.
            UnknownReward: when a value is unknown and `on_unknown` is `stop`, or all values of the first rollout are.
        """
        if not self._checked:
            self._check_fields(episodes)
        scores: list[Score] = []
        for r in self.rewards:
            if r in self.streaming:
                i = self.streaming.index(r)
                scores.append(join_steps(self._parts[i]))
                self._parts[i] = []
            else:
                scores.append(score_by_member(r, episodes, self.population))
        self._judge(scores[0], episodes)
        self._log(scores, episodes)
        return scores[0]

    def _check_fields(self, episodes: Episodes) -> None:
        for r in self.rewards:
            for need in sorted(r.needs.fields):
                name, _, key = need.partition(":")
                if getattr(episodes, name, None) is None or (key and key not in episodes.info):
                    raise BadInput(f"reward {r.name}", expected=f"a task that gives {need}",
                                   received=f"info with {sorted(episodes.info) or 'nothing'}" if key else f"no {name}")

    def _judge(self, score: Score, episodes: Episodes) -> None:
        if not score.all_known and (self.on_unknown == "stop" or not (self._checked or bool(score.known.any()))):
            score.require()
        self._checked = True
        known = score.value[score.known]
        if known.numel():
            self.largest = max(self.largest, float(known.max()))
            self.smallest = min(self.smallest, float(known.min()))
        self.terminations += int(episodes.terminated.sum())

    @property
    def ending_pays(self) -> bool:
        """True if no step has ever paid more than 0, some paid less, and the world can end."""
        return self.terminations > 0 and self.largest <= 0 and self.smallest < 0

    # --- logging ------------------------------------------------------------------------------------------

    def _log(self, scores: Sequence[Score], episodes: Episodes) -> None:
        P = self.population
        by_member = lambda x: x.reshape(P, -1)  # noqa: E731
        for name, values in scores[0].measured.items():
            self.measured.mean(name, by_member(values))
        for r, s in zip(self.rewards, scores, strict=True):
            self.meter.mean(f"reward/{r.role}/{r.name}", by_member(s.value))
            self.meter.count(f"unknown/{r.role}/{r.name}", by_member(~s.known))
            for reason, where in s.why.items():
                self.meter.count(f"unknown_reason/{r.name}/{reason}", by_member(where))
            for term in s.terms:
                self.meter.mean(f"term/{r.role}/{r.name}/{term}", by_member(s.contribution(term)))
        done = episodes.terminated | episodes.truncated
        channels = [torch.ones_like(scores[0].value), _or_zero(episodes.env_reward, done)]
        for s in scores:
            channels += [torch.where(s.known, s.value, 0.0), (~s.known).to(s.value.dtype)]
        sums, self._sums = episode_sums(torch.stack([c.double() for c in channels]), done, self._sums)
        self.meter.mean("episode/length", by_member(sums[0]))
        self.meter.mean("episode/env_return", by_member(sums[1]))
        for i, r in enumerate(self.rewards):
            whole = torch.where(sums[3 + 2 * i] == 0, sums[2 + 2 * i], torch.nan)
            self.meter.mean(f"episode/{r.role}/{r.name}", by_member(whole))
        self.meter.mean("episode/terminated", by_member(torch.where(done, episodes.terminated.double(), torch.nan)))

    def forget_episodes(self) -> None:
        """All rows begin new episodes."""
        self._carries = [r.start(self.rows) for r in self.streaming]
        self._sums = torch.zeros_like(self._sums)

    def state_dict(self) -> dict[str, Any]:
        """What moves: the memory of streaming rewards, the sums of unfinished episodes, the rewards' own state."""
        return {"rewards": [r.state_dict() for r in self.rewards], "carries": [_carry_out(c) for c in self._carries],
                "sums": self._sums, "checked": self._checked, "largest": self.largest, "smallest": self.smallest,
                "terminations": self.terminations}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        for r, saved in zip(self.rewards, state["rewards"], strict=True):
            r.load_state_dict(saved)
        self._carries = [_carry_in(c) for c in state["carries"]]
        self._sums = state["sums"].to(self._sums.device)
        self._checked, self.terminations = state["checked"], state["terminations"]
        self.largest, self.smallest = state["largest"], state["smallest"]


def score_by_member(reward: Reward, episodes: Episodes, population: int) -> Score:
    """Scores rows grouped by member; a reward that reads across the batch sees one member at a time."""
    if reward.needs.across == "row" or population == 1:
        return reward.score(episodes)
    rows = episodes.B // population
    return _cat([reward.score(episodes[p * rows:(p + 1) * rows]) for p in range(population)], 0)


def join_steps(scores: Sequence[Score]) -> Score:
    """The scores of consecutive steps [B, 1] as one [B, T]."""
    return scores[0] if len(scores) == 1 else _cat(scores, 1)


def episode_sums(values_CBT: Float[Tensor, "C B T"], done: Bool[Tensor, "B T"],
                 carry_CB: Float[Tensor, "C B"]) -> tuple[Float[Tensor, "C B T"], Float[Tensor, "C B"]]:
    """Sums over episodes that run across rollouts.

    Returns:
        At the last step of each episode its sum, NaN elsewhere; and the sums of the episodes that go on.

    Example:
        >>> done = torch.tensor([[False, True, False]])
        >>> sums, carry = episode_sums(torch.ones(1, 1, 3), done, torch.full((1, 1), 5.0))
        >>> sums.tolist(), carry.tolist()
        ([[[nan, 7.0, nan]]], [[1.0]])
    """
    total = values_CBT.cumsum(-1) + carry_CB.unsqueeze(-1)
    steps = torch.arange(done.shape[1], device=done.device)
    last = torch.where(done, steps, -1).cummax(-1).values
    before = torch.nn.functional.pad(last, (1, 0), value=-1)[:, :-1]

    def at(index: Tensor) -> Tensor:
        found = total.gather(-1, index.clamp(min=0).expand(total.shape[0], *index.shape))
        return torch.where(index >= 0, found, 0.0)

    return torch.where(done, total - at(before), torch.nan), total[..., -1] - at(last[:, -1:])[..., 0]


def _cat(scores: Sequence[Score], dim: int) -> Score:
    """Scores side by side. A term whose weights differ is told as what it paid; one that a score lacks paid 0 there."""
    weights, names = dict[str, float](), list(dict.fromkeys(n for s in scores for n in s.terms))
    terms: dict[str, Tensor] = {}
    for n in names:
        found = {s.weights.get(n, 1.0) for s in scores if n in s.terms}
        alike = len(found) == 1
        weights[n] = next(iter(found)) if alike else 1.0
        terms[n] = torch.cat([torch.where(s.known, 0.0, s.value) if n not in s.terms else s.terms[n] if alike
                              else s.contribution(n) for s in scores], dim)
    nothing = [torch.full_like(s.value, torch.nan) for s in scores]
    reasons = {reason for s in scores for reason in s.why}
    no = [torch.zeros_like(s.mask) for s in scores]
    members = equally_many(scores)
    return replace(
        scores[0], terms=terms, weights=weights, value=torch.cat([s.value for s in scores], dim),
        known=torch.cat([s.known for s in scores], dim),
        mask=torch.cat([s.mask for s in scores], dim),
        why={r: torch.cat([s.why.get(r, o) for s, o in zip(scores, no, strict=True)], dim) for r in sorted(reasons)},
        members=None if members is None else torch.cat(members, dim + 1),
        measured={n: torch.cat([s.measured.get(n, o) for s, o in zip(scores, nothing, strict=True)], dim)
                  for n in dict.fromkeys(n for s in scores for n in s.measured)})


def _or_zero(x: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros(like.shape, device=like.device) if x is None else x


def _carry_out(carry: Any) -> Any:
    """A carry as plain state; the past that a prefix function keeps is a list of Episodes."""
    if isinstance(carry, Episodes):
        return {"$episodes": dict(carry.tensors())}
    if isinstance(carry, list | tuple):
        kind = "$list" if isinstance(carry, list) else "$tuple"
        return {kind: [_carry_out(c) for c in carry]}
    if isinstance(carry, Mapping):
        return {"$map": {k: _carry_out(v) for k, v in carry.items()}}
    return carry


def _carry_in(saved: Any) -> Any:
    if not isinstance(saved, Mapping):
        return saved
    (kind, content), = saved.items()
    if kind == "$episodes":
        return Episodes.of_tensors(content)
    if kind == "$map":
        return {k: _carry_in(v) for k, v in content.items()}
    items = [_carry_in(c) for c in content]
    return items if kind == "$list" else tuple(items)
