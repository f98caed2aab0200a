"""With states of our own making; `tests/tasks/test_rocket.py` has the simulator's, where it is installed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import plaudit
from plaudit.adapters.rlgym import RLGymReward, episodes_of
from plaudit.core.errors import BadInput, UnknownReward
from plaudit.specify import Field, TeamSpirit, distance, krc, utility
from plaudit.specify.soccer import Pitch, events, utilities
from plaudit.tasks.rocket import COLUMNS, UNITS, RocketLeague, events_of, observe_state, script

TURN = np.diag([-1.0, -1.0, 1.0])


class Body:
    """The physics of a car or ball, as RLGym's `PhysicsObject`."""

    def __init__(self, position, velocity=(0.0, 0.0, 0.0), yaw=0.0):
        self.position, self.linear_velocity = np.array(position, float), np.array(velocity, float)
        self.angular_velocity, self.yaw = np.zeros(3), yaw

    @property
    def forward(self):
        return np.array([np.cos(self.yaw), np.sin(self.yaw), 0.0])

    @property
    def right(self):
        return np.array([-np.sin(self.yaw), np.cos(self.yaw), 0.0])

    @property
    def up(self):
        return np.array([0.0, 0.0, 1.0])

    def inverted(self):
        return Body(TURN @ self.position, TURN @ self.linear_velocity, self.yaw + np.pi)


def a_car(team, body, touches=0, demoed=False, boost=50.0):
    return SimpleNamespace(team_num=team, physics=body, inverted_physics=body.inverted(), ball_touches=touches,
                           is_demoed=demoed, boost_amount=boost, on_ground=True, has_flip=True)


def a_state(ball=(0.0, 0.0, 93.0), ball_velocity=(0.0, 0.0, 0.0), blue=(0.0, -2000.0, 17.0), scored=False, touches=0,
            orange_demoed=False, yaw=np.pi / 2):
    body = Body(ball, ball_velocity)
    return SimpleNamespace(
        ball=body, inverted_ball=body.inverted(), goal_scored=scored,
        scoring_team=(0 if ball[1] > 0 else 1) if scored else None,
        cars={"blue-0": a_car(0, Body(blue, (0.0, 1000.0, 0.0), yaw), touches),
              "orange-0": a_car(1, Body((300.0, 2500.0, 17.0), yaw=-np.pi / 2), demoed=orange_demoed)})


def read(obs, name):
    return obs[list(COLUMNS[name])] * UNITS[name]


def test_a_state_is_seen_under_the_names_that_rewards_read():
    state = a_state(ball=(100.0, 200.0, 93.0), ball_velocity=(0.0, -600.0, 0.0))
    obs = observe_state(state, "blue-0")
    assert obs.shape == RocketLeague().obs_space.shape
    np.testing.assert_allclose(read(obs, "ball_position"), [100, 200, 93], rtol=1e-5)
    np.testing.assert_allclose(read(obs, "ball_velocity"), [0, -600, 0], atol=1e-3)
    np.testing.assert_allclose(read(obs, "car_velocity"), [0, 1000, 0], atol=1e-3)
    np.testing.assert_allclose(read(obs, "ball_ahead")[0], 2200, rtol=1e-5)  # it looks along +y
    np.testing.assert_allclose(read(obs, "boost"), [50])


def test_orange_sees_the_game_turned_by_180_degrees():
    state = a_state(ball=(100.0, 200.0, 93.0))
    mirrored = a_state(ball=(-100.0, -200.0, 93.0))
    mirrored.cars = {"blue-0": a_car(0, Body((-300.0, -2500.0, 17.0), yaw=np.pi / 2)),
                     "orange-0": a_car(1, Body((0.0, 2000.0, 17.0), (0.0, -1000.0, 0.0), -np.pi / 2))}
    np.testing.assert_allclose(observe_state(state, "orange-0"), observe_state(mirrored, "blue-0"), atol=1e-6)


