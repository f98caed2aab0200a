"""The truth table of the unknown, exhaustively: every combination of known, unknown, zero weight and shut gate."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from plaudit.core import algebra
from plaudit.core.episodes import Episodes
from plaudit.core.errors import UnknownReward
from plaudit.core.functions import reward
from plaudit.core.reward import Reward
from plaudit.core.score import Score

NAN = math.nan
VALUES = (NAN, -1.0, 0.0, 2.0)


class Fixed(Reward):
    """Returns the numbers it was given."""

    def __init__(self, *rows: list[float], name: str = "fixed") -> None:
        self.rows, self.name = rows, name

    def evaluate(self, episodes: Episodes) -> Score:
        return Score.of(torch.tensor(self.rows), mask=episodes.mask, reason=f"{self.name} is unsure")


def episodes(T: int, *, B: int = 1) -> Episodes:
    zeros = torch.zeros(T, 1)
    return Episodes.cat([Episodes.of_steps(obs=zeros, action=torch.zeros(T), next_obs=zeros)] * B)


def is_known(x: float) -> bool:
    return not math.isnan(x)


def one(r: Reward) -> tuple[float, bool]:
    score = r.score(episodes(1))
    assert bool(score.known) == (not torch.isnan(score.value).item())
    return score.value.item(), bool(score.known)


@pytest.mark.parametrize(("a", "b"), list(itertools.product(VALUES, VALUES)))
@pytest.mark.parametrize(("v", "w"), list(itertools.product((0.0, 1.0, -0.5), repeat=2)))
def test_sum_is_unknown_where_a_term_that_counts_is(a: float, b: float, v: float, w: float) -> None:
    value, known = one(algebra.total([(v, Fixed([a])), (w, Fixed([b], name="other"))]))
    assert known == ((is_known(a) or v == 0) and (is_known(b) or w == 0))
    if known:
        assert value == pytest.approx((v * a if v else 0) + (w * b if w else 0))


@pytest.mark.parametrize(("gate", "inner"), list(itertools.product(VALUES, VALUES)))
def test_a_gate_known_to_be_shut_short_circuits(gate: float, inner: float) -> None:
    value, known = one(Fixed([inner]).gated_by(Fixed([gate])))
    shut = is_known(gate) and gate <= 0
    assert known == (shut or (is_known(gate) and is_known(inner)))
    if known:
        assert value == (0.0 if shut else inner)


@pytest.mark.parametrize(("a", "b"), list(itertools.product(VALUES, VALUES)))
def test_extremes_need_all_and_fallback_needs_one(a: float, b: float) -> None:
    both = is_known(a) and is_known(b)
    for combine, expected in ((algebra.minimum, min), (algebra.maximum, max)):
        value, known = one(combine(Fixed([a]), Fixed([b])))
        assert known == both and (not both or value == expected(a, b))
    value, known = one(Fixed([a]).or_else(Fixed([b])))
    assert known == (is_known(a) or is_known(b))
    if known:
        assert value == (a if is_known(a) else b)


@pytest.mark.parametrize("values", list(itertools.product(VALUES, repeat=3)))
def test_a_return_is_known_only_if_all_its_steps_are(values: tuple[float, ...]) -> None:
    returns, known = Fixed(list(values)).score(episodes(3)).returns(discount=0.5)
    assert bool(known) == all(map(is_known, values))
    if bool(known):
        assert returns.item() == pytest.approx(values[0] + 0.5 * values[1] + 0.25 * values[2])
    else:
        assert math.isnan(returns.item())


@pytest.mark.parametrize(("a", "b"), list(itertools.product(VALUES, VALUES)))
def test_an_ensemble_is_unknown_where_a_member_is(a: float, b: float) -> None:
    ensemble = algebra.Ensemble([Fixed([a]), Fixed([b])])
    for r, expected in ((ensemble, (a + b) / 2), (algebra.mean(ensemble) - algebra.std(ensemble), min(a, b)),
                        (algebra.worst(ensemble), min(a, b))):
        value, known = one(r)
        assert known == (is_known(a) and is_known(b))
        if known:
            assert value == pytest.approx(expected)


@pytest.mark.parametrize("here", VALUES)
def test_clip_never_makes_the_unknown_known(here: float) -> None:
    value, known = one(Fixed([here]).clip(min=-0.5, max=1.0))
    assert known == is_known(here) and (not known or value == min(max(here, -0.5), 1.0))


def test_masked_steps_are_zero_and_known_even_where_the_reward_is_nan() -> None:
    e = episodes(3).replace(mask=torch.tensor([[True, True, False]]))
    score = Fixed([1.0, NAN, NAN]).score(e)
    assert score.known.tolist() == [[True, False, True]] and score.value[0, 2].item() == 0.0
    assert score.counts() == {"fixed is unsure": 1}


def test_reasons_of_terms_that_do_not_count_are_not_reported() -> None:
    score = algebra.total([(0.0, Fixed([NAN], name="a")), (1.0, Fixed([NAN], name="b"))]).score(episodes(1))
    assert score.counts() == {"b is unsure": 1}


def test_calling_a_reward_raises_where_scoring_only_says_so() -> None:
    with pytest.raises(UnknownReward, match=r"1 of 2 steps are unknown: fixed is unsure \(1 steps\)"):
        Fixed([1.0, NAN])(episodes(2))


@pytest.mark.parametrize("failure", [ValueError("no"), ZeroDivisionError("x"), KeyError("k")])
def test_a_reward_that_raises_is_unknown_with_its_reason_and_not_zero(failure: Exception) -> None:
    def broken(obs: torch.Tensor) -> torch.Tensor:
        raise failure

    score = reward(broken).score(episodes(2))
    assert not score.known.any() and torch.isnan(score.value).all()
    assert type(failure).__name__ in next(iter(score.counts()))


def test_scoring_a_failure_as_zero_would_be_seen() -> None:
    """The broken variant: a reward that hides its failure has a known 0.0, which the table forbids."""

    class Hiding(Fixed):
        def evaluate(self, episodes: Episodes) -> Score:
            return Score.of(torch.nan_to_num(torch.tensor(self.rows)), mask=episodes.mask)

    assert one(Hiding([NAN])) == (0.0, True)
    assert one(Fixed([NAN]))[1] is False
