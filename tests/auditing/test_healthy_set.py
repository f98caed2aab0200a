"""The healthy rewards are healthy: shapings change no preference, and Gymnasium's lead to what they are named for."""

from __future__ import annotations

from collections import Counter

import gymnasium
import numpy as np
import pytest
import torch

from plaudit.auditing.flaws import demonstrations as do
from plaudit.auditing.flaws import flaws, healthy, healthy_reward, scripts, shaped
from plaudit.auditing.flaws.demonstrations import Scripted, hold, still
from plaudit.auditing.flaws.flaw import slug
from plaudit.core.errors import BadInput
from plaudit.core.functions import reward as as_reward
from plaudit.core.targets import load_target
from plaudit.optimize.tabular import expected_return, policy_iteration
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout
from plaudit.tasks.tabular import TabularMDP

ALL = {h.name: h for h in healthy()}
SHAPED = [name for name, h in ALL.items() if h.origin == "shaping"]
GYM = [name for name, h in ALL.items() if h.origin == "gymnasium"]
WEIGHED = [pytest.param(name, marks=pytest.mark.slow) if {"mujoco", "box2d"} & set(ALL[name].tags) else name
           for name in (*SHAPED, *GYM)]  # bodies: a third of a second each
TOY = [name for name in GYM if "grid" in ALL[name].tags]


def test_there_are_at_least_sixty_of_three_origins_with_names_of_their_own():
    assert len(ALL) == len(healthy()) >= 60
    assert len({slug(name) for name in ALL}) == len(ALL)
    of = Counter(h.origin for h in ALL.values())
    assert of["twin"] >= 60 and of["shaping"] >= 20 and of["gymnasium"] >= 12
    assert not {slug(name) for name in ALL} & {slug(f.name) for f in flaws()}


def test_every_flaw_has_its_twin_in_the_set_once():
    owners = Counter(name for h in ALL.values() for name in h.twin_of)
    assert owners == Counter({f.name: 1 for f in flaws()})


def test_twins_of_several_strengths_that_are_the_same_stand_in_it_once():
    assert healthy_reward("twin/coins").twin_of == ("coins", "coins/0.5")


def test_an_unknown_name_offers_near_ones():
    with pytest.raises(BadInput, match="twin/boat_race"):
        healthy_reward("twin/boatrace")


@pytest.mark.parametrize("name", WEIGHED)
def test_it_is_known_wherever_random_actions_lead_and_can_be_named(name):
    h = healthy_reward(name)
    task = h.task()
    e = rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=[1, 2])
    assert h.reward().score(e).all_known
    assert not bool(torch.isnan(h.intent().of(e)).any())
    assert callable(load_target(h.env).thing) and callable(load_target(h.wanted.rpartition(":")[0]).thing)
    assert h.target is None or callable(load_target(h.target).thing)


# --- exact shapings ---------------------------------------------------------------------------------------


def values(world, fn, policy=None) -> torch.Tensor:
    mdp = world.tabular(as_reward(fn), discount=shaped.DISCOUNT)
    plan = policy_iteration(mdp)
    return plan.value if policy is None else plan.policy


@pytest.mark.parametrize("name", [n for n in SHAPED if "grid" in ALL[n].tags])
def test_shaping_moves_every_optimal_value_by_the_potential_and_no_further(name):
    h = ALL[name]
    world = h.task()
    base, potential, weight = (h.paid.keywords[k] for k in ("base", "potential", "weight"))
    obs = world.transitions().obs[:, 0] if world.transitions().T == 1 else world.transitions().obs[0]
    index = world.index(obs)
    phi = torch.zeros(world.S, dtype=torch.float64)
    phi[index] = torch.as_tensor(weight * potential(obs.numpy()), dtype=torch.float64)
    live = torch.as_tensor(~world.terminal) & torch.zeros(world.S, dtype=torch.bool).index_fill(0, index, True)
    gap = values(world, h.paid) - (values(world, base) - phi)
    assert float(gap[live].abs().max()) < 1e-5  # Ng et al. (1999), corollary 2
    assert float(phi[live].std()) > 0.0


def test_a_potential_that_is_kept_at_the_end_moves_the_values_further():
    h = ALL["shaping/maze/closeness"]
    world = h.task()

    def careless(obs, action, next_obs, terminated, env_reward):
        return h.paid(obs, action, next_obs, terminated * 0, env_reward)

    moved = values(world, careless) - values(world, h.paid)
    assert float(moved[torch.as_tensor(~world.terminal)].abs().max()) > 0.1


@pytest.mark.parametrize("name", [p for p in WEIGHED if not isinstance(p, str) and p.values[0] in SHAPED
                                  or p in SHAPED and "grid" not in ALL[p].tags])
