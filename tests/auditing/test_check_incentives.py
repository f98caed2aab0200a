"""Incentives: early ends, no ends, loops and shaping that is none, each planted and each beside a healthy twin."""

from __future__ import annotations

import itertools

import pytest
import torch

from plaudit.auditing.checks.cycles import best_loop, endless_optimum, loop_in
from plaudit.auditing.checks.incentives import CHECK
from plaudit.auditing.checks.potential import DENSE, Term, exact_fit, sampled_fit
from plaudit.auditing.checks.ranking import ranking
from plaudit.auditing.finding import Skipped
from plaudit.core.episodes import Episodes
from plaudit.core.functions import EnvReward, reward
from plaudit.tasks.classic import MountainCar
from plaudit.tasks.features import Bonus, Checkpoint, Goal, Lava
from plaudit.tasks.gridworld import GridWorld
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout
from plaudit.tasks.tabular import TabularMDP, random_mdp

N, E, S, W = range(4)
RACE = "S...G\n.....\nC.C..\n....."
TO_GOAL, TO_BUOYS = [E, E, E, E, N], [S, S, E, E, W, W]


def race(*, rearm="others", goal: float = 5.0) -> GridWorld:
    return GridWorld(RACE, [Checkpoint(rearm=rearm), Goal(reward=goal)], horizon=100, name="boat race")


# --- the check ----------------------------------------------------------------------------------------------


def test_circling_is_shown_as_a_loop_that_never_finishes(by_hand, moves) -> None:
    context = by_hand(race(), EnvReward(), found={"circling": moves(TO_BUOYS, loop=4)},
                      intended={"goal": moves(TO_GOAL)})
    (finding,) = CHECK.run(context)
    assert finding.severity == "high"
    assert finding.title == ("never finishing pays: circling (going round a loop of 4 steps) earns 50 and never "
                             "succeeds; finishing earns 5 and ends the income")
    assert finding.evidence["reward of a round"].mean == 2.0
    assert finding.evidence["best loop of all, reward a step (exact)"] == 0.5
    assert finding.evidence["best loop of all"] == "(2, 0) -> (2, 1) -> (2, 2) -> (2, 1) -> (2, 0)"
    assert finding.witness is not None
    assert len(finding.witness.frames) == 9


def test_death_to_escape_a_step_penalty_is_an_early_end(by_hand, moves) -> None:
    def maze(step):
        return GridWorld("LS........G", [Lava(reward=-1.0), Goal(reward=1.0)], step_reward=step, horizon=50)

    def audit(world):
        return CHECK.run(by_hand(world, EnvReward(), found={"into the lava": moves([W])},
                                 intended={"goal": moves([E])}))

    (finding,) = audit(maze(-1.0))
    assert finding.severity == "high"
    assert finding.title == ("ending early pays: into the lava is over after 1 steps, earns -2 and never succeeds; "
                             "doing what is intended takes 9 steps and earns -8")
    assert audit(maze(-0.1)) == [], "where steps are cheap the goal is better than death"


def test_rewards_that_are_never_positive_are_told_that_an_end_is_the_best_state(by_hand, moves) -> None:
    world = GridWorld("LS........G", [Lava(reward=0.0), Goal(reward=0.0)], step_reward=-1.0, horizon=50)
    (finding,) = CHECK.run(by_hand(world, EnvReward(), found={"lava": moves([W])}, intended={"goal": moves([E])}))
    assert "an end is the best state there is" in finding.advice
    assert finding.evidence["largest reward of a step"] == -1.0


def test_collecting_for_ever_beats_finishing_and_a_coin_does_not(by_hand, moves) -> None:
    def shop(when):
        return GridWorld("BS....G", [Bonus(when=when), Goal(reward=3.0)], horizon=60)

    def audit(world):
        return CHECK.run(by_hand(world, EnvReward(), found={"collecting": moves([W, W, E], loop=2)},
                                 intended={"goal": moves([E])}))

    (finding,) = audit(shop("entry"))
    assert finding.title.startswith("never finishing pays: collecting (going round a loop of 2 steps)")
    assert audit(shop("once")) == []


