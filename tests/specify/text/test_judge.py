"""A judge behind HTTP: its verdicts, its planted bias, its cost, its cache, and everything that can go wrong."""

from __future__ import annotations

import pickle
import re
from contextlib import contextmanager

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.core.tokens import of_texts
from plaudit.specify.text.judge import Judge, compare_judge
from plaudit.specify.text.judging import COMPARE, Price, read_rating, read_verdict

QUICK = {"timeout_s": 2.0, "retries": 0, "backoff_s": 0.01}


@pytest.fixture
def server(answering):
    """An OpenAI-compatible server; reply(question, number) gives a text, or (status, bytes)."""
    @contextmanager
    def serve(reply):
        def answer(body, number):
            said = reply(body["messages"][0]["content"], number)
            return said if isinstance(said, tuple) else {
                "choices": [{"message": {"role": "assistant", "content": said}}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 10}}

        with answering(answer) as (url, asked):
            yield f"{url}/v1", asked

    return serve


def prefers_the_first(by):
    """A judge that sees how good an answer is (`q7` says 7), and gives the first one an advantage."""
    def reply(question, _):
        a, b = (float(q) for q in re.findall(r"q(\d+)", question))
        return "Hm. " + ("[[A]]" if a + by > b else "[[B]]" if a + by < b else "[[C]]")

    return reply


ROWS = of_texts(["p"] * 4, ["q3", "q1", "q2", "q2 too"])
TRUE = [1.0, 0.0, 0.5, 0.5]  # shares of comparisons won, by hand: 3 of 3, 0 of 3, (1 + 0.5) of 3


def values(judge, rows=ROWS):
    return judge.score(rows).returns()[0].tolist()


def test_both_orders_cancel_a_preference_for_the_first_place(server):
    with server(prefers_the_first(0.5)) as (url, asked):
        assert values(compare_judge(url, "m", **QUICK)) == pytest.approx(TRUE) and len(asked) == 12
        one = compare_judge(url, "m", swap=False, **QUICK)
        assert values(one) != pytest.approx(TRUE), "the broken variant: the two of quality 2 are told apart"
        assert len(asked) == 12 + 6 and sorted(values(one)[2:]) == pytest.approx([1 / 3, 2 / 3])
    with server(prefers_the_first(100)) as (url, _):
        assert values(compare_judge(url, "m", **QUICK)) == [0.5] * 4, "one that sees the place alone says nothing"


def test_without_the_swap_the_order_is_drawn_by_the_texts_alone(server):
    with server(prefers_the_first(100)) as (url, asked):
        one = compare_judge(url, "m", swap=False, **QUICK)
        first = values(one)
        order = torch.tensor([2, 0, 3, 1])
        assert [values(one, ROWS[order])[i] for i in (1, 3)] == [first[0], first[1]]
        firsts = {values(compare_judge(url, "m", swap=False, seed=s, **QUICK), ROWS[torch.tensor([0, 1])])[0]
                  for s in range(8)}
        assert firsts == {0.0, 1.0}, "and by the seed"


def test_a_column_to_compare_with_and_a_few_opponents(server):
    with server(prefers_the_first(0)) as (url, asked):
        rows = of_texts(["p"] * 3, ["q1", "q5", "q9"], reference=["q5"] * 3)
        judge = Judge(url, "m", template=COMPARE, against="reference", **QUICK)
        assert values(judge, rows) == [0, 0.5, 1] and judge.needs.across == "row" and len(asked) == 5
        few = compare_judge(url, "m", opponents=1, **QUICK)
        before = len(asked)
        assert all(0 <= v <= 1 for v in values(few)) and len(asked) - before < 12
        alone = few.score(of_texts(["p", "r"], ["q1", "q2"]))
        assert not alone.known.any() and "nothing to compare with" in next(iter(alone.why))


def test_a_rating_is_a_number_and_braces_in_answers_stay(server):
    seen = []

    def reply(question, _):
        seen.append(question)
        return f"Fine. [[{len(re.findall('good', question))}]]"

    chat = [[{"role": "user", "content": "say {completion}"}], [{"role": "user", "content": "b"}]]
    with server(reply) as (url, asked):
        judge = Judge(url, "m", template="Q: {prompt} A: {completion} gold: {answer}", range=(0, 5), **QUICK)
        rows = of_texts(chat, ["good {answer}", "good good"], answer=["x", "y"])
        assert values(judge, rows) == [1, 2]
    assert sorted(seen) == ["Q: b A: good good gold: y", "Q: say {completion} A: good {answer} gold: x"]
    path, body, _ = asked[0]
    assert path == "/v1/chat/completions" and body["model"] == "m" and body["temperature"] == 0 and "seed" in body


