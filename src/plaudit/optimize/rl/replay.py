"""The memory of off-policy learners: the last transitions of every member, and what they are worth when sampled."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.score import Score
from plaudit.core.tree import Tree, from_leaves
from plaudit.optimize.rl.optimiser import MemberNoise
from plaudit.optimize.rl.relabel import Relabel, Targets

_OWN = ("reward", "known")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """n transitions of each member, worth what they are worth now; tensors [P, n, ...], rows of trees [P * n, ...]."""

    obs: Tree
    action: Tensor
    """[P * n, ...], in the task's units."""
    next_obs: Tree
    """What was seen after the last step that `reward` counts."""
    reward: Float[Tensor, "P n"]
    """The discounted sum over one or more steps."""
    discount: Float[Tensor, "P n"]
    """What the value of `next_obs` counts for: 0 where the world ended, not where we stopped looking."""
    weight: Float[Tensor, "P n"]
    """0 where any reward in the sum is unknown."""


class Replay:
    """A ring of the last steps of P members with N environments each; tensors [P, slots * N, ...], made once.

    Args:
        population: P.
        rows: N.
        capacity: The largest number of transitions of each member.
        info: Which entries of `info` to keep (None: all).
        device: Where the memory lives.
        member_ids: What `Episodes.member` says of each member's rows (None: 0 to P - 1).

    Raises:
        BadInput: when the capacity is less than one step of every row, or (at the first `add`) more than fits.
    """

    def __init__(self, *, population: int, rows: int, capacity: int, info: frozenset[str] | None = frozenset(),
                 device: str | torch.device = "cpu", member_ids: Sequence[int] | None = None) -> None:
        if capacity < rows:
            raise BadInput("config.capacity", received=capacity,
                           expected=f"at least one step of each of the {rows} rows")
        self.P, self.N, self.slots, self.info, self.device = population, rows, capacity // rows, info, device
        self.written = 0
        """Slots (one step of all rows) written since the start."""
        self.data: dict[str, Tensor] = {}
        self._member = torch.tensor(list(range(population) if member_ids is None else member_ids), device=device)

    def __len__(self) -> int:
        """The transitions of each member that can be sampled."""
        return min(self.written, self.slots) * self.N

    def add(self, episodes: Episodes, score: Score) -> None:
        """Stores T steps of all rows, [P * N, T], with their scores; the oldest are overwritten."""
        T = episodes.T
        fields = {name: leaf for name, leaf in episodes._step_leaves() if self._kept(name)}
        fields |= {"reward": torch.where(score.known, score.value, 0.0).to(torch.float32), "known": score.known}
        if not self.data:
            self._check_room(fields)
            self.data = {name: torch.zeros(self.P, self.slots * self.N, *x.shape[2:], dtype=x.dtype, device=self.device)
                         for name, x in fields.items()}
        slots = (torch.arange(self.written, self.written + T, device=self.device) % self.slots)[-self.slots:]
        for name, x in fields.items():
            ring = self.data[name].unflatten(1, (self.slots, self.N))
            ring[:, slots] = x.unflatten(0, (self.P, self.N)).transpose(1, 2)[:, -self.slots:]
        self.written += T

    def end_here(self) -> None:
        """Marks the newest step of every row as truncated, where the world did not end: another episode follows."""
        if self.data:
            newest = (self.written - 1) % self.slots
            terminated, truncated = (self.data[name].unflatten(1, (self.slots, self.N))[:, newest]
                                     for name in ("terminated", "truncated"))
            truncated |= ~terminated

    def _check_room(self, fields: Mapping[str, Tensor]) -> None:
        """Refuses what the machine cannot hold now, rather than being killed when the ring is nearly full.

        Raises:
            BadInput: when the ring would be larger than the device's memory.
        """
        each = sum(x.element_size() * x[0, 0].numel() for x in fields.values())
        needed, there = each * self.slots * self.N * self.P, _memory(self.device)
        if there is not None and needed > there:
            size = f"{self.slots * self.N} transitions of {each:,} bytes for each of {self.P} members"
            raise BadInput("config.capacity", expected=f"a memory of less than {there / 2**30:.3g} GiB",
                           received=f"{size}, {needed / 2**30:.3g} GiB",
                           fix=f"at most {there // (2 * each * self.P)} would do")

    def _kept(self, name: str) -> bool:
        if name == "mask":
            return False
        return not name.startswith("info/") or self.info is None or name.removeprefix("info/") in self.info

    def sample(self, noise: MemberNoise, n: int, *, discount: Float[Tensor, "P"], steps: int = 1,
               relabel: Relabel | None = None) -> Sample:
        """n transitions of each member, uniformly, each of up to `steps` steps.

        A sum of several steps ends at the first end of an episode or at the newest step that is stored, and the
        value of what was seen there counts unless the world ended. `relabel` sees every step in every sum.
        """
        start = noise.below(len(self), n).unsqueeze(-1)
        ahead = torch.arange(steps, device=self.device) * self.N
        age = start + ahead
        inside = age < len(self)
        age = torch.where(inside, age, start)
        oldest = (self.written % self.slots) * self.N if self.written > self.slots else 0
        room = self.slots * self.N
        index = (age + oldest) % room + torch.arange(self.P, device=self.device).view(-1, 1, 1) * room
        terminated, truncated = self._at("terminated", index), self._at("truncated", index)
        targets = self._targets(index, discount, relabel)
        counts = _before_the_end(terminated | truncated, inside)
        reward, factor, weight = (x.view(self.P, n, steps) for x in (targets.reward, targets.discount, targets.weight))
        factor = torch.where(counts, factor, 1.0)
        before = torch.cat([torch.ones_like(factor[..., :1]), factor.cumprod(-1)[..., :-1]], -1)
        last = index.gather(-1, counts.sum(-1, keepdim=True) - 1)
        ended = self._at("terminated", last)[..., 0]
        return Sample(
            obs=self._tree("obs", index[..., 0]), action=self._rows("action", index[..., 0]),
            next_obs=self._tree("next_obs", last[..., 0]),
            reward=torch.where(counts, reward * before, 0.0).sum(-1),
            discount=torch.where(ended, 0.0, factor.prod(-1)), weight=torch.where(counts, weight, 1.0).amin(-1))

    def _targets(self, index: Int[Tensor, "P n k"], discount: Float[Tensor, "P"], relabel: Relabel | None) -> Targets:
        stored = Targets(reward=self._rows("reward", index), weight=self._rows("known", index).to(torch.float32),
                         discount=discount.view(-1, 1, 1).expand(index.shape).reshape(-1))
        return stored if relabel is None else relabel(self.episodes(index), stored)

    def episodes(self, index: Int[Tensor, "P n ..."]) -> Episodes:
        """The transitions at flat indices, [P * n * ..., 1], rows grouped by member."""
        pairs = {name: self._rows(name, index).unsqueeze(1) for name in self.data if name not in _OWN}
        grouped: dict[str, dict[str, Tensor]] = {}
        for path, leaf in pairs.items():
            head, _, rest = path.partition("/")
            grouped.setdefault(head, {})[rest] = leaf
        member = self._member.repeat_interleave(index[0].numel())
        return Episodes(mask=torch.ones_like(pairs["terminated"]), member=member,
                        **{name: from_leaves(parts) for name, parts in grouped.items()})  # type: ignore[arg-type]

    def _tree(self, name: str, index: Tensor) -> Tree:
        prefix = f"{name}/"
        found = {k.removeprefix(prefix): self._rows(k, index) for k in self.data if k.startswith(prefix)}
        return from_leaves(found) if found else self._rows(name, index)

    def _rows(self, name: str, index: Tensor) -> Tensor:
        return self.data[name].flatten(0, 1).index_select(0, index.reshape(-1))

    def _at(self, name: str, index: Tensor) -> Tensor:
        return self._rows(name, index).view(index.shape)

    def state_dict(self) -> dict[str, Any]:
        """What is stored; slots that were never written are left out."""
        return {"written": self.written, "data": {k: x[:, : len(self)] for k, x in self.data.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave, in a larger ring where that one was larger.

        The capacity may have grown as long as the ring had not gone round.
        """
        self.written = state["written"]
        self.slots = max([self.slots, *(saved.shape[1] // self.N for saved in state["data"].values())])
        for name, saved in state["data"].items():
            room = torch.zeros(self.P, self.slots * self.N, *saved.shape[2:], dtype=saved.dtype, device=self.device)
            room[:, : saved.shape[1]] = saved.to(self.device)
            self.data[name] = room


def _memory(device: str | torch.device) -> int | None:
    """The bytes of a device's whole memory, or None where it does not say."""
    kind = torch.device(device)
    if kind.type == "cuda":
        return int(torch.cuda.mem_get_info(kind)[1])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if kind.type == "cpu" else None
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _before_the_end(done: Bool[Tensor, "P n k"], inside: Bool[Tensor, "P n k"]) -> Bool[Tensor, "P n k"]:
    """Which steps a sum counts: those inside the memory, up to and with the first end."""
    ended_before = done.cumsum(-1) - done.long()
    return inside & (ended_before == 0)


def info_of(needs_fields: frozenset[str]) -> frozenset[str] | None:
    """The entries of `info` that a reward reads; None (all of them) where it does not say."""
    if not needs_fields or "info" in needs_fields:
        return None
    return frozenset(f.removeprefix("info:") for f in needs_fields if f.startswith("info:"))


