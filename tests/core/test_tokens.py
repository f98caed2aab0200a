"""Completions as episodes: tokens are steps, rows keep what was said of them, prompts stand beside."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.tokens import Tokens, of_texts, plain_text

ROWS = of_texts(["2+2", "2+2", "3+3"], ["4", "5", "6"], [[7, 2], [8], [9, 9, 2]], answer=["4", "4", None])
ASKED = of_texts(["2+2", "2+2", "3+3"], ["4", "5", "6"], [[7, 2], [8], [9, 9, 2]], prompt_ids=[[3, 4], [3, 4], [5]])


def test_tokens_are_steps_and_neighbours_with_one_prompt_are_a_group():
    assert ROWS.lengths.tolist() == [2, 1, 3] and ROWS.group.tolist() == [0, 0, 1]
    assert ROWS.action[ROWS.mask].tolist() == [7, 2, 8, 9, 9, 2]
    assert ROWS.terminated.nonzero().tolist() == [[0, 1], [1, 0], [2, 2]]
    assert of_texts(["a"], [""], [[]]).lengths.tolist() == [1], "an empty answer still has a step to be paid at"
    assert of_texts(["a", "b"], ["x", "y"]).T == 1


def test_rows_keep_their_columns_and_moving_keeps_all():
    two = ROWS[torch.tensor([2, 0])]
    assert isinstance(two, Tokens) and two.columns["answer"] == [None, "4"] and two.lengths.tolist() == [3, 2]
    assert ROWS[-1].columns["completion"] == ["6"] and ROWS[1:].columns["answer"] == ["4", None]
    assert ROWS[torch.tensor([True, False, True])].columns["completion"] == ["4", "6"]
    assert ROWS.to("cpu").pad(5).columns == ROWS.columns
    assert ROWS.replace(env_reward=torch.zeros(3, 3)).columns == ROWS.columns
    with pytest.raises(BadInput, match="one entry for each of 3 rows"):
        of_texts(["a"] * 3, ["b"] * 3, answer=["c"])


def test_the_last_token_of_a_prompt_stands_before_the_first_of_its_completion():
    assert ASKED.sequence_ids.tolist() == [[3, 4, 7, 2, 0], [3, 4, 8, 0, 0], [0, 5, 9, 9, 2]]
    assert ASKED.sequence_ids[ASKED.sequence_mask].tolist() == [3, 4, 7, 2, 3, 4, 8, 5, 9, 9, 2]
    assert torch.equal(ROWS.sequence_ids, ROWS.action) and torch.equal(ROWS.sequence_mask, ROWS.mask)
    with pytest.raises(BadInput, match="prompt_ids"):
        replace(ASKED, prompt_mask=None)


def test_prompts_follow_their_rows_and_are_no_steps():
    assert ASKED[[2, 0]].prompt_ids.tolist() == [[0, 5], [3, 4]]
    assert ASKED.steps(0, 1).pad(7).prompt_ids.tolist() == ASKED.prompt_ids.tolist()
    each = ASKED.transitions()
    assert each.B == 6 and each.prompt_mask.tolist()[-1] == [False, True]
    assert each.columns["completion"] == ["4", "4", "5", "6", "6", "6"]


def test_batches_are_joined_with_the_columns_they_share():
    longer = of_texts(["4+4"], ["8"], [[1]], prompt_ids=[[6, 6, 6]], source=["book"])
    both = Episodes.cat([ASKED, longer])
    assert isinstance(both, Tokens) and both.columns["completion"] == ["4", "5", "6", "8"]
    assert both.prompt_ids.tolist() == [[0, 3, 4], [0, 3, 4], [0, 0, 5], [6, 6, 6]] and "source" not in both.columns
    assert both.prompt_mask.sum(1).tolist() == [2, 2, 1, 3]
    apart = Episodes.cat(ASKED.to_list())
    assert torch.equal(apart.sequence_ids, ASKED.sequence_ids) and apart.columns == ASKED.columns
    with pytest.raises(BadInput, match="all with the ids of their prompts or all without"):
        Episodes.cat([ROWS, ASKED])


def test_a_file_keeps_tokens_prompts_and_columns(tmp_path):
    for rows in (ROWS, ASKED):
        rows.save(tmp_path / "rows.safetensors")
        again = Tokens.load(tmp_path / "rows.safetensors")
        assert torch.equal(again.sequence_ids, rows.sequence_ids)
        assert torch.equal(again.sequence_mask, rows.sequence_mask)
        assert again.columns == {k: list(v) for k, v in rows.columns.items()} and again.group.tolist() == [0, 0, 1]
    with pytest.raises(BadInput, match="Episodes.save"):
        Episodes.load(tmp_path / "rows.safetensors")
    with pytest.raises(BadInput, match=r"columns\['thing'\].*JSON"):
        of_texts(["a"], ["b"], thing=[object()]).save(tmp_path / "x.safetensors")


@pytest.mark.parametrize(("text", "said"), [
    ("plain", "plain"), ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "y"),
    ([{"role": "assistant", "content": [{"type": "image"}, {"type": "text", "text": "z"}]}], "z"), ([], ""),
    ([{"role": "assistant", "content": None}], "")])
def test_of_a_conversation_the_last_message_speaks(text, said):
    assert plain_text(text) == said


@pytest.mark.parametrize("arguments, columns, name", [
    ((["a"] * 3, ["x"] * 3), {"answer": "yes"}, "answer"), ((["a"] * 3, ["x"] * 3), {"answer": b"yes"}, "answer"),
    (("abc", ["x"] * 3), {}, "prompts"), ((["a"] * 3, "xyz"), {}, "completions"),
    ((["a"], [None]), {}, r"completions\[0\]"), ((["a", None], ["x", "y"]), {}, r"prompts\[1\]")])
def test_a_text_is_no_column_and_none_is_no_text(arguments, columns, name):
    with pytest.raises(BadInput, match=f"^{name}"):
        of_texts(*arguments, **columns)
