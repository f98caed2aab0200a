from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import plaudit
from plaudit.auditing.map_figures import draw_maps, draw_statistics
from plaudit.auditing.maps import TOTAL, map_of, reward_map, term_statistics
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.functions import EnvReward
from plaudit.specify import Field, distance, event, krc, speed_towards, utility
from plaudit.specify.soccer import Pitch, events, utilities
from plaudit.tasks.car_soccer import CarSoccer

BALL, CAR = Field("obs", (0, 1), 2.0), Field("obs", (2, 3), 2.0)
NEAR = distance(CAR, BALL, scale=1.5, name="near")
PAST = plaudit.reward(lambda obs: torch.zeros(len(obs)), name="past", time="prefix")


def test_every_place_is_paid_what_the_formula_says():
    """Brute force over the grid, with another quantity set and the third coordinate left alone."""
    reward = 3.0 * NEAR + 0.5 * event("info:touch")
    found = reward_map(reward, torch.zeros(5), move=BALL, x=(-4, 4), y=(-2, 2), resolution=9,
                       fixed={CAR: (1.0, -1.0)}, info={"touch": 1.0})
    assert found.values[TOTAL].shape == (5, 9)
    for i, y in enumerate(found.y):
        for j, x in enumerate(found.x):
            near = 3 * math.exp(-0.5 * math.dist((x, y), (1.0, -1.0)) / 1.5)
            assert found.values["near"][i, j] == pytest.approx(near, rel=1e-5)
            assert found.values[TOTAL][i, j] == pytest.approx(near + 0.5, rel=1e-5)


def test_parts_of_a_geometric_mean_are_seen_and_do_not_count_twice():
    both = utility(krc(NEAR, speed_towards(CAR, BALL, Field("obs", (4, 5)), largest=1.0), name="both"))
    found = reward_map(2.0 * both, torch.tensor([0.0, 0, 0, 0, 1.0, 0]), move=BALL, x=(-1, 1), y=(-1, 1), resolution=5)
    assert set(found.values) == {"both", TOTAL} and set(found.parts) == {"near", "speed_towards"}
    np.testing.assert_allclose(found.values["both"], found.values[TOTAL])
    speed = found.parts["speed_towards"]
    np.testing.assert_allclose(speed[:, 0] < 0, True)
    np.testing.assert_allclose(np.sign(found.values["both"][:, 0]), -1)
    assert set(found.everything()) == {"both", TOTAL, "near", "speed_towards"}


def test_what_hangs_on_the_moved_quantity_can_be_made_right():
    away = plaudit.reward(lambda obs: obs[..., 4], name="away", vectorised=True, backend="torch")

    def complete(obs):
        out = obs.clone()
        out[..., 4] = obs[..., 0] - obs[..., 2]
        return out

    found = reward_map(away, torch.zeros(5), move=BALL, x=(-2, 2), y=(-2, 2), resolution=3, complete=complete)
    np.testing.assert_allclose(found.values[TOTAL][0], [-1, 0, 1], atol=1e-6)
    assert not reward_map(away, torch.zeros(5), move=BALL, x=(-2, 2), y=(-2, 2), resolution=3).values[TOTAL].any()


def test_three_dimensions_are_cut_along_the_chosen_axes():
    place = Field("obs", (0, 1, 2))
    high = plaudit.reward(lambda obs: obs[..., 2] * 10 + obs[..., 0], name="high", vectorised=True, backend="torch")
    found = reward_map(high, torch.tensor([7.0, 0, 0]), move=place, axes=(1, 2), x=(0, 1), y=(0, 1), resolution=2)
    np.testing.assert_allclose(found.values[TOTAL], [[7, 7], [17, 17]])


def test_places_that_are_unknown_are_holes_with_their_reason():
    hole = plaudit.reward(lambda obs: torch.where(obs[..., 0] > 0, torch.nan, obs[..., 1]), name="hole",
                          vectorised=True, backend="torch")
    found = reward_map(hole, torch.zeros(4), move=BALL, x=(-1, 1), y=(-1, 1), resolution=4)
    assert np.isnan(found.values[TOTAL][:, 2:]).all() and np.isfinite(found.values[TOTAL][:, :2]).all()
    assert sum(found.why.values()) == 8


