"""MO-Gymnasium, the real one: its vectors as our terms, our terms as its vectors, its own scalarisation between."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

mo = pytest.importorskip("mo_gymnasium")
from mo_gymnasium.wrappers import LinearReward, MORecordEpisodeStatistics  # noqa: E402

import plaudit  # noqa: E402
from plaudit.adapters.mo import NamedTerms, TermsEnv, objectives  # noqa: E402
from plaudit.core.algebra import lexicographic, total  # noqa: E402
from plaudit.core.errors import BadInput, Unsupported  # noqa: E402
from plaudit.core.functions import EnvReward, reward  # noqa: E402
from plaudit.tasks.policy import ActionSequence, RandomPolicy  # noqa: E402
from plaudit.tasks.rollouts import rollout  # noqa: E402
from plaudit.tasks.wrappers import RewardWrapper  # noqa: E402

WEIGHTS = (0.7, 0.3)
DOWN = 1


def treasure(weights=WEIGHTS):
    return NamedTerms(mo.make("deep-sea-treasure-v0"), ("treasure", "time"), weights)


def steps_of(env, actions, seed=0):
    env.reset(seed=seed)
    out = []
    for a in actions:
        out.append(env.step(a))
        if out[-1][2] or out[-1][3]:
            break
    return out


def test_a_vector_is_paid_as_its_own_linear_reward_pays_it_and_its_terms_add_up():
    ours = steps_of(treasure(), [DOWN] * 3)
    theirs = steps_of(LinearReward(mo.make("deep-sea-treasure-v0"), np.array(WEIGHTS)), [DOWN] * 3)
    assert [s[1] for s in ours] == pytest.approx([s[1] for s in theirs]) and len(ours) == len(theirs)
    for (_, paid, _, _, info), (*_, reference) in zip(ours, theirs, strict=True):
        assert info["reward_treasure"] + info["reward_time"] == pytest.approx(paid)
        assert info["vector_reward"].tolist() == reference["vector_reward"].tolist()


@pytest.mark.parametrize("env", ["deep-sea-treasure-v0", "mo-halfcheetah-v5"])
def test_an_audit_sees_the_terms_of_a_real_environment(env):
    task = plaudit.make(lambda: NamedTerms(mo.make(env), ("a", "b"), WEIGHTS), horizon=20)
    episodes = rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=[1, 2])
    score = EnvReward().score(episodes)
    assert set(score.terms) == {"a", "b"} and score.all_known
    assert torch.allclose(score.contribution("a") + score.contribution("b"), score.value, atol=1e-5)
    b, a = objectives("b", "a")
    assert torch.allclose((0.7 * a + 0.3 * b)(episodes), score.value, atol=1e-4), "weights of ours, vector of theirs"


def test_objectives_are_read_behind_their_own_wrapper_too_and_stay_a_vector_until_the_last_step():
    task = plaudit.make(lambda: LinearReward(mo.make("deep-sea-treasure-v0"), np.array(WEIGHTS)), horizon=5)
    episodes = rollout(task, ActionSequence(torch.full((5,), DOWN), shared=True), seeds=[0])
    prize, time = objectives("treasure", "time")
    n = int(episodes.lengths[0])
    assert time(episodes)[0, :n].tolist() == [-1.0] * n and float(prize(episodes)[0, n - 1]) > 0
    first = lexicographic([prize.clip(0, 30), time.clip(-1, 0)], resolution=[0.5, 0.5], horizon=5)
    assert float(first(episodes)[0, n - 1]) > 0
    with pytest.raises(plaudit.UnknownReward, match="info:vector_reward"):
        prize(rollout(plaudit.make("CartPole-v1"), ActionSequence(torch.ones(5).long(), shared=True), seeds=[0],
                      max_steps=5))


def test_an_objective_is_found_by_its_name_and_never_anothers_numbers():
    """All steps but the last cost -1 in time and pay no treasure, so the two cannot be taken for one another."""
    task = plaudit.make(lambda: treasure((0.5, 0.0)), horizon=5)
    episodes = rollout(task, ActionSequence(torch.full((5,), DOWN), shared=True), seeds=[0])
    n = int(episodes.lengths[0])
    vector = episodes.info["vector_reward"]
    for name, column in (("treasure", 0), ("time", 1)):
        (alone,) = objectives(name)
        assert torch.equal(alone(episodes), vector[..., column])
    assert objectives("time")[0](episodes)[0, :n].tolist() == [-1.0] * n
    for name, said in (("treasur", "did you mean 'treasure'"), ("bogus", "names treasure, time")):
        with pytest.raises(plaudit.UnknownReward, match=said):
            objectives(name)[0](episodes)
    bare = plaudit.make(lambda: LinearReward(mo.make("deep-sea-treasure-v0"), np.array(WEIGHTS)), horizon=5)
    bare = rollout(bare, ActionSequence(torch.full((5,), DOWN), shared=True), seeds=[0])
    with pytest.raises(plaudit.UnknownReward, match="names none of its 2 objectives"):
        objectives("time")[0](bare)
    with pytest.raises(BadInput, match="different names"):
        objectives("time", "time")


def test_a_memory_of_transitions_keeps_the_names():
    """SAC and its kin store of `info` what a reward reads."""
    from plaudit.optimize.rl.replay import info_of

    (time,) = objectives("time")
    assert info_of((time + 1.0).needs.fields) is None


def test_an_environment_with_a_bare_vector_says_what_to_do():
    task = plaudit.make(lambda: mo.make("deep-sea-treasure-v0"), horizon=5)
    with pytest.raises(plaudit.PlauditError, match="NamedTerms"):
        rollout(task, ActionSequence(torch.full((5,), DOWN), shared=True), seeds=[0])


# --- the other way -----------------------------------------------------------------------------------


@reward(vectorised=True, backend="torch")
def upright(next_obs):
    return 1.0 - next_obs[..., 2].abs()


@reward(vectorised=True, backend="torch")
def central(next_obs):
    return -next_obs[..., 0].abs()


BOTH = total([(2.0, upright), (0.5, central)], name="balance")


def test_terms_become_a_vector_that_their_wrappers_take_and_give_back_as_the_reward():
    env = TermsEnv(gymnasium.make("CartPole-v1"), BOTH)
    assert env.terms == ("upright", "central") and env.reward_space.shape == (2,)
    actions = [0, 1, 1, 0, 1, 0]
    vectors = [s[1] for s in steps_of(env, actions)]
    assert all(env.reward_space.contains(v) for v in vectors)
    theirs = steps_of(LinearReward(TermsEnv(gymnasium.make("CartPole-v1"), BOTH), np.ones(2)), actions)
    plain = steps_of(RewardWrapper(gymnasium.make("CartPole-v1"), BOTH), actions)
    assert [s[1] for s in theirs] == pytest.approx([s[1] for s in plain], rel=1e-6)
    assert [s[4]["scalar_reward"] for s in theirs] == pytest.approx([s[1] for s in plain])
    other = steps_of(LinearReward(TermsEnv(gymnasium.make("CartPole-v1"), BOTH), np.array([1.0, 0.0])), actions)
    assert [s[1] for s in other] == pytest.approx([v[0] for v in vectors]) != [s[1] for s in plain]


def test_their_statistics_sum_up_our_vector():
    env = MORecordEpisodeStatistics(TermsEnv(gymnasium.make("CartPole-v1"), BOTH), gamma=1.0)
    steps = steps_of(env, [0] * 500)
    total_of = steps[-1][4]["episode"]["r"]
    assert np.asarray(total_of) == pytest.approx(np.sum([s[1] for s in steps], 0), rel=1e-5)


def test_looking_for_the_terms_leaves_the_first_episode_as_it_was():
    probed, bare = TermsEnv(gymnasium.make("CartPole-v1"), BOTH), gymnasium.make("CartPole-v1")
    probed.action_space.seed(5)
    bare.action_space.seed(5)
    assert probed.reset(seed=3)[0].tolist() == bare.reset(seed=3)[0].tolist()
    assert [probed.action_space.sample() for _ in range(8)] == [bare.action_space.sample() for _ in range(8)]


def test_a_round_trip_gives_the_reward_back():
    named = NamedTerms(TermsEnv(gymnasium.make("CartPole-v1"), BOTH), ("upright", "central"))
    plain = steps_of(RewardWrapper(gymnasium.make("CartPole-v1"), BOTH), [0, 1, 0])
    assert [s[1] for s in steps_of(named, [0, 1, 0])] == pytest.approx([s[1] for s in plain], rel=1e-6)


@pytest.mark.parametrize(("make", "error", "said"), [
    (lambda: NamedTerms(gymnasium.make("CartPole-v1"), ("a",)), BadInput, "reward_space"),
    (lambda: NamedTerms(mo.make("deep-sea-treasure-v0"), ("a", "b", "c")), BadInput, "each of 2 objectives"),
    (lambda: NamedTerms(mo.make("deep-sea-treasure-v0"), ("a", "a")), BadInput, "all different"),
    (lambda: treasure((1.0,)), BadInput, "each of 2 objectives"),
    (lambda: steps_of(TermsEnv(gymnasium.make("CartPole-v1"), BOTH, terms=["speed"]), [0]), BadInput, "speed"),
    (lambda: TermsEnv(gymnasium.make("CartPole-v1"), reward(lambda obs: obs.sum(), time="episode")), Unsupported,
     "whole episodes")])
def test_what_does_not_fit_is_named(make, error, said):
    with pytest.raises(error, match=said):
        make()
