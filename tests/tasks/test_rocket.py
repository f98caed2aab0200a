"""With the simulator; skipped where the extra `rocket` is not installed (it pins numpy < 2)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("RocketSim", reason="the extra `rocket` is not installed")

from plaudit.adapters.rlgym import RLGymReward, episodes_of
from plaudit.specify import utility
from plaudit.specify.soccer import Pitch, events, utilities
from plaudit.tasks.rocket import BLUE, COLUMNS, ORANGE, UNITS, RocketLeague, script


def test_matches_repeat_and_rows_stand_alone():
    def run(seeds):
        batch = RocketLeague(horizon=40).make(len(seeds))
        seen = [batch.reset(seeds)]
        for t in range(45):
            seen.append(batch.step(torch.full((len(seeds),), (7 * t) % 90)).obs)
        return torch.stack(seen, 1)

    both, alone = run([3, 4]), run([4])
    torch.testing.assert_close(both[1], alone[0])
    assert bool(torch.isfinite(both).all()) and float(both.abs().max()) < 3


def test_time_truncates_and_the_next_match_begins_elsewhere():
    batch = RocketLeague(opponent="idle", horizon=10).make(2)
    first = batch.reset([0, 1])
    for _ in range(10):
        step = batch.step(torch.zeros(2, dtype=torch.int64))
    assert bool(step.truncated.all()) and not bool(step.terminated.any())
    assert not torch.allclose(step.obs, step.next_obs) and not torch.allclose(step.obs, first)


def test_a_car_that_steers_right_goes_right():
    """The sign of steering that the script relies on, in the simulator itself."""
    from rlgym.rocket_league.sim import RocketSimEngine

    from plaudit.tasks.rocket import place_cars

    arena = RocketSimEngine(rlbot_delay=False)
    state = arena.create_base_state()
    place_cars(state, np.random.default_rng(0))
    state = arena.set_state(state, {})
    turned = {}
    for steer in (-1.0, 1.0):
        now = arena.set_state(state, {})
        before = now.cars[BLUE].physics.right.copy()
        action = np.tile(np.array([1, steer, 0, 0, 0, 0, 0, 0], dtype=np.float32), (60, 1))
        now = arena.step({BLUE: action, ORANGE: 0 * action}, {})
        turned[steer] = float(now.cars[BLUE].physics.forward @ before)
    assert turned[1.0] > 0.2 and turned[-1.0] < -0.2


def test_the_chaser_reaches_the_ball_more_often_than_one_that_stands():
    touches = {}
    for opponent in ("chaser", "idle"):
        batch = RocketLeague(opponent=opponent, horizon=150).make(6)
        batch.reset(range(6))
        touches[opponent] = sum(int(batch.step(torch.full((6,), 9)).info["opponent_touch"].sum()) for _ in range(150))
    assert touches["chaser"] > touches["idle"] + 3


def test_rlgym_pays_what_plaudit_pays():
    from rlgym.api import RLGym
    from rlgym.rocket_league.action_parsers import LookupTableAction, RepeatAction
    from rlgym.rocket_league.done_conditions import GoalCondition, TimeoutCondition
    from rlgym.rocket_league.obs_builders import DefaultObs
    from rlgym.rocket_league.sim import RocketSimEngine
    from rlgym.rocket_league.state_mutators import FixedTeamSizeMutator, KickoffMutator, MutatorSequence

    pitch = Pitch.of(RocketLeague())
    reward = events(pitch) + utility(utilities(pitch), form="gain")
    env = RLGym(state_mutator=MutatorSequence(FixedTeamSizeMutator(1, 1), KickoffMutator()), obs_builder=DefaultObs(),
                action_parser=RepeatAction(LookupTableAction(), 8), reward_fn=RLGymReward(reward),
                transition_engine=RocketSimEngine(), termination_cond=GoalCondition(),
                truncation_cond=TimeoutCondition(20))
    env.reset()
    states, paid = [env.state], []
    for _ in range(40):
        _, rewards, _, _ = env.step({a: np.array([9]) for a in env.agents})
        states.append(env.state)
        paid.append(rewards)
    for agent in (BLUE, ORANGE):
        np.testing.assert_allclose([p[agent] for p in paid], reward(episodes_of(states, agent=agent))[0].numpy(),
                                   atol=1e-5)


def test_the_names_hold_what_the_state_holds():
    batch = RocketLeague().make(1)
    obs = batch.reset([5])[0].numpy()
    state = batch.arenas[0].state
    for name, value in (("ball_position", state.ball.position), ("car_position", state.cars[BLUE].physics.position),
                        ("car_forward", state.cars[BLUE].physics.forward),
                        ("opponent_position", state.cars[ORANGE].physics.position)):
        np.testing.assert_allclose(obs[list(COLUMNS[name])] * UNITS[name], value, rtol=1e-4, atol=1e-2)
    assert script(state, ORANGE).shape == (8,)
