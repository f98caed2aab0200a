from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import plaudit
from plaudit.core.errors import BadInput, MissingExtra, PlauditError, Unsupported
from plaudit.tasks.gym import GymTask
from plaudit.tasks.info import InfoColumns
from plaudit.tasks.making import from_spec, make
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import replay, rollout

_spec = importlib.util.spec_from_file_location("environments", Path(__file__).with_name("environments.py"))
assert _spec is not None and _spec.loader is not None
environments = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(environments)
Count, Mixed, Limited = environments.Count, environments.Mixed, environments.Limited


def count_task(**kwargs) -> GymTask:
    return GymTask(Count, kwargs, horizon=20)


def zeros(task, rows: int) -> torch.Tensor:
    return torch.zeros((rows, *task.action_space.shape), dtype=torch.int64)


def check_final_observations(task) -> None:
    """Through several episodes: next_obs goes on counting to the end, obs begins again at 0."""
    batch = task.make(2)
    obs = batch.reset([1, 2])
    for t in range(15):
        assert obs[:, 1].tolist() == [t % 5] * 2
        step = batch.step(zeros(task, 2))
        assert step.next_obs[:, 1].tolist() == [t % 5 + 1] * 2
        assert step.terminated.tolist() == [t % 5 == 4] * 2
        assert torch.equal(step.next_obs[:, 0], obs[:, 0]), "one and the same episode"
        obs = step.obs


def test_next_obs_is_the_final_observation_and_obs_the_new_one():
    check_final_observations(count_task())


class ForgetsTheEnd(gymnasium.Wrapper):
    """The broken variant: gives the reset observation where an episode ended."""

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return (self.env.reset()[0] if terminated else obs), reward, terminated, truncated, info


def test_an_environment_that_gives_the_reset_observation_as_next_obs_fails():
    with pytest.raises(AssertionError):
        check_final_observations(GymTask(lambda: ForgetsTheEnd(Count()), horizon=20))


def test_small_seeds_are_gymnasiums_own_episodes_step_by_step():
    task = GymTask("MountainCarContinuous-v0")
    e = rollout(task, RandomPolicy(task.action_space, 0), seeds=[3, 8], max_steps=50)
    for b, seed in enumerate((3, 8)):
        env = gymnasium.make("MountainCarContinuous-v0")
        obs, _ = env.reset(seed=seed)
        for t in range(50):
            np.testing.assert_array_equal(e.obs[b, t].numpy(), obs)
            obs, reward, *_ = env.step(e.action[b, t].numpy())
            assert float(e.env_reward[b, t]) == pytest.approx(reward)
            np.testing.assert_array_equal(e.next_obs[b, t].numpy(), obs)


def test_the_nth_episode_of_a_row_can_be_replayed_alone():
    task = GymTask("CartPole-v1")
    policy = RandomPolicy(task.action_space, 0)
    batch, carry = task.make(3), policy.start(3)
    obs, found = batch.reset([5, 6, 7]), None
    actions: list[torch.Tensor] = []
    for t in range(150):
        action, carry = policy.act(obs, carry, step=t)
        step = batch.step(action)
        actions.append(action[1])
        if bool(step.done[1]):
            if found is not None:
                break
            found, actions = (batch.episode_seeds()[1], step.obs[1]), []
        obs = step.obs
    assert found is not None and found[0] != 6
    again = replay(task, torch.stack(actions)[None], [found[0]])
    assert torch.equal(again.obs[0, 0], found[1])
    assert torch.equal(again.next_obs[0, -1], step.next_obs[1]) and bool(again.terminated[0, -1])


def test_our_own_limit_truncates_and_gymnasiums_is_found():
    assert GymTask("CartPole-v1").horizon == 500 and GymTask("CartPole-v1", horizon=7).horizon == 7
    task = GymTask(Count, {"length": 50}, horizon=3)
    e = rollout(task, RandomPolicy(task.action_space, 0), seeds=[1])
    assert e.truncated.tolist() == [[False, False, True]] and not bool(e.terminated.any())
    with pytest.warns(UserWarning, match="no time limit"):
        assert GymTask(Count).horizon == 1000
    wrapped = GymTask(lambda: gymnasium.wrappers.TimeLimit(Count(), 9))
    assert wrapped.horizon == 9


def test_info_has_the_same_columns_from_the_first_step_on():
    e = rollout(count_task(length=4), RandomPolicy(Count().action_space, 0), seeds=[1, 2])
    assert e.info["count"].tolist() == [[1, 2, 3, 4]] * 2
    assert e.info["nested.half"].tolist() == [[0.5, 1, 1.5, 2]] * 2
    assert e.info["action"].shape == (2, 4, 2)
    assert e.info["is_success"].tolist() == [[False, False, False, True]] * 2
    bonus = e.info["bonus"]
    assert torch.isnan(bonus[:, :3]).all() and bonus[:, 3].tolist() == [7, 7]
    assert "words" not in e.info and "at_reset" not in e.info


