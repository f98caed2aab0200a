"""Functions of texts as rewards: by name, unknown where they cannot say, composed as others."""

from __future__ import annotations

import asyncio
import pickle
import sys
import time

import jaxtyping
import pytest
import torch
from tests.specify.text import pool_functions

from plaudit.adapters.trl import FromTRL, TRLReward
from plaudit.core.algebra import Constrained
from plaudit.core.errors import BadInput, UnknownReward
from plaudit.core.functions import reward
from plaudit.core.saving import load_reward, save_reward
from plaudit.core.schedules import LagrangeMultiplier, Linear
from plaudit.core.tokens import of_texts
from plaudit.specify.text import Pool, text_reward
from plaudit.specify.text.calling import in_background
from plaudit.specify.text.steps import split_steps, step_ends


@text_reward(terms={"right": 1.0, "short": 0.1})
def graded(completion_text, answer):
    """Two terms; cannot say without an answer."""
    if answer is None:
        return None
    return {"right": float(completion_text == answer), "short": -len(completion_text)}


def length(completion):
    return len(completion)


EPISODES = of_texts(["2+2", "2+2", "3+3"], ["4", "5", "6"], [[7, 2], [8], [9, 9, 2]], answer=["4", "4", None])


def test_a_term_of_a_text_reward_that_is_none_is_named():
    def judged(completion_text):
        return {"right": 1.0, "brief": None if completion_text == "5" else 0.5, "unpaid": None}

    score = text_reward(judged, terms={"right": 1.0, "brief": 1.0, "unpaid": 0.0}).score(EPISODES)
    assert list(score.why) == ["the function returned None for term 'brief'"]
    assert score.known.all(1).tolist() == [True, False, True]


def test_a_reward_of_texts_pays_at_the_last_token_and_says_what_it_does_not_know():
    score = graded.score(EPISODES)
    assert score.value[0].tolist() == [0, pytest.approx(0.9), 0] and score.value[1, 0] == pytest.approx(-0.1)
    assert score.known.tolist() == [[True] * 3, [True] * 3, [True, True, False]]
    assert list(score.why) == ["the function returned None"]
    assert score.contribution("right")[0, 1] == 1 and score.contribution("short")[0, 1] == pytest.approx(-0.1)


def test_rewards_of_texts_and_of_tokens_are_one_algebra():
    @reward(vectorised=True, backend="torch")
    def nine(action):
        return (action == 9).float()

    both = 2.0 * nine + text_reward(length)
    assert both.score(EPISODES).returns()[0].tolist() == [1, 1, 5]
    gated = graded.gated_by(text_reward(lambda answer: answer is not None, name="has an answer"))
    assert gated.score(EPISODES).all_known, "a gate that is shut asks nobody"


def test_an_error_or_a_late_answer_costs_one_answer_only():
    def fragile(completion_text):
        if completion_text == "5":
            raise KeyError("boom")
        if completion_text == "6":
            time.sleep(5)
        return {"a": 1.0}

    score = text_reward(fragile, terms=["a"], time_limit_s=0.1).score(EPISODES)
    assert score.returns()[1].tolist() == [True, False, False] and float(score.returns()[0][0]) == 1
    assert any("KeyError" in r for r in score.why) and any("within 0.1 s" in r for r in score.why)


def leaving(completion_text):
    if completion_text == "5":
        sys.exit(3)
    return 1.0


async def leaving_later(completion_text):
    return leaving(completion_text)


def leaving_together(completions):
    return [leaving(c) for c in completions]


@pytest.mark.parametrize("limit", [None, 5.0])
@pytest.mark.parametrize("fn", [leaving, leaving_later, leaving_together, lambda completion_text:
                                leaving_later(completion_text)], ids=["plain", "async", "batch", "awaitable"])
def test_a_function_that_exits_costs_one_answer_and_not_the_process(fn, limit):
    score = text_reward(fn, time_limit_s=limit).score(EPISODES)
    assert score.returns()[1].tolist() == [True, False, True]
    assert any("SystemExit: 3" in r for r in score.why)


