from __future__ import annotations

import numpy as np
import pytest
import torch

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, UnknownReward, Unsupported
from plaudit.core.functions import EnvReward
from plaudit.core.saving import load_reward, save_reward
from plaudit.specify import utility
from plaudit.specify.match import other_side, versus
from plaudit.specify.soccer import Pitch, events, utilities
from plaudit.tasks.car_soccer import CarSoccer
from plaudit.tasks.car_soccer_physics import turned
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rocket import RocketLeague
from plaudit.tasks.rollouts import rollout

SEEN = ("ball_position", "ball_velocity", "car_position", "car_velocity", "car_heading", "boost", "opponent_position",
        "opponent_velocity", "opponent_heading", "opponent_boost")


@pytest.fixture(scope="module")
def played():
    task = CarSoccer()
    pitch = Pitch.of(task)
    e = rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=range(64), max_steps=300)
    assert int((e.info["goal"] & e.mask).sum()) > 0 and int((e.info["opponent_shot"] & e.mask).sum()) > 0
    return pitch, events(pitch) + utility(utilities(pitch, combine="krc"), form="gain"), e


def test_the_other_side_sees_what_the_game_itself_shows_it_when_it_is_turned():
    task = CarSoccer()
    batch = task.make(32)
    batch.reset(range(32))
    for action in range(20):
        batch.step(torch.full((32,), action % 12))
    mine, theirs = (torch.from_numpy(task.observe(s, np)).unsqueeze(1) for s in (
        batch._state, turned(batch._state, np)))
    e = Episodes.of_transitions(obs=mine[:, 0], action=torch.zeros(32), next_obs=mine[:, 0])
    seen = other_side(Pitch.of(task).fields, e).obs
    for name in SEEN:
        at = list(task.columns[name])
        torch.testing.assert_close(seen[..., at], theirs[..., at], atol=1e-5, rtol=1e-5)
    assert seen[..., list(task.columns["pads"])].isnan().all()


def test_a_shot_of_the_opponent_is_a_shot_in_the_turned_game():
    task = CarSoccer()
    batch = task.make(512)
    batch.reset(range(512))
    found = 0
    for _ in range(60):
        step = batch.step(torch.full((512,), 10))
        shot, touch = step.info["opponent_shot"], step.info["opponent_touch"]
        assert not (shot & ~touch).any()
        ball = step.next_obs[shot][:, list(task.columns["ball_velocity"])]
        assert (ball[:, 0] < 0).all()
        found += int(shot.sum())
    assert found > 0


@pytest.mark.parametrize("spirit", [0.0, 0.3, 1.0])
def test_a_player_gets_its_own_reward_less_the_one_that_the_opponent_earns(played, spirit):
    pitch, own, e = played
    theirs = other_side(pitch.fields, e)
    torch.testing.assert_close(versus(own, pitch, spirit=spirit)(e), own(e) - own(theirs), atol=1e-4, rtol=1e-4)
    half = versus(own, pitch, spirit=spirit, opponents=0.5)(e)
    torch.testing.assert_close(half, own(e) - 0.5 * own(theirs), atol=1e-4, rtol=1e-4)


def test_what_both_players_get_sums_to_zero_and_a_goal_of_theirs_costs_what_ours_pays(played):
    pitch, own, e = played
    reward = versus(own, pitch)
    torch.testing.assert_close(reward(e) + reward(other_side(pitch.fields, e)), torch.zeros(e.B, e.T), atol=1e-4,
                               rtol=0)
    only = versus(events(pitch, weights={"goal": 10.0, "concede": -3.0}), pitch)(e)
    goal, concede = e.info["goal"].float(), e.info["concede"].float()
    torch.testing.assert_close(only, 13.0 * (goal - concede) * e.mask)


def test_it_is_saved_and_streams_like_any_reward_of_steps(played, tmp_path):
    pitch, own, e = played
    reward = versus(own, pitch, spirit=0.4)
    save_reward(reward, tmp_path / "r")
    torch.testing.assert_close(load_reward(tmp_path / "r")(e), reward(e), atol=0, rtol=0)
    first, _ = reward.stream(e.steps(0, 1), reward.start(e.B))
    torch.testing.assert_close(first.value, reward(e)[:, :1])


def test_where_the_opponent_is_not_seen_or_the_reward_is_not_of_steps_it_says_so(played):
    pitch, own, _ = played
    simple = Pitch.of(CarSoccer(observation="simple"))
    with pytest.raises(BadInput, match=r"opponent_velocity.*observation='full'"):
        versus(own, simple)
    with pytest.raises(BadInput, match="spirit"):
        versus(own, pitch, spirit=2.0)
    with pytest.raises(Unsupported, match="group"):
        versus(versus(own, pitch).team, pitch)
    e = rollout(CarSoccer(), RandomPolicy(CarSoccer().action_space, seeds=0), seeds=[0], max_steps=3)
    with pytest.raises(UnknownReward, match="env_reward"):
        versus(EnvReward(), pitch)(e)  # whose is it?


def test_in_rocket_league_the_field_turns_about_the_vertical():
    pitch = Pitch.of(RocketLeague())
    obs = torch.randn(6, 1, RocketLeague().obs_space.shape[0], generator=torch.Generator().manual_seed(0))
    e = Episodes.of_transitions(obs=obs[:, 0], action=torch.zeros(6), next_obs=obs[:, 0])
    theirs = other_side(pitch.fields, e)
    mine, seen = (pitch.fields[n].read(x) for n, x in (("opponent_velocity", e), ("car_velocity", theirs)))
    torch.testing.assert_close(seen, mine * torch.tensor([-1.0, -1.0, 1.0]))
    known = ~other_side(pitch.fields, theirs).obs.isnan()
    torch.testing.assert_close(other_side(pitch.fields, theirs).obs[known], obs[known])
    assert versus(utility(utilities(pitch), form="gain"), pitch).score(e).all_known
