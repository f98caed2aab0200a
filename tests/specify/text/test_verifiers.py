"""Verifiers: right answers in any form, wrong ones in none, and what cannot be said is unknown."""

from __future__ import annotations

import pickle

import pytest

from plaudit.core.errors import BadInput
from plaudit.core.saving import load_reward, save_reward
from plaudit.core.tokens import of_texts
from plaudit.specify.text.answers import AnswerFormat, as_number, same_answer
from plaudit.specify.text.pool import Pool
from plaudit.specify.text.verifiers import ExactAnswer, MathAnswer, ReasoningGym


def values(reward, texts, **columns):
    return reward.score(of_texts(["p"] * len(texts), texts, **columns)).returns()[0].tolist()


@pytest.mark.parametrize(("text", "completion", "found"), [
    ("<answer>...</answer>", "<answer>\n4\n</answer> <answer>5", ["\n4\n"]),
    ("...", "all of it", ["all of it"]), ("Answer: ...", "Answer: 4\nAnswer: 5", ["4", "5"]),
    (r"\boxed{...}", r"\boxed{a{b}c} \boxed{open", ["a{b}c"]), ("[[...]]", "[[x]] [[]]", ["x", ""])])
def test_a_format_finds_each_answer_in_its_place(text, completion, found):
    assert AnswerFormat(text).find(completion) == found
    assert AnswerFormat(text).find(AnswerFormat(text).write("7")) == ["7"]


@pytest.mark.parametrize("text", ["<answer></answer>", "... or ...", ""])
def test_a_format_without_one_place_is_refused(text):
    with pytest.raises(BadInput, match="one place for the answer"):
        ExactAnswer(text)


@pytest.mark.parametrize(("given", "gold", "same"), [
    ("1/2", "0.5", True), ("1,000", "1000", True), ("-3.0", "\u22123", True), ("50 %", "0.5", True),
    ("1e3", "1000", True),
    ("10,00", "1000", False), ("3", "3.0001", False), ("1/0", "1/0", True), ("A", "a", True), ("a b", "a  b ", True),
    ("ab", "a b", False), ("", "0", False)])
def test_answers_are_compared_by_value_not_by_letters(given, gold, same):
    assert same_answer(given, gold) is same is same_answer(gold, given)


def test_a_number_of_a_million_digits_is_no_trap():
    assert as_number("1e999999999") is None and as_number("9" * 10**6) is None


def test_an_exact_answer_is_paid_in_its_place_alone():
    texts = ["<answer>0.5</answer>", "0.5", "<answer>2</answer>", "<answer>2</answer><answer>1/2</answer>",
             "<answer>1/2"]
    last, first, only = (values(ExactAnswer(which=w), texts, answer=["1/2"] * 5) for w in ("last", "first", "only"))
    assert last == [1, 0, 0, 1, 0] and first == [1, 0, 0, 0, 0] and only == [1, 0, 0, 0, 0]
    assert values(ExactAnswer(answer="gold", numbers=False, case=True), ["<answer>B</answer>"] * 2,
                  gold=["b", ["A", "B"]]) == [0, 1]
    score = ExactAnswer().score(of_texts(["p"], ["<answer>1</answer>"], answer=[None]))
    assert not score.known.any()


@pytest.mark.parametrize("gold", ["", " ", None, [], ["", None]])
def test_a_row_without_a_gold_answer_is_unknown(gold):
    score = ExactAnswer().score(of_texts(["p"] * 2, ["<answer></answer>", "<answer>5</answer>"], answer=[gold] * 2))
    assert not score.known.any()
    assert values(ExactAnswer(), ["<answer>5</answer>", "<answer></answer>"], answer=[["", "5"]] * 2) == [1, 0]



@pytest.fixture(scope="module")
def pool():
    with Pool(workers=1, time_limit_s=20) as pool:
        yield pool


@pytest.mark.slow(reason="a process of its own imports sympy and math-verify")
def test_mathematics_is_compared_by_meaning(pool):
    pytest.importorskip("math_verify")
    math = MathAnswer(pool=pool)
    golds = [r"\frac{1}{2}", "0.5", r"\sqrt{8}", "(1, 2)", "4", "7", None, "{{{"]
    texts = ["The answer is $0.5$", r"so \boxed{\frac{2}{4}}", r"$2\sqrt{2}$", "$(1,2)$", "five", r"\boxed{8}", "7",
             "7"]
    score = math.score(of_texts(["p"] * 8, texts, answer=golds))
    value, known = score.returns()
    assert known.tolist() == [True] * 6 + [False] * 2 and value[:6].tolist() == [1, 1, 1, 1, 0, 0]
    assert any("gold answer '{{{' cannot be parsed" in r for r in score.why)
    boxed = MathAnswer(pool=pool, format=r"\boxed{...}")
    assert values(boxed, [r"\boxed{\frac12}", "$1/2$"], answer=["0.5"] * 2) == [1, 0]


def test_the_imports_of_a_fresh_worker_are_not_paid_for_by_its_first_answer(capfd):
    pytest.importorskip("math_verify")
    with Pool(workers=1, time_limit_s=60) as pool:
        math = MathAnswer(pool=pool)
        (first,) = pool.map(math.fn, [{"completion_text": r"so \boxed{\frac{2}{4}}", "answer": "0.5"}])
        assert first.value == 1.0 and first.seconds < 0.25  # the import alone takes longer; this, milliseconds
    pytest.importorskip("reasoning_gym")
    with Pool(workers=1, time_limit_s=60) as pool:
        row = {"completion_text": "<answer>4</answer>", "answer": "4"}
        (first,) = pool.map(ReasoningGym("leg_counting", pool=pool).fn, [row])
        assert first.value == 1.0 and first.seconds < 0.25
    assert "Timeout is disabled" not in capfd.readouterr().err


def test_reasoning_gym_scores_as_it_does_itself():
    gym = pytest.importorskip("reasoning_gym")
    data = gym.create_dataset("leg_counting", seed=1, size=3)
    rows = list(data)
    given = [rows[0]["answer"], "0", None]
    expected = [data.score_answer(a, r) for a, r in zip(given, rows, strict=True)]
    texts = ["nothing" if a is None else f"<answer> {a} </answer>" for a in given]
    columns = {"answer": [r["answer"] for r in rows], "metadata": [r["metadata"] for r in rows]}
    assert values(ReasoningGym("leg_counting"), texts, **columns) == pytest.approx(expected)
    assert values(ReasoningGym(), texts, **columns) == pytest.approx(expected)
    assert expected[0] == 1 and expected[1] < 1
    nameless = ReasoningGym().score(of_texts(["p"], ["<answer>1</answer>"], answer=["1"]))
    assert "names a task" in next(iter(nameless.why))


def test_a_verifier_travels_and_is_saved_by_its_options(tmp_path):
    one = 2.0 * ExactAnswer("[[...]]", which="only", pool=Pool(workers=1))
    save_reward(one, tmp_path / "saved")
    for again in (pickle.loads(pickle.dumps(one)), load_reward(tmp_path / "saved")):  # noqa: S301
        part = again.children()[0]
        assert part.spec() == one.children()[0].spec()
        part.pool = None
        assert values(again, ["[[3]]", "[[3]] [[3]]"], answer=["3", "3"]) == [2, 0]