def test_ctrl_c_is_no_answer():
    def interrupted(completion_text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        text_reward(interrupted).score(EPISODES)


def test_a_time_out_of_an_async_functions_own_is_what_it_raised():
    async def impatient(completion_text):
        raise TimeoutError("the judge")

    assert "raised TimeoutError: the judge" in next(iter(text_reward(impatient).score(EPISODES).why))


def test_a_missing_column_is_named_and_a_default_is_kept():
    score = text_reward(lambda completion, solution: 1.0, name="solved").score(EPISODES)
    assert not score.known.all() and "solution" in next(iter(score.why)) and "answer" in next(iter(score.why))
    weighted = text_reward(lambda completion, bonus=3.0: bonus, name="b").score(EPISODES)
    assert weighted.returns()[0].tolist() == [3, 3, 3]


@pytest.mark.parametrize("one", [graded, text_reward(length), 0.5 * graded + text_reward(length)])
def test_a_reward_of_functions_of_a_module_travels_to_another_process(one):
    again = pickle.loads(pickle.dumps(one))  # noqa: S301
    a, b = again.score(EPISODES), one.score(EPISODES)
    assert torch.equal(torch.nan_to_num(a.value), torch.nan_to_num(b.value)) and again.name == one.name


# --- functions of a batch, of a group ------------------------------------------------------------------


def value_of(one, episodes=EPISODES):
    return one.score(episodes).returns()[0].tolist()


@text_reward
def batched(prompts, completions, answer, **columns):
    assert "trainer_state" not in columns and "completion_ids" in columns
    return [None if a is None else float(c == a) for c, a in zip(completions, answer, strict=True)]


def test_a_function_of_a_batch_is_called_once_with_lists():
    calls = []

    def seen(prompts, completions, completion_texts, log_metric, trainer_state=0):
        calls.append((prompts, completions, completion_texts, trainer_state))
        log_metric("kept", 1.0)
        return torch.tensor([1.0, 2.0, 3.0])

    assert value_of(text_reward(seen)) == [1, 2, 3]
    assert calls == [(["2+2", "2+2", "3+3"], ["4", "5", "6"], ["4", "5", "6"], None)]
    score = batched.score(EPISODES)
    assert score.returns()[0][:2].tolist() == [1, 0] and score.returns()[1].tolist() == [True, True, False]


def test_terms_may_come_as_a_dictionary_of_lists_or_a_list_of_dictionaries():
    by_name = text_reward(lambda completions: {"a": [1, 2, None], "b": (4, 5, 6)}, terms={"a": 1, "b": 0.5}, name="x")
    by_row = text_reward(lambda completions: [{"a": 1, "b": 4}, {"a": 2, "b": 5}, {"a": None, "b": 6}],
                         terms={"a": 1, "b": 0.5}, name="x")
    both = text_reward(lambda completions: ([3.0, 4.5, None], {"a": [1, 2, 3], "b": [4, 5, 6]}), name="x")
    for one in (by_name, by_row, both):
        score = one.score(EPISODES)
        assert score.returns()[0][:2].tolist() == [3, 4.5] and score.returns()[1].tolist() == [True, True, False]
        assert score.terms["b"].sum(1)[:2].tolist() == [4, 5]


@pytest.mark.parametrize("answers", [[1.0], [1.0] * 4, []])
def test_a_wrong_length_names_both_lengths_and_nothing_is_guessed(answers):
    one = text_reward(lambda completions: answers, name="short")
    with pytest.raises(UnknownReward, match=f"short: expected an answer for each of 3 completions, received "
                                            f"{len(answers)} answers"):
        one(EPISODES)
    assert not one.score(EPISODES).known[EPISODES.mask].any()


def test_a_batch_that_fails_costs_only_the_row_that_makes_it_fail():
    def fragile(completions):
        return [1 / (c != "5") for c in completions]

    score = text_reward(fragile).score(EPISODES)
    assert score.returns()[1].tolist() == [True, False, True] and "ZeroDivisionError" in next(iter(score.why))


def test_a_group_is_one_prompt_wherever_its_rows_are():
    calls = []

    @text_reward(across="group")
    def rank(prompt, completions, answer):
        calls.append((prompt, completions, answer))
        return [sorted(completions).index(c) for c in completions]

    assert value_of(rank) == [0, 1, 0] and rank.needs.across == "group"
    assert calls == [("2+2", ["4", "5"], ["4", "4"]), ("3+3", ["6"], [None])]
    mixed = EPISODES[torch.tensor([1, 2, 0])]
    assert value_of(rank, mixed) == [1, 0, 0]
    with pytest.raises(BadInput, match="takes completions, a list"):
        text_reward(lambda completion: 1.0, across="group")


# --- numbers for steps and tokens -----------------------------------------------------------------------


class Letters:
    """A tokenizer with a token for each letter, and one for two of them."""

    def decode(self, ids, skip_special_tokens=True):
        return "".join({2: "", 99: "é?"}.get(i, chr(i)) for i in ids)


def stepped(text):
    return [ord(c) for c in text] + [2]


def test_a_number_for_each_token_stands_at_its_token():
    one = text_reward(lambda completion_ids: [float(i) for i in completion_ids], per="token", name="ids")
    assert one(EPISODES).tolist() == [[7, 2, 0], [8, 0, 0], [9, 9, 2]]
    assert one.score(EPISODES).returns()[0].tolist() == [9, 8, 20]
    wrong = text_reward(lambda completion: [1.0, 2.0], per="token", name="two").score(EPISODES)
    assert wrong.returns()[1].tolist() == [True, False, False]
    assert "one number for each of 1 tokens, received 2" in " ".join(wrong.why)
    gap = text_reward(lambda completion_ids: [None, 1.0, 2.0][: len(completion_ids)], per="token", name="gap")
    assert gap.score(EPISODES).known.tolist() == [[False, True, True], [False, True, True], [False, True, True]]


def test_a_number_for_each_step_stands_where_the_step_ends():
    texts = ["ab|c|", "|xyz", "a b"]
    rows = of_texts(["p"] * 3, texts, [stepped(t) for t in texts])
    one = text_reward(lambda steps: [10.0 * len(s) for s in steps], per="step", separator="|", tokenizer=Letters(),
                      name="sizes")
    expected = torch.zeros(3, 6)
    expected[0, 1], expected[0, 3], expected[1, 3], expected[2, 2] = 20, 10, 30, 30
    assert torch.equal(one(rows), expected)
    assert value_of(one, of_texts(["p"] * 3, texts)) == [30, 30, 30], "without tokens all is paid at the only step"
    assert "pass text_reward(..., tokenizer=tokenizer)" in " ".join(
        text_reward(lambda steps: [0.0 for _ in steps], per="step", separator="|").score(rows).why)


def test_step_ends_agree_with_counting_letters_by_hand():
    text = "é?one\n\ntwo é?\n\n\n\nthree"
    ids = [99, *map(ord, "one\n\ntwo "), 99, *map(ord, "\n\n\n\nthree"), 2]
    ends = step_ends(text, "\n\n", ids, Letters().decode)
    assert [Letters().decode(ids[: e + 1]) for e in ends] == ["é?one", "é?one\n\ntwo é?", text]
    assert split_steps(text, "\n\n") == ["é?one", "two é?", "three"]


# --- async, limits, pools -------------------------------------------------------------------------------


def test_async_functions_wait_together_and_each_alone_is_late():
    async def waits(completion):
        await asyncio.sleep(5.0 if completion == "5" else 0.15)
        return float(completion)

    began = time.monotonic()
    score = text_reward(waits, time_limit_s=0.4).score(EPISODES)
    assert time.monotonic() - began < 1.0
    assert score.returns()[1].tolist() == [True, False, True] and value_of(text_reward(waits), EPISODES[0]) == [4.0]

    async def inside_a_loop():
        return value_of(text_reward(waits, time_limit_s=0.4), EPISODES[2])

    assert asyncio.run(inside_a_loop()) == [6.0]


def test_what_is_no_finite_number_in_the_range_is_unknown():
    said = {"4": float("inf"), "5": float("nan"), "6": 1.5}
    score = text_reward(lambda completion: said[completion], name="odd", range=(0, 1)).score(EPISODES)
    assert not score.known[EPISODES.mask].all() and score.returns()[1].tolist() == [False] * 3
    assert set(score.why) == {"odd returned NaN or infinity", "odd left its declared range [0, 1]"}
    assert text_reward(lambda completion: 1.0, name="x", range=(1, 2)).score(EPISODES).all_known
    strange = text_reward(lambda completion: "high", name="word").score(EPISODES)
    assert "word: expected a number or None, received str 'high'" in strange.why
    several = text_reward(lambda completion: [1.0, 2.0], name="two").score(EPISODES)
    assert "declare per='token'" in next(iter(several.why))


@pytest.fixture(scope="module")
def pool():
    with Pool(workers=2, time_limit_s=0.5) as pool:
        yield pool


def test_in_a_pool_a_hang_costs_one_answer_and_the_rest_are_the_same(pool):
    rows = of_texts(["p"] * 4, ["a", "b", "c", "d"], how=["well", "native", "crash", "well"])
    one = text_reward(pool_functions.misbehave, pool=pool, name="wild")
    score = one.score(rows)
    assert score.returns()[1].tolist() == [True, False, False, True] and value_of(one, rows)[::3] == [1, 1]
    assert set(score.why) == {"wild: time limit: no answer within 0.5 s", "wild: worker died: signal SIGSEGV"}


def test_in_a_pool_a_batch_that_hangs_is_asked_row_by_row(pool):
    rows = of_texts(["p"] * 3, ["a", "hang", "c"])
    one = text_reward(pool_functions.lengths, pool=pool)
    score = one.score(rows)
    assert score.returns()[1].tolist() == [True, False, True] and value_of(one, rows)[::2] == [1, 1]


# --- saved and restored -----------------------------------------------------------------------------------


def test_a_composed_reward_of_texts_is_saved_with_its_schedules_gates_and_constraints(tmp_path, monkeypatch):
    def composed():
        gated = text_reward(pool_functions.size, name="size").gated_by(text_reward(pool_functions.nonempty))
        price = LagrangeMultiplier(metric="size", limit=1.0, rate=0.5)
        return Linear(2.0, 0.0) * Constrained(gated, text_reward(pool_functions.size, name="cost"), limit=1.0,
                                              multiplier=price) + FromTRL(pool_functions.lengths)

    rows = of_texts(["p"] * 3, ["", "b", "ccc"])
    never_stopped, stopped = composed(), composed()
    for one in (never_stopped, stopped):
        one.advance(0.25, {"size": 3.0})
    save_reward(stopped, tmp_path / "reward")
    restored = load_reward(tmp_path / "reward", trust=True)
    for one in (never_stopped, restored):
        one.advance(0.5, {"size": 2.0})
    expected = value_of(never_stopped, rows)
    assert value_of(restored, rows) == expected != value_of(composed(), rows)
    assert value_of(restored, rows)[2] == pytest.approx(1.0 * (3 - 1.5 * (3 - 1)) + 3), "closed form"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="consent|trust|below this folder|working folder"):
        load_reward(tmp_path / "reward")


def test_scoring_in_the_background_hands_over_what_it_raises(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)

    def interrupted(completion_text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_background(text_reward(interrupted), EPISODES).result(timeout=5)
    with pytest.raises(BadInput, match="expected Episodes, received str"):
        in_background(text_reward(length), "no tokens").result(timeout=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("reward, others, name", [(length, [], "reward"), (text_reward(length), [length], "others")])
def test_a_plain_function_is_no_reward_and_the_way_is_shown(reward, others, name, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(BadInput, match=rf"^{name}: .*length.*text_reward\(fn\)"):
        TRLReward(reward, others=others)
