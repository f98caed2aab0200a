"""Flaws of continuous tasks: a scripted exploit against a scripted behaviour that does what is intended."""

from __future__ import annotations

import pytest
import torch

from plaudit.auditing.flaws import Flaw, flaw, flaws
from plaudit.auditing.flaws.demonstrations import Scripted, pump, push, still, swing_tip, told
from plaudit.auditing.flaws.locomotion import short
from plaudit.auditing.flaws.paid_waiting import paid_waiting
from plaudit.auditing.flaws.scripts import CHEETAH_RUNS, DEMONSTRATIONS, SWIMS
from plaudit.core.border import as_rows
from plaudit.core.episodes import Episodes
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout

CLASSIC = [name for name in DEMONSTRATIONS if "classic" in flaw(name).tags]
HEAVY = [name for name in DEMONSTRATIONS if name not in CLASSIC]
SIGNALLESS = {"out_of_reach/Acrobot-v1/3": swing_tip, "out_of_reach/Swimmer-v5/10": SWIMS,
              "out_of_reach/HalfCheetah-v5/30": CHEETAH_RUNS, "narrow/Reacher-v5/0.001": None,
              "narrow/Pendulum-v1/0.001": None, "rounded/Reacher-v5": None, "rounded/Pusher-v5": None}
"""The flawed reward says nothing (almost) anywhere; beside each a behaviour that the twin prefers to doing nothing."""
CONTRACT = ["running_norm/Pendulum-v1", "running_norm/HalfCheetah-v5", "batch_diff/MountainCar-v0",
            "batch_diff/Reacher-v5", "first_visit", "log_distance"]
"""What a step earns is no number, or no function of the step."""


def prefers_the_exploit(f: Flaw, *, episodes: int = 4) -> bool:
    exploit, good = DEMONSTRATIONS[f.name].play(f, episodes=episodes)
    return exploit.flawed > good.flawed and exploit.intent < good.intent and exploit.twin < good.twin


@pytest.mark.parametrize("name", CLASSIC)
def test_the_flawed_reward_prefers_the_exploit_and_the_twin_what_is_intended(name):
    assert prefers_the_exploit(flaw(name))


@pytest.mark.slow  # half a second of physics for each of two dozen pairs
@pytest.mark.parametrize("name", HEAVY)
def test_the_flawed_reward_of_a_body_prefers_the_exploit(name):
    assert prefers_the_exploit(flaw(name))


def test_a_template_without_its_fault_fails_the_same_test():
    mended = paid_waiting(step=-1.0)
    assert told(mended, push(1)).flawed < told(mended, pump).flawed


def seen(f: Flaw, *, act=None) -> Episodes:
    task = f.task()
    policy = RandomPolicy(task.action_space, seeds=0) if act is None else Scripted(act)
    return rollout(task, policy, seeds=[1, 2, 3, 4])


@pytest.mark.parametrize("name", [n if "Swimmer" not in n and "Cheetah" not in n else pytest.param(
    n, marks=pytest.mark.slow) for n in SIGNALLESS])  # half a second of physics each
def test_a_reward_without_a_signal_says_nothing_where_its_twin_tells_behaviours_apart(name):
    f = flaw(name)
    e = seen(f)
    paid, twin = (r.score(e).value[e.mask] for r in (f.reward(), f.twin()))
    assert float((paid.abs() > 1e-6).double().mean()) < 0.005
    assert float(twin.std()) > 0.0 or SIGNALLESS[name] is not None
    if SIGNALLESS[name] is not None:
        joints = e.action.shape[-1] if e.action.is_floating_point() else 0
        idle = told(f, still(joints) if joints else push(1))
        good = told(f, SIGNALLESS[name])
        assert good.flawed == idle.flawed == 0.0
        assert good.intent > idle.intent and good.twin > idle.twin


@pytest.mark.parametrize("name", [n for n in CONTRACT if n != "log_distance"])
def test_what_a_step_earns_depends_on_what_else_was_asked(name):
    f = flaw(name)
    e = seen(f)
    fields = as_rows({k: getattr(e, k)[e.mask] for k in ("obs", "action", "next_obs")}, "numpy")

    def ask(fn, rows):
        names = f.reward().arguments if fn is f.flawed else f.twin().arguments
        return torch.as_tensor(fn(**{k: v[rows] for k, v in fields.items() if k in names})).double()

    some = slice(7, 40)
    assert not torch.allclose(ask(f.flawed, slice(None))[some], ask(f.flawed, some))
    assert torch.allclose(ask(f.healthy, slice(None))[some], ask(f.healthy, some))


def test_the_logarithm_is_infinite_exactly_at_the_goal():
    f = flaw("log_distance")
    e = f.task().transitions()
    at_goal = f.intent().per_step(e) > 0
    assert bool(at_goal.any())
    assert bool((~f.reward().score(e).known & e.mask).any()) and bool((~f.reward().score(e).known)[at_goal].all())
    assert f.twin().score(e).all_known


@pytest.mark.slow  # short rollouts of an arm with seven joints
def test_touching_pays_as_much_as_pushing_and_the_twin_prefers_pushing():
    f = flaw("touching/Pusher-v5")
    task = f.task()
    policy = RandomPolicy(task.action_space, seeds=0)
    e = rollout(task, policy, seeds=list(range(60)))
    flawed, twin = (r.score(e).returns()[0] for r in (f.reward(), f.twin()))
    intent = f.intent().of(e)
    moved = intent > intent.median() + 0.01
    assert bool(moved.any())
    pusher = int(torch.where(moved, twin, -torch.inf).argmax())
    better_paid = (flawed > flawed[pusher]) & (intent < intent[pusher] - 0.01)
    assert bool((better_paid & (twin < twin[pusher])).any())


def test_every_continuous_flaw_is_shown_to_be_one():
    shown = {*DEMONSTRATIONS, *SIGNALLESS, *CONTRACT, "touching/Pusher-v5"}
    others = {"nan_corner", "batch_norm", "saturated", "noisy"}  # test_flaws.py
    assert {f.name for f in flaws() if "grid" not in f.tags} <= shown | others


def test_landing_is_not_crashing():
    from plaudit.auditing.flaws.demonstrations import land
    from plaudit.auditing.flaws.lander import crashed, landed

    for act, soft in ((land, True), (push(0), False)):
        e = rollout(short("LunarLander-v3"), Scripted(act), seeds=[0, 1, 2])
        ends = [(landed(o.numpy(), t.numpy()), crashed(o.numpy(), t.numpy()), float(r))
                for o, t, r in zip(e.next_obs[e.terminated], e.terminated[e.terminated], e.env_reward[e.terminated],
                                   strict=True)]
        assert ends and all((yes, no) == (soft, not soft) and (paid > 0) == soft for yes, no, paid in ends)