def test_a_loop_in_a_world_without_end_is_found_too(by_hand, moves) -> None:
    world = GridWorld("BS....G", [Bonus(when="entry"), Goal(reward=0.0, stops=False)], horizon=60)
    context = by_hand(world, EnvReward(), found={"collecting": moves([W, W, E], loop=2)}, intended={"goal": moves([E])})
    (finding,) = CHECK.run(context)
    assert finding.title.startswith("going round a loop of 2 steps pays 1 a round: collecting earns")


def test_where_the_goal_itself_is_reached_by_going_round_a_loop_is_no_flaw(by_hand, moves) -> None:
    """Running backwards is an exploit of a wrong sign, but not because it is a gait."""
    from plaudit.auditing.intent import Intent

    world = GridWorld("S.\n..", horizon=40)

    def clockwise(obs, next_obs):
        turn = (obs[..., 0] - 0.5) * (next_obs[..., 1] - 0.5) - (obs[..., 1] - 0.5) * (next_obs[..., 0] - 0.5)
        return -2.0 * turn

    aim = Intent("clockwise", "many rounds clockwise", reward(clockwise), "sum")
    context = by_hand(world, reward(lambda obs, next_obs: -clockwise(obs, next_obs)), intent=aim,
                      found={"the other way": moves([S, E, N, W], loop=4)},
                      intended={"round": moves([E, S, W, N], loop=4)})
    assert CHECK.run(context) == []
    assert len(ranking(context).exploits) == 1


@pytest.mark.parametrize("discount", [0.9, 0.99, 0.999])
def test_a_race_with_potential_shaping_is_healthy(by_hand, moves, discount) -> None:
    shaped = EnvReward().shaped_by(lambda obs: 5 * obs[..., 1] - 3 * obs[..., 0], discount=discount)
    context = by_hand(race(rearm="never"), shaped, found={"circling": moves(TO_BUOYS, loop=4), "east": moves([E])},
                      intended={"goal": moves(TO_GOAL)}, discount=discount)
    assert CHECK.run(context) == []


def one_way(obs, next_obs):
    """Progress to the right pays and is not taken back; the flag pays 1."""
    return {"progress": 10.0 * (next_obs[..., 0] - obs[..., 0]).clip(min=0), "flag": 1.0 * (next_obs[..., 0] >= 0.5)}


def both_ways(obs, next_obs):
    return {"progress": 10.0 * (next_obs[..., 0] - obs[..., 0]), "flag": 1.0 * (next_obs[..., 0] >= 0.5)}


def the_car(by_hand, rule, pay, **options):
    drive = rule(lambda obs: torch.where(obs[:, 1] > 0, 2, 0))

    def rock(obs):
        energy = 0.0025 / 3 * torch.sin(3 * obs[:, 0]) + obs[:, 1] ** 2 / 2
        return torch.where((obs[:, 1] > 0) == (energy < 0.0004), 2, 0)

    return by_hand(MountainCar(horizon=400), reward(pay), found={"rocking": rule(rock)}, intended={"driving": drive},
                   **options)


def test_rocking_for_one_way_progress_is_found_with_the_term_that_pays(by_hand, rule) -> None:
    (finding,) = CHECK.run(the_car(by_hand, rule, one_way))
    assert finding.severity == "high"
    assert "rocking (going round a loop of" in finding.title
    assert finding.evidence["term that pays for it"] == "progress"
    assert finding.evidence["share of it that is no potential difference"] > 0.2
    assert finding.evidence["potential fitted exactly"] is False


def test_progress_that_is_taken_back_is_healthy(by_hand, rule) -> None:
    assert CHECK.run(the_car(by_hand, rule, both_ways)) == []


