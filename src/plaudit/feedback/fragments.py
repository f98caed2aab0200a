"""Which fragments to compare: at random, without showing a step twice, each episode equally often, or all pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.feedback.preferences import Preferences

Sampling = Literal["random", "disjoint", "stratified"]


def sample_pairs(episodes: Episodes, count: int, *, length: int | None, seed: int | Seeds = 0,
                 how: Sampling = "random", group: Int[Tensor, "B"] | None = None) -> Preferences:
    """Pairs of fragments, not labelled yet.

    A fragment never crosses the end of an episode, also where a row holds several (as rollouts of learners do).

    Args:
        episodes: The store.
        count: How many pairs (of each group).
        length: Steps of a fragment; None compares whole rows.
        seed: Of the choice.
        how: `random` takes every possible fragment with the same probability; `disjoint` shows no step twice;
            `stratified` takes each row equally often, however long it is.
        group: Whose row it is; only rows of one group are compared. The pairs of a group lie together.

    Raises:
        BadInput: when no fragment, or only one, or (`disjoint`) too few are to be had.

    Example:
        >>> from plaudit.tasks import make, rollout
        >>> from plaudit.tasks.policy import RandomPolicy
        >>> task = make("Pendulum-v1")
        >>> store = rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=[1, 2])
        >>> sample_pairs(store, 10, length=25)
        Preferences(10 pairs: 10 undecided; 25 steps)
    """
    if count < 1 or (length is not None and length < 1):
        raise BadInput("count, length", expected="integers >= 1", received=(count, length))
    if how not in get_args(Sampling):
        raise BadInput("how", expected=f"one of {', '.join(get_args(Sampling))}", received=how)
    seeds = seed if isinstance(seed, Seeds) else Seeds(seed).child("pairs")
    where = _starts(episodes, length).cpu()
    groups = torch.zeros(episodes.B, dtype=torch.int64) if group is None else group.cpu()
    rows, starts, owners = list[Tensor](), list[Tensor](), list[Tensor]()
    for g in groups.unique().tolist():
        generator = seeds.child(g).torch()
        row, start = _choose(where & (groups == g).unsqueeze(1), 2 * count, length, how, generator)
        rows.append(row.view(-1, 2))
        starts.append(start.view(-1, 2))
        owners.append(torch.full((len(row) // 2,), g))
    return Preferences.of_pairs(episodes, row=torch.cat(rows), start=torch.cat(starts), length=length,
                                group=torch.cat(owners))


def sample_fragments(episodes: Episodes, count: int, *, length: int | None, seed: int | Seeds = 0,
                     how: Sampling = "random") -> tuple[Int[Tensor, "K"], Int[Tensor, "K"]]:
    """Rows and first steps of single fragments, for `all_pairs`; arguments and errors as of `sample_pairs`."""
    seeds = seed if isinstance(seed, Seeds) else Seeds(seed).child("fragments")
    return _choose(_starts(episodes, length).cpu(), count, length, how, seeds.torch())


def all_pairs(episodes: Episodes, *, row: Sequence[int] | Int[Tensor, "K"],
              start: Sequence[int] | Int[Tensor, "K"] = (), length: int | None = None, group: int = 0) -> Preferences:
    """Every fragment against every other, K (K - 1) / 2 pairs.

    Example:
        >>> store = Episodes.of_transitions(obs=torch.zeros(16, 1), action=torch.zeros(16), next_obs=torch.ones(16, 1))
        >>> len(all_pairs(store, row=range(16)))
        120
    """
    rows = torch.as_tensor(list(row) if not isinstance(row, Tensor) else row)
    starts = torch.as_tensor(list(start) if not isinstance(start, Tensor) else start)
    starts = torch.zeros_like(rows) if not len(starts) else starts
    if len(rows) < 2 or len(rows) != len(starts):
        raise BadInput("row, start", expected="at least two fragments, a start for each",
                       received=(len(rows), len(starts)))
    index = torch.triu_indices(len(rows), len(rows), offset=1).T
    return Preferences.of_pairs(episodes, row=rows[index], start=starts[index], length=length, group=group)


def _starts(episodes: Episodes, length: int | None) -> Bool[Tensor, "B T"]:
    """Where a fragment can begin: all its steps happened, and no episode ends before its last."""
    if length is None:
        first = torch.arange(episodes.T, device=episodes.device) == 0
        return first & (episodes.lengths > 0).unsqueeze(1)
    if length > episodes.T:
        return torch.zeros_like(episodes.mask)
    count = lambda x: torch.nn.functional.pad(x.long().cumsum(-1), (1, 0))  # noqa: E731
    happened, ends = count(episodes.mask), count((episodes.terminated | episodes.truncated) & episodes.mask)
    n = episodes.T - length + 1
    whole = happened[:, length:] - happened[:, :n] == length
    unbroken = ends[:, length - 1:length - 1 + n] - ends[:, :n] == 0
    return torch.nn.functional.pad(whole & unbroken, (0, length - 1))


def _choose(where: Bool[Tensor, "B T"], count: int, length: int | None, how: Sampling,
            generator: torch.Generator) -> tuple[Int[Tensor, "K"], Int[Tensor, "K"]]:
    row, start = where.nonzero(as_tuple=True)
    steps = "whole episodes" if length is None else f"fragments of {length} steps"
    if len(row) < 2:
        raise BadInput("length", expected=f"at least two {steps} in the store", received=f"{len(row)}",
                       fix="take shorter fragments or more episodes")
    if how == "disjoint":
        return _disjoint(where, count, length, steps, generator)
    if how == "random":
        pick = torch.randint(len(row), (count,), generator=generator)
    else:
        first_of, sizes = row.unique_consecutive(return_counts=True)
        turns = -(-count // len(first_of))
        order = torch.cat([torch.randperm(len(first_of), generator=generator) for _ in range(turns)])[:count]
        offset = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)[:-1]])
        pick = offset[order] + (torch.rand(count, generator=generator) * sizes[order]).long()
    again = torch.zeros(count, dtype=torch.bool)  # nothing is compared with itself
    again[1::2] = pick[1::2] == pick[: count - count % 2:2][: len(pick[1::2])]
    pick = torch.where(again, (pick + 1) % len(row), pick)
    return row[pick], start[pick]


def _disjoint(where: Bool[Tensor, "B T"], count: int, length: int | None, steps: str,
              generator: torch.Generator) -> tuple[Int[Tensor, "K"], Int[Tensor, "K"]]:
    free, L = where.clone(), length or where.shape[1]
    rows, starts = list[int](), list[int]()
    for b in where.any(1).nonzero()[:, 0].tolist():
        t = int(torch.randint(L, (1,), generator=generator)) if int(where[b].sum()) > 2 * L else 0
        while t < where.shape[1]:
            if free[b, t]:
                rows.append(b)
                starts.append(t)
                t += L
            else:
                t += 1
    if len(rows) < count:
        raise BadInput("count", expected=f"at most {len(rows) // 2} pairs, as there are {len(rows)} disjoint {steps}",
                       received=count // 2, fix="collect more episodes, or sample with how='random'")
    pick = torch.randperm(len(rows), generator=generator)[:count]
    return torch.tensor(rows)[pick], torch.tensor(starts)[pick]
