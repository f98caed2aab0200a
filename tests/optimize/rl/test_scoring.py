from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from plaudit.core.algebra import Ensemble, PerMember
from plaudit.core.episodes import Episodes
from plaudit.core.functions import reward
from plaudit.core.score import Score
from plaudit.optimize.rl.scoring import join_steps, score_by_member


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


def test_ensembles_of_different_sizes_stand_side_by_side() -> None:
    """Members of a population that are scored apart, and steps in which a part is missing: each keeps its spread."""
    obs = torch.randn(4, 2)
    e = Episodes.of_transitions(obs=obs, action=torch.zeros(4), next_obs=obs).replace(
        member=torch.tensor([0, 0, 1, 1]))

    def centred(k: int) -> Any:
        return reward(lambda obs: k * (obs[..., 0] - obs[..., 0].mean()), name=f"r{k}", across="batch", vectorised=True)

    each = [Ensemble([centred(k) for k in range(1, n + 1)]) for n in (3, 2)]
    found = score_by_member(PerMember(each), e, 2)
    assert found.members is not None
    for rows, ensemble in ((slice(0, 2), each[0]), (slice(2, 4), each[1])):
        own = ensemble.score(e[rows]).members
        assert own is not None
        torch.testing.assert_close(found.members[:, rows].std(0, correction=0), own.std(0, correction=0))
    single = Score.of(torch.ones(2, 1), mask=torch.ones(2, 1, dtype=torch.bool))
    opinions = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    joined = join_steps([single, replace(single, members=opinions)]).members
    assert joined is not None and joined[:, :, 0].tolist() == [[1, 1], [1, 1]]
    assert torch.equal(joined[..., 1], opinions[..., 0])