def test_events_belong_to_the_right_side():
    before = a_state()
    goal = events_of(before, a_state(ball=(0.0, 5300.0, 93.0), scored=True, touches=1), "blue-0")
    assert goal["goal"] and not goal["concede"] and goal["touch"]
    other = events_of(before, a_state(ball=(0.0, 5300.0, 93.0), scored=True), "orange-0")
    assert other["concede"] and not other["goal"]
    assert events_of(before, a_state(orange_demoed=True), "blue-0")["demolish"]
    assert events_of(before, a_state(orange_demoed=True), "orange-0")["demolished"]
    shot = a_state(ball=(0.0, 3000.0, 93.0), ball_velocity=(0.0, 3000.0, 0.0), touches=1)
    wide = a_state(ball=(0.0, 3000.0, 93.0), ball_velocity=(3000.0, 3000.0, 0.0), touches=1)
    assert events_of(before, shot, "blue-0")["shot"] and not events_of(before, wide, "blue-0")["shot"]
    assert events_of(before, shot, "orange-0")["opponent_shot"]
    assert not events_of(before, shot, "blue-0")["opponent_shot"]
    assert not events_of(before, wide, "orange-0")["opponent_shot"]


def test_states_become_episodes_that_end_with_a_goal():
    states = [a_state(), a_state(ball=(0.0, 3000.0, 93.0), touches=1), a_state(ball=(0.0, 5300.0, 93.0), scored=True)]
    e = episodes_of(states, agent="blue-0")
    assert (e.B, e.T) == (1, 2)
    assert e.terminated.tolist() == [[False, True]] and e.truncated.tolist() == [[False, False]]
    assert e.env_reward.tolist() == [[0, 1]] and e.info["touch"].tolist() == [[True, False]]
    assert episodes_of(states[:2], agent="blue-0").truncated.tolist() == [[True]]
    for wrong in ({"states": states[:1], "agent": "blue-0"}, {"states": states, "agent": "blue-7"}):
        with pytest.raises(BadInput):
            episodes_of(**wrong)


def test_one_reward_runs_on_the_2d_game_and_on_rocket_league():
    pitch = Pitch.of(RocketLeague())
    reward = events(pitch) + 0.5 * utility(utilities(pitch), form="gain")
    states = [a_state(), a_state(ball=(0.0, 5300.0, 93.0), scored=True, touches=1)]
    adapter, shared = RLGymReward(reward), {}
    adapter.reset(["blue-0", "orange-0"], states[0], shared)
    paid = adapter.get_rewards(["blue-0", "orange-0"], states[1], dict.fromkeys(("blue-0", "orange-0"), True),
                               dict.fromkeys(("blue-0", "orange-0"), False), shared)
    assert paid["blue-0"] > 5 > 0 > paid["orange-0"]
    for agent in paid:
        expected = float(reward(episodes_of(states, agent=agent)))
        assert paid[agent] == pytest.approx(expected)
        assert sum(shared["reward_terms"][agent].values()) == pytest.approx(expected, abs=1e-5)


def test_what_is_unknown_is_no_number_and_what_reads_more_is_refused():
    car = Field("obs", COLUMNS["car_position"], UNITS["car_position"])
    adapter = RLGymReward(utility(krc(distance(car, (0.0, 0.0, 0.0), scale=2300.0))))
    adapter.reset(["blue-0"], a_state(), {})
    with pytest.raises(UnknownReward):
        adapter.get_rewards(["blue-0"], a_state(blue=(np.nan, 0.0, 0.0)), {"blue-0": False}, {"blue-0": False}, {})
    past = plaudit.reward(lambda obs: torch.zeros(len(obs)), name="past", time="prefix")
    for wrong in (past, TeamSpirit(events(Pitch.of(RocketLeague())), teams=(0, 1))):
        with pytest.raises(BadInput, match="single steps"):
            RLGymReward(wrong)


def test_the_script_drives_at_the_ball_from_behind_it():
    straight = script(a_state(blue=(0.0, 2500.0, 17.0), yaw=np.pi / 2), "blue-0")
    assert straight[0] == 1
    for side in (-1500.0, 1500.0):
        car = a_state(blue=(side, -3000.0, 17.0), yaw=np.pi / 2)
        steer = script(car, "blue-0")[1]
        assert np.sign(steer) == np.sign(side)  # who looks along +y has -x on the right
    with pytest.raises(BadInput):
        RocketLeague(opponent="necto")
