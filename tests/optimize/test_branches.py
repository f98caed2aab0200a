from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from plaudit.core.cluster import Cluster
from plaudit.core.errors import Unsupported
from plaudit.core.functions import reward
from plaudit.core.jobs import Kept
from plaudit.optimize import maximise as maximise_module
from plaudit.optimize.behaviours import Budget
from plaudit.optimize.hunting import branches, learnt
from plaudit.optimize.maximise import maximise
from plaudit.tasks.classic import CartPole, Pendulum
from plaudit.tasks.making import make

BUDGET = Budget(steps=6_000, rl_cost=1.0)


@pytest.fixture(autouse=True)
def _short_runs_of_ppo(monkeypatch):
    """A learner is worth sending out for two updates, so that the searches here may be small."""
    monkeypatch.setattr(learnt, "_WORTH_IT", 2)
    monkeypatch.setattr(learnt, "_MIN_UPDATES", 2)


@reward
def right(next_obs):
    return next_obs[..., 0]


@reward
def never_known(next_obs):
    """Unknown as soon as the cart has moved at all, so PPO gives up in its first rollout."""
    return torch.where(next_obs[..., 0].abs() >= 0, torch.nan, 1.0)


@reward
def deadly(next_obs):
    """Kills the worker that first asks, while PLAUDIT_TEST_DEADLY names a file that is not there yet."""
    flag = os.environ.get("PLAUDIT_TEST_DEADLY")
    if flag and not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return next_obs[..., 0]


def same(a, b):
    assert [(x.name, x.origin, x.effort, x.seeds) for x in a.behaviours] == \
        [(x.name, x.origin, x.effort, x.seeds) for x in b.behaviours]
    for x, y in zip(a.behaviours, b.behaviours, strict=True):
        assert torch.equal(x.episodes.action, y.episodes.action)
        assert torch.equal(x.returns(a.reward), y.returns(a.reward)) or x.returns(a.reward).isnan().any()
    assert (a.steps, a.plan, a.budget) == (b.steps, b.plan, b.budget)
    assert {**a.config, "seconds": 0} == {**b.config, "seconds": 0}


def in_branches(monkeypatch, *args, **kwargs):
    """`maximise` with its branches run one by one in this process, each from its JSON alone."""
    orders = []
    real = branches.run_jobs

    def here(function, jobs, *, ray, **rest):
        orders.append([job["hunters"] for job in jobs])
        return real(function, list(reversed(jobs)), **{**rest, "names": rest["names"][::-1]})[::-1]

    with monkeypatch.context() as patch:
        patch.setattr(branches, "run_jobs", here)
        return maximise(*args, **kwargs, ray=True), orders


def test_branches_give_the_same_bits_as_one_after_the_other(monkeypatch):
    task = CartPole(horizon=20)
    found, orders = in_branches(monkeypatch, right, task, BUDGET, seed=3)
    same(found, maximise(right, task, BUDGET, seed=3))
    assert found.plan["ppo"] > 0
    assert orders == [[["ppo"], ["cem", "qd"]]]


def test_dear_tasks_with_rhythms_and_other_lenses(monkeypatch):
    task = make("CartPole-v1", native=False, horizon=20)
    options = {"optimisers": ["random", "scripted", "cem", "qd"]}
    found, orders = in_branches(monkeypatch, right, task, 1_500, **options)
    same(found, maximise(right, task, 1_500, **options))
    assert orders == [[["cem", "qd"]]]
    numbers = Pendulum(horizon=20)
    found, _ = in_branches(monkeypatch, right, numbers, 3_000, optimisers=["cem"])
    same(found, maximise(right, numbers, 3_000, optimisers=["cem"]))
    assert any("rhythm" in b.name for b in found.behaviours)