def test_bad_input_is_refused():
    state = torch.zeros(4)
    for wrong in ({"x": (1, 1)}, {"y": (0, math.inf)}, {"resolution": 1}, {"axes": (0, 0)}, {"axes": (0, 2)}):
        with pytest.raises(BadInput):
            reward_map(NEAR, state, **{"move": BALL, "x": (-1, 1), "y": (-1, 1), "resolution": 3} | wrong)
    with pytest.raises(BadInput, match="single steps"):
        map_of(PAST, torch.zeros(4, 4), x=[0, 1], y=[0, 1])
    with pytest.raises(BadInput, match="observations"):
        map_of(NEAR, torch.zeros(5, 4), x=[0, 1], y=[0, 1])
    with pytest.raises(BadInput, match="somewhere"):
        map_of(event(Field("obs", (9,))), torch.zeros(4, 4), x=[0, 1], y=[0, 1])


def logged(values_BT, mask=None) -> Episodes:
    x = torch.tensor(values_BT)
    no = torch.zeros(x.shape, dtype=torch.bool)
    return Episodes(obs=x.unsqueeze(-1), next_obs=x.unsqueeze(-1), action=x, terminated=no, truncated=no,
                    mask=~no if mask is None else torch.tensor(mask), env_reward=x)


def test_statistics_are_those_of_numpy_and_padding_does_not_count():
    other = plaudit.reward(lambda obs: -2 * obs[..., 0] + 1, name="other", vectorised=True, backend="torch")
    e = logged([[1.0, 2.0, 3.0], [4.0, 5.0, 99.0]], [[True, True, True], [True, True, False]])
    found = term_statistics(0.5 * EnvReward() + other, e, classes=4)
    x = np.array([1.0, 2, 3, 4, 5])
    parts = {"env_reward": 0.5 * x, "other": 1 - 2 * x, TOTAL: 1 - 1.5 * x}
    assert list(found.names) == list(parts) and found.steps == 5 and found.unknown == 0
    for i, values in enumerate(parts.values()):
        assert found.mean[i] == pytest.approx(values.mean()) and found.std[i] == pytest.approx(values.std())
    np.testing.assert_allclose(found.correlation, np.corrcoef(list(parts.values())), atol=1e-6)
    returns = {"env_reward": (3.0, 4.5), "other": (-9.0, -16.0)}
    sizes = {n: np.mean(np.abs(r)) for n, r in returns.items()}
    np.testing.assert_allclose(found.share, [*(s / sum(sizes.values()) for s in sizes.values()), 1.0])
    np.testing.assert_allclose(found.signed[:2], [np.mean(r) for r in returns.values()])
    assert all(sum(c) == 5 for c in found.histogram.values())


def test_unknown_steps_are_left_out_and_counted(tmp_path):
    e = logged([[1.0, math.nan, 3.0]])
    found = term_statistics(EnvReward(), e)
    assert found.unknown == 1 and found.mean[0] == pytest.approx(2.0)
    found.save(tmp_path / "terms.json")
    assert (tmp_path / "terms.json").read_text().count("env_reward") == 3
    with pytest.raises(BadInput, match="known"):
        term_statistics(EnvReward(), logged([[math.nan]]))
    with pytest.raises(BadInput, match="classes"):
        term_statistics(EnvReward(), e, classes=0)


def test_the_whole_reward_of_lucy_is_drawn_for_car_soccer(tmp_path):
    task = CarSoccer()
    pitch = Pitch.of(task)
    state = task.make(1).reset([0])[0]
    found = reward_map(utility(utilities(pitch)), state, move=pitch.fields["ball_position"], x=(-5, 5), y=(-3.5, 3.5),
                       resolution=20)
    assert {"aligned and near", "offensive potential", "boost"} <= set(found.values)
    assert {"aligned and near.alignment", "offensive potential.alignment", "speed to ball"} <= set(found.parts)
    draw_maps({"a": found, "b": found}, names=(TOTAL, "boost", "speed to ball"), columns=2,
              decorate=lambda axes: axes.plot(0, 0, "k+")).savefig(tmp_path / "maps.png", dpi=50)
    batch = task.make(6)
    obs, steps = batch.reset(range(6)), []
    for t in range(20):
        step = batch.step(torch.full((6,), t % 12))
        steps.append((obs, step))
        obs = step.obs
    stack = lambda xs: torch.stack(list(xs), 1)  # noqa: E731
    e = Episodes(obs=stack(o for o, _ in steps), next_obs=stack(s.next_obs for _, s in steps),
                 action=torch.zeros(6, 20), terminated=stack(s.terminated for _, s in steps),
                 truncated=stack(s.truncated for _, s in steps), mask=torch.ones(6, 20, dtype=torch.bool),
                 info={k: stack(s.info[k] for _, s in steps) for k in steps[0][1].info})
    draw_statistics(term_statistics(events(pitch) + utility(utilities(pitch), form="gain"), e)).savefig(
        tmp_path / "terms.png", dpi=50)
    assert all((tmp_path / f"{n}.png").stat().st_size > 5000 for n in ("maps", "terms"))