def test_the_discounted_sum_of_the_shaping_is_the_potential_at_both_ends(name):
    h = ALL[name]
    task = h.task()
    e = rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=[3, 4])
    potential, weight = h.paid.keywords["potential"], h.paid.keywords["weight"]
    paid = h.reward().score(e).contribution("shaping").double()
    discounts = shaped.DISCOUNT ** torch.arange(e.T, dtype=torch.float64)
    for b in range(e.B):
        n = int(e.lengths[b])
        first = weight * float(potential(e.obs[b, :1].numpy())[0])
        last = weight * float(potential(e.next_obs[b, n - 1 : n].numpy())[0]) * (not bool(e.terminated[b, n - 1]))
        assert float((discounts * paid[b])[:n].sum()) == pytest.approx(shaped.DISCOUNT**n * last - first, abs=1e-2)


# --- Gymnasium's own ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TOY)
def test_the_best_policy_of_a_toy_world_reaches_its_goal_as_surely_as_any_can(name):
    task = ALL[name].task()
    table = gymnasium.make(task.env, **task.kwargs).unwrapped

    def plan(pay):
        rows = [(s, a, t, p, pay(r, t, over)) for s, moves in table.P.items() for a, outcomes in moves.items()
                for p, t, r, over in outcomes]
        over = np.zeros(len(table.P) + 1, dtype=bool)
        over[-1] = True
        stop = len(table.P)
        finished = [bool(o[3]) for s, moves in table.P.items() for a, outs in moves.items() for o in outs]
        state, action, after, chance, paid = (np.array(x) for x in zip(*rows, strict=True))
        return TabularMDP.of_transitions(
            state=state, action=action, next_state=np.where(finished, stop, after), probability=chance, reward=paid,
            states=stop + 1, actions=len(table.P[0]), initial=np.append(table.initial_state_distrib, 0.0),
            terminal=over, discount=0.99)

    goal = {"CliffWalking-v1": 47}.get(task.env, 15)
    success = (lambda r, t, over: float(over and r == 20)) if task.env == "Taxi-v4" else (
        lambda r, t, over: float(over and t == goal))
    own, wanted = plan(lambda r, t, over: float(r)), plan(success)
    policy = policy_iteration(own).policy
    assert float(expected_return(wanted, policy)) == pytest.approx(float(policy_iteration(wanted).expected_return),
                                                                   rel=1e-6)


SOUND = {
    "CartPole-v1": (do.balance, do.push(1)),
    "Pendulum-v1": (do.swing_up, do.brake),
    "MountainCar-v0": (do.pump, do.push(1)),
    "MountainCarContinuous-v0": (do.as_force(do.pump), still(1)),
    "Acrobot-v1": (do.swing_tip, do.push(1)),
    "InvertedPendulum-v5": (do.balance_cart, hold(3.0)),
    "InvertedDoublePendulum-v5": (still(1), hold(1.0)),
    "Reacher-v5": (do.reach, still(2)),
    "Swimmer-v5": (scripts.SWIMS, still(2)),
    "HalfCheetah-v5": (scripts.CHEETAH_SPRINTS, still(6)),
    "Hopper-v5": (scripts.HOPPER_HOPS, still(3)),
    "Walker2d-v5": (scripts.WALKER_STEPS, still(6)),
    "LunarLander-v3": (do.land, do.push(0)),
}
"""A behaviour that does what is intended, and one that does not."""


def test_every_reward_of_gymnasium_has_its_evidence():
    assert {name.split("/")[1] for name in GYM if name not in TOY} == set(SOUND)


CHEAP = [e for e in SOUND if not e.endswith(("-v5", "-v3"))]
BODIES = [pytest.param(e, marks=pytest.mark.slow) for e in SOUND if e not in CHEAP]  # half a second of physics each


@pytest.mark.parametrize("env_id", [*CHEAP, *BODIES])
def test_what_is_intended_earns_more_than_doing_nothing_and_random_play(env_id):
    h = ALL[f"gymnasium/{env_id}"]
    task = h.task()
    good, idle = (rollout(task, Scripted(act), seeds=[0, 1, 2]) for act in SOUND[env_id])
    chance = rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=[0, 1, 2])
    paid = [float(h.reward().score(e).returns()[0].mean()) for e in (good, idle, chance)]
    done = [float(h.intent().of(e).double().mean()) for e in (good, idle, chance)]
    assert paid[0] > max(paid[1:]) and done[0] > max(done[1:])


@pytest.mark.slow  # a second of physics
def test_by_the_same_measure_the_reward_of_ant_is_not_sound():
    from plaudit.auditing.flaws import flaw

    exploit, good = scripts.DEMONSTRATIONS["wild/Ant-v5"].play(flaw("wild/Ant-v5"))
    assert exploit.flawed > good.flawed and exploit.intent < 0.1 < good.intent
