from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.score import Score
from plaudit.core.seeds import Seeds
from plaudit.optimize.rl.optimiser import MemberNoise
from plaudit.optimize.rl.relabel import Targets
from plaudit.optimize.rl.replay import Replay

P, N = 2, 3


def steps(start, T, *, terminated=(), truncated=(), unknown=()):
    """T steps of every row; obs is (row, time), the reward of a step at time t is 2 ** t."""
    time = torch.arange(start, start + T).expand(P * N, T)
    row = torch.arange(P * N).unsqueeze(1).expand(P * N, T)
    at = lambda times: torch.isin(time, torch.tensor(list(times) or [-1]))  # noqa: E731
    obs = torch.stack([row, time], -1).float()
    following = {"a": obs + torch.tensor([0, 1]), "b": obs.long()}
    e = Episodes(obs={"a": obs, "b": obs.long()}, action=row, next_obs=following,
                 terminated=at(terminated), truncated=at(truncated), mask=torch.ones(P * N, T, dtype=torch.bool),
                 env_reward=time.float(), info={"x": obs[..., 0], "y": obs[..., 1]})
    return e, Score.of(torch.where(at(unknown), torch.nan, 2.0 ** time), mask=e.mask)


def noise():
    return MemberNoise([Seeds(0).child(p) for p in range(P)])


def filled(*parts, capacity=10 * N, **kw):
    replay = Replay(population=P, rows=N, capacity=capacity, info=frozenset({"x"}))
    for start, T in parts or [(0, 10)]:
        replay.add(*steps(start, T, **kw))
    return replay


def test_samples_are_whole_transitions_of_the_right_member():
    replay = filled((0, 4), (4, 3), (7, 3))
    s = replay.sample(noise(), 500, discount=torch.tensor([0.9, 0.5]))
    row, time = s.obs["a"].unbind(-1)
    assert torch.equal(s.action.float(), row) and torch.equal(s.obs["b"].float(), s.obs["a"])
    assert torch.equal(s.next_obs["a"], torch.stack([row, time + 1], -1))
    assert torch.equal(s.reward.flatten(), 2.0 ** time)
    assert set(row[:500].tolist()) == {0, 1, 2} and set(row[500:].tolist()) == {3, 4, 5}
    assert set(time.tolist()) == set(range(10))
    assert torch.equal(s.discount, torch.tensor([[0.9], [0.5]]).expand(P, 500)) and bool((s.weight == 1).all())


def test_the_oldest_are_overwritten():
    replay = filled((0, 7), (7, 7), (14, 9))
    s = replay.sample(noise(), 500, discount=torch.ones(P))
    assert set(s.obs["a"][:, 1].tolist()) == set(range(13, 23)) and len(replay) == 10 * N


def test_more_steps_than_the_memory_holds_keep_the_newest():
    s = filled((0, 25)).sample(noise(), 500, discount=torch.ones(P))
    assert set(s.obs["a"][:, 1].tolist()) == set(range(15, 25))


@pytest.mark.parametrize("first", [0, 4])
def test_sums_of_several_steps_end_at_ends_and_at_the_newest(first):
    """Against a plain loop over the stored steps, also when the ring has gone round."""
    terminated, truncated, unknown, newest = {5}, {9}, {7}, first + 9
    parts = [(0, 10)] if first == 0 else [(0, 10), (10, 4)]
    replay = filled(*parts, terminated=terminated, truncated=truncated, unknown=unknown)
    s = replay.sample(noise(), 400, discount=torch.tensor([0.5, 0.5]), steps=3)
    for i, (_, time) in enumerate(s.obs["a"].int().tolist()):
        total, factor, known, t = 0.0, 1.0, True, time
        for t in range(time, time + 3):
            known &= t not in unknown
            total += factor * 2.0**t * (t not in unknown)
            factor *= 0.5
            if t in terminated | truncated or t == newest:
                break
        assert s.reward.flatten()[i] == total
        assert s.discount.flatten()[i] == (0.0 if t in terminated else factor)
        assert int(s.next_obs["a"][i, 1]) == t + 1
        assert bool(s.weight.flatten()[i]) == known


def test_relabelling_sees_what_was_stored_and_decides_everything():
    replay = filled(terminated={5})
    seen = []

    def relabel(episodes: Episodes, targets: Targets) -> Targets:
        seen.append(episodes)
        assert torch.equal(targets.reward, 2.0 ** episodes.obs["a"][:, 0, 1])
        return Targets(reward=episodes.info["x"][:, 0], discount=torch.full_like(targets.discount, 0.25),
                       weight=torch.full_like(targets.weight, 0.5))

    s = replay.sample(noise(), 40, discount=torch.ones(P), relabel=relabel)
    assert set(seen[0].info) == {"x"} and seen[0].member.tolist() == [0] * 40 + [1] * 40
    assert torch.equal(s.reward.flatten(), s.obs["a"][:, 0]) and bool((s.weight == 0.5).all())
    ended = s.obs["a"][:, 1] == 5
    assert torch.equal(s.discount.flatten(), torch.where(ended, 0.0, 0.25)) and bool(ended.any())


def test_a_restored_memory_gives_the_same_samples():
    replay = filled((0, 10), (10, 4))
    other = Replay(population=P, rows=N, capacity=10 * N, info=frozenset({"x"}))
    other.load_state_dict(replay.state_dict())
    for r in (replay, other):
        r.add(*steps(14, 2))
    a, b = (r.sample(noise(), 50, discount=torch.ones(P), steps=2) for r in (replay, other))
    assert torch.equal(a.reward, b.reward) and torch.equal(a.obs["a"], b.obs["a"])


def test_a_memory_smaller_than_a_step_is_refused():
    with pytest.raises((BadInput, TypeCheckError), match="capacity"):
        Replay(population=1, rows=4, capacity=3)


def test_a_memory_that_the_machine_cannot_hold_is_refused_with_what_would_fit():
    replay = Replay(population=P, rows=N, capacity=10**13)
    with pytest.raises(BadInput, match="config.capacity: expected a memory of less than .* GiB, .*GiB; at most"):
        replay.add(*steps(0, 2))
    assert not replay.data
