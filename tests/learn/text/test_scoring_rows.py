"""What a file that is scored says beside its texts, what is wrong with its rows, and what a part of it belongs to."""

from __future__ import annotations

import json

import pytest

from plaudit.core.errors import BadInput
from plaudit.core.targets import load_target
from plaudit.feedback.records import Preference
from plaudit.learn.text.evaluation import evaluate
from plaudit.learn.text.reward import TextReward
from plaudit.learn.text.scoring import model_fingerprint, score_file
from plaudit.specify.text.functions import text_reward
from plaudit.specify.text.verifiers import ExactAnswer

GOLD = [{"prompt": f"{i}+1?", "completions": [f"It is {i + 1}.", "It is 0."], "answer": str(i + 1)} for i in range(9)]
exact = ExactAnswer("It is ....")


def written(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def scored(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("window", [2, 100])
def test_a_verifier_reads_the_gold_answer_of_each_row(tmp_path, window):
    done = score_file(exact, written(tmp_path / "in.jsonl", GOLD), tmp_path / "out.jsonl", window=window)
    assert done.unknown == 0 and [r["scores"] for r in scored(tmp_path / "out.jsonl")] == [[1.0, 0.0]] * 9
    assert all({k: v for k, v in r.items() if k != "scores"} == g
               for r, g in zip(scored(tmp_path / "out.jsonl"), GOLD, strict=True))


def test_a_verifier_is_evaluated_by_the_gold_answers_of_the_records():
    records = [Preference(options=tuple(r["completions"]), context=r["prompt"], label=1.0,
                          provenance={"answer": r["answer"]}) for r in GOLD]
    found = evaluate(exact, records)
    assert found.accuracy.mean == 1.0 and found.orders is not None and found.orders.largest == 0.0
    bare = [Preference(options=r.options, context=r.context, label=1.0, provenance={"hint": 1}) for r in records]
    with pytest.raises(BadInput, match="columns that the reward reads: answer, received hint"):
        evaluate(exact, bare)


def test_a_missing_column_is_an_error_and_leaves_nothing(tmp_path):
    source = written(tmp_path / "in.jsonl", [{"prompt": "a", "completion": "b", "gold": "c"}])
    with pytest.raises(BadInput, match="columns that the reward reads: answer, received prompt, completion, gold"):
        score_file(exact, source, tmp_path / "out.jsonl")
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_reasons_are_counted_through_a_resumed_run(tmp_path):
    def odd(completion_text):
        return None if len(completion_text) % 2 else 1.0

    rows = [{"prompt": "a", "completion": "x" * i} for i in range(1, 8)]
    done = score_file(text_reward(odd), written(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", window=3)
    assert done.unknown == 4 and sum(done.reasons.values()) == 4 and len(done.reasons) == 1


@pytest.mark.parametrize("row, says", [
    ({"prompt": "a", "completion": None}, "a text in completion, received null"),
    ({"prompt": "a", "completions": []}, r"a text in completions, received \[\]"),
    ({"prompt": "a", "response": None}, "a text in response, received null")])
def test_a_row_with_an_empty_column_is_named_and_a_part_is_spoken_of(tmp_path, row, says):
    good = {"prompt": "a", "completion": "b"}
    length = text_reward(lambda completion_text: float(len(completion_text)))
    with pytest.raises(BadInput, match=f"line 1: expected {says}"):
        score_file(length, written(tmp_path / "in.jsonl", [row]), tmp_path / "out.jsonl")
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]
    with pytest.raises(BadInput, match=f"line 5: expected {says}.*the 4 rows before are in .*out.jsonl.part; --fresh"):
        score_file(length, written(tmp_path / "in.jsonl", [good] * 4 + [row]), tmp_path / "out.jsonl", window=2)
    assert (tmp_path / "out.jsonl.part").exists()


def test_a_finished_file_is_not_written_over(tmp_path):
    source = written(tmp_path / "in.jsonl", GOLD)
    score_file(exact, source, tmp_path / "out.jsonl")
    before = (tmp_path / "out.jsonl").read_bytes()
    with pytest.raises(BadInput, match="a new file.*--fresh"):
        score_file(text_reward(lambda completion_text: 0.0), source, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == before
    score_file(text_reward(lambda completion_text: 0.0), source, tmp_path / "out.jsonl", fresh=True)
    assert scored(tmp_path / "out.jsonl")[0]["scores"] == [0.0, 0.0]


def test_half_a_surrogate_pair_is_written_as_it_came(tmp_path, tiny_reward):
    rows = [{"prompt": "a", "completion": "b \ud800"}, {"prompt": "a", "completion": "ü"},
            {"prompt": [{"role": "user", "content": "\udc00"}], "completion": "b"}]
    source = written(tmp_path / "in.jsonl", rows)
    done = score_file(TextReward.load(tiny_reward), source, tmp_path / "out.jsonl")
    found = scored(tmp_path / "out.jsonl")
    assert [{k: r[k] for k in ("prompt", "completion")} for r in found] == rows
    assert done.unknown == 2 and [r["scores"][0] is None for r in found] == [True, False, True]
    assert "surrogate" in found[0]["scores_why"][0] and "ü" in (tmp_path / "out.jsonl").read_text().splitlines()[1]
    length = text_reward(lambda completion_text: float(len(completion_text)))
    score_file(length, source, tmp_path / "lengths.jsonl")
    assert [r["scores"] for r in scored(tmp_path / "lengths.jsonl")] == [[3.0], [1.0], [1.0]]


def test_a_part_of_another_version_of_a_function_is_not_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = written(tmp_path / "in.jsonl", [{"prompt": "a", "completion": "b" * i} for i in range(8)])

    def version(paid, stop=99):
        (tmp_path / "mine.py").write_text(f"def f(completion_text):\n    if len(completion_text) == {stop}:\n"
                                          f"        raise KeyboardInterrupt\n    return {paid}\n")
        return text_reward(load_target("mine.py:f").thing)

    with pytest.raises(KeyboardInterrupt):
        score_file(version(1.0, stop=5), source, tmp_path / "out.jsonl", window=2)
    with pytest.raises(BadInput, match="another model"):
        score_file(version(2.0), source, tmp_path / "out.jsonl", window=2)
    marks = [[model_fingerprint(r) for r in (one, 0.5 * one + 1, 0.4 * one + 1)]
             for one in map(version, (1.0, 2.0, 1.0))]
    assert marks[0] == marks[2] and all(a != b for a, b in zip(*marks[:2], strict=True)) and marks[0][1] != marks[0][2]
    (tmp_path / "lambdas.py").write_text("f = lambda completion_text: 1.0\n")
    before = model_fingerprint(text_reward(load_target("lambdas.py:f").thing))
    (tmp_path / "lambdas.py").write_text("f = lambda completion_text: 2.0\n")
    assert model_fingerprint(text_reward(load_target("lambdas.py:f").thing)) != before


def test_a_change_behind_the_first_megabyte_is_another_source(tmp_path):
    rows = [{"prompt": "a", "completion": f"{i:05d}" + "x" * 1000} for i in range(1500)]
    source = written(tmp_path / "in.jsonl", rows)

    def late(completion_text):
        if completion_text.startswith("00600"):
            raise KeyboardInterrupt
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        score_file(text_reward(late), source, tmp_path / "out.jsonl", window=512)
    written(source, [*rows[:-1], {"prompt": "a", "completion": "01499" + "y" * 1000}])
    with pytest.raises(BadInput, match="another source"):
        score_file(text_reward(late), source, tmp_path / "out.jsonl", window=512)
