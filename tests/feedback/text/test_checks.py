"""Each fault is planted in one row and found there, by name; what is sound is left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plaudit.core.chat import ChatFormat
from plaudit.core.errors import BadInput
from plaudit.feedback.records import Fragment, Preference
from plaudit.feedback.text.checks import Fault, check_pairs, raise_faults, without_faults
from plaudit.learn.text.models import tiny_tokenizer


def say(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


USER = say("user", "2 + 2?")
GOOD = [
    Preference(options=("4", "5"), context="2 + 2?", label=1.0),
    Preference(options=([say("assistant", "4")], [say("assistant", "5")]), context=[USER], strength=-2),
    Preference(options=("4", "four", "5"), context="3 + 1?", correct=(True, True, False)),
    Preference(options=("red", "blue"), context="Which?", ratings=({"a": 1, "b": None}, {"a": 2, "b": 0})),
    Preference(options=("same", "same"), context="tie?", label=0.5, tie=True),
    Preference(options=("same", "same"), context="rated alike", ratings=({"a": 1}, {"a": 1})),
    Preference(options=([say("assistant", "", tool_calls=[{"name": "f"}])], [say("assistant", "no")]), context=[USER],
               label=1.0),
    Preference(options=([USER, say("assistant", "4")], [USER, say("assistant", "5")]), label=0.8),
    Preference(options=("a", "b"), ratings=({"b": 3}, {"b": 1})),
]


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return ChatFormat(tiny_tokenizer(specials=["<|start_header_id|>", "<|end_header_id|>"]))


def test_sound_records_have_no_faults(chat: ChatFormat) -> None:
    assert check_pairs(GOOD, format=chat) == []
    raise_faults([])
    pair = Preference(options=(Fragment(0, 0, 1), Fragment(1, 0, 1)), label=1.0, context="a task")
    assert check_pairs([pair], format=chat) == [], "episodes have no words to lack"


PAIR = {"options": ("4", "5"), "context": "2 + 2?", "label": 1.0}
PLANTED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no words": ({"options": ("4", " \n")}, "empty", "option 1"),
    "no messages": ({"options": ([say("assistant", "4")], [])}, "empty", "option 1"),
    "a message without words": ({"options": ([say("assistant", "")], [say("assistant", "x")])}, "empty", "option 0"),
    "one text twice": ({"options": ("4", "4")}, "identical", "0 and 1 are both '4'"),
    "a right text that is wrong": ({"options": ("4", "5", "4"), "label": None, "correct": (True, False, False)},
                                   "identical", "0 and 2"),
    "one text with two ratings": ({"options": ("4", "4"), "label": None, "ratings": ({"a": 1}, {"a": 2})}, "identical",
                                  "0 and 1"),
    "nobody asks": ({"context": [say("system", "x")]}, "no user turn", "system"),
    "all right": ({"label": None, "correct": (True, True)}, "one class", "right"),
    "all wrong": ({"label": None, "correct": (False, False)}, "one class", "wrong"),
    "masked": ({"label": None, "ratings": ({"a": None}, {})}, "all masked", "no rating is known"),
    "nothing said": ({"label": None}, "undecided", "no label"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_in_its_row(name: str) -> None:
    wrong, kind, said = PLANTED[name]
    (fault,) = check_pairs([*GOOD[:2], Preference(**{**PAIR, **wrong}), *GOOD[2:]])
    assert (fault.row, fault.kind) == (2, kind) and said in fault.said


def test_ratings_beyond_their_scale_are_named() -> None:
    rated = Preference(options=("a", "b"), ratings=({"x": 4}, {"x": 5}))
    assert check_pairs([rated]) == []
    (fault,) = check_pairs([rated], scale=(0, 4))
    assert fault == Fault(0, "out of range", "a rating is 5, the scale is 0 to 4")


def test_attributes_that_say_nothing_in_all_rows_are_named_without_a_row() -> None:
    rows = [Preference(options=("a", str(i)), ratings=({"seen": i, "flat": 3}, {"seen": 0, "hidden": None}))
            for i in range(3)]
    assert [(f.row, f.kind, f.said) for f in check_pairs(rows)] == [
        (None, "one class", "every rating of flat is 3"), (None, "all masked", "no row has a rating of hidden")]


def test_a_set_that_says_nothing_is_named_without_a_row() -> None:
    equal = [Preference(options=("a", str(i)), context=str(i), label=0.5) for i in range(3)]
    assert check_pairs(equal) == [Fault(None, "one class", "every label is 0.5")]
    assert check_pairs([*equal, GOOD[0]]) == [] and check_pairs(equal[:1]) == []
    assert check_pairs([]) == [Fault(None, "empty", "there are no rows")]


# --- as tokens ---------------------------------------------------------------------------------------


def test_what_is_cut_away_is_found_from_either_side(chat: ChatFormat) -> None:
    long = "2 + 2? " * 20
    rows = [Preference(options=("4 is it", "5 is it"), context="2?", label=1.0),
            Preference(options=("4 is it", "5 is it"), context=long, label=1.0),
            Preference(options=("first" + " and so on" * 9, "other" + " and so on" * 9), context="2?", label=1.0)]
    right = check_pairs(rows, format=replace(chat, max_length=24, truncation="right"))
    assert [(f.row, f.kind) for f in right] == [(1, "truncated away"), (1, "truncated away")]
    assert "no token is left" in right[0].said
    left = check_pairs(rows, format=replace(chat, max_length=24))
    assert [(f.row, f.kind) for f in left] == [(2, "truncated away")] and "the same after" in left[0].said
    refused = check_pairs(rows, format=replace(chat, max_length=24, truncation="refuse"))
    assert [(f.row, f.kind) for f in refused] == [(1, "too long"), (2, "too long")]


def test_a_template_that_leaves_words_out_is_found(chat: ChatFormat) -> None:
    """As templates for words and pictures do with plain strings."""
    from copy import copy

    deaf = copy(chat.tokenizer)
    deaf.chat_template = ("{% for m in messages %}{{ m.role }}{% for p in m.content %}{{ p.text }}{% endfor %}"
                          "{% endfor %}")
    (fault,) = check_pairs(GOOD[:2], format=ChatFormat(deaf))
    assert (fault.row, fault.kind) == (1, "truncated away") and "as the chat template writes them" in fault.said


def test_a_conversation_that_the_template_refuses_is_named(chat: ChatFormat) -> None:
    from copy import copy

    strict = copy(chat.tokenizer)
    strict.chat_template = "{{ raise_exception('roles must alternate') }}"
    (fault,) = check_pairs(GOOD[:2], format=ChatFormat(strict))
    assert (fault.row, fault.kind) == (1, "template") and "roles must alternate" in fault.said


# --- two sets ----------------------------------------------------------------------------------------


def test_a_prompt_in_both_sets_is_found_however_it_is_written() -> None:
    train = [Preference(options=("x", "y"), context=c, label=1.0) for c in ("other", " 2 +\n2? ")]
    faults = check_pairs([GOOD[0], GOOD[1], GOOD[2]], other=train)
    assert [(f.row, f.kind) for f in faults] == [(0, "leak"), (1, "leak")]
    assert "row 1 of the other set" in faults[0].said
    trees = [replace(r, tree={"id": 7, "depth": i}) for i, r in enumerate(GOOD[2:4])]
    assert [f.kind for f in check_pairs(trees[:1], other=trees[1:])] == ["leak"], "one tree, two prompts"
    alone = [Preference(options=("p", "q"), label=1.0), Preference(options=("q", "p"), label=0.0)]
    assert [f.kind for f in check_pairs(alone[:1], other=alone[1:])] == ["leak"]
    assert check_pairs(alone[:1], other=[Preference(options=("p", "r"), label=1.0)]) == []


# --- stopping ----------------------------------------------------------------------------------------


def test_the_first_faults_are_named_and_all_are_counted() -> None:
    rows = [Preference(options=("4", "4"), label=1.0)] * 7 + GOOD + [Preference(options=("", "x"), label=1.0)]
    faults = check_pairs(rows)
    with pytest.raises(BadInput, match="7 identical, 1 empty: row 0: identical.*and 3 more"):
        raise_faults(faults)
    with pytest.raises(BadInput, match="received 1 empty: row 16: empty: option 0"):
        raise_faults(faults, allow=["identical"])
    raise_faults(faults, allow=["identical", "empty"])
    assert without_faults(rows, faults) == GOOD
    assert without_faults(rows, []) == rows


def test_rows_are_counted_as_they_are_checked() -> None:
    seen: list[int] = []
    check_pairs(iter(GOOD), progress=seen.append)
    assert seen == [*range(1, len(GOOD) + 1)]


@pytest.mark.parametrize("place", ["context", "first", "message"])
def test_half_a_surrogate_pair_is_a_fault_of_its_row(chat: ChatFormat, place: str) -> None:
    broken = {"context": Preference(options=("a", "b"), context="\ud800?", label=1.0),
              "first": Preference(options=("a \udfff", "b"), context="c", label=1.0),
              "message": Preference(options=([{"role": "assistant", "content": "\ud800"}],
                                             [{"role": "assistant", "content": "b"}]),
                                    context=[{"role": "user", "content": "c"}], label=1.0)}[place]
    good = Preference(options=("\U0001f600", "b"), context="c", label=1.0)
    faults = check_pairs([good, broken], format=chat)
    assert [(f.row, f.kind) for f in faults if f.kind == "no unicode"] == [(1, "no unicode")] and faults[0].row == 1
    assert without_faults([good, broken], faults) == [good]
