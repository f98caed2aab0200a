from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from plaudit.core.checkpoint import write_tensors
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.tree import from_leaves, leaves, tree_map


def one(seed: int, T: int, *, nest: bool = False, discrete: bool = False, rows: bool = True) -> Episodes:
    """One episode of T steps with everything in it."""
    g = torch.Generator().manual_seed(seed)

    def obs() -> Any:
        x = torch.randn(T, 3, generator=g)
        return {"body": {"a/b": x, "c": x.to(torch.int64)}, "image~": torch.zeros(T, 2, 2).byte()} if nest else x

    end = torch.arange(T) == T - 1
    out = Episodes.of_steps(
        obs=obs(), next_obs=obs(), action=torch.arange(T) if discrete else torch.randn(T, 2, generator=g),
        terminated=end & (seed % 2 == 0), truncated=end & (seed % 2 == 1), env_reward=torch.randn(T, generator=g),
        info={"reward_ctrl": torch.randn(T, generator=g), "with/slash": torch.ones(T, 2).bool()})
    index = torch.tensor([seed])
    return out.replace(group=index, agent=index + 1, member=index + 2) if rows else out


def same(a: Episodes, b: Episodes) -> bool:
    ours, theirs = dict(a.tensors()), dict(b.tensors())
    return set(ours) == set(theirs) and all(
        x.dtype == theirs[n].dtype and x.device == theirs[n].device and torch.equal(x, theirs[n])
        for n, x in ours.items())


LENGTHS = st.lists(st.integers(0, 6), min_size=1, max_size=5)


def batch(lengths: list[int], **options: bool) -> Episodes:
    return Episodes.cat([one(s, T, **options) for s, T in enumerate(lengths)])


# --- to and from lists ------------------------------------------------------------------------------


@given(LENGTHS, st.booleans(), st.booleans(), st.booleans())
def test_unequal_episodes_go_into_a_batch_and_back_without_loss(
        lengths: list[int], nest: bool, discrete: bool, rows: bool) -> None:
    episodes = [one(s, T, nest=nest, discrete=discrete, rows=rows) for s, T in enumerate(lengths)]
    together = Episodes.cat(episodes)
    assert (together.B, together.T, together.lengths.tolist()) == (len(lengths), max(lengths), lengths)
    assert all(same(a, b) for a, b in zip(together.to_list(), episodes, strict=True))
    assert same(Episodes.cat(together.to_list()), together)


def test_a_batch_that_forgot_the_mask_would_fail_the_test_above() -> None:
    together = batch([3, 1])
    forgetful = together.replace(mask=torch.ones_like(together.mask))
    assert not same(forgetful.to_list()[1], one(1, 1))


@given(LENGTHS, st.integers(0, 3))
def test_padding_adds_masked_zeros_and_nothing_else(lengths: list[int], more: int) -> None:
    episodes = batch(lengths, nest=True)
    padded = episodes.pad(episodes.T + more)
    assert padded.T == episodes.T + more and same(padded.steps(0, episodes.T), episodes)
    assert all(not leaf[:, episodes.T :].any() for _, leaf in padded._step_leaves())
    assert padded.lengths.tolist() == lengths


def test_a_mask_with_holes_has_no_list() -> None:
    episodes = batch([3])
    with pytest.raises(BadInput, match="holes"):
        episodes.replace(mask=torch.tensor([[True, False, True]])).to_list()


def test_batches_with_their_fields_in_another_order_can_be_joined() -> None:
    first, second = one(0, 2), one(1, 2)
    turned = second.replace(info=dict(reversed(second.info.items())))
    assert same(Episodes.cat([first, turned]), Episodes.cat([first, second]))


@pytest.mark.parametrize("change", [
    {"env_reward": None}, {"info": {}}, {"group": None}, {"action": torch.zeros(1, 2)},
    {"obs": torch.zeros(1, 2, 4), "next_obs": torch.zeros(1, 2, 4)},
    {"info": {"reward_ctrl": torch.zeros(1, 2), "other": torch.zeros(1, 2)}},
])
def test_batches_of_different_fields_cannot_be_joined(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="batches"):
        Episodes.cat([one(0, 2), one(1, 2).replace(**change)])
    with pytest.raises(BadInput, match="empty"):
        Episodes.cat([])


