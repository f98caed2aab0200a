"""stable-baselines3, the real one: rewards for its learners, its policies and environments for us."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

sb3 = pytest.importorskip("stable_baselines3")
from stable_baselines3.common.logger import KVWriter, Logger  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecMonitor, VecNormalize  # noqa: E402

from plaudit.adapters import sb3 as ours  # noqa: E402
from plaudit.adapters.sb3 import RelabelBuffer, RewardCallback, RewardVecEnv, SB3Policy, VecEnvTask  # noqa: E402
from plaudit.core.algebra import Constrained, total  # noqa: E402
from plaudit.core.episodes import Episodes  # noqa: E402
from plaudit.core.errors import BadInput, UnknownReward, Unsupported  # noqa: E402
from plaudit.core.functions import EnvReward, reward  # noqa: E402
from plaudit.core.reward import Reward  # noqa: E402
from plaudit.core.schedules import LagrangeMultiplier, Linear  # noqa: E402
from plaudit.core.score import Score  # noqa: E402
from plaudit.tasks.policy import ActionSequence  # noqa: E402
from plaudit.tasks.rollouts import rollout  # noqa: E402

RIGHT, STAY, LEFT = 2, 1, 0


@reward(vectorised=True, backend="torch")
def place(next_obs):
    return next_obs[..., 0]


@reward(vectorised=True, backend="torch")
def moved(obs, next_obs):
    return next_obs[..., 0] - obs[..., 0]


@reward(vectorised=True, backend="torch")
def ended(terminated, truncated):
    return 1.0 * terminated + 0.25 * truncated


def venv_of(make, n=2):
    return DummyVecEnv([make] * n)


def play(venv, plan):
    """Steps through [T, B] actions; returns rewards [T, B], dones, infos."""
    venv.reset()
    steps = [venv.step(np.array(actions)) for actions in plan]
    return np.array([s[1] for s in steps]), np.array([s[2] for s in steps]), [s[3] for s in steps]


PLAN = [[RIGHT, STAY], [RIGHT, RIGHT], [RIGHT, LEFT], [RIGHT, STAY], [STAY, STAY], [STAY, RIGHT]]
"""Row 0 ends at its third step, at 3; row 1 is cut at its fifth, at 0."""


# --- the wrapper -------------------------------------------------------------------------------------


def test_the_reward_reads_what_the_step_led_to_not_the_next_episode(line):
    paid, dones, _ = play(RewardVecEnv(venv_of(line), place), PLAN)
    assert paid.tolist() == [[1, 0], [2, 1], [3, 0], [1, 0], [1, 0], [1, 1]]
    assert dones.tolist() == [[False, False], [False, False], [True, False], [False, False], [False, True],
                              [False, False]]


class Naive(RewardVecEnv):
    """The usual mistake: what comes back is read, though it is the first observation of the next episode."""

    def step_wait(self):
        obs, pay, dones, infos = self.venv.step_wait()
        return obs, obs[:, 0], dones, infos


def test_a_wrapper_that_reads_the_new_episode_is_seen_to_be_wrong(line):
    paid, _, _ = play(Naive(venv_of(line), place), PLAN)
    assert paid[2].tolist() == [0, 0], "the end at 3 is lost"


def test_an_episode_that_was_cut_has_not_ended(line):
    paid, _, _ = play(RewardVecEnv(venv_of(line), ended), PLAN)
    assert paid[2].tolist() == [1.0, 0.0] and paid[4].tolist() == [0.0, 0.25] and paid.sum() == 1.25


def test_it_pays_what_plaudit_scores_on_whole_episodes(line):
    """Terms, a reward that reads the past, and the environment's own reward, against one call for the episode."""
    @reward(time="prefix", backend="torch")
    def best_so_far(next_obs):
        return next_obs[..., 0].cummax(0).values

    whole = total([(0.5, moved), (2.0, best_so_far), (1.0, EnvReward())])
    paid, _, infos = play(RewardVecEnv(venv_of(line), whole), PLAN)
    x = torch.tensor([0.0, 1.0, 2.0, 3.0])
    first = Episodes.of_steps(obs=torch.stack([x[:-1], x[:-1]], -1), action=torch.full((3,), RIGHT),
                              next_obs=torch.stack([x[1:], x[1:]], -1), env_reward=0.5 * x[1:],
                              info={"reward_place": 0.5 * x[1:]})
    assert paid[:3, 0].tolist() == pytest.approx(whole(first)[0].tolist())
    assert paid[3, 0] == 0.5 * 1 + 2 * 1 + 0.5, "the past of an episode that ended is forgotten"
    for b in range(2):
        terms = [sum(v for k, v in step[b].items() if k.startswith("reward_")) for step in infos]
        assert terms == pytest.approx(paid[:, b].tolist()), "terms add up to what was paid"
    assert infos[0][0]["env_reward"] == 0.5 and infos[0][0]["env_reward_place"] == 0.5


