"""A ranking that hangs on the discount, on a weight or on noise is found; one that does not is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import plaudit
from plaudit.auditing.checks.fragility import CHECK, _lead, plausible_discounts
from plaudit.auditing.checks.outcomes import table
from plaudit.auditing.finding import Skipped
from plaudit.auditing.flaws import flaw
from plaudit.core.statistics import difference_interval, mean_interval
from plaudit.optimize.tabular import likeliest_path
from plaudit.tasks.classic import Pendulum


def two_exits(by_hand, moves, part):
    f = flaw("near_exit")
    world = f.task()
    mdp = world.tabular(f.reward())
    far = torch.zeros(mdp.S, dtype=torch.bool)
    far[int(mdp.terminal.nonzero()[-1])] = True
    long_way = list(likeliest_path(mdp, far).actions)
    found = {"near exit": moves([3]), "idle": moves([0])}
    intended = {"far goal": moves(long_way), "wall": moves([1, 0])}
    return by_hand(world, getattr(f, part)(), found=found, intended=intended, intent=f.intent())


def test_a_small_prize_that_wins_at_one_discount_only_is_high(by_hand, moves):
    context = two_exits(by_hand, moves, "reward")
    (finding,) = CHECK.run(context)
    assert finding.severity == "high" and "0.995" in finding.title and finding.cost == 1.0
    assert {finding.evidence["best before"], finding.evidence["best after"]} == {"near exit", "far goal"}
    assert finding.witness is not None and finding.witness.behaviour == "near exit"


def test_the_twin_ranks_alike_at_every_discount(by_hand, moves):
    context = two_exits(by_hand, moves, "twin")
    assert CHECK.run(context) == []
    assert set(context.memo["fragility"]) == {"discount 0.98 instead of 0.99", "discount 0.995 instead of 0.99"}


def pushes(rule, *sizes):
    return {f"push {u}": rule(lambda o, u=u: torch.full((len(o), 1), u)) for u in sizes}


def swings(rule):
    return rule(lambda o: (2 * torch.where(o[:, 2:3] == 0, torch.ones(1), o[:, 2:3]).sign()))


UP = plaudit.reward(lambda next_obs: next_obs[..., 2] ** 2, name="speed")


@pytest.mark.parametrize(("weight", "severities"), [(0.33, ["medium"]), (0.01, [])])
def test_a_weight_at_the_edge_is_medium_at_most(by_hand, rule, weight, severities):
    from plaudit.auditing.intent import Intent

    def reward(action, next_obs):
        return {"speed": next_obs[..., 2] ** 2 / 16, "effort": -weight * action[..., 0] ** 2}

    found = {**pushes(rule, 0.0, 0.5, 1.0), "damp": rule(lambda o: (-2 * o[:, 2:3]).clamp(-2, 2))}
    context = by_hand(Pendulum(horizon=100), plaudit.reward(reward), found=found, intended={"swing": swings(rule)},
                      intent=Intent("speed", "it moves fast", UP, "sum"))
    out = [f for f in CHECK.run(context) if "speed" in f.title or "effort" in f.title]
    assert [f.severity for f in out] == severities


def test_a_threshold_that_noise_crosses_changes_the_winner(by_hand, rule):
    def knife_edge(next_obs):
        return 1.0 * (next_obs[..., 1] == 0) + 1e-3 * next_obs[..., 0]

    context = by_hand(Pendulum(horizon=50), plaudit.reward(knife_edge), found=pushes(rule, 0.0, 1.0, 2.0), intent=None)
    CHECK.run(context)
    assert "1% noise on observations" in context.memo["fragility"]


def test_too_few_behaviours_are_no_ranking(by_hand, rule):
    out = CHECK.run(by_hand(Pendulum(horizon=20), UP, found=pushes(rule, 0.0), intent=None))
    assert isinstance(out, Skipped)


def test_plausible_discounts_halve_and_double_the_horizon():
    assert plausible_discounts(0.9) == [0.8, 0.95]


@pytest.mark.parametrize("seeds", [([], []), ([1, 2, 3, 4, 5, 6, 7, 8], [11, 12, 13, 14, 15, 16, 17, 18])])
def test_equally_many_episodes_are_not_pairs(by_hand, rule, seeds):
    """Two independent samples that lie in the same order: as pairs, their difference would seem far too sure."""
    x, y, rows = sampled(by_hand, rule, *seeds)
    found = _lead(rows, [x, y], 0, 1)
    apart = difference_interval(x, y)
    assert (found.low, found.high) == (apart.low, apart.high) and found.low < 0
    by_place = mean_interval(x - y)
    assert by_place.high - by_place.low < 0.6 * (found.high - found.low)


def test_episodes_of_the_same_seeds_are_pairs_in_whatever_order(by_hand, rule):
    seeds = list(range(8))
    x, y, rows = sampled(by_hand, rule, seeds, seeds[::-1])
    pairs = mean_interval(x - y)
    found = _lead(rows, [x, y.flip(0)], 0, 1)
    assert (found.low, found.high) == (pairs.low, pairs.high)


def sampled(by_hand, rule, first, second):
    """What two behaviours with these seeds are paid, and their rows."""
    context = by_hand(Pendulum(horizon=2), UP, found=pushes(rule, 0.0, 1.0), intent=None)
    rows = table(context).rows[:2]
    rows = [replace(r, behaviour=replace(r.behaviour, seeds=s)) for r, s in zip(rows, (first, second), strict=True)]
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(8, generator=generator, dtype=torch.float64).sort().values for _ in range(2))
    return x + 0.3, y, rows
