"""Repairs: applied and audited again, shown only if they help; and the rewards that they are made of."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from plaudit.auditing.checks import exploit, incentives
from plaudit.auditing.checks.ranking import ranking
from plaudit.auditing.mending import Absorbing, AsPotential, OncePerPlace, ScaledTerm
from plaudit.auditing.repair import propose, repairs
from plaudit.core.algebra import PotentialDifference
from plaudit.core.episodes import Episodes
from plaudit.core.functions import EnvReward, reward
from plaudit.tasks.classic import MountainCar
from plaudit.tasks.features import Bonus, Checkpoint, Goal, Lava
from plaudit.tasks.gridworld import GridWorld
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout

N, E, S, W = range(4)


def mended(context, check=exploit.CHECK):
    return propose(context, check.run(context)[0])


# --- audited again ------------------------------------------------------------------------------------------


def test_farmed_buoys_are_paid_once_and_the_numbers_before_and_after_are_shown(by_hand, moves) -> None:
    world = GridWorld("S...G\n.....\nC.C..\n.....", [Checkpoint(rearm="others"), Goal(reward=5.0)], horizon=100)
    context = by_hand(world, EnvReward(), found={"circling": moves([S, S, E, E, W, W], loop=4)},
                      intended={"goal": moves([E, E, E, E, N])})
    fix = mended(context).fix
    assert fix is not None
    assert fix.before["reward of the exploit"].mean == 50.0
    assert fix.before["intent of the best-paid"].mean == 0.0
    assert fix.after["intent of the best-paid"].mean == 1.0
    assert fix.after["reward of the exploit"].mean < fix.after["reward of the best intended"].mean


def test_paid_closeness_becomes_a_potential_difference(by_hand, moves) -> None:
    def near(next_obs, terminated):
        return {"closeness": next_obs[..., 1], "goal": 2.0 * terminated}

    world = GridWorld("S.......G", horizon=80)
    context = by_hand(world, reward(near), found={"waiting": moves([E] * 7 + [N])}, intended={"goal": moves([E])})
    fix = mended(context).fix
    assert fix is not None
    assert fix.description.startswith("pay closeness as a difference: 0.99 * closeness(next_obs) - closeness(obs)")
    assert fix.after["intent of the best-paid"].mean == 1.0


def test_an_end_that_escapes_the_penalty_is_made_to_cost_what_it_escapes(by_hand, moves) -> None:
    world = GridWorld("LS........G", [Lava(reward=-1.0), Goal(reward=1.0)], step_reward=-1.0, horizon=50)
    context = by_hand(world, EnvReward(), found={"lava": moves([W])}, intended={"goal": moves([E])})
    fix = mended(context, incentives.CHECK).fix
    assert fix is not None
    assert fix.description.startswith("make an end without success cost 110")
    assert fix.after["reward of the exploit"].mean == pytest.approx(-112)
    assert fix.after["intent of the best-paid"].mean == 1.0


def test_collecting_for_ever_is_mended(by_hand, moves) -> None:
    world = GridWorld("BS....G", [Bonus(when="entry"), Goal(reward=3.0)], horizon=60)
    context = by_hand(world, EnvReward(), found={"collecting": moves([W, W, E], loop=2)}, intended={"goal": moves([E])})
    fix = mended(context, incentives.CHECK).fix
    assert fix is not None
    assert fix.after["intent of the best-paid"].mean == 1.0


def test_a_speed_with_the_wrong_sign_is_turned(by_hand, moves) -> None:
    def backwards(obs, next_obs):
        return {"speed": obs[..., 1] - next_obs[..., 1], "time": -0.001 + 0 * obs[..., 0]}

    def forwards(obs, next_obs):
        return next_obs[..., 1] - obs[..., 1]

    from plaudit.auditing.intent import Intent

    world = GridWorld("......S......", horizon=20)
    aim = Intent("forwards", "a long way forwards", reward(forwards), "sum")
    some = {f"{n} steps west": moves([W] * n + [N]) for n in (6, 4, 2)}
    far = {f"{n} steps east": moves([E] * n + [N]) for n in (6, 4, 2)}
    context = by_hand(world, reward(backwards), found=some, intended=far, intent=aim)
    fix = mended(context).fix
    assert fix is not None
    assert fix.description == "turn the sign of speed"
    assert fix.after["best-paid behaviour"] != "6 steps west"


def test_a_cost_that_drowns_the_rest_is_made_as_large_as_the_rest(by_hand, rule) -> None:
    def drowned(obs, action, next_obs):
        return {"flag": 1.0 * (next_obs[..., 0] >= 0.5), "effort": -50.0 * (action != 1)}

    drive = rule(lambda obs: torch.where(obs[:, 1] > 0, 2, 0))
    still = rule(lambda obs: torch.ones(len(obs), dtype=torch.int64))
    context = by_hand(MountainCar(), reward(drowned), found={"still": still}, intended={"driving": drive})
    fix = mended(context).fix
    assert fix is not None
    assert fix.after["intent of the best-paid"].mean == 1.0


def test_a_repair_that_a_new_search_defeats_is_not_shown_but_told(by_hand, moves) -> None:
    """The broken variant: under every repair the second search finds a behaviour that makes the reward unknown."""
    world = GridWorld("S...G\n.....\nC.C..\n.....", [Checkpoint(rearm="others"), Goal(reward=5.0)], horizon=100)
    context = by_hand(world, EnvReward(), found={"circling": moves([S, S, E, E, W, W], loop=4)},
                      intended={"goal": moves([E, E, E, E, N])})
    (finding,) = exploit.CHECK.run(context)

    class Stubborn(type(context)):
        def search(self, fixed, *, share, plan_for=None):
            found = super().search(fixed, share="reward")
            circling = found.behaviours[0]
            broken = circling.episodes.replace(env_reward=circling.episodes.env_reward * torch.nan)
            return replace(found, behaviours=[replace(circling, name="a new trick", episodes=broken, policy=None)])

    context.__class__ = Stubborn
    told = propose(context, finding)
    assert told.fix is None
    assert "tried without success" in told.evidence


def test_at_most_two_repairs_are_searched_in_one_audit(by_hand, moves) -> None:
    world = GridWorld("BS....G", [Bonus(when="entry"), Goal(reward=3.0)], horizon=60)
    context = by_hand(world, EnvReward(), found={"collecting": moves([W, W, E], loop=2)}, intended={"goal": moves([E])})
    (finding,) = exploit.CHECK.run(context)
    context.memo["_repairs searched"] = 2
    assert propose(context, finding) is finding


def test_without_an_intent_no_repair_can_be_measured_and_none_is_claimed(by_hand, moves) -> None:
    world = GridWorld("S...G\n.....\nC.C..\n.....", [Checkpoint(rearm="others"), Goal(reward=5.0)], horizon=100)
    context = by_hand(world, EnvReward(), found={"circling": moves([S, S, E, E, W, W], loop=4)}, intent=None)
    (finding,) = incentives.CHECK.run(context)
    assert propose(context, finding) is finding


def test_every_repair_leaves_a_healthy_order_or_is_dropped(by_hand, moves) -> None:
    world = GridWorld("S...G\n.....\nC.C..\n.....", [Checkpoint(rearm="others"), Goal(reward=5.0)], horizon=100)
    context = by_hand(world, EnvReward(), found={"circling": moves([S, S, E, E, W, W], loop=4)},
                      intended={"goal": moves([E, E, E, E, N])})
    ranked = ranking(context)
    some = repairs(context, ranked, ranked.exploits[0])
    assert len({r.description for r in some}) == len(some) >= 3
    for r in some:
        assert r.reward.score(context.random).all_known


# --- the rewards that repairs are made of ----------------------------------------------------------------------


def walk(seed: int = 0, rows: int = 3) -> Episodes:
    world = GridWorld("S.B\n.#.\n..G", [Bonus(when="entry", reward=2.0), Goal()], horizon=25)
    return rollout(world, RandomPolicy(world.action_space, seeds=seed), seeds=range(rows))


def streamed(made, episodes: Episodes) -> torch.Tensor:
    carry, out = made.start(episodes.B), []
    for t in range(episodes.T):
        score, carry = made.stream(episodes.steps(t, t + 1), carry)
        out.append(score.value)
    return torch.cat(out, 1)


@pytest.mark.parametrize("make", [lambda r: OncePerPlace(r), lambda r: ScaledTerm(r, "env_reward", 0.5),
                                  lambda r: Absorbing(r, None, for_failure=-3.0)])
@pytest.mark.parametrize("seed", range(3))
def test_step_by_step_gives_the_same_as_whole_episodes(make, seed) -> None:
    episodes = walk(seed)
    made = make(EnvReward())
    torch.testing.assert_close(streamed(made, episodes), made(episodes))


def test_a_place_pays_once_an_episode_whatever_the_order_and_costs_stay() -> None:
    def at(*xs):
        x = torch.tensor(xs).unsqueeze(1)
        return Episodes.of_steps(obs=x, action=torch.zeros(len(xs)), next_obs=x)

    pay = OncePerPlace(reward(lambda next_obs: next_obs[..., 0]))
    assert pay(at(1.0, 2.0, 1.0, -1.0, -1.0, 2.0)).tolist() == [[1.0, 2.0, 0.0, -1.0, -1.0, 0.0]]
    both = Episodes.cat([at(1.0, 1.0), at(1.0, 2.0)])
    assert pay(both).tolist() == [[1.0, 0.0], [1.0, 2.0]], "rows do not share what they have seen"


def test_a_row_that_starts_again_has_seen_nothing() -> None:
    x = torch.tensor([[[1.0]], [[1.0]]])
    step = Episodes.cat([Episodes.of_steps(obs=x[i], action=torch.zeros(1), next_obs=x[i]) for i in range(2)])
    pay = OncePerPlace(reward(lambda next_obs: next_obs[..., 0]))
    _, carry = pay.stream(step, pay.start(2))
    carry = pay.restart(carry, torch.tensor([True, False]))
    assert pay.stream(step, carry)[0].value.tolist() == [[1.0], [0.0]]


def test_an_end_is_paid_by_what_brought_it_about() -> None:
    def ends(success):
        return Episodes.of_steps(obs=torch.zeros(2, 1), action=torch.zeros(2), next_obs=torch.full((2, 1), success),
                                 terminated=torch.tensor([False, True]))

    won = reward(lambda next_obs: next_obs[..., 0])
    made = Absorbing(reward(lambda obs: obs[..., 0] - 1), won, for_success=5.0, for_failure=-7.0)
    assert made(ends(1.0)).tolist() == [[-1.0, 4.0]]
    assert made(ends(0.0)).tolist() == [[-1.0, -8.0]]
    assert made.score(ends(float("nan"))).known.tolist() == [[True, False]], "an unknown end is not a failure"


def test_a_term_as_a_potential_is_what_it_pays_for_being_there() -> None:
    x = torch.tensor([[0.0], [1.0], [4.0]])
    e = Episodes.of_steps(obs=x, action=torch.zeros(3), next_obs=x + 1, terminated=torch.tensor([False, False, True]))
    square = reward(lambda next_obs: next_obs[..., 0] ** 2)
    assert AsPotential(square)(e).tolist() == [[0.0, 1.0, 16.0]]
    assert PotentialDifference(AsPotential(square), discount=0.5)(e).tolist() == [[0.5, 1.0, -16.0]]
