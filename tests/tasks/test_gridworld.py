from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from plaudit.core.errors import BadInput, Unsupported
from plaudit.tasks.arrays import ArrayBatch
from plaudit.tasks.features import Bonus, Checkpoint, Dirt, Feature, Goal, Lava
from plaudit.tasks.gridworld import GridWorld
from plaudit.tasks.making import from_spec
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import replay, rollout

N, E, S, W = 0, 1, 2, 3
RICH = """
S.DBL
.#D.C
TGC.S
"""


def rich(**options) -> GridWorld:
    return GridWorld(RICH, [Dirt(dump=True), Checkpoint(rearm=2), Goal(requires="B")], **options)


def walk(world: GridWorld, moves: list[int]):
    return replay(world, torch.tensor([moves]), [0])


# --- an independent simulator, cell by cell, in plain Python: the planted truth ---------------------------


def slow_step(world: GridWorld, row: int, column: int, flags: dict, name: str):
    """One deterministic move in the rich world, written without tables."""
    rows = RICH.strip("\n").split("\n")
    here, reward = rows[row][column], world.step_reward
    dr, dc = {"north": (-1, 0), "south": (1, 0), "east": (0, 1), "west": (0, -1)}.get(name, (0, 0))
    r, c = row + dr, column + dc
    if not (0 <= r < len(rows) and 0 <= c < len(rows[0])) or rows[r][c] == "#" or here == "T":
        r, c = row, column
    there, entered, flags = rows[r][c], (r, c) != (row, column), dict(flags)
    for key in [k for k in flags if k[0] == "C"]:
        flags[key] = max(0, flags[key] - 1)
    if there == "D":
        if name != "dump" and not flags["D", r, c]:
            reward, flags["D", r, c] = reward + 1, 1
        elif name == "dump" and flags["D", r, c]:
            flags["D", r, c] = 0
    if there == "C" and entered and flags["C", r, c] == 0:
        reward, flags["C", r, c] = reward + 1, 2
    if there == "B" and not flags["B", r, c]:
        reward, flags["B", r, c] = reward + 1, 1
    if there == "L" and entered:
        reward -= 1
    coins = all(v for k, v in flags.items() if k[0] == "B")
    goal = there == "G" and coins
    if goal and entered:
        reward += 1
    return r, c, flags, reward, there == "L" or goal


def test_the_table_equals_a_simulation_cell_by_cell():
    world = rich(stay=True, step_reward=-0.25)
    rows = RICH.strip("\n").split("\n")
    letters = [(rows[r][c], r, c) for r in range(3) for c in range(5) if rows[r][c] in "DCB"]
    rng, seen_end = np.random.default_rng(0), 0
    for episode in range(60):
        batch = world.make(1)
        batch.autoreset = False
        obs = batch.reset([episode])
        r, c = (round(float(x) * n) for x, n in zip(obs[0, :2], (2, 4), strict=True))
        flags = dict.fromkeys(letters, 0)
        for _ in range(60):
            a = int(rng.integers(len(world.action_names)))
            step = batch.step(torch.tensor([a]))
            r, c, flags, reward, ended = slow_step(world, r, c, flags, world.action_names[a])
            assert torch.allclose(step.next_obs[0, :2], torch.tensor([r / 2, c / 4]))
            assert float(step.env_reward) == pytest.approx(reward)
            assert bool(step.terminated) == ended
            if ended:
                seen_end += 1
                break
    assert 5 < seen_end < 60


