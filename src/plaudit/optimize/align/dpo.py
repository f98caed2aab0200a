"""Direct preference optimisation: pairs of completions, and the losses on their implicit rewards.

The implicit reward of a completion is beta * (log policy - log reference); its difference between the two completions
of a pair is the gap of a Bradley-Terry loss (Rafailov et al. 2023, eq. 7), which takes a margin or a strength like any
other (Wang et al. 2024, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.tokens import Tokens
from plaudit.learn.losses import pair_loss

if TYPE_CHECKING:
    from plaudit.optimize.align.policy import Policy

Form = Literal["regular", "margin", "scaled"]
Labels = Literal["hard", "soft"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Pairs:
    """N comparisons of two rows of a batch of completions."""

    tokens: Tokens
    first: Int[Tensor, "N"]
    second: Int[Tensor, "N"]
    label: Float[Tensor, "N"]
    """How sure it is that the first is better."""
    strength: Float[Tensor, "N"]
    """By how much, 0 or more: grades 1 to 3, or a gap of rewards."""
    weight: Float[Tensor, "N"] | None = None
    """How much each counts beside the others, 0 or more; None is all the same."""

    def __len__(self) -> int:
        return len(self.first)

    @property
    def counts(self) -> Float[Tensor, "N"]:
        """The weights, 1 where there are none."""
        return torch.ones_like(self.label) if self.weight is None else self.weight

    def to(self, device: str | torch.device) -> Pairs:
        """The same on another device."""
        return Pairs(tokens=self.tokens.to(device), **{name: value.to(device) for name, value in vars(self).items()
                                                       if isinstance(value, Tensor)})

    def take(self, index: Int[Tensor, "M"]) -> Pairs:
        """Some of the pairs, with the rows that they name."""
        first, second = self.first[index], self.second[index]
        rows = torch.cat([first, second])
        M = len(index)
        return Pairs(tokens=self.tokens[rows], first=torch.arange(M), second=torch.arange(M, 2 * M),
                     label=self.label[index], strength=self.strength[index],
                     weight=None if self.weight is None else self.weight[index])


def dpo_loss(gap_N: Float[Tensor, "N"], *, label: Float[Tensor, "N"], strength: Float[Tensor, "N"],
             form: Form = "regular", normalise: bool = False) -> Float[Tensor, "N"]:
    """The loss of each pair from the gap of the implicit rewards.

    With m the strength: regular -log sigma(gap), margin -log sigma(gap - m), scaled -m log sigma(gap). A label between
    0 and 1 mixes both directions; a pair of strength 0 weighs nothing in the scaled form.

    Args:
        gap_N: The first's implicit reward less the second's.
        label: How sure it is that the first is better.
        strength: m, 0 or more.
        form: One of the three.
        normalise: Divides m by its mean in the scaled form, so that the step size is that of the regular one.

    Raises:
        BadInput: for another form, or a negative strength.

    Example:
        >>> one = torch.ones(1)
        >>> [round(float(dpo_loss(one, label=one, strength=2 * one, form=f)), 4) for f in ("regular", "margin",
        ...     "scaled")]
        [0.3133, 1.3133, 0.6265]
    """
    if form not in get_args(Form):
        raise BadInput("form", expected=f"one of {get_args(Form)}", received=form)
    if bool((strength < 0).any()):
        raise BadInput("strength", expected="0 or more; the label says which is better", received=float(strength.min()))
    if form == "margin":
        return pair_loss(gap_N, label, margin=strength)
    loss = pair_loss(gap_N, label)
    if form == "regular":
        return loss
    return loss * (strength / strength.mean().clamp(min=1e-8) if normalise else strength)


def pairs_of_rewards(tokens: Tokens, reward_B: Float[Tensor, "B"], known: Bool[Tensor, "B"], *,
                     labels: Labels = "hard") -> tuple[Pairs, int]:
    """Compares the samples of each prompt by a reward.

    `hard` takes the best against the worst of each group (none where they are equal); `soft` takes neighbours with the
    label sigma(difference), under which the optimum is the policy that `tilted` names. Rows whose reward is unknown
    are in no pair.

    Returns:
        The pairs, and in how many groups no pair could be made.

    Raises:
        BadInput: for other labels.
    """
    if labels not in get_args(Labels):
        raise BadInput("labels", expected=f"one of {get_args(Labels)}", received=labels)
    group = torch.arange(tokens.B) if tokens.group is None else tokens.group
    first, second, without = list[int](), list[int](), 0
    for g in torch.unique(group).tolist():
        rows = torch.nonzero((group == g) & known).flatten().tolist()
        found = list(zip(rows[::2], rows[1::2], strict=False))
        if labels == "hard":
            ordered = sorted(rows, key=lambda b: (-float(reward_B[b]), b))
            found = [(ordered[0], ordered[-1])] if ordered and reward_B[ordered[0]] > reward_B[ordered[-1]] else []
        without += not found
        first += [a for a, _ in found]
        second += [b for _, b in found]
    a, b = torch.tensor([first, second], dtype=torch.int64, device=reward_B.device).unbind()
    gap = reward_B[a] - reward_B[b]
    label = torch.sigmoid(gap) if labels == "soft" else torch.ones_like(gap)
    return Pairs(tokens=tokens, first=a, second=b, label=label, strength=gap.abs()), without


def pairs_of_texts(policy: Policy, prompts: Sequence[Any], firsts: Sequence[Sequence[int]],
                   seconds: Sequence[Sequence[int]], *, label: Sequence[float] | None = None,
                   strength: Sequence[float] | None = None, weight: Sequence[float] | None = None) -> Pairs:
    """Given comparisons (token ids of both completions) as `Pairs`, for training offline.

    Args:
        policy: Whose tokens they are.
        prompts: One for each pair.
        firsts: The first completion of each.
        seconds: The second.
        label: How sure it is that the first is better; None is 1 everywhere.
        strength: By how much; None is 1 everywhere.
        weight: How much each counts; None is all the same.

    Raises:
        BadInput: when the lists differ in length.
    """
    N = len(prompts)
    given = {"firsts": firsts, "seconds": seconds, "label": label, "strength": strength, "weight": weight}
    for name, values in given.items():
        if values is not None and len(values) != N:
            raise BadInput(name, expected=f"one for each of {N} prompts", received=len(values))
    tokens = policy.tokens_of([*prompts, *prompts], [*firsts, *seconds])
    return Pairs(tokens=tokens, first=torch.arange(N), second=torch.arange(N, 2 * N), label=_numbers(label, N),
                 strength=_numbers(strength, N), weight=None if weight is None else _numbers(weight, N))


def _numbers(values: Sequence[float] | None, N: int) -> Float[Tensor, "N"]:
    return torch.ones(N) if values is None else torch.tensor(list(values), dtype=torch.float32)