def test_steps_of_a_learner_that_fails_flow_on(monkeypatch):
    """PPO raises in its branch; evolution, sent out with the promised steps booked, is sent out again."""
    task = CartPole(horizon=20)
    found, orders = in_branches(monkeypatch, never_known, task, BUDGET, optimisers=["ppo", "cem"])
    assert orders == [[["ppo"], ["cem", "qd"]], [["cem", "qd"]]]
    assert "ppo" in found.config["left_out"]
    same(found, maximise(never_known, task, BUDGET, optimisers=["ppo", "cem"]))


def test_wrong_booking_changes_the_search(monkeypatch):
    """The broken variant: without PPO's steps booked, evolution would spend more than its share."""
    task = CartPole(horizon=20)
    one = maximise(right, task, BUDGET, seed=3)
    monkeypatch.setattr(maximise_module.Search, "book", lambda self, name, steps: None)
    found, _ = in_branches(monkeypatch, right, task, BUDGET, seed=3)
    assert [b.effort for b in found.behaviours] != [b.effort for b in one.behaviours]


def test_what_cannot_travel_is_refused():
    with pytest.raises(Unsupported, match="lambda"):
        maximise(reward(lambda next_obs: next_obs[..., 0], name="x"), CartPole(horizon=20), 20_000, ray=True)


# --- on Ray -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
@pytest.mark.slow  # a local Ray needs 5 seconds to start and its workers 3 more
def test_two_workers_one_killed_find_the_same(tmp_path, monkeypatch):
    monkeypatch.undo()  # workers have the real limits, so the search has to be of real size
    task, budget = CartPole(horizon=20), Budget(steps=60_000, rl_cost=1.0)
    one = maximise(deadly, task, budget, seed=3)
    monkeypatch.setattr(branches, "hunt_on_ray", _deadly_on_workers(tmp_path / "died", branches.hunt_on_ray))
    with Cluster("2") as workers:
        same(maximise(deadly, task, budget, seed=3, ray=workers), one)
    assert (tmp_path / "died").exists()


def _deadly_on_workers(flag, real):
    """Workers inherit the variable when Ray starts them; this process must not die of it."""
    def hunt(search, ray):
        os.environ["PLAUDIT_TEST_DEADLY"] = str(flag)
        try:
            ray.start()
        finally:
            del os.environ["PLAUDIT_TEST_DEADLY"]
        real(search, ray)

    return hunt


def test_kept_search_gives_the_same_bits_and_searches_once(tmp_path, monkeypatch):
    task, kept = CartPole(horizon=20), Kept(folder=tmp_path)
    first = maximise(right, task, BUDGET, seed=3, kept=kept)
    same(first, maximise(right, task, BUDGET, seed=3))

    def never(*args, **kwargs):
        raise AssertionError("what is kept must not be searched again")

    monkeypatch.setattr(maximise_module, "hunt_ppo", never)
    monkeypatch.setattr(maximise_module, "hunt_cem", never)
    same(first, maximise(right, task, BUDGET, seed=3, kept=Kept(folder=tmp_path)))
    with pytest.raises(AssertionError, match="searched again"):
        maximise(right, task, BUDGET, seed=4, kept=Kept(folder=tmp_path))


def test_search_that_lost_a_part_goes_on_with_the_other(tmp_path):
    """Whichever of the two parts is missing, the rest comes out the same."""
    task = CartPole(horizon=20)
    one = maximise(right, task, BUDGET, seed=3)
    maximise(right, task, BUDGET, seed=3, kept=Kept(folder=tmp_path / "all"))
    files = sorted((tmp_path / "all").glob("*.json"))
    assert len(files) == 2
    for n, file in enumerate(files):
        left = tmp_path / str(n)
        left.mkdir()
        shutil.copy(file, left)
        same(one, maximise(right, task, BUDGET, seed=3, kept=Kept(folder=left)))


def test_search_goes_on_where_nothing_can_be_kept(tmp_path, caplog):
    task = CartPole(horizon=20)
    (tmp_path / "file").write_text("")
    same(maximise(right, task, BUDGET, seed=3), maximise(right, task, BUDGET, seed=3,
                                                         kept=Kept(folder=tmp_path / "file" / "below", needed=False)))
    assert "is not kept" in caplog.text
