from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.core.errors import BadInput
from plaudit.learn.losses import pair_loss, pair_slope


def one(gap: float, label: float, **options: Any) -> float:
    return float(pair_loss(torch.tensor([gap], dtype=torch.float64), torch.tensor([label], dtype=torch.float64),
                           **options))


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_a_plain_pair_costs_minus_the_log_of_its_probability() -> None:
    assert one(1.3, 1.0) == pytest.approx(-math.log(sigma(1.3)))
    assert one(1.3, 0.0) == pytest.approx(-math.log(1 - sigma(1.3)))
    assert one(1.3, 0.7) == pytest.approx(-0.7 * math.log(sigma(1.3)) - 0.3 * math.log(sigma(-1.3)))


def test_margin_scale_noise_and_smoothing_are_what_they_say() -> None:
    assert one(2.0, 1.0, margin=0.5) == pytest.approx(-math.log(sigma(1.5)))
    assert one(-2.0, 0.0, margin=0.5) == pytest.approx(-math.log(sigma(1.5))), "the margin serves the better one"
    assert one(2.0, 1.0, scale=4.0) == pytest.approx(-math.log(sigma(0.5)))
    assert one(2.0, 1.0, noise=0.1) == pytest.approx(-math.log(0.9 * sigma(2.0) + 0.05))
    assert one(2.0, 1.0, smoothing=0.2) == pytest.approx(one(2.0, 0.9))


def test_a_soft_tie_is_best_where_the_scores_are_equal_and_a_loss_without_a_margin_has_no_scale() -> None:
    assert min(one(g, 0.5) for g in (-1.0, 0.0, 1.0)) == one(0.0, 0.5)
    assert one(30.0, 1.0) < 1e-9, "sure and right costs nothing"


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.9])
@pytest.mark.parametrize("gap", [-2.0, 0.0, 0.7, 30.0])
def test_the_three_outcomes_of_rao_and_kupper_add_up_to_one(gap: float, noise: float) -> None:
    tie = torch.tensor([True])
    options: dict[str, Any] = {"ties": "rao-kupper", "tie_width": 0.4, "noise": noise}
    chances = [math.exp(-one(gap, y, **options)) for y in (0.0, 1.0)]
    equal = math.exp(-one(gap, 0.5, tie=tie, **options))
    assert sum(chances) + equal == pytest.approx(1.0)
    theta = math.exp(0.4)
    assert chances[1] == pytest.approx((1 - noise) * math.exp(gap) / (math.exp(gap) + theta) + noise / 3)
    assert not noise or equal >= noise / 3, "however far apart the scores, a tie may be a random answer"
    assert one(gap, 0.5, tie=tie, ties="drop") == 0.0


options_of = st.fixed_dictionaries({
    "margin": st.sampled_from([0.0, 0.7]), "scale": st.sampled_from([1.0, 2.5]), "noise": st.sampled_from([0.0, 0.2]),
    "smoothing": st.sampled_from([0.0, 0.1]), "ties": st.sampled_from(["soft", "rao-kupper", "drop"])})


@given(st.floats(-4, 4), st.floats(0, 1), st.booleans(), options_of)
def test_the_slope_is_the_derivative_of_the_loss(gap: float, label: float, tied: bool, options: dict[str, Any]) -> None:
    x = torch.tensor([gap], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0.5 if tied else label], dtype=torch.float64)
    tie = torch.tensor([tied])
    (expected,) = torch.autograd.grad(pair_loss(x, y, tie=tie, **options).sum(), x)
    assert float(pair_slope(x.detach(), y, tie=tie, **options)) == pytest.approx(float(expected), abs=1e-9)


def test_the_gradient_of_a_linear_reward_has_the_closed_form() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(50, 3, dtype=torch.float64), torch.randn(50, 3, dtype=torch.float64)
    label = torch.rand(50, dtype=torch.float64)
    w = torch.randn(3, dtype=torch.float64, requires_grad=True)
    pair_loss((first - second) @ w, label).mean().backward()
    by_hand = ((torch.sigmoid((first - second) @ w.detach()) - label).unsqueeze(1) * (first - second)).mean(0)
    assert w.grad is not None and torch.allclose(w.grad, by_hand)


@pytest.mark.parametrize("wrong", [{"noise": 1.0}, {"smoothing": -0.1}, {"ties": "rao-kupper", "tie_width": 0.0}])
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        one(0.0, 1.0, **wrong)
