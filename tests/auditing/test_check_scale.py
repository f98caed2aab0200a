"""Silence, flatness and terms that are not heard are told apart from rewards that are merely sparse."""

from __future__ import annotations

import math

import pytest
import torch

import plaudit
from plaudit.auditing.checks.outcomes import table
from plaudit.auditing.checks.scale import CHECK
from plaudit.auditing.checks.terms import term_table
from plaudit.auditing.flaws import flaw
from plaudit.core.functions import EnvReward
from plaudit.specify import krc
from plaudit.tasks.classic import MountainCar, Pendulum


def swing(velocity):
    return (velocity >= 0).long() * 2


def push(velocity):
    return (velocity >= 0).float() * 2 - 1


def planted(by_hand, name, part, found, intended, task=None):
    f = flaw(name)
    return CHECK.run(by_hand(task or f.task(), getattr(f, part)(), found=found, intended=intended, intent=f.intent()))


def test_a_goal_read_in_the_wrong_frame_is_high_and_its_twin_is_not(by_hand, rule):
    still, flag = {"still": rule(lambda o: torch.zeros(len(o), 1))}, {"to the flag": rule(lambda o: push(o[:, 1:2]))}
    (finding,) = planted(by_hand, "wrong_frame", "reward", still, flag)
    assert finding.severity == "high" and finding.evidence["term"] == "goal" and finding.cost == 1.0
    assert finding.witness is not None and finding.witness.behaviour == "to the flag"
    assert [f.severity for f in planted(by_hand, "wrong_frame", "twin", still, flag)] in ([], ["low"])


def test_a_prize_out_of_reach_is_high_only_once_somebody_has_reached_the_goal(by_hand, moves):
    there = {"walk": moves(_way(flaw("swapped").task()))}
    (silent,) = planted(by_hand, "swapped", "reward", {"idle": moves([0])}, there)
    assert silent.severity == "high" and silent.cost == 1.0


def test_silence_where_nobody_succeeds_is_a_note(by_hand, moves):
    nothing = plaudit.reward(lambda next_obs: 0.0 * next_obs[..., 0])
    (unsure,) = CHECK.run(by_hand(MountainCar(horizon=50), nothing, found={"left": moves([0])}))
    assert unsure.severity == "low" and "cannot tell" in unsure.title


def _way(world):
    """The moves of the shortest way to the goal."""
    from plaudit.optimize.tabular import likeliest_path

    mdp = world.tabular(flaw("swapped").twin())
    return list(likeliest_path(mdp, mdp.terminal).actions)


def test_an_effort_that_drowns_speed_is_high_and_gymnasiums_weight_is_not(by_hand, rule):
    phase = torch.arange(6.0)

    class Runs:
        def __init__(self, size):
            self.size = size

        def start(self, rows):
            return rows

        def act(self, obs, carry, *, step):
            return (self.size * torch.sin(0.2 * math.pi * step + phase)).expand(carry, 6), carry

    found = {"still": Runs(0.0), "a little": Runs(0.1), "lowest": rule(lambda o: -torch.ones(len(o), 6))}
    intended = {f"run {s}": Runs(s) for s in (0.3, 0.5, 0.6)}
    short = plaudit.make("HalfCheetah-v5", horizon=60)
    (finding,) = planted(by_hand, "drowned", "reward", found, intended, short)
    assert finding.severity in ("medium", "high") and finding.evidence["drowning term"] == "effort"
    assert planted(by_hand, "drowned", "twin", found, intended, short) == []


def test_a_squashed_distance_is_saturated_and_the_plain_one_is_not(by_hand, rule):
    still = {"still": rule(lambda o: torch.zeros(len(o), 2)), "turn": rule(lambda o: torch.ones(len(o), 2))}
    (finding,) = planted(by_hand, "saturated", "reward", still, {})
    assert finding.severity in ("medium", "high") and finding.evidence["share of random steps on a plateau"].mean > 0.9
    assert planted(by_hand, "saturated", "twin", still, {}) == []


def test_a_cost_that_is_often_small_is_no_plateau(by_hand, rule):
    heavy = plaudit.reward(lambda next_obs: -((next_obs[..., 2] / 8) ** 8))
    found = {"push": rule(lambda o: 2 * torch.ones(len(o), 1)), "pump": rule(lambda o: 2 * o[:, 2:3].sign())}
    assert not [f for f in CHECK.run(by_hand(Pendulum(), heavy, found=found, intent=None)) if "saturated" in f.title]


def test_a_sparse_reward_is_no_more_than_a_note(by_hand, rule):
    found = {"right": rule(lambda o: torch.full((len(o),), 2)), "left": rule(lambda o: torch.zeros(len(o)).long())}
    for intended in ({}, {"to the flag": rule(lambda o: swing(o[:, 1]))}):
        out = CHECK.run(by_hand(MountainCar(), EnvReward(), found=found, intended=intended))
        assert all(f.severity == "low" for f in out)


def test_what_random_play_never_meets_is_no_fault(by_hand, rule):
    flag = plaudit.reward(lambda next_obs: 1.0 * (next_obs[..., 0] >= 0.5), name="flag")
    left, to_flag = rule(lambda o: torch.zeros(len(o)).long()), rule(lambda o: swing(o[:, 1]))
    kinds = lambda found: [f.kind for f in CHECK.run(by_hand(  # noqa: E731
        MountainCar(), flag, found=found, intended={"to the flag": to_flag}))]
    assert kinds({"left": left}) == []
    assert kinds({"left": left, "to the flag": to_flag}) == []


def test_two_terms_that_cancel_are_noted(by_hand, rule):
    both = plaudit.reward(lambda next_obs: {"give": next_obs[..., 2], "take": -1.02 * next_obs[..., 2]})
    found = {f"push {u}": rule(lambda o, u=u: torch.full((len(o), 1), u)) for u in (-2.0, -1.0, 0.5, 1.0, 1.5, 2.0)}
    context = by_hand(Pendulum(), both, found=found, intent=None)
    (finding,) = [f for f in CHECK.run(context) if "cancel" in f.title]
    assert finding.severity == "low" and finding.evidence["correlation"].mean == pytest.approx(-1.0)
    assert term_table(context, table(context)).dead == []


def test_the_parts_of_a_geometric_mean_are_no_dead_terms(by_hand, rule):
    parts = [plaudit.reward(lambda next_obs, i=i: next_obs[..., i], name=f"part {i}") for i in (0, 1)]
    found = {f"push {u}": rule(lambda o, u=u: torch.full((len(o), 1), u)) for u in (-2.0, 0.5, 2.0)}
    context = by_hand(Pendulum(), krc(*parts, name="both") + 0.1 * parts[0].named("alone"), found=found, intent=None)
    terms = term_table(context, table(context))
    assert set(terms.names) == {"both", "alone"} and terms.dead == []
