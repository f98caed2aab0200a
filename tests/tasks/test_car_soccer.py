from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import plaudit
from plaudit.core.errors import BadInput
from plaudit.tasks import from_spec
from plaudit.tasks.arrays import ArrayBatch
from plaudit.tasks.car_soccer import CarSoccer, script
from plaudit.tasks.car_soccer_physics import (
    ACTIONS,
    BALL,
    BALL_SPEED,
    BOOST_SPEED,
    CAR,
    GOAL,
    LENGTH,
    PAD_WAIT,
    STATE,
    WIDTH,
    Controls,
    controls_of,
    play,
    turned,
)


def random_states(rows: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    u = rng.uniform(-1, 1, size=(STATE, rows))
    s = np.empty((STATE, rows))
    s[0], s[1] = u[0] * (LENGTH - BALL), u[1] * (WIDTH - BALL)
    s[2:4] = u[2:4] * 4
    s[4:6], s[6:8] = u[4:6] * (LENGTH - CAR), u[6:8] * (WIDTH - CAR)
    near = slice(0, rows // 2)  # half of them in a scrum around the ball
    s[4:6, near], s[6:8, near] = s[0, near] + u[4:6, near] * 0.7, s[1, near] + u[6:8, near] * 0.7
    s[4:6] = s[4:6].clip(-LENGTH + CAR, LENGTH - CAR)
    s[6:8] = s[6:8].clip(-WIDTH + CAR, WIDTH - CAR)
    s[8:12] = u[8:12] * 3
    s[12:14] = u[12:14] * math.pi
    s[14:16] = (u[14:16] + 1) * 50
    s[16:] = (u[16:] + 1) * PAD_WAIT / 2 * (u[16:] > 0)
    return s


def drive(rows: int, seed: int = 1) -> Controls:
    actions = np.random.default_rng(seed).integers(ACTIONS, size=(2, rows))
    return Controls(*(np.stack(x) for x in zip(*(controls_of(a, np) for a in actions), strict=True)))


def test_both_sides_play_the_same_game():
    """Turned by 180 degrees with the cars exchanged, every state moves to the turned next state."""
    state, controls, pace = random_states(500), drive(500), np.ones((2, 1))
    here = play(state, controls, pace, np)
    there = play(turned(state, np), Controls(*(c[[1, 0]] for c in controls)), pace, np)
    np.testing.assert_allclose(turned(here.state, np), there.state, atol=1e-9)
    np.testing.assert_array_equal(here.scored, there.scored[[1, 0]])
    np.testing.assert_array_equal(here.touch, there.touch[[1, 0]])


def test_up_and_down_are_the_same_too():
    def flipped(s):
        out = s.copy()
        out[[1, 3]], out[6:8], out[10:14] = -s[[1, 3]], -s[6:8], -s[10:14]
        out[16:] = s[[18, 19, 16, 17, 21, 20]]
        return out

    state, controls, pace = random_states(500, 3), drive(500), np.ones((2, 1))
    here = play(state, controls, pace, np)
    there = play(flipped(state), controls._replace(steer=-controls.steer), pace, np)
    np.testing.assert_allclose(flipped(here.state), there.state, atol=1e-9)


def test_nothing_leaves_the_field_and_nothing_gets_too_fast():
    state, pace = random_states(400, 5), np.ones((2, 1))
    for t in range(60):
        state = play(state, drive(400, t), pace, np).state
        assert np.isfinite(state).all()
        assert (np.abs(state[0]) <= LENGTH + BALL).all() and (np.abs(state[1]) <= WIDTH - BALL + 1e-9).all()
        assert (np.abs(state[4:6]) <= LENGTH + 0.3).all() and (np.abs(state[6:8]) <= WIDTH + 0.3).all()
        assert (np.hypot(state[2], state[3]) < 2 * BALL_SPEED).all()
        assert (np.hypot(state[8:10], state[10:12]) < 2 * BOOST_SPEED).all()
        assert ((state[14:16] >= 0) & (state[14:16] <= 100)).all()


def quiet(rows: int = 1) -> np.ndarray:
    """Ball in the middle, cars in their corners, all at rest."""
    s = np.zeros((STATE, rows))
    s[4], s[6], s[5], s[7] = -4, -3, 4, 3
    return s


NOTHING = Controls(np.zeros((2, 1)), np.zeros((2, 1)), np.zeros((2, 1)))


def test_energy_falls_when_nobody_drives_and_a_hit_keeps_momentum():
    state, pace = random_states(300, 7), np.ones((2, 1))
    free = Controls(*(np.zeros((2, 300)) for _ in range(3)))

    def energy(s):
        return 0.35 * (s[2]**2 + s[3]**2) + (s[8:10]**2 + s[10:12]**2).sum(0)

    before = energy(state)
    one_car = np.hypot(state[0] - state[4:6], state[1] - state[6:8]).max(0) > 1.5  # at most one car at the ball
    after = energy(play(state, free, pace, np).state)
    assert (after[one_car] <= before[one_car] + 1e-9).all()

    s = quiet()
    s[4], s[6], s[8] = -0.5, 0.0, 2.0  # into the ball, straight
    moved = play(s, NOTHING, pace, np)
    assert moved.touch[0, 0] and not moved.touch[1, 0]
    momentum = float(0.35 * moved.state[2, 0] + moved.state[8, 0])
    assert 1.85 < momentum < 2.0  # 2 less the drag of a tenth of a second
    assert moved.state[2, 0] > moved.state[8, 0] > 0


@pytest.mark.parametrize(("x", "vx", "y", "goal"), [
    (4.9, 6.0, 0.0, 0), (-4.9, -6.0, 0.5, 1), (4.6, 6.0, 2.0, None), (4.9, -1.0, 0.0, None)])
def test_a_ball_through_the_mouth_is_a_goal_for_the_right_side_and_a_wall_sends_it_back(x, vx, y, goal):
    s = quiet()
    s[0], s[1], s[2] = x, y, vx
    played = play(s, NOTHING, np.ones((2, 1)), np)
    assert played.scored[:, 0].tolist() == [goal == 0, goal == 1]
    if goal is None and y > GOAL:
        assert played.state[2, 0] < 0


def test_a_goal_counts_once_and_ends_the_match_and_time_only_truncates():
    task = CarSoccer(opponent="idle", horizon=40)
    batch = task.make(64)
    batch.reset(range(64))
    state = batch.state_dict()
    state["state"][0, :32], state["state"][1, :32], state["state"][2, :32] = 4.9, 0.0, 6.0
    batch.load_state_dict(state)
    goals = torch.zeros(64)
    for t in range(40):
        step = batch.step(torch.full((64,), 7))
        goals += step.info["goal"]
        assert torch.equal(step.terminated, step.info["goal"] | step.info["concede"])
        assert torch.equal(step.env_reward, step.info["goal"].float() - step.info["concede"].float())
        assert torch.equal(step.info["is_success"], step.info["goal"])
        if t == 0:
            assert bool(step.terminated[:32].all()) and not bool(step.terminated[32:].any())
    assert bool((goals[:32] >= 1).all()) and goals[:32].sum() == 32
    assert bool(step.truncated[32:].all()) and not bool(step.terminated[32:].any())


def test_pads_fill_once_and_boost_burns():
    s = quiet()
    s[4], s[6], s[14] = -3.8, -2.6, 10.0
    after = play(s, NOTHING, np.ones((2, 1)), np).state
    assert after[14, 0] == 44 and after[16, 0] == PAD_WAIT
    assert play(after, NOTHING, np.ones((2, 1)), np).state[14, 0] == 44
    burning = play(after, Controls(np.ones((2, 1)), np.zeros((2, 1)), np.ones((2, 1))), np.ones((2, 1)), np).state
    plain = play(after, Controls(np.ones((2, 1)), np.zeros((2, 1)), np.zeros((2, 1))), np.ones((2, 1)), np).state
    assert burning[14, 0] < 44 and burning[8, 0] > plain[8, 0] > 0


def test_numpy_and_torch_play_the_same():
    task = CarSoccer()
    pair = [ArrayBatch(task, 50, xp=xp) for xp in (np, torch)]
    a, b = (batch.reset(range(50)) for batch in pair)
    torch.testing.assert_close(a, b)
    for t in range(25):
        action = torch.randint(ACTIONS, (50,), generator=torch.Generator().manual_seed(t))
        a, b = (batch.step(action) for batch in pair)
        torch.testing.assert_close(a.next_obs, b.next_obs, atol=1e-5, rtol=1e-5)
        assert all(torch.equal(a.info[k], b.info[k]) for k in a.info)


def test_a_row_depends_on_itself_alone_and_resumes():
    task = CarSoccer()
    many, one = task.make(5), task.make(1)
    many.reset(range(5)), one.reset([3])
    for t in range(30):
        a, b = many.step(torch.full((5,), t % 12)), one.step(torch.full((1,), t % 12))
    torch.testing.assert_close(a.next_obs[3:4], b.next_obs)
    again = task.make(5)
    again.load_state_dict(many.state_dict())
    torch.testing.assert_close(again.step(torch.zeros(5).long()).next_obs, many.step(torch.zeros(5).long()).next_obs)


def test_columns_name_what_the_state_holds():
    task = CarSoccer()
    batch = task.make(3)
    obs, state = batch.reset(range(3)), batch.state_dict()["state"]

    def read(name):
        return obs[:, list(task.columns[name])] * task.units[name]

    torch.testing.assert_close(read("ball_position"), state[0:2].T.float())
    torch.testing.assert_close(read("car_position"), state[[4, 6]].T.float())
    torch.testing.assert_close(read("opponent_position"), state[[5, 7]].T.float())
    torch.testing.assert_close(read("boost"), state[14:15].T.float())
    assert obs.shape[1] == task.obs_space.shape[0] == sum(len(c) for c in task.columns.values())
    simple = CarSoccer(observation="simple")
    torch.testing.assert_close(simple.make(3).reset(range(3)), obs[:, :17])


@pytest.mark.parametrize(("opponent", "low", "high"), [("chaser", 0.4, 1.0), ("defender", 0.15, 1.0),
                                                       ("idle", 0.0, 0.05)])
def test_scripts_beat_a_car_that_stands_as_often_as_they_should(opponent, low, high):
    batch = CarSoccer(opponent=opponent).make(100)
    batch.reset(range(100))
    batch.autoreset = False
    lost = torch.zeros(100, dtype=torch.bool)
    done = torch.zeros(100, dtype=torch.bool)
    for _ in range(300):
        step = batch.step(torch.full((100,), 7))
        lost |= step.info["concede"] & ~done
        done |= step.done
    assert low <= float(lost.float().mean()) <= high


def test_two_chasers_win_equally_often():
    state, pace = random_states(400, 11), np.ones((2, 1))
    state[:, 200:] = turned(state[:, :200], np)
    wins, over = np.zeros(2), np.zeros(400, dtype=bool)
    for _ in range(150):
        mine = script("chaser", turned(state, np), np)
        other = script("chaser", state, np)
        played = play(state, Controls(*(np.stack([a, b]) for a, b in zip(mine, other, strict=True))), pace, np)
        wins += (played.scored & ~over).sum(1)
        over |= played.scored.any(0)
        state = played.state
    assert wins[0] == wins[1] > 50


def test_it_is_made_by_its_id_drawn_and_rebuilt_from_its_spec():
    task = plaudit.make("CarSoccer-v0", opponent="defender", pace=0.5)
    assert from_spec(task.spec()).spec() == task.spec()
    batch = task.make(1)
    batch.reset([0])
    first = batch.render()
    batch.step(torch.tensor([4]))
    assert first.shape == (330, 480, 3) and first.dtype == np.uint8
    assert (first != batch.render()).any()
    for wrong in ({"opponent": "expert"}, {"pace": 0}, {"observation": "none"}, {"horizon": 0}):
        with pytest.raises(BadInput):
            CarSoccer(**wrong)