# --- selecting --------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
def test_rows_are_chosen_as_a_list_would_choose_them(lengths: list[int], data: st.DataObject) -> None:
    episodes, B = batch(lengths, nest=True), len(lengths)
    rows = list(range(B))
    part = data.draw(st.slices(B).filter(lambda s: s.step is None or s.step > 0))
    chosen = data.draw(st.lists(st.integers(-B, B - 1), max_size=6))
    kept = data.draw(st.lists(st.booleans(), min_size=B, max_size=B))
    number = data.draw(st.integers(-B, B - 1))
    for index, expected in [(part, rows[part]), (chosen, [rows[i] for i in chosen]), (number, [rows[number]]),
                            (torch.tensor(chosen, dtype=torch.int64), [rows[i] for i in chosen]),
                            (kept, [r for r in rows if kept[r]]), (torch.tensor(kept), [r for r in rows if kept[r]]),
                            (torch.tensor(number), [rows[number]])]:
        found = episodes[index]
        assert found.B == len(expected) and found.T == episodes.T
        assert found.group is not None and found.group.tolist() == expected
        for b, row in enumerate(expected):
            assert torch.equal(found.action[b], episodes.action[row])


@pytest.mark.parametrize("index", [2, -3, [2], torch.tensor([True, False, True])])
def test_rows_that_are_not_there_are_an_error(index: Any) -> None:
    with pytest.raises(IndexError):
        batch([1, 2])[index]


def test_steps_are_sliced_in_every_row() -> None:
    episodes = batch([4, 2], nest=True)
    middle = episodes.steps(1, 3)
    assert middle.lengths.tolist() == [2, 1] and torch.equal(middle.action, episodes.action[:, 1:3])
    assert same(episodes.steps(), episodes) and episodes.steps(4).T == 0


@given(LENGTHS, st.booleans())
def test_transitions_are_all_steps_that_happened_in_order(lengths: list[int], rows: bool) -> None:
    episodes = batch(lengths, nest=True, rows=rows)
    flat = episodes.transitions()
    assert (flat.B, flat.T) == (sum(lengths), 1) and bool(flat.mask.all())
    expected = [(b, t) for b, T in enumerate(lengths) for t in range(T)]
    for n, (b, t) in enumerate(expected):
        assert torch.equal(flat.action[n, 0], episodes.action[b, t])
        assert torch.equal(flat.info["with/slash"][n, 0], episodes.info["with/slash"][b, t])
    assert (flat.group is None) == (not rows)
    assert flat.group is None or flat.group.tolist() == [b for b, _ in expected]
    assert same(flat.transitions(), flat)


def test_transitions_of_a_mask_with_holes_leave_the_holes_out() -> None:
    episodes = batch([3]).replace(mask=torch.tensor([[True, False, True]]))
    assert torch.equal(episodes.transitions().action[:, 0], episodes.action[0, [0, 2]])


def test_flat_transitions_are_rows_of_one_step() -> None:
    x = torch.arange(6.0).reshape(3, 2)
    flat = Episodes.of_transitions(obs={"x": x}, action=torch.arange(3), next_obs={"x": x + 1}, env_reward=x[:, 0])
    assert (flat.B, flat.T) == (3, 1) and flat.action.tolist() == [[0], [1], [2]]
    assert isinstance(flat.obs, dict) and torch.equal(flat.obs["x"][:, 0], x)


# --- sizes and numbers ------------------------------------------------------------------------------


@given(LENGTHS)
def test_last_is_the_step_before_the_padding(lengths: list[int]) -> None:
    assert batch(lengths).last.tolist() == [max(T - 1, 0) for T in lengths]


@given(LENGTHS, st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_returns_are_the_sum_of_a_python_loop(lengths: list[int], discount: float) -> None:
    episodes = batch(lengths)
    reward = torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(0))
    reward = torch.where(episodes.mask, reward, math.nan)  # what lies behind the end must not matter
    expected = [sum(discount**t * float(reward[b, t]) for t in range(T)) for b, T in enumerate(lengths)]
    assert episodes.returns(reward, discount=discount).tolist() == pytest.approx(expected, abs=1e-5)


def test_returns_of_a_wrong_reward_or_discount_are_refused(unchecked: None) -> None:
    with pytest.raises(BadInput, match="reward_BT"):
        batch([2]).returns(torch.zeros(1, 3))
    with pytest.raises(BadInput, match="discount"):
        batch([2]).returns(torch.zeros(1, 2), discount=1.5)


@pytest.mark.parametrize("empty", [batch([3, 2])[:0], batch([3, 2]).steps(0, 0), batch([0])])
def test_empty_batches_work(empty: Episodes, tmp_path: Path) -> None:
    assert empty.lengths.sum() == 0 and len(empty.last) == empty.B and empty.transitions().B == 0
    assert len(empty.to_list()) == empty.B and empty.returns(torch.zeros(empty.B, empty.T)).shape == (empty.B,)
    assert same(Episodes.cat([empty, batch([2])])[-1], batch([2]).pad(max(2, empty.T)))
    empty.save(tmp_path / "e.safetensors")
    assert same(Episodes.load(tmp_path / "e.safetensors"), empty)
    assert "steps=0" in repr(empty)


