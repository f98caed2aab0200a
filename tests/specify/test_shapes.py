from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.saving import load_reward, save_reward
from plaudit.specify import (
    Field,
    Shape,
    TeamSpirit,
    alignment,
    distance,
    distance_difference,
    event,
    krc,
    saved,
    shapes,
    speed_towards,
    touch_acceleration,
    utility,
)

coordinate = st.floats(-5, 5, width=32)
place = st.tuples(coordinate, coordinate, coordinate)
GOAL, OWN = torch.tensor([5.0, 0.0, 0.0]), torch.tensor([-5.0, 0.0, 0.0])


def vec(x) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


def mirrored(x: torch.Tensor) -> torch.Tensor:
    return x * torch.tensor([-1.0, -1.0, 1.0])


@given(place, place, st.floats(0.1, 3), st.floats(0.1, 3))
def test_nearness_is_the_formula_and_is_one_at_no_distance(a, b, dispersion, density):
    got = shapes.distance(vec(a), vec(b), scale=2.3, dispersion=dispersion, density=density).item()
    assert got == pytest.approx(math.exp(-0.5 * math.dist(a, b) / (2.3 * dispersion)) ** (1 / density), abs=1e-6)
    assert 0 <= got <= 1
    assert shapes.distance(vec(a), vec(a), scale=2.3, dispersion=dispersion).item() == 1


@given(place, place, place)
def test_every_shape_stays_in_bounds_and_is_the_same_for_the_mirrored_team(player, ball, velocity):
    p, b, v = vec(player), vec(ball), vec(velocity)
    largest = max(float(v.norm()), 1e-3)
    found = {
        "alignment": lambda p, b, v, g, o: shapes.alignment(p, b, g, o),
        "speed": lambda p, b, v, g, o: shapes.speed_towards(p, b, v, largest=largest),
        "difference": lambda p, b, v, g, o: shapes.distance_difference(b, g, o, scale=6.0),
        "cosine": lambda p, b, v, g, o: shapes.cosine(b - p, v),
    }
    for fn in found.values():
        here = float(fn(p, b, v, GOAL.double(), OWN.double()))
        there = float(fn(*(mirrored(x) for x in (p, b, v)), mirrored(GOAL.double()), mirrored(OWN.double())))
        assert -1 - 1e-6 <= here <= 1 + 1e-6
        assert here == pytest.approx(there, abs=1e-6)


def test_nothing_is_undefined_at_no_distance():
    zero = torch.zeros(3)
    assert shapes.unit(zero).tolist() == [0, 0, 0]
    assert shapes.alignment(zero, zero, GOAL, OWN).item() == 0
    assert shapes.speed_towards(zero, zero, GOAL, largest=1.0).item() == 0
    x = torch.zeros(3, requires_grad=True)
    shapes.unit(x).sum().backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())


def test_the_surface_is_taken_off_and_more_density_pays_more():
    a, b = torch.zeros(2), torch.tensor([3.0, 4.0])
    assert shapes.distance(a, b, scale=1.0, surface=5.0).item() == 1
    assert shapes.distance(a, b, scale=1.0, density=2.0) > shapes.distance(a, b, scale=1.0)
    assert shapes.distance(a, b, scale=1.0, dispersion=2.0) > shapes.distance(a, b, scale=1.0)


def test_full_speed_in_the_wrong_direction_fools_the_sum_and_not_the_combination():
    """The claim of the paper as a state: near the ball and well aligned, but driving away from it."""
    player, ball = torch.tensor([-1.0, 0.0, 0.0]), torch.zeros(3)
    away = torch.tensor([-4.0, 0.0, 0.0])
    parts = torch.stack([shapes.alignment(player, ball, GOAL, OWN), shapes.distance(player, ball, scale=4.2),
                         shapes.speed_towards(player, ball, away, largest=4.2)])
    from plaudit.specify.krc import signed_geometric_mean

    assert parts.mean() > 0 > signed_geometric_mean(parts)


def test_a_directed_touch_pays_less_for_the_own_goal_and_an_undirected_one_as_much():
    def paid(after: float, directed: bool) -> float:
        e = touches(after)
        return touch_acceleration("info:touch", Field("obs", (0,)), Field("obs", (1,)), (5.0,), largest=2.0,
                                  directed=directed)(e)[0, 0].item()

    assert paid(1.0, True) == 0.5 and paid(-1.0, True) == -0.5
    assert paid(1.0, False) == paid(-1.0, False) == 0.5


def touches(after: float, touched: bool = True) -> Episodes:
    return Episodes.of_transitions(obs=torch.zeros(1, 2), action=torch.zeros(1), next_obs=torch.tensor([[after, 0.0]]),
                                   info={"touch": torch.tensor([touched])})


def test_no_touch_pays_nothing_and_a_missing_event_is_unknown():
    quiet = touches(1.0, touched=False)
    reward = touch_acceleration("info:touch", Field("obs", (0,)), Field("obs", (1,)), (5.0,), largest=2.0)
    assert reward(quiet).item() == 0 and event("info:touch")(touches(1.0)).item() == 1
    score = event("info:goal").score(quiet)
    assert not score.all_known and "info:goal" in next(iter(score.why))
    assert event("info:goal").name == "goal"


def test_physics_that_is_nan_is_unknown_with_its_reason():
    e = Episodes.of_transitions(obs=torch.tensor([[float("nan"), 0.0], [1.0, 0.0]]), action=torch.zeros(2),
                                next_obs=torch.zeros(2, 2))
    score = distance(Field("obs", (0, 1)), (0.0, 0.0), scale=1.0, name="near").score(e)
    assert score.known[:, 0].tolist() == [False, True] and score.counts() == {
        "near read a number that is not finite": 1}