def some_unknown(next_obs):
    return torch.where(next_obs[..., 0] == 2, torch.nan, next_obs[..., 0])


@pytest.mark.parametrize(("choice", "instead"), [("last", 1.0), (-7.0, -7.0), (0, 0.0)])
def test_unknown_is_paid_as_the_user_chose_and_marked(line, choice, instead):
    paid, _, infos = play(RewardVecEnv(venv_of(line), some_unknown, on_unknown=choice), PLAN)
    assert paid[1, 0] == instead and paid[2, 0] == 3
    assert "NaN" in infos[1][0]["unknown_reward"] and "unknown_reward" not in infos[0][0]


def test_unknown_raises_by_default_and_where_nothing_was_known_yet(line):
    with pytest.raises(UnknownReward, match="NaN"):
        play(RewardVecEnv(venv_of(line), some_unknown), PLAN)
    with pytest.raises(UnknownReward):
        play(RewardVecEnv(venv_of(line), lambda next_obs: next_obs[..., 0] * torch.nan, on_unknown="last"), PLAN)


@pytest.mark.parametrize(("options", "error"), [
    ({"reward": reward(lambda obs: obs[:, 0].sum(), time="episode")}, Unsupported),
    ({"reward": reward(lambda obs: obs[..., 0] - obs[..., 0].mean(), across="batch")}, Unsupported),
    ({"reward": place, "on_unknown": "zero"}, BadInput), ({"reward": place, "on_unknown": np.nan}, BadInput),
    ({"reward": place, "others": [moved]}, BadInput),
    ({"reward": place, "others": [moved.with_role("watch"), ended.named("moved").with_role("watch")]}, BadInput)])
def test_what_cannot_be_paid_step_by_step_is_refused(line, options, error):
    with pytest.raises(error):
        RewardVecEnv(venv_of(line), **options)


def test_it_does_not_stand_on_observations_that_were_normalised(line):
    below = VecNormalize(venv_of(line))
    for venv in (below, VecMonitor(below)):
        with pytest.raises(BadInput, match=r"venv: .*received VecNormalize; put it on top"):
            RewardVecEnv(venv, place)
    RewardVecEnv(venv_of(line), place)


def test_a_step_before_the_reset_is_named(line):
    with pytest.raises(BadInput, match="reset"):
        RewardVecEnv(venv_of(line), place).step(np.array([0, 0]))


def test_dictionaries_of_observations_are_read_by_name():
    class Two(gymnasium.Env):
        observation_space = gymnasium.spaces.Dict(x=gymnasium.spaces.Box(-9, 9, (1,)), k=gymnasium.spaces.Discrete(9))
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            self.t = 0
            return {"x": np.zeros(1, np.float32), "k": 0}, {}

        def step(self, action):
            self.t += 1
            return {"x": np.full(1, self.t, np.float32), "k": self.t}, 0.0, self.t == 2, False, {}

    both = reward(lambda next_obs: next_obs["x"][..., 0] + next_obs["k"], vectorised=True, backend="torch")
    paid, _, _ = play(RewardVecEnv(DummyVecEnv([Two]), both), [[0], [0], [0]])
    assert paid[:, 0].tolist() == [2, 4, 2]


# --- the callback ------------------------------------------------------------------------------------


class Table(KVWriter):
    def __init__(self):
        self.rows = []

    def write(self, key_values, key_excluded, step=0):
        self.rows.append(dict(key_values))

    def close(self):
        pass