# --- moving and saving ------------------------------------------------------------------------------


@given(LENGTHS, st.booleans())
def test_a_saved_batch_comes_back(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], nest: bool) -> None:
    path = tmp_path_factory.mktemp("episodes") / "e.safetensors"
    episodes = batch(lengths, nest=nest)
    episodes.save(path)
    loaded = Episodes.load(path)
    assert same(loaded, episodes)
    assert same(Episodes.cat([loaded, episodes])[: episodes.B], episodes)


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"obs": torch.zeros(1)})
    for name in ("x.safetensors", "missing.safetensors"):
        with pytest.raises(BadInput, match=name):
            Episodes.load(tmp_path / name)
    write_tensors(tmp_path / "y.safetensors", {"obs": torch.zeros(1)}, {"format": "plaudit.episodes.1"})
    with pytest.raises(BadInput, match="fields"):
        Episodes.load(tmp_path / "y.safetensors")


def test_all_of_a_batch_moves_to_another_device() -> None:
    episodes = batch([3, 1], nest=True)
    moved = episodes.to("meta")
    assert moved.device.type == "meta" and {t.device.type for _, t in moved.tensors()} == {"meta"}
    assert (moved.B, moved.T) == (2, 3) and "steps=unknown" in repr(moved)
    assert same(episodes.to("cpu"), episodes)


def test_a_batch_says_what_is_in_it() -> None:
    assert repr(batch([2, 1])) == (
        "Episodes(B=2, T=2, steps=3, obs[3], action[2], next_obs[3], terminated[], truncated[], env_reward[], "
        "info/reward_ctrl[], info/with~1slash[2])")


# --- bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "field"), [
    ({"terminated": torch.zeros(2, 3, 1).bool()}, "terminated"), ({"truncated": torch.zeros(2, 2).bool()}, "truncated"),
    ({"mask": torch.ones(3).bool()}, "mask"), ({"obs": torch.zeros(2, 2, 3)}, "obs"),
    ({"obs": torch.tensor(1.0)}, "obs"), ({"action": torch.zeros(3, 2)}, "action"),
    ({"next_obs": {"x": torch.zeros(2, 3)}}, "next_obs"), ({"next_obs": torch.zeros(2, 3, 4)}, "next_obs"),
    ({"env_reward": torch.zeros(2)}, "env_reward"), ({"env_reward": torch.zeros(2, 3, 1)}, "env_reward"),
    ({"info": {"x": torch.zeros(2)}}, "info/x"), ({"group": torch.zeros(3).long()}, "group"),
    ({"agent": torch.zeros(2, 1).long()}, "agent"), ({"mask": torch.ones(2, 3)}, "mask"),
    ({"terminated": torch.zeros(2, 3)}, "terminated"),
])
def test_a_field_that_does_not_fit_is_named(change: dict[str, Any], field: str, unchecked: None) -> None:
    episodes = batch([3, 2])
    with pytest.raises(BadInput, match=rf"^episodes\.{field}:"):
        episodes.replace(**change)


def test_padding_cannot_shorten() -> None:
    with pytest.raises(BadInput, match="at least the present length 3"):
        batch([3]).pad(2)


# --- trees ------------------------------------------------------------------------------------------

KEYS = st.text(st.sampled_from("ab/~01"), min_size=1, max_size=3)
TREES = st.recursive(st.builds(torch.tensor, st.integers(0, 9)),
                     lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=6)


@given(TREES)
def test_a_tree_comes_back_from_its_leaves(tree: Any) -> None:
    def equal(a: Any, b: Any) -> bool:
        if isinstance(a, Tensor):
            return isinstance(b, Tensor) and bool(a == b)
        return set(a) == set(b) and all(equal(a[k], b[k]) for k in a)

    assert equal(from_leaves(dict(leaves(tree))), tree)
    assert equal(tree_map(lambda a, b: a + b, tree, tree), tree_map(lambda a: 2 * a, tree))


def test_steps_and_transitions_may_be_numpy_arrays():
    import numpy as np

    obs = {"x": np.arange(6, dtype=np.float32).reshape(3, 2)}
    fields = {"obs": obs, "action": np.array([0, 1, 0]), "next_obs": obs, "terminated": np.array([False, False, True]),
              "env_reward": np.ones(3, dtype=np.float32), "info": {"speed": np.zeros(3)}}
    episode = Episodes.of_steps(**fields)
    assert episode.T == 3 and episode.action.dtype == torch.int64 and bool(episode.terminated[0, 2])
    assert torch.equal(episode.obs["x"][0], torch.arange(6.0).reshape(3, 2))
    assert Episodes.of_transitions(**fields).B == 3
