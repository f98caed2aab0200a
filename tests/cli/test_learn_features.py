"""`plaudit learn features`, and the commands that read its model."""

from __future__ import annotations

import json

import pytest

FILE = '''
from plaudit.learn.text.features import Feature, FeatureSet

def good(completion_text):
    return completion_text.count("good")

def words(completion_text):
    return len(completion_text.split())

def letters(completion_text):
    if "9" in completion_text:
        raise ValueError("a nine")
    return len(completion_text)

FEATURES = FeatureSet([Feature("good", good, better="less"), Feature("words", words, better="less"),
                       Feature("letters", letters), Feature("same", words.__class__ and (lambda completion_text: 1))])
NAMED = FEATURES.without("same")
LIST = list(FEATURES)
'''


@pytest.fixture
def rows(here):
    """Preferences for answers that say good; every option is of another length."""
    (here / "mine.py").write_text(FILE)
    file = here / "rows.jsonl"
    file.write_text("".join(json.dumps({
        "prompt": f"{i}?", "chosen": f"good {'um ' * (i % 4)}{i}", "rejected": f"no {'um ' * (i % 3)}{i}"}) + "\n"
        for i in range(40)))
    return file


def learn(run, *more: str):
    return run("learn", "features", "mine.py:FEATURES", "--data", "rows.jsonl", "--out", "rm", "--workers", "0",
               "--validation", "0", "--steps", "40", *more)


def test_a_model_is_fitted_scored_evaluated_and_recognised_by_an_audit(run, here, rows):
    ran = learn(run)
    assert ran.code == 0, ran.err
    assert "linear" in ran.out and "mlp" in ran.out and "which pays" in ran.out
    assert "declared that less is better, but the reward goes up" in ran.out
    assert "not used: same, for it is 1 everywhere" in ran.out and "a nine" in ran.out
    assert "no sequence classifier" in ran.out
    assert run("score", "--model", "rm", "--data", "rows.jsonl", "--out", "scored.jsonl").code == 0
    better, worse = json.loads((here / "scored.jsonl").read_text().splitlines()[0])["scores"]
    assert better > worse
    assert "accuracy" in run("evaluate", "--model", "rm", "--data", "rows.jsonl").out
    from plaudit.auditing.text.naming import names_text

    assert names_text("rm"), "an audit knows that it is a reward of texts"
    (here / "mine.py").write_text(FILE + "\n# changed\n")
    refused = run("evaluate", "--model", "rm", "--data", "rows.jsonl")
    assert refused.code == 2 and "--trust" in refused.err and refused.err.count("\n") == 1
    assert run("evaluate", "--model", "rm", "--data", "rows.jsonl", "--trust").code == 0


def test_rows_with_faults_are_left_out_and_counted(run, rows):
    with rows.open("a") as file:
        file.write(json.dumps({"prompt": "again?", "chosen": "same 1", "rejected": "same 1"}) + "\n")
    ran = learn(run, "--skip-faulty")
    assert ran.code == 0, ran.err
    assert "left out 1 of 41 rows" in ran.err


@pytest.mark.parametrize(("words", "said"), [
    (["mine.py:LIST"], "FeatureSet([...])"), (["mine.py:FEATURE"], "did you mean FEATURES"),
    (["none.py:FEATURES"], "a file that exists"), (["mine.py:good"], "a FeatureSet"),
    (["mine.py:FEATURES", "--data", "no.jsonl"], "--data"), (["mine.py:FEATURES", "--time-limit", "0"], "time_limit_s"),
    (["mine.py:FEATURES", "--workers", "-1"], "workers"), (["mine.py:FEATURES", "--validation", "1"], "validation"),
    (["mine.py:FEATURES", "--hidden", "0"], "hidden"), (["mine.py:FEATURES", "--steps", "0"], "steps")])
def test_bad_input_is_one_line(run, rows, words, said):
    ran = run("learn", "features", "--out", "rm", *(["--data", "rows.jsonl"] if "--data" not in words else []), *words)
    assert ran.code == 2 and said in ran.err and ran.err.count("\n") == 1