def test_columns_seen_by_one_batch_are_there_in_the_next():
    task = count_task(length=4)
    rollout(task, RandomPolicy(task.action_space, 0), seeds=[1])
    batch = task.make(1)
    batch.reset([1])
    step = batch.step(zeros(task, 1))
    assert torch.isnan(step.info["bonus"]).all() and step.info["is_success"].tolist() == [False]


def test_a_boolean_column_becomes_a_number_when_numbers_come():
    columns = InfoColumns()
    assert columns.gather([{"x": True}])["x"].dtype == torch.bool
    assert columns.gather([{"x": 0.5}, {"x": True}])["x"].tolist() == [0.5, 1.0]
    assert "y" not in columns.gather([{"y": np.zeros(3)}]) or "y" not in columns.gather([{"y": np.zeros(4)}])


def test_nested_observations_texts_and_several_discrete_actions():
    task = GymTask(Mixed, horizon=4)
    assert "mission" not in task.obs_space.spaces
    e = rollout(task, RandomPolicy(task.action_space, 0), seeds=[1, 2])
    assert e.obs["image"].dtype == torch.uint8 and e.obs["image"].shape == (2, 4, 4, 4, 3)
    assert e.obs["pair"]["0"].tolist() == [[2] * 4] * 2 and e.obs["pair"]["1"].shape == (2, 4, 2)
    assert e.obs["bits"][0, 0].tolist() == [0, 1, 1]
    assert torch.equal(e.env_reward, e.action.sum(-1).float())


def test_what_tensors_cannot_hold_is_refused():
    class Words(Count):
        def __init__(self):
            super().__init__()
            self.observation_space = spaces.Text(5)

    class Lists(Count):
        def __init__(self):
            super().__init__()
            self.observation_space = spaces.Sequence(spaces.Discrete(2))

    for cls in (Words, Lists):
        with pytest.raises(Unsupported, match="wrap the environment"):
            GymTask(cls, horizon=3)


def test_failures_inside_an_environment_name_the_step():
    with pytest.raises(PlauditError, match=r"step 3 of row 1 .*ZeroDivisionError: planted"):
        batch = GymTask(FailsInRow(), horizon=9).make(2)
        batch.reset([1, 2])
        for _ in range(4):
            batch.step(torch.zeros(2, dtype=torch.int64))
    batch = GymTask(Count, {"old_api": True}, horizon=9).make(1)
    batch.reset([1])
    with pytest.raises(PlauditError, match="5 values|returned 4 values"):
        batch.step(torch.zeros(1, dtype=torch.int64))


class FailsInRow:
    """A factory whose third environment (the batch's row 1, after the probe) breaks in its third step."""

    __name__ = "fails"

    def __init__(self):
        self.made = 0

    def __call__(self):
        self.made += 1
        return Count(fail_at=3 if self.made == 3 else 0)


def test_an_observation_of_another_shape_is_named():
    class Wrong(Count):
        def _obs(self):
            return np.zeros(3)

    batch = GymTask(Wrong, horizon=5).make(1)
    with pytest.raises(PlauditError, match="shape"):
        batch.reset([1])


def test_a_reward_that_is_a_vector_is_named():
    class Vector(Count):
        def step(self, action):
            obs, reward, *rest = super().step(action)
            return obs, np.array([reward, 0.0]), *rest

    batch = GymTask(Vector, horizon=5).make(1)
    batch.reset([1])
    with pytest.raises(PlauditError, match="single number"):
        batch.step(torch.zeros(1, dtype=torch.int64))


def test_unknown_ids_missing_packages_and_wrong_arguments_say_how_to_go_on(monkeypatch):
    with pytest.raises(BadInput, match="CartPole-v1"):
        make("CartPol-v1")
    with pytest.raises(BadInput, match="no_such_argument"):
        make("CartPole-v1", native=False, no_such_argument=1)
    with pytest.raises(BadInput, match="lenght"):
        make(Count, lenght=3)
    with pytest.raises(BadInput, match="gymnasium.Env"):
        make(lambda: 3)
    same = Count()
    with pytest.raises(BadInput, match="same environment"):
        GymTask(lambda: same, horizon=3).make(2)
    if importlib.util.find_spec("highway_env") is None:
        with pytest.raises(MissingExtra, match="pip install"):
            make("highway-fast-v0")