@pytest.mark.parametrize(("reply", "why"), [
    ("A is better", "holds no verdict"), ("[[A]] or [[B]]", "holds no verdict"), ("[[11]]", "holds no verdict"),
    ((200, b"{}"), "no chat completion"), ((200, b"<html>"), "no JSON"), ((200, b'{"choices": [{"message": {}}]}'),
                                                                          "no chat completion"),
    ((200, b'{"choices": [{"message": {"content": null}}]}'), "no chat completion"), ((500, b"on fire"), "status 500"),
    ((401, b'{"error": {"message": "no key"}}'), "status 401: no key"), ((200, b"[]"), "no chat completion")])
def test_nonsense_is_unknown_with_the_reason(server, reply, why):
    with server(lambda q, n: reply) as (url, _):
        score = compare_judge(url, "m", **QUICK).score(ROWS)
    assert not score.known[:, 0].any() and all(why in reason for reason in score.why)


def test_one_unreadable_reply_costs_only_who_took_part(server):
    def reply(question, _):
        return "?" if "q1" in question and "q3" in question else prefers_the_first(0)(question, _)

    with server(reply) as (url, _):
        judge = compare_judge(url, "m", **QUICK)
        score = judge.score(ROWS)
    assert score.returns()[1].tolist() == [False, False, True, True] and judge.spent.unreadable == 2
    out = Judge("http://127.0.0.1:9/v1", "m", **QUICK)._read("[[12]]", "")
    assert out == (None, "its verdict 12 is outside [1, 10]")


def test_a_failed_try_is_repeated_and_costs_are_counted(server):
    def reply(question, n):
        return (503, b"busy") if n <= 2 else "[[7]]"

    with server(reply) as (url, asked):
        judge = Judge(url, "m", price=Price(prompt=2.0, completion=10.0), workers=1,
                      **{**QUICK, "retries": 3})
        rows = of_texts(["a", "b", "b"], ["x", "y", "y"])
        assert values(judge, rows) == [7, 7, 7] and len(asked) == 4, "the same question is asked once"
        assert judge.spent.requests == 2 and judge.spent.prompt_tokens == 200 and judge.spent.completion_tokens == 20
        assert judge.spent.cost == pytest.approx((200 * 2 + 20 * 10) / 1e6)
        poor = Judge(url, "m", price=Price(prompt=2.0), max_cost=1e-4, workers=1, **QUICK)
        score = poor.score(of_texts(["a", "b"], ["x", "y"]))
        assert score.returns()[1].tolist() == [True, False] and "the budget of 0.0001 is spent" in next(iter(score.why))


def test_the_cache_outlives_the_judge_and_knows_every_word_of_a_question(server, tmp_path):
    with server(lambda q, n: f"[[{n}]]") as (url, asked):
        def fresh(**options):
            return Judge(url, "m", cache=tmp_path / "replies.sqlite", workers=1, **{**QUICK, **options})

        rows = of_texts(["a", "b"], ["x", "y"])
        assert values(fresh(), rows) == [1, 2]
        again = fresh()
        assert values(again, rows) == [1, 2] and len(asked) == 2
        assert (again.spent.from_cache, again.spent.requests, again.spent.cost) == (2, 0, 0.0)
        assert values(fresh(temperature=0.5), rows) == [3, 4] and values(fresh(seed=1), rows) == [5, 6]
        assert values(pickle.loads(pickle.dumps(fresh())), rows) == [1, 2]  # noqa: S301


def test_a_reply_that_cannot_be_read_is_not_kept(server, tmp_path):
    with server(lambda q, n: "hm" if n == 1 else "[[4]]") as (url, asked):
        judge = Judge(url, "m", cache=tmp_path / "replies.sqlite", **QUICK)
        rows = of_texts(["a"], ["x"])
        assert not judge.score(rows).known.any() and values(judge, rows) == [4] and len(asked) == 2


def test_options_are_checked_and_the_key_is_sent_but_not_kept(server, monkeypatch):
    for wrong, match in (({"template": "{prompt}"}, "template"), ({"range": (2, 1)}, "range"),
                         ({"workers": 0}, "workers"), ({"token_env": "NO_SUCH_KEY"}, "token_env")):
        with pytest.raises(BadInput, match=match):
            Judge("http://127.0.0.1:9/v1", "m", **wrong)
    monkeypatch.setenv("MY_KEY", "hunter2")
    with server(lambda q, n: "[[4]]") as (url, asked):
        values(Judge(url, "m", token_env="MY_KEY", **QUICK), of_texts(["a"], ["x"]))
    assert asked[0][2] == "Bearer hunter2"
    lacking = Judge("http://127.0.0.1:9/v1", "m", template="{completion} {gold}", **QUICK).score(of_texts(["a"], ["x"]))
    assert "judge: gold" in next(iter(lacking.why))


@pytest.mark.parametrize(("text", "verdict"), [("[[a]]", 1.0), ("[[ Answer B ]]", 0.0), ("[[tie]]", 0.5),
                                               ("[[A]] [[A]]", 1.0), ("[[D]]", None), ("", None)])
def test_verdicts(text, verdict):
    assert read_verdict(text) == verdict
    assert read_rating("first [[2]], no: [[-3.5]]") == -3.5