def learn(env, algo="PPO", steps=24, callback=None, **options):
    model = getattr(sb3, algo)("MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [4]}, **options)
    table = Table()
    model.set_logger(Logger(None, [table]))
    model.learn(steps, callback=callback, log_interval=1)
    return model, table.rows


def test_every_curve_is_logged_under_the_names_of_our_own_logs(line):
    own = total([(2.0, place), (1.0, moved)], name="both")
    env = VecMonitor(RewardVecEnv(venv_of(line), own, others=[ended.with_role("gold"), reward(
        some_unknown, name="doubt", vectorised=True, backend="torch").with_role("watch")]))
    _, rows = learn(env, callback=RewardCallback(), n_steps=12, batch_size=12, n_epochs=1)
    row = rows[0]
    assert {"reward/train/both", "term/train/both/place", "term/train/both/moved", "episode/train/both",
            "reward/gold/ended", "unknown/watch/doubt", "reward/watch/doubt"} <= row.keys()
    parts = row["term/train/both/place"] + row["term/train/both/moved"]
    assert row["reward/train/both"] == pytest.approx(parts)
    assert row["rollout/ep_rew_mean"] == pytest.approx(row["episode/train/both"], abs=1e-4), "VecMonitor agrees"
    assert row["unknown/train/both"] == 0 and row["unknown/watch/doubt"] >= 0


def test_an_off_policy_learner_logs_too_and_schedules_move(line):
    fading = Linear(1.0, 0.0) * place
    env = RewardVecEnv(venv_of(line, 1), fading)
    _, rows = learn(env, "DQN", steps=40, callback=RewardCallback(every=10), learning_starts=1000)
    seen = [r["reward/train/" + fading.name] for r in rows if "reward/train/" + fading.name in r]
    assert len(seen) >= 2
    assert float(fading(Episodes.of_transitions(obs=torch.zeros(1, 2), action=torch.zeros(1),
                                                next_obs=torch.ones(1, 2)))) == pytest.approx(0.0, abs=0.03)


def test_a_constraint_follows_what_it_costs(line):
    price = LagrangeMultiplier("walked", 0.5, rate=0.1)
    cost = reward(lambda next_obs: 0.0 * next_obs[..., 0] + 2.0, name="cost", vectorised=True)
    env = RewardVecEnv(venv_of(line), Constrained(place, cost, limit=0.5, multiplier=price))
    _, rows = learn(env, callback=RewardCallback(), n_steps=12, batch_size=12, n_epochs=1)
    seen = [r["walked"] for r in rows if "walked" in r]
    assert seen and all(x == pytest.approx(2.0) for x in seen)
    assert price.value == pytest.approx(0.1 * 1.5 * len(seen))


def test_a_callback_without_the_wrapper_says_what_to_do(line):
    with pytest.raises(BadInput, match="RewardVecEnv"):
        learn(venv_of(line), callback=RewardCallback(), n_steps=12, batch_size=12)


def test_long_names_do_not_stop_the_run_when_they_are_printed(line, capsys):
    long = total([(1.0, place.named("a" * 40 + "1")), (1.0, moved.named("a" * 40 + "2"))], name="both")
    model = sb3.PPO("MlpPolicy", RewardVecEnv(venv_of(line), long), n_steps=12, batch_size=12, n_epochs=1, verbose=1,
                    device="cpu", policy_kwargs={"net_arch": [4]})
    model.learn(24, callback=RewardCallback())
    assert "reward/" in capsys.readouterr().out


# --- relabelling -------------------------------------------------------------------------------------


class Drifting(Reward):
    """Pays `factor` times the action and a hundredth of the place: it changes while an agent learns."""

    def __init__(self):
        self.name, self.factor = "drifting", 1.0
        self.needs = place.needs.including("action", "terminated", "truncated")

    def evaluate(self, episodes):
        value = self.factor * episodes.action[..., 0] + 0.01 * episodes.next_obs[..., 0] + 10.0 * episodes.terminated
        return Score.of(value, mask=episodes.mask)


def test_a_sample_is_scored_with_the_reward_as_it_is_now_in_the_units_of_the_environment(line):
    pays = Drifting()
    env = RewardVecEnv(venv_of(lambda: line(box=True)), pays)
    model, _ = learn(env, "SAC", steps=60, learning_starts=1000, replay_buffer_class=RelabelBuffer,
                     replay_buffer_kwargs={"reward": pays}, buffer_size=200)
    buffer = model.replay_buffer
    kept = buffer.rewards[: buffer.pos].copy()
    same = buffer.sample(64).rewards.numpy()
    assert np.allclose(np.sort(np.unique(same)), np.unique(kept)[np.isin(np.unique(kept), same)])
    assert buffer.rewards[: buffer.pos] == pytest.approx(kept, abs=1e-5), "nothing has changed: what was paid"
    pays.factor = 3.0
    out = buffer.sample(64)
    real = 2.0 * out.actions.numpy()[:, 0]  # SB3 keeps actions of [-2, 2] as [-1, 1]
    place_now, over = out.next_observations.numpy()[:, 0], out.dones.numpy()[:, 0]
    assert out.rewards.numpy()[:, 0] == pytest.approx(3 * real + 0.01 * place_now + 10 * over, abs=1e-4)
    assert over.any() and buffer.timeouts.any()


def test_unknown_rewards_are_raised_or_kept_and_what_is_not_stored_is_refused(line):
    doubt = reward(some_unknown, vectorised=True, backend="torch")
    make = lambda r, **o: learn(RewardVecEnv(venv_of(line), place), "DQN", steps=60, learning_starts=1000,  # noqa: E731
                                replay_buffer_class=RelabelBuffer, buffer_size=200,
                                replay_buffer_kwargs={"reward": r, **o})[0].replay_buffer
    with pytest.raises(UnknownReward):
        make(doubt).sample(200)
    kept = make(doubt, on_unknown="keep")
    out = kept.sample(200)
    two = out.next_observations[:, 0] == 2
    assert bool(two.any()) and bool((out.rewards[two] == 2).all())
    for lost in (EnvReward(), reward(lambda obs: obs[:, 0], time="prefix")):
        with pytest.raises(Unsupported, match="does not keep"):
            make(lost)


# --- the other way -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A policy that was trained behind VecNormalize, and its files."""
    folder = tmp_path_factory.mktemp("sb3")
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 2))
    model = sb3.PPO("MlpPolicy", env, n_steps=16, batch_size=32, n_epochs=1, seed=0, device="cpu",
                    policy_kwargs={"net_arch": [4]}).learn(64)
    model.save(folder / "mine.zip")
    env.save(folder / "vecnormalize.pkl")
    return model, env, folder / "mine.zip"


