"""Prompt and completion as ids: behind one another they are the whole conversation, rendered and tokenised once."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.core.chat import ChatFormat, _check_text
from plaudit.core.errors import BadInput
from plaudit.core.tokens import plain_text
from plaudit.learn.text.models import tiny_tokenizer
from plaudit.learn.text.templates import QWEN


def say(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


@pytest.fixture(scope="module")
def llama() -> Any:
    return tiny_tokenizer(specials=["<|start_header_id|>", "<|end_header_id|>"])


@pytest.fixture(scope="module")
def qwen() -> Any:
    return tiny_tokenizer(template=QWEN, specials=["<|im_start|>"], eos="<|im_end|>")


def whole(tokenizer: Any, messages: list[Any], **options: Any) -> list[int]:
    """The template applied once to everything, by transformers itself."""
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)["input_ids"]


CONVERSATIONS: dict[str, tuple[list[Any], list[Any]]] = {
    "one turn": ([say("user", "2 + 2?")], [say("assistant", "It is 4.")]),
    "many turns": ([say("system", "Be brief."), say("user", "hi"), say("assistant", "hello"), say("user", "and?")],
                   [say("assistant", "yes")]),
    "a completion of several turns": ([say("user", "hi")], [say("assistant", "well"), say("user", "?"),
                                                            say("assistant", "so")]),
    "an answer without words": ([say("user", "hi")], [say("assistant", "")]),
    "ünïcode": ([say("user", "日本\u2028")], [say("assistant", "🙂 ")]),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_prompt_and_completion_are_the_template_applied_once(name: str, llama: Any) -> None:
    asked, said = CONVERSATIONS[name]
    one = ChatFormat(llama).encode(asked, said)
    assert one.ids == whole(llama, asked + said) and one.seam == "" and one.cut == 0
    assert one.prompt_ids == whole(llama, asked, add_generation_prompt=True), "the prompt opens the answer"
    assert llama.decode(one.completion_ids).startswith(said[0]["content"].strip())


def test_the_whole_text_is_what_the_template_makes_of_everything(llama: Any) -> None:
    chat = ChatFormat(llama, as_chat=True)
    asked = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    whole = llama.apply_chat_template(asked, tokenize=False)
    assert chat.text("2 + 2?", "4") == chat.text(asked[:1], "4") == chat.text(asked[:1], asked[1:]) == whole
    assert ChatFormat(llama).text("2 + 2?", " 4") == "2 + 2? 4"


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="tokenizer: expected the folder of a tokenizer"):
        ChatFormat.load(tmp_path)


def test_a_broken_seam_would_be_found(llama: Any) -> None:
    """The broken variant: the completion rendered alone gets a head of its own."""
    asked, said = CONVERSATIONS["one turn"]
    assert whole(llama, asked) + whole(llama, said) == whole(llama, asked + said)
    assert whole(llama, said) != ChatFormat(llama).encode(asked, said).completion_ids


def test_a_text_among_messages_is_an_answer(llama: Any) -> None:
    asked, said = CONVERSATIONS["one turn"]
    chat = ChatFormat(llama)
    assert chat.encode(asked, "It is 4.") == chat.encode(asked, said) == chat.encode("2 + 2?", said)
    assert ChatFormat(llama, as_chat=True).encode("2 + 2?", "It is 4.") == chat.encode(asked, said)
    assert chat.encode("2 + 2?", "It is 4.") != chat.encode(asked, said), "plain texts stay plain otherwise"


# --- plain texts -------------------------------------------------------------------------------------


def test_a_plain_text_ends_with_the_end_token_once(llama: Any) -> None:
    chat, end = ChatFormat(llama), llama.eos_token_id
    assert chat.encode("hi ", "you").ids == [*llama("hi you")["input_ids"], end]
    assert chat.encode("hi ", "you<|eot_id|>").ids == [*llama("hi you")["input_ids"], end]
    assert ChatFormat(llama, add_eos=False).encode("hi ", "you").ids == llama("hi you")["input_ids"]


@settings(max_examples=60)
@given(prompt=st.text(max_size=12) | st.sampled_from(["Is th", "What is the ans", "12"]),
       options=st.lists(st.text(max_size=8) | st.sampled_from(["e sum", "wer", "3"]), min_size=1, max_size=3))
def test_any_options_of_a_prompt_share_its_ids_and_lose_nothing(llama: Any, prompt: str, options: list[str]) -> None:
    for one, text in zip(rows := ChatFormat(llama).encode_options(prompt, options), options, strict=True):
        assert one.prompt_ids == rows[0].prompt_ids
        assert one.ids == [*llama(prompt + text)["input_ids"], llama.eos_token_id]
        assert llama.decode(one.ids[:-1]) == prompt + text
        assert prompt.startswith(llama.decode(one.prompt_ids, skip_special_tokens=True).rstrip("\ufffd"))


def test_a_token_across_the_seam_belongs_to_the_completion() -> None:
    tokenizer = tiny_tokenizer(corpus=["answer answer answer"] * 3, vocab=300)
    one, other = ChatFormat(tokenizer, add_eos=False).encode_options("an ans", ["wer", "!"])
    assert (one.seam, other.seam) == ("merge", "merge") and tokenizer.decode(one.completion_ids) == " answer"
    assert tokenizer.decode(other.completion_ids) == " ans!", "the other keeps the same prompt"
    assert one.prompt_ids == other.prompt_ids == tokenizer("an")["input_ids"]


def test_tokens_that_a_tokenizer_puts_around_texts_stay_around_the_whole() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer(specials=["[CLS]", "[SEP]"])
    cls, sep = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]",
                                                                    special_tokens=[("[CLS]", cls), ("[SEP]", sep)])
    one = ChatFormat(tokenizer).encode("hi ", "you")
    assert one.ids == tokenizer("hi you")["input_ids"] and one.prompt_ids[0] == cls and one.completion_ids[-1] == sep
    assert ChatFormat(tokenizer).encode("", "you").prompt_ids == [cls]


# --- thinking, tools ---------------------------------------------------------------------------------

THOUGHT = "<think>\nhm\n</think>\n\n"


def test_thinking_in_the_answer_is_kept_and_that_of_earlier_turns_is_not(qwen: Any) -> None:
    chat = ChatFormat(qwen)
    asked = [say("user", "2 + 2?"), say("assistant", THOUGHT + "4"), say("user", "and 3 + 3?")]
    one = chat.encode(asked, [say("assistant", THOUGHT + "6")])
    text = qwen.decode(one.ids)
    assert text.count("<think>") == 1 and "hm" in qwen.decode(one.completion_ids) and one.seam == ""
    assert one == chat.encode(asked, [say("assistant", "6", reasoning_content="hm")])


def test_a_template_that_rewrites_the_prompt_is_followed(qwen: Any) -> None:
    """Qwen keeps the thinking of the last answer and drops it as soon as a user goes on."""
    asked, said = [say("user", "2 + 2?"), say("assistant", THOUGHT + "4")], [say("user", "?"), say("assistant", "5")]
    one = ChatFormat(qwen).encode(asked, said)
    alone = whole(qwen, asked)
    assert one.seam == "context" and one.ids == whole(qwen, asked + said) and one.ids[:len(alone)] != alone
    assert qwen.decode(one.prompt_ids).endswith("<|im_start|>user\n") and "hm" not in qwen.decode(one.ids)
    pair = ChatFormat(qwen).encode_options(asked, [said, [say("user", "!"), say("assistant", THOUGHT + "6")]])
    assert pair[0].prompt_ids == pair[1].prompt_ids == one.prompt_ids


def test_a_conversation_without_a_prompt_is_all_completion_after_its_first_words(qwen: Any) -> None:
    said = [say("user", "hi"), say("assistant", "yes")]
    one = ChatFormat(qwen).encode([], said)
    assert one.ids == whole(qwen, said) and qwen.decode(one.prompt_ids) == "<|im_start|>user\n"


TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
CALL = say("assistant", "", tool_calls=[{"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}])


def test_tool_calls_and_what_they_gave_are_part_of_the_completion(qwen: Any) -> None:
    asked, said = [say("user", "2 + 2?")], [CALL, say("tool", "4"), say("assistant", "It is 4.")]
    one = ChatFormat(qwen).encode(asked, said, tools=TOOLS)
    assert one.ids == whole(qwen, asked + said, tools=TOOLS) and one.seam == ""
    answer = qwen.decode(one.completion_ids)
    assert "<tool_call>" in answer and '"a": 2' in answer and answer.index("4") < answer.index("It is 4.")
    assert '"name": "add"' in qwen.decode(one.prompt_ids), "the tools stand in the prompt"
    assert one.prompt_ids != ChatFormat(qwen).encode(asked, said).prompt_ids


# --- templates that models have ----------------------------------------------------------------------

_TRL = importlib.util.find_spec("trl")
TEMPLATES = sorted(Path(str(_TRL.origin)).parent.glob("chat_templates/*.jinja")) if _TRL else []
TAKE_PARTS = ("idefics3", "llava_next", "smolvlm")  # of words and pictures; plain strings they leave out
USUAL = {
    "one turn": CONVERSATIONS["one turn"],
    "several": ([say("user", "hi"), say("assistant", "hello"), say("user", "and?")], [say("assistant", "yes")]),
    "thinking": ([say("user", "2?"), say("assistant", THOUGHT + "2"), say("user", "3?")],
                 [say("assistant", THOUGHT + "3")]),
    "an answer that is asked again": ([say("user", "2?"), say("assistant", THOUGHT + "2")],
                                      [say("user", "3?"), say("assistant", "3")]),
}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.stem)
def test_the_whole_is_kept_under_templates_that_models_have(path: Path, llama: Any) -> None:
    from copy import copy

    tokenizer = copy(llama)
    tokenizer.chat_template = path.read_text(encoding="utf-8")
    tokenizer.bos_token = tokenizer.eos_token
    taken = 0

    def parts(messages: list[Any]) -> list[Any]:
        vision = path.stem.startswith(TAKE_PARTS)
        return [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages] if vision else messages

    for asked, said in ((parts(a), parts(s)) for a, s in USUAL.values()):
        try:
            expected = whole(tokenizer, asked + said)
        except Exception:  # a template may refuse a form of messages; then so do we, with our error
            with pytest.raises(BadInput, match="chat template"):
                ChatFormat(tokenizer).encode(asked, said)
            continue
        two = parts([say("assistant", "Other words.")])
        one, other = ChatFormat(tokenizer).encode_options(asked, [said, [*said[:-1], *two]])
        assert one.ids == expected and one.prompt_ids == other.prompt_ids
        assert other.ids == whole(tokenizer, [*asked, *said[:-1], *two])
        answer = tokenizer.decode(one.completion_ids)
        assert plain_text(said).split("</think>")[-1].strip() in answer, "the answer's words are the completion's"
        assert plain_text(asked[:1]) in tokenizer.decode(one.prompt_ids)
        taken += 1
    assert taken, "a template that takes nothing would test nothing"


# --- length ------------------------------------------------------------------------------------------


def test_the_side_that_is_cut_is_an_option_and_what_is_cut_is_counted(llama: Any) -> None:
    asked, said = "a b c d e f", " x y z"
    full = ChatFormat(llama).encode(asked, said)
    N, P = len(full.ids), len(full.prompt_ids)
    left = ChatFormat(llama, max_length=N - 3).encode(asked, said)
    assert (left.ids, left.cut, left.completion_ids) == (full.ids[3:], 3, full.completion_ids)
    right = ChatFormat(llama, max_length=N - 3, truncation="right").encode(asked, said)
    assert (right.ids, right.cut, right.prompt_ids) == (full.ids[:-3], 3, full.prompt_ids)
    gone = ChatFormat(llama, max_length=P - 1, truncation="right").encode(asked, said)
    assert gone.completion_ids == [] and gone.cut == N - P + 1
    tail = ChatFormat(llama, max_length=2).encode(asked, said)
    assert (tail.prompt_ids, tail.ids) == ([], full.ids[-2:])
    with pytest.raises(BadInput, match=f"at most {N - 1} tokens.*received {N}"):
        ChatFormat(llama, max_length=N - 1, truncation="refuse").encode(asked, said)
    assert ChatFormat(llama, max_length=N, truncation="refuse").encode(asked, said) == full


@pytest.mark.parametrize("limit", range(2, 24))
def test_options_keep_the_same_part_of_their_prompt(limit: int, llama: Any) -> None:
    asked, said = "a b c d e f", [" x", " x y z u v w", ""]
    full = ChatFormat(llama).encode_options(asked, said)
    for side in ("left", "right"):
        rows = ChatFormat(llama, max_length=limit, truncation=side).encode_options(asked, said)  # type: ignore[arg-type]
        assert len({tuple(r.prompt_ids) for r in rows}) == 1 and all(len(r.ids) <= limit for r in rows)
        assert all(len(r.ids) + r.cut == len(f.ids) for r, f in zip(rows, full, strict=True))


def test_rows_become_tokens_with_their_cuts(llama: Any) -> None:
    t = ChatFormat(llama, max_length=4).tokens(["a b", "c"], ["d", "e f g h"], source=["x", "y"])
    assert t.columns["cut"][0] == 0 < t.columns["cut"][1] and t.columns["source"] == ["x", "y"]
    assert t.sequence_mask.sum(1).tolist() == [4, 4] and t.prompt_ids is not None
    first = t.sequence_ids[0][t.sequence_mask[0]].tolist()
    assert first == ChatFormat(llama).encode("a b", "d").ids


# --- bad input ---------------------------------------------------------------------------------------


def test_a_tokenizer_that_lacks_something_is_named_with_the_line_that_mends_it(llama: Any) -> None:
    from copy import deepcopy

    bare = deepcopy(llama)
    bare.pad_token = None
    with pytest.raises(BadInput, match=r"pad token.*set tokenizer\.pad_token"):
        ChatFormat(bare)
    plain = deepcopy(llama)
    plain.chat_template = None
    assert ChatFormat(plain).encode("a", "b").ids
    with pytest.raises(BadInput, match=r"chat template.*set tokenizer\.chat_template"):
        ChatFormat(plain).encode([say("user", "a")], "b")


def test_what_a_template_refuses_is_said_with_its_words(llama: Any) -> None:
    from copy import copy

    strict = copy(llama)
    strict.chat_template = ("{% if messages[0].role != 'user' %}{{ raise_exception('a user must begin') }}{% endif %}"
                            + llama.chat_template)
    with pytest.raises(BadInput, match=r"\['system', 'assistant'\].*a user must begin"):
        ChatFormat(strict).encode([say("system", "x")], "y")
    with pytest.raises(BadInput, match="conversation"):
        ChatFormat(llama).encode([{"role": "user"}, {"content": "no role"}], "y")


@pytest.mark.parametrize("text", [3, None, ["y"], [{"role": "user"}, "x"], {"role": "user"}])
def test_what_is_no_text_is_named(text: Any) -> None:
    _check_text("prompt", "x")
    _check_text("prompt", [say("user", "x")])
    with pytest.raises(BadInput, match="prompt: expected a text or a list of messages"):
        _check_text("prompt", text)


@pytest.mark.parametrize("wrong", [{"max_length": 1}, {"max_length": 0}])
def test_an_impossible_length_is_named(wrong: dict[str, Any], llama: Any) -> None:
    with pytest.raises(BadInput, match="max_length"):
        ChatFormat(llama, **wrong)


def test_a_folder_gives_its_tokenizer(tiny_qwen: Path) -> None:
    chat = ChatFormat.load(tiny_qwen, max_length=64)
    assert chat.max_length == 64 and chat.encode([say("user", "hi")], "yes").seam == ""


@pytest.mark.slow(reason="needs the tokenizer of a real model, which is converted with it")
def test_the_template_of_a_real_model_is_applied_once(real_model: Path) -> None:
    chat = ChatFormat.load(real_model)
    for asked, said in CONVERSATIONS.values():
        one = chat.encode(asked, said)
        assert one.ids == whole(chat.tokenizer, asked + said) and one.seam == ""
        assert one.prompt_ids == whole(chat.tokenizer, asked, add_generation_prompt=True)
    assert "SmolLM" in chat.tokenizer.decode(chat.encode([say("user", "hi")], "yes").prompt_ids), "its own system turn"
