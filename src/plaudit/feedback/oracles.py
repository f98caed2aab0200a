"""Annotators with a known truth and known faults, to test whatever learns from preferences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.algebra import as_reward
from plaudit.core.errors import BadInput
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.feedback.preferences import Preferences

Over = Literal["sum", "mean"]


class Oracle:
    """Prefers the fragment with the higher return under a reward, with the faults of real annotators.

    The first is preferred with probability sigmoid(rationality * (return of the first - return of the second)).

    Args:
        reward: The truth; a Reward or a function.
        rationality: The inverse temperature of the choice; infinity never errs (equal returns are a tie).
        mistakes: With this probability the answer is turned round.
        tie_within: Returns that differ by at most this are called equal (0: only where exactly equal, for a
            rational one).
        skip_below: Pairs where neither return reaches this are not decided.
        myopia: Discount of what came earlier: step t of L counts myopia ** (L - 1 - t).
        over: Whether a return is the `sum` or the `mean` over steps; has to be said where lengths differ.
        soft: Answers with the probability itself instead of a choice.
        seed: Of the choices; the same pairs in the same order get the same answers.
        name: How the answers are signed.

    Source:
        Lee, Smith, Dragan, Abbeel (2021), B-Pref, section 4 (equation 2 and the four faults).

    Example:
        >>> from plaudit.core.episodes import Episodes
        >>> from plaudit.core.functions import reward
        >>> store = Episodes.of_transitions(obs=torch.arange(3.0).unsqueeze(1), action=torch.zeros(3),
        ...                                 next_obs=torch.zeros(3, 1))
        >>> oracle = Oracle(reward(lambda obs: obs[..., 0], vectorised=True))
        >>> oracle(Preferences.of_pairs(store, row=[[0, 1], [2, 1], [1, 1]])).label.tolist()
        [0.0, 1.0, 0.5]
    """

    def __init__(self, reward: Reward | Callable[..., Any], *, rationality: float = math.inf,
                 mistakes: float = 0.0, tie_within: float = 0.0, skip_below: float = -math.inf, myopia: float = 1.0,
                 over: Over | None = None, soft: bool = False, seed: int = 0, name: str = "oracle") -> None:
        if not rationality >= 0 or not tie_within >= 0:
            raise BadInput("rationality, tie_within", expected="numbers >= 0", received=(rationality, tie_within))
        if not 0 <= mistakes <= 1 or not 0 <= myopia <= 1:
            raise BadInput("mistakes, myopia", expected="numbers in [0, 1]", received=(mistakes, myopia))
        check_over(over)
        self.reward, self.rationality = as_reward(reward), rationality
        self.mistakes, self.tie_within = mistakes, tie_within
        self.skip_below, self.myopia, self.soft = skip_below, myopia, soft
        self.over: Over | None = over
        self.seed, self.name = seed, name
        self.asked = 0
        """How many pairs it has been shown."""

    def __call__(self, pairs: Preferences) -> Preferences:
        value, known = self.returns(pairs)
        gap = value[:, 0] - value[:, 1]
        rational = math.isinf(self.rationality)
        chance = torch.where(gap > 0, 1.0, torch.where(gap < 0, 0.0, 0.5)) if rational else torch.sigmoid(
            self.rationality * gap)
        chance = chance * (1 - self.mistakes) + (1 - chance) * self.mistakes
        tie = gap.abs() <= self.tie_within if self.tie_within > 0 or rational else torch.zeros_like(known)
        generator = Seeds(self.seed).child("oracle", self.asked).torch()
        self.asked += len(pairs)
        drawn = (torch.rand(len(pairs), generator=generator, dtype=torch.float64) < chance).double()
        label = torch.where(tie, 0.5, chance if self.soft else drawn)
        known = known & (value.amax(1) >= self.skip_below)
        return pairs.labelled(torch.where(known, label, torch.nan), tie=tie & known, annotator=self.name,
                              provenance=self.settings())

    def returns(self, pairs: Preferences) -> tuple[Float[Tensor, "N 2"], Tensor]:
        """What each option is worth, and for which pairs both are known."""
        need_over(pairs, self.over)
        fragments, index = pairs.distinct()
        score = self.reward.score(fragments)
        age = (fragments.lengths - 1).unsqueeze(1) - torch.arange(fragments.T, device=fragments.device)
        weight = torch.where(fragments.mask, self.myopia ** age.clamp(min=0).double(), 0.0)
        value = (torch.where(score.known, score.value, 0.0).double() * weight).sum(1)
        value = value / weight.sum(1) if self.over == "mean" else value
        return value.cpu()[index], score.known.all(1).cpu()[index].all(1)

    def settings(self) -> dict[str, Any]:
        """How it answers, as JSON."""
        finite = lambda x: x if math.isfinite(x) else None  # noqa: E731
        return {"annotator": self.name, "reward": self.reward.name, "rationality": finite(self.rationality),
                "mistakes": self.mistakes, "tie_within": self.tie_within, "skip_below": finite(self.skip_below),
                "myopia": self.myopia, "over": self.over, "seed": self.seed}

    def state_dict(self) -> dict[str, Any]:
        """What must survive an interruption."""
        return {"asked": self.asked}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.asked = int(state["asked"])


def check_over(over: Over | None) -> None:
    """Refuses what is neither `sum`, `mean` nor None.

    Raises:
        BadInput: when it is something else.
    """
    if over not in ("sum", "mean", None):
        raise BadInput("over", expected="sum or mean (None where all options are equally long)", received=over)


def need_over(pairs: Preferences, over: Over | None) -> None:
    """Options of different lengths can only be compared once it is said how.

    Raises:
        BadInput: when the lengths within a pair differ, and `over` is None.

    Example:
        >>> from plaudit.core.episodes import Episodes
        >>> store = Episodes.of_steps(obs=torch.zeros(3, 1), action=torch.zeros(3), next_obs=torch.zeros(3, 1))
        >>> need_over(Preferences.of_pairs(store, row=[[0, 0]], length=[[2, 3]]), None)
        Traceback (most recent call last):
        plaudit.core.errors.BadInput: over: expected sum or mean, since 1 of 1 pairs compare fragments of different...
    """
    if over is None and not pairs.equal_lengths:
        n = int((pairs.length[:, 0] != pairs.length[:, 1]).sum())
        raise BadInput("over", expected=f"sum or mean, since {n} of {len(pairs)} pairs compare fragments of different "
                       "lengths", received=None, fix="over='sum' pays for every step (longer may win by its length), "
                       "over='mean' for the average step")