def test_a_shaping_term_that_is_none_is_named_where_no_loop_explains_the_exploit(by_hand, moves) -> None:
    """A path that leads away pays a bonus at each of its many cells, once: no loop, no early end."""
    world = GridWorld("G.S........\n###########", horizon=30)

    def paid_for_the_east(obs, next_obs, env_reward):
        fresh = (next_obs[..., 1] - obs[..., 1]).clip(min=0) * (obs[..., 1] > 0.15)
        return {"shaping": 30.0 * fresh, "goal": env_reward}

    context = by_hand(world, reward(paid_for_the_east), intended={"goal": moves([W])},
                      found={"to the far end": moves([E] * 8 + [N])}, discount=0.9)
    (finding,) = CHECK.run(context)
    assert finding.evidence["term that pays for it"] == "shaping"


# --- without an intent ----------------------------------------------------------------------------------------


def test_without_an_intent_a_loop_that_beats_the_paid_end_is_proven_exactly(by_hand, moves) -> None:
    context = by_hand(race(), EnvReward(), found={"circling": moves(TO_BUOYS, loop=4)}, intent=None)
    (finding,) = CHECK.run(context)
    assert finding.severity == "high"
    assert finding.evidence["proven exactly"] is True
    assert finding.evidence["reward a step of the loop"] == 0.5
    assert finding.witness is not None


def test_without_an_intent_living_on_is_no_flaw_where_the_end_pays_nothing(by_hand, moves) -> None:
    world = GridWorld("LS...", [Lava(reward=-1.0)], step_reward=0.1)
    assert CHECK.run(by_hand(world, EnvReward(), found={"stay": moves([N])}, intent=None)) == []


def test_without_an_intent_potential_shaping_proves_nothing(by_hand, moves) -> None:
    shaped = EnvReward().shaped_by(lambda obs: 20 * (obs[..., 1] - 1), discount=0.99)
    world = GridWorld("S.......G")
    assert CHECK.run(by_hand(world, shaped, found={"stay": moves([N])}, intent=None)) == []
    assert best_loop(world.tabular(shaped, discount=0.99)).mean_reward > 0, "though standing far away pays, per step"


def test_without_an_intent_and_a_table_nothing_is_claimed(by_hand, rule) -> None:
    still = rule(lambda obs: torch.ones(len(obs), dtype=torch.int64))
    assert isinstance(CHECK.run(by_hand(MountainCar(), EnvReward(), found={"still": still}, intent=None)), Skipped)


# --- loops ------------------------------------------------------------------------------------------------------


def all_loops(mdp: TabularMDP) -> float:
    """The best mean of any simple loop, by trying all."""
    best, reach = -float("inf"), mdp.reachable()
    states = [s for s in range(mdp.S) if reach[s] and not mdp.terminal[s]]
    for n in range(1, len(states) + 1):
        for walk in itertools.permutations(states, n):
            total = 0.0
            for a, b in zip(walk, walk[1:] + walk[:1], strict=True):
                sure = mdp.transition[a, :, b] > 1 - 1e-9
                total += float(mdp.reward[a, sure, b].max()) if bool(sure.any()) else -float("inf")
            best = max(best, total / n)
    return best


@pytest.mark.parametrize("map", ["SB.\n.G.", "S.B\nB#.", "SC\nC."])
def test_the_best_loop_is_that_of_brute_force(map) -> None:
    letters = {"B": Bonus(when="entry", reward=2.0), "C": Checkpoint(rearm="always"), "G": Goal()}
    world = GridWorld(map, [f for letter, f in letters.items() if letter in map], step_reward=-0.25)
    mdp = world.tabular(discount=0.9)
    assert best_loop(mdp).mean_reward == pytest.approx(all_loops(mdp))


def test_a_wandering_walk_is_no_loop_and_a_costly_round_is_none_either() -> None:
    generator = torch.Generator().manual_seed(1)
    walk = torch.randn(200, 2, generator=generator).cumsum(0)
    assert loop_in(walk, torch.ones(200)) is None
    circle = torch.stack([torch.sin(torch.arange(200) / 3), torch.cos(torch.arange(200) / 3)], 1)
    assert loop_in(circle, -torch.ones(200)) is None
    found = loop_in(circle, torch.ones(200))
    assert found is not None
    assert 18 <= found.steps <= 20  # a round is 2 pi * 3 = 18.8 steps