def test_a_restored_batch_goes_on_bit_for_bit():
    task = GymTask("CartPole-v1")
    policy = RandomPolicy(task.action_space, 3)
    batch, carry = task.make(3), policy.start(3)
    obs = batch.reset([1, 2, 3])
    for t in range(70):
        obs = batch.step(policy.act(obs, carry, step=t)[0]).obs
    other = task.make(3)
    other.load_state_dict(batch.state_dict())
    for t in range(70, 140):
        action = policy.act(obs, carry, step=t)[0]
        a, b = batch.step(action), other.step(action)
        assert torch.equal(a.next_obs, b.next_obs) and torch.equal(a.obs, b.obs) and torch.equal(a.done, b.done)
        if t == 100:
            other.load_state_dict(other.state_dict())
    assert batch.episode_seeds() == other.episode_seeds()


def test_an_environment_with_hidden_randomness_refuses_to_be_restored():
    class Restless(Count):
        def _obs(self):
            return np.random.default_rng().random(2)

    batch = GymTask(Restless, horizon=9).make(1)
    batch.reset([1])
    state = batch.state_dict()
    with pytest.raises(PlauditError, match="did not repeat"):
        batch.load_state_dict(state)


def test_rows_that_ended_are_not_stepped_further_in_a_rollout():
    stepped: list[int] = []

    class Watched(Count):
        def step(self, action):
            stepped.append(self.count)
            return super().step(action)

    task = GymTask(Watched, {"length": 2}, horizon=5)
    stepped.clear()
    frames: dict[int, list[np.ndarray]] = {0: []}
    e = rollout(task, RandomPolicy(task.action_space, 0), seeds=[1], max_steps=5, frames=frames)
    assert len(stepped) == 2 and e.T == 2
    assert [int(f[0, 0, 0]) for f in frames[0]] == [0, 1, 2], "the last frame shows the end"


def test_a_renderer_that_fails_gives_no_frames_and_a_log_line(caplog):
    class Blind(Count):
        def render(self):
            raise OSError("no display")

    frames: dict[int, list[np.ndarray]] = {0: []}
    task = GymTask(Blind, horizon=5)
    rollout(task, RandomPolicy(task.action_space, 0), seeds=[1], frames=frames)
    assert frames[0] == [] and "no display" in caplog.text


def test_specs_name_ids_and_targets():
    task = make("FrozenLake-v1", is_slippery=False, horizon=12)
    again = from_spec(task.spec())
    assert again.spec() == task.spec() and again.horizon == 12
    spec = count_task(length=3).spec()
    assert spec["kind"] == "target" and spec["target"].endswith("environments.py:Count")
    assert spec["kwargs"] == {"length": 3}
    with pytest.raises(Unsupported, match="without a name"):
        GymTask(lambda: Count(), horizon=3).spec()


def test_minigrid_works_without_its_mission_text():
    pytest.importorskip("minigrid")
    task = make("MiniGrid-Empty-5x5-v0")
    e = rollout(task, RandomPolicy(task.action_space, 0), seeds=[1, 2], max_steps=10)
    assert set(e.obs) == {"direction", "image"} and e.obs["image"].dtype == torch.uint8 and task.horizon == 100


@pytest.mark.parametrize("name", ["Hopper-v5", "Ant-v5", "HalfCheetah-v5"])
def test_the_reported_terms_of_mujoco_sum_to_its_reward(name):
    pytest.importorskip("mujoco")
    from plaudit.core.functions import EnvReward

    task = make(name)
    e = rollout(task, RandomPolicy(task.action_space, 0), seeds=[1, 2], max_steps=25)
    score = EnvReward().score(e)
    assert {k for k in e.info if k.startswith("reward_")} == {f"reward_{k}" for k in score.terms}
    assert len(score.terms) >= 2
    total = torch.stack([score.contribution(k) for k in score.terms]).sum(0)
    torch.testing.assert_close(total, score.value, rtol=1e-5, atol=1e-5)


def test_mujoco_draws_without_a_display(caplog):
    pytest.importorskip("mujoco")
    frames: dict[int, list[np.ndarray]] = {0: []}
    task = make("HalfCheetah-v5", width=96, height=96)
    rollout(task, RandomPolicy(task.action_space, 0), seeds=[1], max_steps=3, frames=frames)
    if not frames[0] and "GL" in caplog.text:
        pytest.skip(f"no OpenGL on this machine: {caplog.text}")
    assert frames[0][0].shape == (96, 96, 3) and frames[0][0].std() > 5