def test_a_model_acts_as_it_does_behind_its_statistics(trained):
    model, env, path = trained
    obs = 3 * torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    wanted, _ = model.predict(env.normalize_obs(obs.numpy()), deterministic=True)
    action, _ = ours.load_sb3(path, trust=True).act(obs, None, step=0)
    assert action.tolist() == wanted.tolist()
    raw, _ = SB3Policy(model).act(obs, None, step=0)
    assert raw.tolist() != wanted.tolist(), "without the statistics it is another policy"


def test_files_that_unpickle_are_not_touched_without_trust(trained, monkeypatch):
    monkeypatch.setattr("stable_baselines3.PPO.load", lambda *a, **o: pytest.fail("it was loaded"))
    with pytest.raises(BadInput, match="unpickles.*--trust"):
        ours.load_sb3(trained[2], trust=False)


def test_statistics_that_are_something_else_are_named(trained, tmp_path):
    from stable_baselines3.common.save_util import save_to_pkl

    (tmp_path / "mine.zip").write_bytes(trained[2].read_bytes())
    save_to_pkl(tmp_path / "vecnormalize.pkl", {"mean": 0})
    with pytest.raises(BadInput, match="VecNormalize.save wrote.*dict"):
        ours.load_sb3(tmp_path / "mine.zip", trust=True)


class Doubled(VecEnvWrapper):
    """Something that only exists for a whole VecEnv."""

    def reset(self):
        return 2 * self.venv.reset()

    def step_wait(self):
        obs, pay, dones, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = 2 * info["terminal_observation"]
        return 2 * obs, pay, dones, infos


def test_a_vec_env_is_a_task_and_its_first_episodes_are_those_of_their_seeds(trained):
    make = lambda n: Doubled(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * n))  # noqa: E731
    task, policy = VecEnvTask(make, horizon=500, name="doubled"), SB3Policy(trained[0])
    a, b = rollout(task, policy, seeds=[3, 8]), rollout(task, policy, seeds=[8])
    assert torch.equal(a.obs[1, : b.T], b.obs[0]) and int(b.lengths[0]) == int(a.lengths[1])
    begun, _ = gymnasium.make("CartPole-v1").reset(seed=8)
    assert b.obs[0, 0].tolist() == pytest.approx((2 * begun).tolist())
    last = a.next_obs[0, a.last[0]]
    assert bool(a.terminated[0, a.last[0]]) and (abs(last[0]) > 4.8 or abs(last[2]) > 0.41), "the end itself is seen"


def test_a_horizon_below_the_vec_envs_own_limit_cuts_a_rollout_and_is_refused_by_a_learner(line):
    task = VecEnvTask(lambda n: venv_of(lambda: line(limit=9), n), horizon=4)
    episodes = rollout(task, ActionSequence(torch.ones(9).long(), shared=True), seeds=[0, 1])
    assert episodes.lengths.tolist() == [4, 4] and bool(episodes.truncated[:, 3].all())
    batch = task.make(1)
    batch.reset([0])
    with pytest.raises(BadInput, match="horizon"):
        for _ in range(6):
            batch.step(torch.ones(1).long())


def test_the_names_of_the_package_are_there():
    assert all(hasattr(ours, name) for name in ours.__all__)
