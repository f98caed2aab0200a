"""Preferences as the tensors that stacked reward models train on."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.feedback.oracles import Over, check_over, need_over
from plaudit.feedback.preferences import Preferences
from plaudit.learn.losses import Ties, check_ties
from plaudit.learn.model import LearnedReward

FEW = 8
"""From so many strict answers on, all naming the same side is refused; below, it may be chance and is warned of."""
HELD = 32_000_000
"""Up to so many numbers, the fragments are laid out once; beyond, their steps are looked up batch by batch."""


def evidence(pairs: Preferences, ties: Ties = "soft") -> Preferences:
    """The pairs that teach: those that were decided, without ties where `ties` is `drop`."""
    check_ties(ties)
    return pairs[pairs.known & ~pairs.tie] if ties == "drop" else pairs.decided()


def check_trainable(pairs: Preferences, *, over: Over | None, one_sided: bool = False, ties: Ties = "soft") -> None:
    """Refuses preferences that cannot teach anything.

    Fewer than 8 strict answers that all name the same side may be chance, and train; a warning says so.

    Args:
        pairs: The evidence.
        over: How fragments of different lengths are compared.
        one_sided: Whether every pair is stored as (chosen, rejected), so that all labels say the first.
        ties: What the fit makes of ties; `drop` counts them as nothing.

    Raises:
        BadInput: when there is no pair, none is decided, none has a weight, all are equal, all name the same side, or
            lengths differ and `over` does not say how to compare them.
    """
    decided = int(pairs.known.sum())
    if decided == 0:
        raise BadInput("preferences", expected="at least one pair that was decided",
                       received=f"{len(pairs)} pairs, all undecided",
                       fix="sample pairs that differ more, shorten the margins, or ask another annotator")
    counted = pairs[pairs.known & (pairs.weight > 0)]
    counts = counted.counts()
    if not len(counted):
        raise BadInput("preferences.weight", expected="a weight above 0", received="only 0")
    if counts["equal"] == len(counted) or not len(evidence(counted, ties)):
        rest = f", and {decided - len(counted)} of weight 0" if decided > len(counted) else ""
        raise BadInput("preferences", expected="pairs of which one option was better",
                       received=f"{len(counted)} pairs, all called equal{rest}", fix="sample pairs that differ more")
    if not one_sided:
        _check_sides(counts)
    need_over(pairs, over)


def _check_sides(counts: dict[str, int]) -> None:
    """Whether the strict answers name both sides."""
    strict = counts["first"] + counts["second"]
    if strict == 0 or max(counts["first"], counts["second"]) < strict:
        return
    side = "first" if counts["first"] else "second"
    stored = "if the pairs are stored as (chosen, rejected), pass one_sided=True"
    if strict >= FEW:
        raise BadInput("preferences", expected="answers of both kinds",
                       received=f"{strict} pairs that all prefer the {side} option",
                       fix=f"an annotator that answers by position teaches nothing; {stored}")
    warnings.warn(f"preferences: all {strict} strict answers prefer the {side} option, which may be chance (coins do "
                  f"so 1 time in {2**(strict - 1)}) or an annotator that answers by position; {stored}", UserWarning,
                  stacklevel=4)


@dataclass(frozen=True, eq=False)
class PairData:
    """Decided pairs, their steps as normalised features, and which network reads which."""

    features_SD: Float[Tensor, "S D"]
    """All steps of the store, one group after the other where inputs are normalised by group."""
    first_step: Int[Tensor, "N 2"]
    """The index of the first step of each fragment in `features_SD`."""
    weight_N2L: Float[Tensor, "N 2 L"]
    """What each step counts in the score of its fragment."""
    label: Float[Tensor, "N"]
    tie: Bool[Tensor, "N"]
    margin: Float[Tensor, "N"]
    weight: Float[Tensor, "N"]
    scale: Float[Tensor, "N"]
    rows: tuple[Int[Tensor, "_"], ...]
    """The pairs of each group."""
    laid_out: Float[Tensor, "N W"] | None
    """The fragments' features, W = 2 * L * D, where they are not too many."""

    def __len__(self) -> int:
        return len(self.label)

    @property
    def L(self) -> int:
        """The steps of the longest fragment."""
        return self.weight_N2L.shape[-1]

    def steps(self, index_Kb: Int[Tensor, "K b"], rooms: dict[tuple[int, ...], Tensor] | None = None) -> Float[
            Tensor, "K M D"]:
        """The features of pairs, M = b * 2 * L.

        Args:
            index_Kb: The pairs of each network.
            rooms: Memory to write them into, again and again.
        """
        K, b = index_Kb.shape
        D = self.features_SD.shape[-1]
        if self.laid_out is not None:
            shape = (K * b, self.laid_out.shape[1])
            room = None if rooms is None else rooms.get(shape)
            if rooms is not None and room is None:
                if len(rooms) > 4:
                    rooms.clear()
                room = rooms[shape] = self.laid_out.new_empty(shape)
            found = torch.index_select(self.laid_out, 0, index_Kb.reshape(-1), out=room)
            return found.view(K, b * 2 * self.L, D)
        at = self.first_step[index_Kb].unsqueeze(-1) + torch.arange(self.L, device=index_Kb.device)
        at = at.clamp(max=len(self.features_SD) - 1)
        return self.features_SD.index_select(0, at.reshape(-1)).view(K, b * 2 * self.L, D)