def test_the_proof_asks_that_the_end_is_the_largest_pay() -> None:
    paid = race().tabular(discount=0.99)
    assert endless_optimum(paid) is not None
    assert endless_optimum(race(goal=0.5).tabular(discount=0.99)) is None, "then the end may not be wanted"
    assert endless_optimum(race(goal=500.0).tabular(discount=0.99)) is None, "then ending is best"


# --- potential differences ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_true_potential_difference_is_explained_to_the_last_digit(seed) -> None:
    mdp = random_mdp(states=12, actions=3, discount=0.9, seed=seed)
    phi = torch.randn(12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pure = (0.9 * phi.view(1, 1, -1) - phi.view(-1, 1, 1)).expand(12, 3, 12)
    share, fitted = exact_fit(mdp.with_reward(pure))
    assert share < 1e-12
    torch.testing.assert_close(fitted, phi)


def test_what_depends_on_the_action_is_no_potential_difference() -> None:
    mdp = random_mdp(states=12, actions=3, discount=0.9, seed=0)
    for_acting = torch.zeros(12, 3, 12, dtype=torch.float64)
    for_acting[:, 1] = 1.0
    assert exact_fit(mdp.with_reward(for_acting))[0] > 0.5


def test_shaping_on_a_grid_is_exact_and_its_positive_part_is_not() -> None:
    world = GridWorld("S....\n.....\n....G")
    near = reward(lambda obs, next_obs: {"shaping": (0.99 * next_obs.sum(-1) - obs.sum(-1))}, name="near")
    no_end = GridWorld("S....\n.....\n.....")
    assert exact_fit(no_end.tabular(near, discount=0.99))[0] < 1e-6
    one_sided = reward(lambda obs, next_obs: (next_obs.sum(-1) - obs.sum(-1)).clip(min=0))
    assert exact_fit(world.tabular(one_sided, discount=0.99))[0] > 0.3


def test_a_potential_that_is_not_zero_at_the_end_is_not_fully_explained() -> None:
    """Paid for the end itself: the classical slip (Grzes 2017)."""
    world = GridWorld("S...G\n....L")
    careless = reward(lambda obs, next_obs: 0.99 * next_obs[..., 0] - obs[..., 0])
    assert exact_fit(world.tabular(careless, discount=0.99))[0] > 1e-3
    strict = EnvReward().shaped_by(lambda obs: obs[..., 0], discount=0.99) - EnvReward()
    assert exact_fit(world.tabular(strict, discount=0.99))[0] < 1e-6


def test_on_samples_shaping_is_told_from_what_is_none() -> None:
    task = MountainCar()
    parts = [rollout(task, RandomPolicy(task.action_space, seeds=i), seeds=range(4)) for i in range(8)]

    def share(fn, discount=1.0):
        fit = sampled_fit(parts, reward(fn), discount=discount)
        assert fit is not None
        return fit.unexplained

    assert share(lambda obs, next_obs: next_obs[..., 0] - obs[..., 0]) < 1e-3
    assert share(lambda obs, next_obs: torch.sin(3 * next_obs[..., 0]) - torch.sin(3 * obs[..., 0])) < 1e-2
    assert share(lambda obs, next_obs: (next_obs[..., 0] - obs[..., 0]).clip(min=0)) > 0.2
    assert share(lambda next_obs: next_obs[..., 1].abs()) > 0.2


def test_a_term_is_what_it_pays_with_its_weight() -> None:
    e = Episodes.of_steps(obs=torch.zeros(3, 1), action=torch.zeros(3), next_obs=torch.ones(3, 1),
                          terminated=torch.tensor([False, False, True]))
    both = 2.0 * reward(lambda next_obs: {"a": next_obs[..., 0], "b": 3 * next_obs[..., 0]})
    assert Term(both, "b")(e).tolist() == [[6.0, 6.0, 6.0]]
    assert Term(both, DENSE)(e).tolist() == [[8.0, 8.0, 0.0]]
    assert "expected one of" in str(Term(both, "c").score(e).counts())
