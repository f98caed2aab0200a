from __future__ import annotations

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.specify import utility
from plaudit.specify.soccer import (
    DEMOLITION_WEIGHTS,
    EVENT_WEIGHTS,
    PUBLISHED,
    UTILITY_WEIGHTS,
    Nearness,
    Pitch,
    components,
    events,
    utilities,
    utility_terms,
)
from plaudit.tasks.car_soccer import CarSoccer
from plaudit.tasks.classic import CartPole
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout


@pytest.fixture(scope="module")
def played():
    task = CarSoccer()
    return Pitch.of(task), rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=range(12), max_steps=60)


def test_the_published_weights_enter_the_sum(played):
    pitch, e = played
    for combine in ("krc", "linear"):
        terms = utility_terms(pitch, combine=combine)
        by_hand = sum(w * terms[n](e) for n, w in UTILITY_WEIGHTS.items())
        torch.testing.assert_close(utilities(pitch, combine=combine)(e), by_hand)


def test_every_utility_stays_in_the_unit_interval(played):
    pitch, e = played
    for combine in ("krc", "linear"):
        for term in utility_terms(pitch, combine=combine).values():
            assert float(term(e).abs().max()) <= 1 + 1e-5


def test_both_combinations_agree_on_the_parts_that_are_not_combined(played):
    pitch, e = played
    krc, linear = (utility_terms(pitch, combine=c) for c in ("krc", "linear"))
    for name in ("distance difference", "ball to goal", "boost"):
        torch.testing.assert_close(krc[name](e), linear[name](e))
    assert not torch.allclose(krc["aligned and near"](e), linear["aligned and near"](e))


def test_the_gain_sums_to_the_difference_of_the_ends(played):
    pitch, e = played
    state = utilities(pitch)
    gained = utility(state, form="gain")(e).sum(1)
    value, last = state(e), utility(state)(e)
    row = torch.arange(e.B)
    torch.testing.assert_close(gained, last[row, e.last] - value[:, 0], atol=1e-4, rtol=1e-4)


def test_events_pay_what_happened(played):
    pitch, e = played
    only = {k: v for k, v in EVENT_WEIGHTS.items() if k != "touch acceleration"}
    by_hand = sum(w * e.info[n].float() for n, w in only.items())
    torch.testing.assert_close(events(pitch, weights=only)(e), by_hand * e.mask)
    demolitions = events(pitch, weights={**EVENT_WEIGHTS, **DEMOLITION_WEIGHTS})
    assert not demolitions.score(e).all_known  # this game has none, and none is not zero


def test_what_is_no_weight_and_what_is_no_game_are_refused(played):
    pitch, _ = played
    for wrong in (lambda: utilities(pitch, weights={"speed": 1.0}), lambda: events(pitch, weights={}),
                  lambda: events(pitch, weights={"save": 1.0}), lambda: utilities(pitch, combine="product"),
                  lambda: Pitch.of(CartPole())):
        with pytest.raises(BadInput):
            wrong()


def test_dispersion_and_density_shape_the_distances_that_they_name(played):
    """Equation 2 by hand: exp(-d / (2 scale w_dis)) ** (1 / w_den)."""
    pitch, e = played
    parts = components(pitch, nearness=Nearness(dispersion=0.7, density=3.0, goal=0.9, own_goal=0.2))
    read = {n: pitch.fields[n].read(e).double() for n in ("car_position", "ball_position")}
    away = ((read["car_position"] - read["ball_position"]).norm(dim=-1) - pitch.contact).clamp(min=0)
    near = torch.exp(-0.5 * away / (pitch.car_speed * 0.7))
    torch.testing.assert_close(parts["near"](e).double(), near * e.mask, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(parts["near, dense"](e).double(), near ** (1 / 3.0) * e.mask, atol=1e-5, rtol=1e-4)
    ends = [(read["ball_position"] - torch.tensor(g)).norm(dim=-1) for g in (pitch.goal, pitch.own_goal)]
    theirs, own = (torch.exp(-0.5 * d / (pitch.ball_speed * w)) for d, w in zip(ends, (0.9, 0.2), strict=True))
    torch.testing.assert_close(parts["distance difference"](e).double(), (0.5 * theirs - 0.5 * own) * e.mask,
                               atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(utilities(pitch, nearness=PUBLISHED)(e), utilities(pitch)(e), rtol=0, atol=0)
    with pytest.raises(BadInput, match="density"):
        utilities(pitch, nearness=Nearness(density=0.0))