def pair_data(model: LearnedReward, pairs: Preferences, *, over: Over | None, discount: float = 1.0,
              level_scale: tuple[float, ...] = (), learn_moments: bool = True, ties: Ties = "soft") -> PairData:
    """Lays out the decided pairs for a model; the moments of its inputs count the store's steps first.

    Args:
        model: Whose features and groups.
        pairs: The evidence; `pairs.group` is the position of the group.
        over: `sum` or `mean` over the steps of a fragment; None is the sum, where those of a pair are equally long.
        discount: Step t of a fragment counts discount ** t.
        level_scale: alpha of each level of a hierarchy, see `pair_loss`; missing ones are 1.
        learn_moments: Whether the steps of the store are counted.
        ties: `drop` leaves ties out; the other ways need them.

    Raises:
        BadInput: when no pair is left, a group is out of range, a feature is not finite, a field is none of its
            choices, or lengths differ and `over` does not say how to compare them.
    """
    check_over(over)
    pairs = evidence(pairs, ties)
    need_over(pairs, over)
    if not len(pairs):
        raise BadInput("preferences", expected="at least one pair that was decided",
                       received="none" if ties != "drop" else "none that is no tie",
                       fix="ask `plaudit.learn.comparing.evidence` first whether there are any")
    store = pairs.episodes
    model.features.check(store)
    features = model.features(store)
    B, T, D = features.shape
    if not bool(torch.isfinite(features[store.mask]).all()):
        bad = ~torch.isfinite(features).all(-1) & store.mask
        raise BadInput("features", expected="finite numbers at every step", fix="drop those episodes",
                       received=f"NaN or infinity at {int(bad.sum())} steps, first in row {int(bad.nonzero()[0, 0])}")
    if int(pairs.group.max()) >= model.G or int(pairs.group.min()) < 0:
        raise BadInput("preferences.group", expected=f"a group in [0, {model.G})", received=int(pairs.group.max()))
    L = int(pairs.length.max())
    step = torch.arange(L)
    inside = step < pairs.length.unsqueeze(-1)
    weight = torch.where(inside, torch.as_tensor(discount, dtype=torch.float32) ** step, 0.0)
    if over == "mean":
        weight = weight / weight.sum(-1, keepdim=True)
    flat, first = _normalised(model, features.to(model.device), pairs, learn_moments)
    level = torch.tensor([*level_scale, 1.0])
    scale = level[torch.where((pairs.level >= 0) & (pairs.level < len(level_scale)), pairs.level, len(level_scale))]
    at = (first.unsqueeze(-1) + step).clamp(max=len(flat) - 1)
    small = at.numel() * D <= HELD
    device = model.device
    rows = tuple((pairs.group == g).nonzero()[:, 0].to(device) for g in range(model.G))
    return PairData(
        features_SD=flat, first_step=first.to(device), weight_N2L=weight.to(device),
        label=pairs.label.to(device), tie=pairs.tie.to(device), margin=pairs.margin.to(device),
        weight=pairs.weight.to(device), scale=scale.to(device), rows=rows,
        laid_out=flat.index_select(0, at.reshape(-1).to(device)).view(len(pairs), -1) if small else None)


def _normalised(model: LearnedReward, features: Tensor, pairs: Preferences,
                learn: bool) -> tuple[Tensor, Int[Tensor, "N 2"]]:
    """The steps of the store as the model normalises them, and where each fragment begins among them."""
    B, T, D = features.shape
    first = pairs.row * T + pairs.start
    flat = features.reshape(1, B * T, D)
    if not model.normalise:
        return flat[0], first
    mask = pairs.episodes.mask.to(features.device)
    if model.G == 1:
        if learn:
            model.moments.update(flat, mask=mask.reshape(1, -1))
        return model.normalised(flat)[0], first
    owner = _owners(pairs, B)
    even = torch.arange(model.G).repeat_interleave(B // model.G)
    if owner is not None and torch.equal(owner, even):  # the rows of a group lie together, as many for each
        own = features.reshape(model.G, -1, D)
        if learn:
            model.moments.update(own, mask=mask.reshape(model.G, -1))
        return model.normalised(own).reshape(B * T, D), first
    if learn:
        used = torch.zeros(model.G, B, dtype=torch.bool)
        for side in (0, 1):
            used[pairs.group, pairs.row[:, side]] = True
        seen = (used.to(mask.device).unsqueeze(-1) & mask).reshape(model.G, B * T)
        model.moments.update(flat.expand(model.G, -1, -1), mask=seen)
    every = model.normalised(flat.expand(model.G, -1, -1)).reshape(model.G * B * T, D)
    return every, first + pairs.group.unsqueeze(1) * (B * T)


def _owners(pairs: Preferences, B: int) -> Int[Tensor, "B"] | None:
    """The one group that each row of the store serves; None where a row serves two or none."""
    low = torch.full((B,), pairs.group.numel() + 1).scatter_reduce(
        0, pairs.row.flatten(), pairs.group.repeat_interleave(2), "amin")
    high = torch.full((B,), -1).scatter_reduce(0, pairs.row.flatten(), pairs.group.repeat_interleave(2), "amax")
    return low if torch.equal(low, high) else None
