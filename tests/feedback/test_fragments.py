from __future__ import annotations

import pytest
import torch
from numbered_stores import numbered

from plaudit.core.errors import BadInput
from plaudit.feedback.fragments import all_pairs, sample_fragments, sample_pairs

STORE = numbered([10, 4, 30])


@pytest.mark.parametrize("how", ["random", "disjoint", "stratified"])
def test_fragments_lie_inside_their_episodes(how: str) -> None:
    pairs = sample_pairs(STORE, 4, length=4, how=how)  # type: ignore[arg-type]
    assert bool((pairs.start + 4 <= STORE.lengths[pairs.row]).all())
    assert bool(((pairs.row[:, 0] != pairs.row[:, 1]) | (pairs.start[:, 0] != pairs.start[:, 1])).all())


def test_random_takes_every_window_alike_and_stratified_every_row() -> None:
    where, _ = sample_fragments(STORE, 3500, length=4)
    share = where.bincount(minlength=3) / 3500
    assert share.tolist() == pytest.approx([7 / 35, 1 / 35, 27 / 35], abs=0.03)
    where, _ = sample_fragments(STORE, 300, length=4, how="stratified")
    assert where.bincount(minlength=3).tolist() == pytest.approx([100, 100, 100], abs=12)


def test_disjoint_fragments_show_no_step_twice_and_run_out() -> None:
    pairs = sample_pairs(STORE, 4, length=4, how="disjoint")
    steps = [(r, t) for r, s in zip(pairs.row.flatten().tolist(), pairs.start.flatten().tolist(), strict=True)
             for t in range(s, s + 4)]
    assert len(steps) == len(set(steps)) == 32
    with pytest.raises(BadInput, match="disjoint"):
        sample_pairs(STORE, 40, length=4, how="disjoint")


def test_no_fragment_crosses_the_end_of_an_episode_inside_a_row() -> None:
    store = numbered([20])
    store.truncated[0, 9] = True
    _, start = sample_fragments(store, 200, length=5)
    assert not bool(((start <= 9) & (start + 5 > 10)).any())
    assert {5, 10} <= set(start.tolist())


def test_only_rows_of_one_group_are_compared() -> None:
    group = torch.tensor([0, 1, 0])
    pairs = sample_pairs(STORE, 6, length=2, group=group)
    assert len(pairs) == 12 and pairs.group.tolist() == [0] * 6 + [1] * 6
    assert torch.equal(group[pairs.row], pairs.group.unsqueeze(1).expand(-1, 2))


def test_the_same_seed_gives_the_same_pairs() -> None:
    a, b, c = (sample_pairs(STORE, 8, length=3, seed=s) for s in (1, 1, 2))
    assert torch.equal(a.start, b.start) and not torch.equal(a.start, c.start)


def test_all_pairs_are_all() -> None:
    pairs = all_pairs(STORE, row=[0, 1, 2], start=[0, 1, 2], length=2)
    assert pairs.row.tolist() == [[0, 1], [0, 2], [1, 2]] and pairs.start.tolist() == [[0, 1], [0, 2], [1, 2]]


@pytest.mark.parametrize("length", [31, 30])
def test_too_long_fragments_are_refused(length: int) -> None:
    with pytest.raises(BadInput, match="shorter fragments"):
        sample_pairs(STORE, 1, length=length)