def test_frequencies_and_rewards_under_random_actions_match_the_exact_process():
    world = rich(slip=0.3, stay=True, horizon=10_000)
    mdp = world.tabular(discount=0.9, sparse=True)
    batch, rows, steps = world.make(4000), 4000, 100
    obs, policy = batch.reset(range(rows)), RandomPolicy(world.action_space, list(range(rows)))
    carry, log = policy.start(rows), []
    for t in range(steps):
        action, carry = policy.act(obs, carry, step=t)
        step = batch.step(action)
        log.append((step.info["state"], action, step.info["next_state"], step.env_reward))
        obs = step.obs
    s, a, t, r = (torch.cat(x).numpy() for x in zip(*log, strict=True))
    S, A = mdp.S, mdp.A
    row = s * A + a
    matrix = mdp.transition.toarray()
    assert (matrix[row, t] > 0).all(), "nothing happens that the exact process excludes"
    for key in np.argsort(-np.bincount(row, minlength=S * A))[:200]:
        here = row == key
        n = int(here.sum())
        expected, seen = matrix[key], np.bincount(t[here], minlength=S) / n
        assert np.abs(seen - expected).max() < 5 * np.sqrt(0.25 / n), "transition frequencies"
        mean = mdp.expected_reward()[key // A, key % A].item()
        assert abs(r[here].mean() - mean) < 5 * max(r[here].std(), 0.05) / np.sqrt(n), "rewards"
    initial = np.bincount(world.index(world.make(rows).reset(range(rows))).numpy(), minlength=S) / rows
    assert np.abs(initial - mdp.initial.numpy()).max() < 5 * np.sqrt(0.25 / rows)


def test_a_wrong_slip_would_be_noticed():
    world, other = rich(slip=0.3), rich(slip=0.1)
    gap = world.tabular(discount=0.9, sparse=False).transition - other.tabular(discount=0.9, sparse=False).transition
    assert float(gap.abs().max()) > 0.1


def test_numpy_and_torch_give_the_same_episodes():
    world = rich(slip=0.4, stay=True, horizon=20)
    policy = RandomPolicy(world.action_space, 3)
    records = []
    for xp in (np, torch):
        batch = ArrayBatch(world, 16, xp=xp)
        obs, carry, out = batch.reset(range(16)), policy.start(16), []
        for t in range(60):
            action, carry = policy.act(obs, carry, step=t)
            step = batch.step(action)
            out += [step.next_obs, step.obs, step.env_reward, *step.info.values()]
            obs = step.obs
        records.append(out)
    assert all(torch.equal(a, b) for a, b in zip(*records, strict=True))


def test_index_inverts_the_observation_in_both_forms():
    for one_hot in (False, True):
        world = rich(one_hot=one_hot)
        states = np.arange(world.S)
        assert torch.equal(world.index(torch.from_numpy(world.observe(states[None], np))), torch.arange(world.S))
        assert world.obs_space.contains(world.observe(states[:1][None], np)[0])
        assert len(world.obs_names) == world.obs_space.shape[0]


def test_the_farmed_checkpoint_pays_forever_and_the_lap_pays_once_around():
    farmed = GridWorld("SC.", [Checkpoint(rearm="always")])
    assert walk(farmed, [E, W] * 5).env_reward.sum() == 5
    once = GridWorld("SC.", [Checkpoint()])
    assert walk(once, [E, W] * 5).env_reward.sum() == 1
    others = GridWorld("SCC", [Checkpoint(rearm="others")])
    assert walk(others, [E, E, W, E, W]).env_reward.tolist() == [[1, 1, 1, 1, 1]]
    assert walk(others, [E, W, E, W]).env_reward.tolist() == [[1, 0, 0, 0]]
    timed = GridWorld("SC.", [Checkpoint(rearm=4)])
    assert walk(timed, [E, W, E, W, E, W, E]).env_reward.tolist() == [[1, 0, 0, 0, 1, 0, 0]]


def test_a_lap_needs_its_checkpoints_and_arms_them_again():
    ring = GridWorld("SC\nGC", [Checkpoint(), Goal(stops=False, requires="C", resets="C", reward=10)])
    lap = walk(ring, [E, S, W, N])
    assert lap.env_reward.tolist() == [[1, 1, 10, 0]]
    assert lap.info["is_success"].tolist() == [[False, False, True, False]]
    assert walk(ring, [S, N, S, N]).env_reward.sum() == 0, "crossing the line without checkpoints pays nothing"
    assert walk(ring, [E, S, W, N] * 3).env_reward.sum() == 36
    assert not ring.terminal.any()


def test_dirt_can_be_dumped_and_collected_again():
    room = GridWorld("SD", [Dirt(dump=True)], stay=True)
    dump, stay = room.action_names.index("dump"), room.action_names.index("stay")
    play = walk(room, [E, dump, stay, dump, stay])
    assert play.env_reward.tolist() == [[1, 0, 1, 0, 1]]
    assert play.info["event_dump"].sum() == 2
    assert play.info["is_success"].tolist() == [[True, False, True, False, True]]
    assert play.info["dirt_clean"].tolist() == [[1, 0, 1, 0, 1]]
    assert "dump" not in GridWorld("SD").action_names


def test_coins_are_taken_once_and_lava_ends_without_success():
    play = walk(GridWorld("SBL"), [E, W, E, E])
    assert play.env_reward.tolist() == [[1, 0, 0, -1]]
    assert bool(play.terminated[0, 3]) and not bool(play.info["is_success"].any())
    assert walk(GridWorld("SB", [Bonus(when="step")], stay=True), [E, 4, 4]).env_reward.sum() == 3
    assert walk(GridWorld("SB", [Bonus(when="entry")], stay=True), [E, 4, W, E]).env_reward.sum() == 2


def test_a_trap_holds_whoever_enters():
    play = walk(GridWorld("STG"), [E, E, W, N])
    assert play.info["next_state"].tolist() == [[1, 1, 1, 1]] and play.info["event_trap"].sum() == 1


def test_terminal_states_absorb_and_pay_nothing():
    world = rich()
    ends = world.terminal
    assert ends.any()
    assert (world.next_state[ends] == np.flatnonzero(ends)[:, None]).all() and (world.reward[ends] == 0).all()


def test_a_users_reward_is_tabulated_from_observations_alone():
    world = GridWorld("S.G\n...", slip=0.2)
    east = lambda obs, next_obs: next_obs[..., 1] - obs[..., 1]  # noqa: E731
    mdp = world.tabular(east, discount=0.9, sparse=False)
    for s in range(world.S):
        for t in range(world.S):
            if not world.terminal[s] and mdp.transition[s, 1, t] > 0:
                assert mdp.reward[s, 1, t] == pytest.approx((world.cells[t, 1] - world.cells[s, 1]) / 2)


def test_a_reward_with_memory_is_refused():
    import plaudit

    late = plaudit.reward(lambda obs: obs[..., 0], time="episode")
    with pytest.raises(Unsupported, match="more than one step"):
        GridWorld("SG").tabular(late)


def test_a_hundred_thousand_states_take_seconds():
    begin = time.process_time()
    world = GridWorld("\n".join(["S.........", *[".........."] * 8, "D" * 10]), [Dirt(dump=True)])
    mdp = world.tabular()
    assert world.S == 102_400 and mdp.sparse
    assert time.process_time() - begin < 5


def test_specs_make_the_same_world_again():
    world = rich(slip=0.1, stay=True, one_hot=True, name="rich", horizon=7)
    again = from_spec(world.spec())
    assert isinstance(again, GridWorld) and again.spec() == world.spec()
    assert np.array_equal(again.next_state, world.next_state) and np.array_equal(again.reward, world.reward)


@dataclass(frozen=True, kw_only=True)
class Ice(Feature):
    letter: str = "I"

    def apply(self, moment):
        moment.happened("slid", moment.entered("I"), pays=2.0)


def test_a_feature_of_ones_own_works_but_has_no_spec():
    world = GridWorld("SI", [Ice()])
    assert walk(world, [E]).info["event_slid"].tolist() == [[True]]
    assert world.draw(np.array([0]), None).shape == (56, 112, 3)
    with pytest.raises(Unsupported, match="Ice"):
        world.spec()


@pytest.mark.parametrize(("map", "features", "message"), [
    ("G..", [], "start"), ("S.\n...", [], "one length"), ("SX", [], "letter"), ("SG", [Lava()], "stands on the map"),
    ("SG", [Goal(), Goal()], "one for each"), ("S" + "D" * 25, [], "at most"),
])
def test_bad_maps_say_what_is_wrong(map, features, message):
    with pytest.raises(BadInput, match=message):
        GridWorld(map, features)


def test_pictures_show_the_state_and_the_path():
    world = rich()
    before, after = (world.draw(np.array([s]), None) for s in (0, int(world.next_state[0, E])))
    assert before.shape == after.shape and not np.array_equal(before, after)
    play = rollout(world, RandomPolicy(world.action_space, 0), seeds=[1])
    path = world.draw_path(play.info["state"][0, : int(play.lengths[0])])
    assert path.shape == before.shape and not np.array_equal(path, before)
