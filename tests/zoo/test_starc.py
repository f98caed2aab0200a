from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from plaudit.auditing.distances.tabular import starc
from plaudit.core.seeds import Seeds
from plaudit.tasks.classic import Pendulum
from plaudit.tasks.tabular import random_mdp
from plaudit.zoo import starc as zoo
from plaudit.zoo.contract import load_result
from plaudit.zoo.lab import run_system

SMOKE = zoo.SYSTEM.scales["smoke"]


def test_smoke_runs_and_writes_its_result(tmp_path):
    result = run_system(zoo.SYSTEM, scale="smoke", out=tmp_path)
    kept = load_result(tmp_path / "starc.json")
    assert kept.arms == result.arms
    assert kept.verdict in ("holds", "does not hold", "inconclusive")
    assert {c.verdict for c in kept.criteria[4:10]} == {"holds"}  # invariance holds at any size
    assert (tmp_path / "starc.png").stat().st_size > 10_000


def test_same_seed_gives_the_same_numbers():
    tiny = replace(SMOKE, mdps=2, seeds=1)
    a, b, c = (zoo.one_world(tiny, Seeds(s), states=8, seed=0, world=0) for s in (1, 1, 2))
    assert a == b
    assert a != c


def test_random_rewards_have_the_shares_of_the_protocol():
    mdp = random_mdp(states=12, actions=3, discount=0.95, seed=0)
    r = zoo.random_rewards(mdp, 2000, torch.Generator().manual_seed(0))
    flat = r.flatten(1)
    unshaped = starc(r[:200], mdp, canonical="none").shape == (200, 200)
    assert unshaped
    mode = flat.mode(1).values
    sparse_plain = ((flat == mode[:, None]).double().mean(1) > 0.9).double().mean()
    assert float(sparse_plain) == pytest.approx(0.2 * 0.5, abs=0.03)  # sparse, and not hidden by shaping


def test_interpolation_ends_at_the_second_reward():
    """At the last step the pair is (first, second); near the first it is almost (first, first)."""
    config = replace(SMOKE, pairs=1, steps=50)
    world = zoo.one_world(config, Seeds(5), states=8, seed=0, world=0)
    assert len(world["VAL"]) == 50
    assert world["VAL"][0] < world["VAL"][-1]


def test_correlation_is_pearson_over_all_pairs():
    worlds = [zoo.one_world(replace(SMOKE, mdps=1), Seeds(s), states=8, seed=0, world=0) for s in range(4)]
    arms, criteria = zoo.correlations(worlds)
    x = torch.tensor([w["VAL"] for w in worlds]).flatten()
    y = torch.tensor([w["regret"] for w in worlds]).flatten()
    expected = torch.corrcoef(torch.stack([x, y]))[0, 1]
    found = {a.name: a.value for a in arms}
    assert found["VAL"].mean == pytest.approx(float(expected), abs=1e-6)
    assert criteria[0].value.mean == pytest.approx(found["VAL"].mean - found["EPIC"].mean)
    assert found["VAL"].n == 4  # worlds are the unit of resampling, not pairs


def test_grid_moves_as_pendulum_does():
    """The mean next state of the grid is the next state of the true dynamics (away from the seam and the limits)."""
    mdp, _ = zoo.grid_pendulum(41, 41, 3)
    batch = Pendulum().make(1)
    batch.reset([0])
    theta, speed = torch.arange(41) * 2 * torch.pi / 41, torch.linspace(-8, 8, 41)
    chain = torch.from_numpy(mdp.transition.toarray()).reshape(41 * 41, 3, 41 * 41)
    for i, j, action in ((5, 20, 0), (12, 25, 2), (30, 14, 1)):
        state = torch.tensor([[float(theta[i])], [float(speed[j])]], dtype=torch.float64)
        torque = torch.tensor([[[-4 / 3], [0.0], [4 / 3]][action]])
        moved = Pendulum().advance(state, torque, None, torch).state[:, 0]
        p = chain[i * 41 + j, action]
        assert float((p.reshape(41, 41).sum(1) * theta).sum()) == pytest.approx(float(moved[0]), abs=1e-6)
        assert float((p.reshape(41, 41).sum(0) * speed).sum()) == pytest.approx(float(moved[1]), abs=1e-6)


def test_grid_distances_are_exact():
    d = zoo.on_grid(SMOKE, Seeds(3))
    assert d["shaped"] < 1e-9
    assert d["negated"] == pytest.approx(2.0)
    assert 0.1 < d["second peak"] < d["negated"]
