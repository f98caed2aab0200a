"""Kahneman-Tversky optimisation: completions that are judged one by one, as desirable or not, and the loss on them.

With r = log policy - log reference of a completion and z0 the KL that the policy has moved, a desirable completion is
worth lambda_D sigma(beta (r - z0)) and an undesirable one lambda_U sigma(beta (z0 - r)); the loss is lambda less that
worth (Ethayarajh et al. 2024, arXiv 2402.01306, eq. 8). z0 is estimated from completions of other prompts, has no
gradient, and is never below 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.tokens import Tokens

if TYPE_CHECKING:
    from plaudit.optimize.align.dpo import Pairs
    from plaudit.optimize.align.policy import Policy


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """B completions, each desirable or undesirable by itself: no pairs.

    Raises:
        BadInput: when the verdicts, or the weights, are not one for each row.
    """

    tokens: Tokens
    desirable: Bool[Tensor, "B"]
    weight: Float[Tensor, "B"] | None = None
    """How much each counts beside the others, 0 or more; None is all the same."""

    def __post_init__(self) -> None:
        for name, values in (("desirable", self.desirable), ("weight", self.weight)):
            if values is not None and len(values) != self.tokens.B:
                raise BadInput(name, expected=f"one for each of {self.tokens.B} rows", received=len(values))

    def __len__(self) -> int:
        return self.tokens.B

    @property
    def counts(self) -> Float[Tensor, "B"]:
        """The weights, 1 where there are none."""
        return torch.ones(len(self), device=self.desirable.device) if self.weight is None else self.weight

    def to(self, device: str | torch.device) -> Judged:
        """The same on another device."""
        return Judged(tokens=self.tokens.to(device), desirable=self.desirable.to(device),
                      weight=None if self.weight is None else self.weight.to(device))

    def take(self, index: Int[Tensor, "M"]) -> Judged:
        """Some of the rows."""
        return Judged(tokens=self.tokens[index], desirable=self.desirable[index],
                      weight=None if self.weight is None else self.weight[index])

    @staticmethod
    def of_pairs(pairs: Pairs) -> Judged:
        """Two rows of each pair, the likelier better one desirable; a pair with label 0.5 gives none."""
        label = pairs.label
        clear = torch.nonzero(label != 0.5).flatten()
        rows = torch.stack([pairs.first[clear], pairs.second[clear]], 1).flatten()
        better = label[clear] > 0.5
        return Judged(tokens=pairs.tokens[rows], desirable=torch.stack([better, ~better], 1).flatten(),
                      weight=None if pairs.weight is None else pairs.weight[clear].repeat_interleave(2))


def kto_loss(log_ratio_B: Float[Tensor, "B"], desirable_B: Bool[Tensor, "B"], *, z0: float, beta: float,
             desirable_weight: float = 1.0, undesirable_weight: float = 1.0) -> Float[Tensor, "B"]:
    """The loss of each completion (Ethayarajh et al. 2024, eq. 8).

    Args:
        log_ratio_B: log policy - log reference of the whole completion, in nats.
        desirable_B: Which are desirable.
        z0: The reference point, in nats; a number, so that no gradient can flow.
        beta: How soon what is gained or lost no longer counts.
        desirable_weight: lambda_D.
        undesirable_weight: lambda_U.

    Example:
        >>> kto_loss(torch.tensor([2.0, 2.0]), torch.tensor([True, False]), z0=1.0, beta=0.5, undesirable_weight=2.0)
        tensor([0.3775, 1.2449])
    """
    gain = beta * (log_ratio_B - z0)
    return torch.where(desirable_B, desirable_weight * torch.sigmoid(-gain), undesirable_weight * torch.sigmoid(gain))


def mismatched(tokens: Tokens) -> Tokens:
    """Each prompt with the completion of the next row that has another prompt, from the last row on to the first.

    Where all rows have one prompt, with that of the next row.

    Raises:
        BadInput: when there are fewer than 2 rows.
    """
    if tokens.B < 2 or tokens.prompt_ids is None or tokens.prompt_mask is None:
        raise BadInput("tokens", expected="at least 2 rows with the ids of their prompts", received=f"{tokens.B} rows")
    padded = torch.where(tokens.prompt_mask, tokens.prompt_ids, -1)
    prompt = torch.unique(padded, dim=0, return_inverse=True)[1].tolist()
    B = tokens.B
    at = [next(((i + k) % B for k in range(1, B) if prompt[(i + k) % B] != prompt[i]), (i + 1) % B) for i in range(B)]
    asked = {name: values for name, values in tokens.columns.items() if name in ("prompt", "prompt_text")}
    moved = tokens[at]
    return moved.replace(prompt_ids=tokens.prompt_ids, prompt_mask=tokens.prompt_mask,
                         columns={**moved.columns, **asked})


@torch.no_grad()
def reference_point(policy: Policy, reference: Policy, tokens: Tokens, *, rows: int | None = None) -> float:
    """z0: the mean log-ratio of `mismatched` completions, or 0 where that is below 0.

    Args:
        policy: What learns.
        reference: What it is compared with.
        tokens: The completions of a step.
        rows: Completions in one forward pass; None is all.
    """
    other = mismatched(tokens)
    ratio = torch.cat([(policy.log_probs(other[part]) - reference.log_probs(other[part])).sum(-1)
                       for part in torch.arange(other.B).split(rows or other.B)])
    return max(0.0, float(ratio.mean()))