@pytest.mark.parametrize("make", [
    lambda: distance((0.0,), (1.0,), scale=1.0, dispersion=0.0), lambda: distance((0.0,), (1.0,), scale=-1.0),
    lambda: distance((0.0,), (1.0,), scale=1.0, density=-1.0), lambda: distance((0.0,), (1.0,), scale=1.0, surface=-1),
    lambda: speed_towards((0.0,), (1.0,), (1.0,), largest=0.0), lambda: saved((1.0,), full=0.0),
    lambda: Shape("nothing", {}), lambda: Shape("distance", {"a": (0.0,)}, {"scale": 1.0}),
    lambda: Shape("distance", {"a": (0.0,), "b": (1.0,)}), lambda: Field("reward"), lambda: Field("info"),
    lambda: Field("obs", unit=math.inf), lambda: Field("next_obs").after, lambda: distance((), (1.0,), scale=1.0)])
def test_bad_options_are_refused_before_any_episode(make):
    with pytest.raises(BadInput):
        make()


def test_fields_reach_into_dictionaries_and_say_what_is_missing():
    obs = {"ball": {"position": torch.ones(2, 3)}}
    e = Episodes.of_transitions(obs=obs, action=torch.zeros(2), next_obs=obs)
    assert Field("obs/ball/position", (1,), 2.0).read(e).tolist() == [[[2.0]], [[2.0]]]
    for wrong in (Field("obs/car"), Field("obs/ball"), Field("obs/ball/position", (3,)), Field("info:touch")):
        with pytest.raises(BadInput):
            wrong.read(e)


def test_a_composition_of_shapes_is_saved_and_comes_back_the_same(tmp_path):
    car, ball = Field("obs", (0, 1)), Field("obs", (2, 3), unit=2.0)
    potential = krc(alignment(car, ball, (5.0, 0.0), (-5.0, 0.0)), distance(car, ball, scale=2.0), epsilon=1e-3)
    far = distance_difference(ball, (5.0, 0.0), (-5.0, 0.0), scale=6.0, surface=0.3)
    parts = 0.5 * utility(potential) + utility(potential.named("k"), form="gain")
    whole = TeamSpirit(parts + utility(far, form="difference", discount=0.9), teams=(0, 1))
    save_reward(whole, tmp_path / "reward")
    generator = torch.Generator().manual_seed(0)
    obs, after = torch.randn(6, 4, generator=generator), torch.randn(6, 4, generator=generator)
    e = Episodes.of_transitions(obs=obs, action=torch.zeros(6), next_obs=after).replace(
        group=torch.arange(6) // 2, agent=torch.arange(6) % 2)
    again = load_reward(tmp_path / "reward")
    torch.testing.assert_close(again(e), whole(e))
    assert again.needs == whole.needs and again.needs.across == "group"


# --- team spirit -----------------------------------------------------------------------------------------


def match(values: list[float], agents: list[int], groups: list[int]) -> Episodes:
    n = len(values)
    return Episodes.of_transitions(obs=torch.zeros(n, 1), action=torch.zeros(n), next_obs=torch.zeros(n, 1),
                                   env_reward=torch.tensor(values)).replace(
        group=torch.tensor(groups), agent=torch.tensor(agents))


def by_hand(values, agents, groups, teams, spirit):
    out = []
    for v, a, g in zip(values, agents, groups, strict=True):
        same = [w for w, b, h in zip(values, agents, groups, strict=True) if h == g and teams[b] == teams[a]]
        other = [w for w, b, h in zip(values, agents, groups, strict=True) if h == g and teams[b] != teams[a]]
        out.append((1 - spirit) * v + spirit * sum(same) / len(same) - (sum(other) / len(other) if other else 0.0))
    return out


def test_team_spirit_equals_brute_force_over_uneven_teams():
    from plaudit.core.functions import EnvReward

    values, agents, groups = [1.0, 0.5, -2.0, 4.0, 3.0, 7.0], [0, 1, 2, 3, 0, 1], [5, 5, 5, 5, 9, 9]
    teams = (0, 0, 1, 1)
    e = match(values, agents, groups)
    got = TeamSpirit(EnvReward(), teams=teams, spirit=0.3)(e)[:, 0]
    torch.testing.assert_close(got, torch.tensor(by_hand(values, agents, groups, teams, 0.3)))
    assert got[:4].sum().item() == pytest.approx(0, abs=1e-6)
    alone = TeamSpirit(EnvReward(), teams=(0,), spirit=0.9)(match([2.0], [0], [0]))
    assert alone.item() == pytest.approx(2.0)


def test_an_unknown_opponent_makes_the_reward_unknown_unless_nobody_counts_it():
    from plaudit.core.functions import EnvReward

    e = match([1.0, math.nan, 3.0], [0, 1, 0], [0, 0, 1])
    assert TeamSpirit(EnvReward(), teams=(0, 1)).score(e).known[:, 0].tolist() == [False, False, True]
    assert TeamSpirit(EnvReward(), teams=(0, 1), opponents=0.0).score(e).known[:, 0].tolist() == [True, False, True]
    for wrong in ({"teams": ()}, {"teams": (0, 1), "spirit": 1.5}, {"teams": (0,), "opponents": math.nan}):
        with pytest.raises(BadInput):
            TeamSpirit(EnvReward(), **wrong)
    for lost in (e.replace(group=None), e.replace(agent=None), e.replace(agent=torch.tensor([0, 5, 0]))):
        assert not TeamSpirit(EnvReward(), teams=(0, 1)).score(lost).known.any()
