from __future__ import annotations

import itertools
import logging
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import plaudit
from plaudit.core import algebra
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.functions import EnvReward
from plaudit.specify import krc, utility
from plaudit.specify.krc import signed_geometric_mean

numbers = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=6)


def steps(*columns: list[float]) -> tuple[Episodes, list[algebra.Reward]]:
    """Episodes whose observation holds the parts' values, and the parts as rewards."""
    obs = torch.tensor(columns).T
    episodes = Episodes.of_transitions(obs=obs, action=torch.zeros(len(obs)), next_obs=obs)
    return episodes, [column(i) for i in range(len(columns))]


def column(i: int) -> algebra.Reward:
    return plaudit.reward(lambda obs: obs[..., i], name=f"part {i}", vectorised=True, backend="torch", range=(-1, 1))


def by_hand(values: list[float]) -> float:
    size = math.prod(abs(v) for v in values) ** (1 / len(values))
    return 0.0 if 0.0 in values else size if all(v > 0 for v in values) else -size


def product_of_signs(values: torch.Tensor) -> torch.Tensor:
    """The broken variant: two negatives make plus."""
    return values.sign().prod(0) * values.abs().prod(0) ** (1 / len(values))


def two_negatives_never_pay(mean) -> bool:
    cases = torch.tensor(list(itertools.product([-0.9, -0.2, 0.3, 1.0], repeat=4))).T
    return bool((mean(cases)[(cases < 0).any(0)] < 0).all())


@given(numbers)
def test_it_is_the_root_of_the_product_with_the_sign_of_all_positive(values):
    values = [v if abs(v) > 1e-6 else 0.0 for v in values]
    got = signed_geometric_mean(torch.tensor(values, dtype=torch.float64)).item()
    assert got == pytest.approx(by_hand(values), abs=1e-6)
    assert -1 <= got <= 1


def test_two_negatives_do_not_make_plus_and_a_product_of_signs_does():
    assert two_negatives_never_pay(signed_geometric_mean)
    assert not two_negatives_never_pay(product_of_signs)


@given(numbers, st.integers(0, 5), st.floats(0, 1, width=32))
def test_with_all_parts_positive_it_grows_with_each(values, which, more):
    low = torch.tensor([max(abs(v), 1e-3) for v in values], dtype=torch.float64)
    high = low.clone()
    high[which % len(low)] = max(float(low[which % len(low)]), more)
    assert signed_geometric_mean(high) >= signed_geometric_mean(low) - 1e-12


@settings(max_examples=30)
@given(numbers)
def test_the_order_of_the_parts_does_not_matter(values):
    parts = torch.tensor(values, dtype=torch.float64)
    torch.testing.assert_close(signed_geometric_mean(parts), signed_geometric_mean(parts.flip(0)))


def test_with_epsilon_zero_stays_zero_and_the_slope_there_is_finite():
    def slope(epsilon: float, at: float) -> float:
        x = torch.tensor([at, 0.5, 0.5], requires_grad=True)
        signed_geometric_mean(x, epsilon=epsilon).backward()
        assert x.grad is not None
        return abs(float(x.grad[0]))

    assert signed_geometric_mean(torch.tensor([0.0, 0.5]), epsilon=1e-3).item() == 0
    assert slope(0.0, 1e-12) > 1e6
    assert slope(1e-3, 1e-12) < 100
    close = torch.tensor([0.4, 0.9])
    assert signed_geometric_mean(close, epsilon=1e-6).item() == pytest.approx(0.6, abs=2e-3)


def test_a_known_zero_decides_whatever_is_unknown_and_nothing_else_does():
    nan = math.nan
    episodes, parts = steps([0.0, 0.5, -0.5, nan, 0.5], [nan, nan, nan, nan, 0.5])
    score = krc(*parts).score(episodes)
    assert score.known[:, 0].tolist() == [True, False, False, False, True]
    assert score.value[0, 0] == 0 and score.value[4, 0] == pytest.approx(0.5)
    assert sum(score.counts().values()) >= 3


