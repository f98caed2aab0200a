from __future__ import annotations

import math

import torch

from plaudit.core.score import Score
from plaudit.optimize.rl.scoring import join_steps


def one_step(value: float, terms: dict[str, float], weights: dict[str, float]) -> Score:
    mask = torch.ones(1, 1, dtype=torch.bool)
    return Score.of(torch.tensor([[value]]), mask=mask, terms={n: torch.tensor([[t]]) for n, t in terms.items()},
                    weights=weights, reason="unsure")


def test_steps_that_are_joined_keep_what_each_term_paid() -> None:
    """`near` is weighed differently at each step; `far` is missing at the second, and the third is unknown."""
    joined = join_steps([one_step(7.0, {"near": 2.0, "far": 1.0}, {"near": 3.0}),
                         one_step(10.0, {"near": 2.0}, {"near": 5.0}), one_step(math.nan, {}, {})])
    torch.testing.assert_close(joined.contribution("near"), torch.tensor([[6.0, 10.0, math.nan]]), equal_nan=True)
    torch.testing.assert_close(joined.contribution("far"), torch.tensor([[1.0, 0.0, math.nan]]), equal_nan=True)
    assert joined.counts() == {"unsure": 1}


def test_weights_that_stay_the_same_are_told_beside_the_raw_terms() -> None:
    first, second = (one_step(3.0 * x, {"near": x}, {"near": 3.0}) for x in (1.0, 2.0))
    joined = join_steps([first, second])
    assert joined.weights == {"near": 3.0} and joined.terms["near"].tolist() == [[1.0, 2.0]]
