"""Constraints while a run goes on: prices follow the costs that learners measure."""

from __future__ import annotations

import json

import pytest
import torch
from test_run import CONFIGS, KillAt, Killed
from tiny_worlds import CopyTheBit, PayPerStep, Quadratic, Repeats

import plaudit
from plaudit.core.algebra import Constrained, PerMember, Sum
from plaudit.core.errors import BadInput
from plaudit.core.schedules import LagrangeMultiplier, TargetController
from plaudit.optimize import PPOConfig, train


def of_action(fn, name):
    return plaudit.reward(lambda action: fn(action.float()), name=name, vectorised=True, backend="torch")


def push():
    return of_action(lambda a: a.reshape(*a.shape[:2]), "push")


def effort():
    return of_action(lambda a: a.reshape(*a.shape[:2]).square(), "effort")


def priced(limit, *, metric="cost", cost=None, **options):
    return Constrained(push(), effort() if cost is None else cost, limit=limit,
                       multiplier=LagrangeMultiplier(metric, limit, **options))


def rows(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_constraint_keeps_the_cost_at_its_limit_which_the_free_optimum_violates(tmp_path):
    """a - price * a^2 with a^2 <= 1: free, the best is the end of the box, 3; held, it is 1 at a price of 1/2."""
    config = PPOConfig(rollout=8, num_envs=16, lr=0.02, anneal_lr=False, hidden=(8,), epochs=4, minibatches=1)
    options = {"config": config, "steps": 128 * 100, "progress": False}
    train("ppo", Quadratic(), reward=push(), others=[effort().with_role("watch")], out=tmp_path / "free", **options)
    assert rows(tmp_path / "free")[-1]["reward/watch/effort"][0] > 6
    reward = priced(1.0, rate=0.05)
    train("ppo", Quadratic(), reward=reward, out=tmp_path / "held", **options)
    costs = [row["cost"][0] for row in rows(tmp_path / "held")]
    assert max(costs) > 3 and sum(costs[-20:]) / 20 == pytest.approx(1.0, abs=0.15)
    assert reward.multiplier.value == pytest.approx(0.5, abs=0.1) and reward.multiplier.updates == 100


@pytest.mark.parametrize("name", CONFIGS)
def test_every_learner_moves_the_price_by_the_mean_of_its_members_also_through_a_kill(name, tmp_path):
    task = Quadratic() if name in ("sac", "td3", "ppo with normalisers") else CopyTheBit()
    prices = {}

    def run(folder, kill_at, resume=False):
        reward = priced(0.01, rate=0.5)
        try:
            train(name[:3], task, reward=2.0 * reward, population=2, steps=32 * 8, progress=False, config=CONFIGS[name],
                  callbacks=[KillAt(kill_at)], out=tmp_path / folder, checkpoint_every=4, resume=resume)
        finally:
            prices[folder] = reward.multiplier.value

    run("whole", 99)
    with pytest.raises(Killed):
        run("parts", 6)
    run("parts", 99, resume=True)
    price = 0.0
    for row in rows(tmp_path / "whole"):
        assert len(row["cost"]) == 2
        price = max(0.0, price + 0.5 * (sum(row["cost"]) / 2 - 0.01))
    assert prices["whole"] == prices["parts"] == pytest.approx(price) and price > 0.1


def test_a_cost_that_reads_the_past_is_measured_as_it_streams(tmp_path):
    reward = priced(0.1, cost=Repeats(), rate=1.0)
    train("ppo", PayPerStep(), reward=reward, others=[Repeats().with_role("watch")], steps=64 * 3, progress=False,
          config=PPOConfig(rollout=8, num_envs=8), out=tmp_path / "run")
    for row in rows(tmp_path / "run"):
        assert row["cost"] == pytest.approx(row["reward/watch/repeats"])
    assert reward.multiplier.value > 0.1


def test_each_member_with_a_constraint_of_its_own_follows_its_own_cost(tmp_path):
    members = [priced(0.1, rate=1.0, cost=of_action(torch.ones_like, "one").clip(max=1) if m else
               of_action(torch.zeros_like, "none")) for m in (0, 1)]
    train("ppo", PayPerStep(), reward=PerMember(members), population=2, steps=64 * 2, progress=False,
          config=PPOConfig(rollout=8, num_envs=8), out=tmp_path / "run")
    assert [row["cost"] for row in rows(tmp_path / "run")] == [[0.0, 1.0]] * 2
    assert [m.multiplier.value for m in members] == pytest.approx([0.0, 1.8])


def test_a_metric_that_the_run_reports_is_followed_instead(tmp_path):
    reward = priced(2.0, metric="episode/watch/effort", rate=0.1)
    train("ppo", PayPerStep(), reward=reward, others=[effort().with_role("watch")], steps=64, progress=False,
          config=PPOConfig(rollout=8, num_envs=8), out=tmp_path / "run")
    (row,) = rows(tmp_path / "run")
    assert reward.multiplier.value == pytest.approx(max(0.0, 0.1 * (row["episode/watch/effort"][0] - 2)))


def test_two_costs_of_one_metric_are_refused():
    both = priced(0.5) + priced(0.5, cost=push().named("other"))
    with pytest.raises(BadInput, match="cost for effort and for other"):
        train("ppo", PayPerStep(), reward=both, steps=512, progress=False, config=PPOConfig(rollout=8, num_envs=8))


@pytest.mark.parametrize("metric, warns", [("reward/train/suum", True), ("reward/train/sum", False)])
@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_a_controller_of_a_metric_that_no_run_has_is_warned_of_once(name, metric, warns, caplog):
    reward = Sum([(1.0, push()), (TargetController(metric, 0.1), effort())])
    train(name, Quadratic(), reward=reward, steps=32 * 4, progress=False, config=CONFIGS[
        "ppo with normalisers" if name == "ppo" else name])
    said = [r.getMessage() for r in caplog.records if "no value of" in r.getMessage()]
    assert len(said) == warns
    if warns:
        assert metric in said[0] and "did you mean reward/train/sum?" in said[0] and "episode/length" in said[0]
