"""`Score`: the numbers of a reward, what is known of them, which part pays, and how sure the ensemble is.

The truth table of the unknown (tested exhaustively in `tests/core/test_unknown.py`):

- a value is NaN exactly where it is unknown, 0 where the mask is False, finite elsewhere;
- a sum is unknown where any term with a non-zero weight is; a term of weight zero never matters;
- a gate that is known to be shut gives 0 whatever lies behind it; an unknown gate gives unknown;
- a return is known only if all its steps are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.errors import BadInput, UnknownReward


@dataclass(frozen=True, eq=False, kw_only=True)
class Score:
    """What `Reward.score` returns.

    Example:
        >>> s = Score.of(torch.tensor([[1.0, float("nan")]]), mask=torch.ones(1, 2).bool(), reason="timed out")
        >>> s.known.tolist(), s.counts()
        ([[True, False]], {'timed out': 1})
    """

    value: Float[Tensor, "B T"]
    known: Bool[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    terms: Mapping[str, Float[Tensor, "B T"]] = field(default_factory=dict[str, Tensor])
    """The named parts as they were computed, before their weights."""
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    """The factor with which each term enters the value (1 where none is named)."""
    members: Float[Tensor, "H B T"] | None = None
    """The ensemble's separate opinions; uncertainty is never kept as a marginal std."""
    why: Mapping[str, Bool[Tensor, "B T"]] = field(default_factory=dict[str, Tensor])
    """Reasons for what is unknown, each with the steps it concerns."""
    measured: Mapping[str, Float[Tensor, "B T"]] = field(default_factory=dict[str, Tensor])
    """What controllers inside the reward follow, by the name of their metric: the costs of constraints as they were
    computed, without their price. NaN where unknown, and at steps that do not count."""

    @staticmethod
    def of(value: Float[Tensor, "B T"], *, mask: Bool[Tensor, "B T"],
           terms: Mapping[str, Float[Tensor, "B T"]] | None = None, weights: Mapping[str, float] | None = None,
           members: Float[Tensor, "H B T"] | None = None, why: Mapping[str, Bool[Tensor, "B T"]] | None = None,
           reason: str = "the reward returned no finite number") -> Score:
        """Makes a Score whose unknown steps are those where `value` is not finite."""
        zero = torch.zeros((), dtype=value.dtype, device=value.device)
        bad = mask & ~torch.isfinite(value)
        nan = torch.full_like(zero, torch.nan)
        clean = torch.where(mask, torch.where(bad, nan, value), zero)
        reasons = {r: m & bad for r, m in (why or {}).items() if bool((m & bad).any())}
        explained = torch.stack(list(reasons.values())).any(0) if reasons else torch.zeros_like(mask)
        if bool((bad & ~explained).any()):
            reasons[reason] = reasons.get(reason, torch.zeros_like(mask)) | (bad & ~explained)
        return Score(
            value=clean, known=~bad, mask=mask, weights=dict(weights or {}), why=reasons,
            terms={n: torch.where(mask, t, zero.to(t.dtype)) for n, t in (terms or {}).items()},
            members=None if members is None else torch.where(mask, torch.where(bad, nan.to(members.dtype), members),
                                                             0.0),
        )

    @staticmethod
    def unknown(mask: Bool[Tensor, "B T"], reason: str) -> Score:
        """Nothing is known, for one reason."""
        return Score.of(torch.full(mask.shape, torch.nan, device=mask.device), mask=mask, reason=reason)

    @property
    def std(self) -> Float[Tensor, "B T"]:
        """The spread of the ensemble at each step (population std over H); 0 where there is one opinion."""
        if self.members is None:
            return torch.where(self.known, torch.zeros_like(self.value), self.value)
        return self.members.std(0, correction=0)

    @property
    def all_known(self) -> bool:
        return bool(self.known.all())

    def contribution(self, term: str) -> Float[Tensor, "B T"]:
        """A term times its weight: what it paid. A term of weight zero paid 0, known or not."""
        weight = self.weights.get(term, 1.0)
        return torch.zeros_like(self.terms[term]) if weight == 0 else self.terms[term] * weight

    def rows(self, index: Int[Tensor, "n"]) -> Score:
        """Some rows, with all that is known of them."""
        return Score(value=self.value[index], known=self.known[index], mask=self.mask[index], weights=self.weights,
                     terms={n: t[index] for n, t in self.terms.items()}, why={r: m[index] for r, m in self.why.items()},
                     members=None if self.members is None else self.members[:, index],
                     measured={n: x[index] for n, x in self.measured.items()})

    def counts(self) -> dict[str, int]:
        """How many steps are unknown, by reason."""
        return {reason: int(mask.sum()) for reason, mask in self.why.items()}

    def require(self) -> Float[Tensor, "B T"]:
        """The values, if all are known.

        Raises:
            UnknownReward: naming the reasons and how many steps each concerns.
        """
        if not self.all_known:
            reasons = ", ".join(f"{reason} ({n} steps)" for reason, n in self.counts().items())
            raise UnknownReward(f"{int((~self.known).sum())} of {int(self.mask.sum())} steps are unknown: {reasons}")
        return self.value

    def returns(self, *, discount: float = 1.0) -> tuple[Float[Tensor, "B"], Bool[Tensor, "B"]]:
        """The discounted return of each row, and whether it is known (NaN where it is not)."""
        return self._sum(self.value, discount), self.known.all(-1)

    def member_returns(self, *, discount: float = 1.0) -> Float[Tensor, "H B"]:
        """The return under each member of the ensemble ([1, B] where there is none)."""
        members = self.value.unsqueeze(0) if self.members is None else self.members
        return self._sum(members, discount)

    def _sum(self, value: Tensor, discount: float) -> Tensor:
        if not 0 <= discount <= 1:
            raise BadInput("discount", expected="a number in [0, 1]", received=discount)
        return (value * discount ** (self.mask.cumsum(-1) - 1).clamp(min=0)).sum(-1)