def test_terms_are_kept_and_what_they_paid_sums_to_the_value():
    episodes, parts = steps([0.25, -0.5], [1.0, -0.5])
    combined = 0.7 * krc(*parts, name="both") + 0.1 * parts[0].named("alone")
    score = combined.score(episodes)
    assert set(score.terms) == {"both", "part 0", "part 1", "alone"}
    torch.testing.assert_close(score.terms["part 1"][:, 0], episodes.obs[:, 0, 1])
    torch.testing.assert_close(sum(score.contribution(t) for t in score.terms), score.value)
    torch.testing.assert_close(score.value[:, 0], torch.tensor([0.7 * 0.5 + 0.025, -0.7 * 0.5 - 0.05]))


def test_needs_are_those_of_all_parts_and_ranges_are_derived():
    _, (a, b) = steps([0.1], [0.1])
    assert krc(a, EnvReward()).needs.fields == {"obs", "env_reward"}
    assert krc(a, b).range == pytest.approx((-1, 1))
    assert krc(a.clip(0, 0.25), b.clip(min=0)).range == pytest.approx((0, 0.5))
    assert krc(a.clip(-0.5, -0.25), b).range[1] == 0


def test_members_are_combined_one_by_one():
    episodes, (a, b) = steps([0.25, -0.25], [0.64, 0.64])
    ensemble = algebra.Ensemble([a, b])
    score = krc(ensemble, b).score(episodes)
    assert score.members is not None
    for member, part in zip(score.members, (a, b), strict=True):
        torch.testing.assert_close(member, krc(part, b)(episodes))
    with pytest.raises(Unsupported):
        krc(ensemble, algebra.Ensemble([a, b, a])).combine(
            [ensemble.score(episodes), algebra.Ensemble([a, b, a]).score(episodes)], episodes)


def test_it_can_be_a_potential_and_a_utility():
    before, after = torch.tensor([[0.25, 1.0]]), torch.tensor([[0.64, 1.0]])
    e = Episodes.of_transitions(obs=before, action=torch.zeros(1), next_obs=after)
    both = krc(column(0), column(1))
    shaped = algebra.Constant(0.0).shaped_by(both, discount=0.9)
    assert shaped(e).item() == pytest.approx(0.9 * 0.8 - 0.5)
    assert utility(both)(e).item() == pytest.approx(0.8)
    assert utility(both, form="difference", discount=0.9)(e).item() == pytest.approx(0.9 * 0.8 - 0.5)
    gain = utility(both, form="gain", discount=0.9)
    assert gain(e).item() == pytest.approx(0.9 * 0.8 - 0.5)
    end = e.replace(terminated=torch.ones(1, 1, dtype=torch.bool))
    assert gain(end).item() == pytest.approx(0.9 * 0.8 - 0.5)
    assert utility(both, form="difference", discount=0.9)(end).item() == pytest.approx(-0.5)
    with pytest.raises(BadInput, match="discount"):
        utility(both, form="gain", discount=1.5)
    with pytest.raises(Unsupported, match="obs alone"):
        utility(EnvReward())
    with pytest.raises(BadInput, match="form"):
        utility(both, form="both")


def test_parts_outside_the_unit_interval_are_warned_about_once(caplog):
    episodes, parts = steps([3.0], [0.5])
    loud = plaudit.reward(lambda obs: obs[..., 0], name="loud", vectorised=True, backend="torch")
    with caplog.at_level(logging.WARNING):
        combined = krc(loud, parts[1])
        combined(episodes), combined(episodes)
        assert len(caplog.records) == 1 and "loud paid 3" in caplog.text
        krc(parts[0] * 10, parts[1])
    assert "may pay -10 to 10" in caplog.text


def test_bad_input_is_refused():
    with pytest.raises(BadInput, match="parts"):
        krc()
    with pytest.raises(BadInput, match="epsilon"):
        krc(algebra.Constant(1.0), epsilon=-1)
