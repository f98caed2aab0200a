from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, MissingExtra, Unsupported
from plaudit.core.minari_io import from_minari, to_minari

minari = pytest.importorskip("minari")
EpisodeBuffer = pytest.importorskip("minari.data_collector").EpisodeBuffer
pytestmark = pytest.mark.filterwarnings("ignore:.*is set to None:UserWarning", "ignore:env_spec is None:UserWarning")


@pytest.fixture(autouse=True)
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def walk(seed: int, T: int, **changes: Any) -> Episodes:
    """One episode whose next_obs are the obs of the step after."""
    g = torch.Generator().manual_seed(seed)
    o = torch.randn(T + 1, 3, generator=g)
    end = torch.arange(T) == T - 1
    fields = {"obs": o[:-1], "next_obs": o[1:], "action": torch.randn(T, 2, generator=g),
              "terminated": end & (seed % 2 == 0), "truncated": end & (seed % 2 == 1),
              "env_reward": torch.randn(T, generator=g),
              "info": {"reward_ctrl": torch.randn(T, generator=g), "is_success": end, "inner/x": torch.randn(T, 2)}}
    return Episodes.of_steps(**(fields | changes))


def nested(seed: int, T: int) -> Episodes:
    i = torch.randint(0, 255, (T + 1, 4, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    o = {"image": i, "body": {"position": torch.randn(T + 1, 2).double(), "room": torch.arange(T + 1)}}
    cut = lambda part: {"image": i[part], "body": {k: v[part] for k, v in o["body"].items()}}  # noqa: E731
    return walk(seed, T, obs=cut(slice(0, -1)), next_obs=cut(slice(1, None)), action=torch.randint(0, 4, (T,)), info={})


def assert_same(a: Episodes, b: Episodes) -> None:
    ours, theirs = dict(a.tensors()), dict(b.tensors())
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("make", [walk, nested])
def test_unequal_episodes_come_back_without_loss(make: Any) -> None:
    episodes = Episodes.cat([make(s, T) for s, T in enumerate((5, 1, 3))])
    dataset = to_minari(episodes, "plaudit/test-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (3, 9)
    assert_same(from_minari(dataset), episodes)
    assert_same(from_minari("plaudit/test-v0"), episodes)


def test_the_last_observation_is_kept() -> None:
    dataset = to_minari(walk(0, 4), "test-v0")
    assert len(dataset[0].observations) == 5
    assert torch.equal(from_minari(dataset).next_obs[0, -1], walk(0, 4).next_obs[0, -1])  # type: ignore[index]


def test_rows_keep_their_indices_and_a_part_of_a_data_set_its_own() -> None:
    episodes = Episodes.cat([walk(s, 2) for s in range(4)])
    episodes = episodes.replace(group=torch.tensor([3, 3, 7, 7]), member=torch.arange(4))
    dataset = to_minari(episodes, "test-v0")
    assert_same(from_minari(dataset), episodes)
    part = dataset.filter_episodes(lambda e: e.id >= 2)
    assert from_minari(part).group.tolist() == [7, 7]  # type: ignore[union-attr]


def test_no_rewards_stay_no_rewards() -> None:
    dataset = to_minari(walk(0, 3).replace(env_reward=None), "test-v0")
    assert np.isnan(dataset[0].rewards).all()
    assert from_minari(dataset).env_reward is None


def test_a_data_set_that_others_wrote_is_read() -> None:
    env, buffers = gymnasium.make("CartPole-v1"), []
    for seed in range(3):
        observations, ends = [env.reset(seed=seed)[0]], []
        while not (ends and any(ends[-1])):
            step = env.step(len(ends) % 2)
            observations.append(step[0])
            ends.append(step[2:4])
        T = len(ends)
        buffers.append(EpisodeBuffer(
            seed=seed, observations=observations, actions=[t % 2 for t in range(T)], rewards=[1.0] * T,
            terminations=[e[0] for e in ends], truncations=[e[1] for e in ends], infos={"height": [0.0] * (T + 1)}))
    dataset = minari.create_dataset_from_buffers("cartpole/test-v0", buffers, env=env)
    lengths = [len(b.rewards) for b in buffers]
    episodes = from_minari(dataset)
    assert episodes.lengths.tolist() == lengths and episodes.obs.shape == (3, max(lengths), 4)  # type: ignore[union-attr]
    assert bool(episodes.terminated[torch.arange(3), episodes.last].all()) and episodes.terminated.sum() == 3
    assert episodes.env_reward is not None and episodes.env_reward.sum() == sum(lengths)
    assert torch.equal(episodes.next_obs[0, : lengths[0] - 1], episodes.obs[0, 1 : lengths[0]])  # type: ignore[index]
    assert episodes.info["height"].shape == (3, max(lengths)) and episodes.group is None


class Recorded:
    """Episodes as a Minari data set gives them, without a file."""

    def __init__(self, *records: dict[str, Any]) -> None:
        self.records = records
        self.episode_indices = range(len(records))
        self.storage = self

    def iterate_episodes(self) -> list[Any]:
        ends = {"terminations": np.zeros(2, bool), "truncations": np.array([False, True])}
        base = {"observations": np.zeros((3, 1)), "actions": np.zeros(2), "rewards": np.ones(2), "infos": {}} | ends
        return [minari.EpisodeData(id=i, **(base | r)) for i, r in enumerate(self.records)]

    def get_episode_metadata(self, indices: Any) -> list[dict[str, Any]]:
        return [{} for _ in indices]


def test_infos_that_include_the_reset_belong_to_the_steps_after_it(caplog: pytest.LogCaptureFixture) -> None:
    infos = {"x": np.array([9.0, 1.0, 2.0]), "deep": {"y": np.array([3, 4])}, "note": ["a", "b"], "one": np.array(5.0)}
    episodes = from_minari(Recorded({"infos": infos | {"odd": np.zeros(2)}}, {"infos": infos}))
    assert episodes.info["x"].tolist() == [[1.0, 2.0]] * 2 and episodes.info["deep/y"].tolist() == [[3, 4]] * 2
    assert set(episodes.info) == {"x", "deep/y"} and "odd" in caplog.text


def test_tuples_become_dictionaries() -> None:
    episodes = from_minari(Recorded({"observations": (np.zeros((3, 1)), np.ones(3))}))
    assert isinstance(episodes.obs, dict) and episodes.obs["1"].tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(("record", "error"), [
    ({"observations": np.zeros((2, 1))}, BadInput), ({"observations": {"a": np.zeros((4, 1))}}, BadInput),
    ({"observations": ["text"] * 3}, Unsupported), ({"actions": (np.zeros(2),)}, Unsupported),
])
def test_records_that_do_not_fit_are_refused(record: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        from_minari(Recorded(record))


def test_an_empty_or_missing_data_set_is_refused() -> None:
    with pytest.raises(BadInput, match="at least one"):
        from_minari(Recorded())
    with pytest.raises(BadInput, match="minari download nobody/has-v0"):
        from_minari("nobody/has-v0")


def test_what_minari_cannot_keep_is_refused_and_nothing_is_written(datasets: Path) -> None:
    jump = walk(0, 3)
    jump = jump.replace(next_obs=jump.next_obs + 1.0)  # type: ignore[operator]
    with pytest.raises(BadInput, match=r"episodes\[0\]\.next_obs"):
        to_minari(jump, "test-v0")
    with pytest.raises(BadInput, match="no-version"):
        to_minari(walk(0, 3), "no-version")
    with pytest.raises(BadInput, match=r"received the class CartPoleEnv; pass CartPoleEnv\(...\)"):
        to_minari(walk(0, 3), "test-v0", env=CartPoleEnv)
    with pytest.raises(BadInput, match="env: expected an environment, its id or its spec, received int"):
        to_minari(walk(0, 3), "test-v0", env=3)
    with pytest.raises(BadInput, match="at least one step"):
        to_minari(walk(0, 3).steps(0, 0), "test-v0")
    with pytest.raises(BadInput, match="at least one row"):
        to_minari(walk(0, 3)[:0], "test-v0")
    assert list(datasets.iterdir()) == []


def test_a_failure_on_the_way_leaves_nothing(datasets: Path) -> None:
    with pytest.raises(gymnasium.error.Error):
        to_minari(walk(0, 3), "test-v0", env="NoSuchEnvironment-v9")
    assert not (datasets / "test-v0").exists()
    to_minari(walk(0, 3), "test-v0")
    with pytest.raises(BadInput, match="not taken"):
        to_minari(walk(0, 3), "test-v0")
    assert from_minari("test-v0").B == 1


def test_the_environment_can_be_recovered() -> None:
    env = gymnasium.make("Pendulum-v1")
    dataset = to_minari(walk(0, 3, action=torch.zeros(3, 1)), "test-v0", env=env, description="three steps")
    assert dataset.recover_environment().spec.id == "Pendulum-v1"
    assert dataset.observation_space == env.observation_space


def test_a_missing_minari_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(MissingExtra, match=r"plaudit\[envs\]"):
        from_minari("test-v0")
