from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from numbered_stores import numbered

from plaudit.core.errors import BadInput, Unsupported
from plaudit.feedback.preferences import Preferences
from plaudit.feedback.records import Preference

STORE = numbered([5, 3, 4])


def some() -> Preferences:
    return Preferences.of_pairs(STORE, row=[[0, 1], [2, 0], [1, 2], [0, 2]], start=[[0, 1], [2, 3], [0, 0], [1, 1]],
                                length=[[2, 2], [2, 2], [3, 4], [2, 2]], label=[1.0, 0.2, None, 0.5],
                                tie=[False, False, False, True], margin=[1.0, 0, 0, 0], level=[0, 1, -1, -1],
                                annotator="ann", context="count", group=[0, 0, 1, 1])


def same(a: Preferences, b: Preferences) -> bool:
    def columns(p: Preferences) -> list[Any]:
        return [p.row, p.start, p.length, p.known, p.tie, p.margin, p.weight, p.level, p.group, p.label.nan_to_num(-1)]

    return all(torch.allclose(x.double(), y.double()) for x, y in zip(columns(a), columns(b), strict=True))


def test_fragments_are_cut_where_they_lie_and_padded() -> None:
    first, second = some().fragments(0), some().fragments(1)
    assert first.obs[..., 0].tolist() == [[0, 1, 0], [202, 203, 0], [100, 101, 102], [1, 2, 0]]
    assert second.obs[2, :, 0].tolist() == [200, 201, 202, 203]
    assert first.lengths.tolist() == [2, 2, 3, 2]


def test_distinct_fragments_say_which_pair_reads_which() -> None:
    pairs = Preferences.of_pairs(STORE, row=[[0, 1], [1, 0], [0, 0]], start=[[1, 0], [0, 1], [1, 2]], length=2)
    fragments, index = pairs.distinct()
    assert fragments.B == 3
    for side in (0, 1):
        assert torch.equal(fragments.obs[index[:, side]], pairs.fragments(side).obs)


def test_counts_keep_the_undecided_apart() -> None:
    assert some().counts() == {"first": 1, "second": 1, "equal": 1, "undecided": 1}
    assert some().levels() == {0: 1, 1: 1}
    assert len(some().decided()) == 3


def test_swapping_twice_changes_nothing_and_once_turns_the_labels() -> None:
    assert same(some().swapped().swapped(), some())
    assert some().swapped().counts() == {"first": 1, "second": 1, "equal": 1, "undecided": 1}
    assert some().swapped().label[0] == 0.0


def test_files_and_records_give_back_the_same(tmp_path: Path) -> None:
    pairs = some()
    loaded = Preferences.load(pairs.save(tmp_path / "pairs.safetensors"))
    assert same(loaded, pairs) and torch.equal(loaded.episodes.obs, STORE.obs)  # type: ignore[arg-type]
    assert loaded.annotators == ("ann",) and loaded.context == "count"
    read = Preferences.from_jsonl(pairs.to_jsonl(tmp_path / "pairs.jsonl"), STORE)
    assert same(read, pairs) and read.annotators == ("ann",)


def test_another_file_is_refused(tmp_path: Path) -> None:
    STORE.save(tmp_path / "episodes.safetensors")
    with pytest.raises(BadInput):
        Preferences.load(tmp_path / "episodes.safetensors")


def test_joined_pairs_point_into_the_joined_store() -> None:
    other = Preferences.of_pairs(numbered([2, 6]), row=[[1, 0]], start=0, length=2, label=[0.0], annotator="bob")
    joined = Preferences.cat([some(), other, some()])
    assert joined.episodes.B == 5 and joined.annotators == ("ann", "bob")
    assert torch.equal(joined.fragments(0).obs[4, :2], other.fragments(0).obs[0])
    assert joined.annotator.tolist() == [0] * 4 + [1] + [0] * 4


def test_a_split_is_disjoint_and_complete() -> None:
    many = Preferences.of_pairs(STORE, row=[[0, 1]] * 40, length=1, label=[i / 40 for i in range(40)])
    rest, held = many.split(0.25, seed=3)
    assert len(held) == 10 and sorted([*rest.label.tolist(), *held.label.tolist()]) == sorted(many.label.tolist())
    with pytest.raises(BadInput, match="share"):
        many.split(0.001)


@pytest.mark.parametrize("wrong, names", [
    ({"row": [[0, 3]]}, "row"), ({"row": [[-1, 0]], "length": 1}, "row"), ({"start": 4, "length": 2}, "pair 0"),
    ({"row": [[0, 1]], "start": 2, "length": 2}, "pair 0"), ({"start": -1, "length": 1}, "start"),
    ({"row": [[0, 1.5]]}, r"row: expected integers, received \[1.5"), ({"row": [0, 2]}, r"\[N, 2\], received \[2"),
    ({"row": [[0, 1], [0]]}, "row: expected integers"), ({"row": [[0, 1, 2]]}, r"\[N, 2\]"),
    ({"start": 0.5}, "start: expected integers"), ({"length": [[1, 1.5]]}, "length: expected integers"),
    ({"label": [1.5]}, "label.*received 1.5; an undecided pair has the label None"),
    ({"margin": [-0.1]}, "margin"), ({"weight": [float("nan")]}, "weight")])
def test_what_cannot_be_is_refused(wrong: dict[str, Any], names: str) -> None:
    with pytest.raises(BadInput, match=names):
        Preferences.of_pairs(STORE, **{"row": [[0, 2]], "length": 2, "label": [1.0], **wrong})


def test_a_file_without_records_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(BadInput, match=r"at least one record, received .*empty\.jsonl"):
        Preferences.from_jsonl(tmp_path / "empty.jsonl", STORE)
    with pytest.raises(BadInput, match="records: expected at least one"):
        Preferences.of_records([], STORE)


def test_whole_numbers_are_rows_however_they_came() -> None:
    assert Preferences.of_pairs(STORE, row=torch.tensor([[0.0, 2.0]]), length=2).row.tolist() == [[0, 2]]
    assert len(Preferences.of_pairs(STORE, row=[])) == 0


def test_texts_are_no_fragments() -> None:
    with pytest.raises(Unsupported, match="texts"):
        Preferences.of_records([Preference(options=("a", "b"), label=1.0)], STORE)