@pytest.mark.parametrize(("space", "strange", "said"), [
    (spaces.Discrete(10, start=5), 105, r"105 is not in Discrete\(10, start=5\)"),
    (spaces.Discrete(3), -1, r"-1 is not in Discrete\(3\)"),
    (spaces.MultiDiscrete([5, 5], start=[-2, 1]), np.array([0, 6]), r"\[0, 6\] is not in MultiDiscrete"),
    (spaces.Dict(tank=spaces.Discrete(3)), {"tank": 3}, r"\['tank'\] = 3 is not in Discrete\(3\)"),
])
def test_an_observation_outside_its_choices_is_named_with_its_step(space, strange, said):
    class Leaky(gymnasium.Env):
        observation_space, action_space = space, spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            self.t = 0
            return self.observation_space.sample(), {}

        def step(self, action):
            self.t += 1
            return strange if self.t == 3 else self.observation_space.sample(), 0.0, False, False, {}

    task = GymTask(Leaky, horizon=9)
    with pytest.raises(PlauditError, match=rf"Leaky: step 3 of row 0 \(episode seed 4\).*{said}"):
        rollout(task, RandomPolicy(task.action_space, seeds=0), seeds=[4, 5])


@pytest.mark.parametrize(("name", "follows"), [("HalfCheetah-v5", True), ("Hopper-v5", True), ("Reacher-v5", False)])
def test_the_camera_follows_robots_that_run_and_stands_before_those_that_do_not(name, follows, caplog):
    pytest.importorskip("mujoco")
    batch = make(name, width=96, height=96).make(1, render=True)
    batch.reset([0])
    env: Any = batch.envs[0].unwrapped
    first = batch.render()
    if first is None and "GL" in caplog.text:
        pytest.skip(f"no OpenGL on this machine: {caplog.text}")
    before = env.mujoco_renderer.viewer.cam.lookat.copy()
    place = env.init_qpos.copy()
    place[0] += 40.0  # metres along the track (for the arm: an angle)
    env.set_state(place, env.init_qvel)
    batch.render()
    moved = env.mujoco_renderer.viewer.cam.lookat - before
    assert abs(moved[0] - (40.0 if follows else 0.0)) < 0.5 and moved[2] == 0
    batch.close()


def test_an_environment_with_a_parameter_horizon_gets_it_by_class_factory_and_id():
    gymnasium.register("plaudit/Limited-v0", entry_point=Limited)
    try:
        for env in (Limited, lambda horizon=6: Limited(horizon), "plaudit/Limited-v0"):
            task = make(env, horizon=9)
            batch = task.make(1)
            assert task.horizon == 9 and batch.envs[0].unwrapped.limit == 9
            assert rollout(task, RandomPolicy(task.action_space, 0), seeds=[1]).T == 9
        again = from_spec(make("plaudit/Limited-v0", horizon=9).spec())
        assert again.make(1).envs[0].unwrapped.limit == 9
        assert make(lambda: Limited(6), horizon=3).make(1).envs[0].unwrapped.limit == 6
    finally:
        del gymnasium.registry["plaudit/Limited-v0"]


def test_an_own_horizon_is_the_limit_only_where_the_environment_is_seen_to_truncate_there():
    assert make(Limited).horizon == 6
    with pytest.warns(UserWarning, match="names no time limit.*--env-kwargs"):
        assert make(Limited, ahead=3).horizon == 1000


def test_the_warning_about_a_limit_stands_at_the_line_that_made_the_task(tmp_path):
    """In a process of its own: the type checks of these tests put frames of theirs between."""
    file, script = Path(__file__).with_name("environments.py"), tmp_path / "mine.py"
    script.write_text("import sys\nfrom plaudit.tasks.gym import GymTask\nfrom plaudit.tasks.making import make\n"
                      f"sys.path.append({str(file.parent)!r})\nfrom environments import Limited\n"
                      "GymTask(Limited, {'ahead': 3})\nmake(Limited, ahead=3)\n"
                      f"make({f'{file}:Limited'!r}, ahead=3)\n")
    said = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(Path(plaudit.__file__).parents[1])}).stderr
    assert [line for line in (6, 7, 8) if f"mine.py:{line}: UserWarning: Limited names no time limit" in said] == \
        [6, 7, 8], said


def test_make_takes_targets_as_an_audit_does(monkeypatch):
    file = Path(__file__).with_name("environments.py")
    assert make(f"{file}:Limited", horizon=9).make(1).envs[0].limit == 9
    assert make(f"{file}:limited_task", horizon=4).horizon == 4 and make(f"{file}:limited_task").horizon == 6
    with pytest.raises(BadInput, match="env: expected a name.*did you mean Limited"):
        make(f"{file}:Limted")
    monkeypatch.setitem(gymnasium.registry, "sqrt", gymnasium.spec("CartPole-v1"))
    assert make("math:sqrt").name == "math:sqrt"
