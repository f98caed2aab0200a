from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from plaudit.core.chat import ChatFormat
from plaudit.core.errors import BadInput
from plaudit.core.saving import load_reward, save_reward
from plaudit.core.tokens import of_texts
from plaudit.feedback.records import Preference
from plaudit.learn.text.evaluation import evaluate
from plaudit.learn.text.feedback_training import fit_follow_up
from plaudit.learn.text.follow_ups import Bank, FollowUps, category_scores
from plaudit.learn.text.followup import FollowUpReward, best_of_categories
from plaudit.learn.text.likelihood import LanguageModel
from plaudit.learn.text.models import tiny_tokenizer
from plaudit.learn.text.reward import TextReward
from plaudit.learn.text.scoring import score_file
from plaudit.learn.text.turns import NextTurn, exchanged, mended, turns_of

_spec = importlib.util.spec_from_file_location("thankful", Path(__file__).with_name("thankful.py"))
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
SAID, accuracy, base_model, pairs, spoken = (
    _module.SAID, _module.accuracy, _module.base_model, _module.pairs, _module.spoken)

SPECIALS = ["<|start_header_id|>", "<|end_header_id|>"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny language model whose users thank for good and complain of bad: the planted truth."""
    folder = tmp_path_factory.mktemp("taught")
    base = base_model(folder / "base")
    return fit_follow_up(spoken(400), model=base, out=folder / "model", swapped=False, follow_ups=SAID, epochs=5,
                         lr=1e-2, batch=16, validation=0.0).folder


@pytest.fixture(scope="module")
def reward(taught: Path) -> FollowUpReward:
    return FollowUpReward.load(taught)


# --- the number ------------------------------------------------------------------------------------------------


class Bigrams(torch.nn.Module):
    """A language model whose logits depend on the last token alone."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(table)
        config = SimpleNamespace(max_position_embeddings=None)
        self.config = SimpleNamespace(get_text_config=lambda: config)

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.table[input_ids])


def test_a_hand_computed_example() -> None:
    """Two tokens with probability 1/2 and 1/4 after those before them: the mean is -(1/2) log 8."""
    tokenizer = tiny_tokenizer(specials=SPECIALS, vocab=300)
    ids = tokenizer("ok", add_special_tokens=False)["input_ids"]
    assert len(ids) == 2
    before = tokenizer("\n\n", add_special_tokens=False)["input_ids"][-1]
    V = len(tokenizer)
    table = torch.zeros(V, V)
    table[before, ids[0]] = math.log(V - 1)  # (V - 1) / (V - 1 + V - 1) = 1/2
    table[ids[0], ids[1]] = math.log((V - 1) / 3)  # 1/4
    table[ids[1], ids[0]] = 7.0  # what a scorer reads that forgets the shift
    follow_ups = FollowUps({"one": Bank(("ok",), ("qz",))})
    made = FollowUpReward(LanguageModel(Bigrams(table), tokenizer), follow_ups=follow_ups)
    found = made.likelihoods(["hm?"], ["so"])
    assert float(found.mean_NF[0, 0]) == pytest.approx(-math.log(8) / 2, abs=1e-5)
    assert float(found.mean_NF[0, 1]) == pytest.approx(-math.log(2 * (V - 1) * V) / 2, abs=1e-5)
    assert released(made, "hm?", "so", "ok") != pytest.approx(-math.log(8) / 2, abs=0.1), "broken: unshifted"


def released(reward: FollowUpReward, prompt: str, response: str, follow_up: str) -> float:
    """What the published code computes: raw logits of one position of the unshifted end for all tokens."""
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response},
                {"role": "user", "content": follow_up}]
    tokenizer = reward.format.tokenizer
    whole = tokenizer(reward.format.render(messages), add_special_tokens=False)["input_ids"]
    said = tokenizer(follow_up, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = reward.model.model(input_ids=torch.tensor([whole])).logits[0]
    return float(logits[-len(said):][0, said].mean())


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_qwen"])
def test_sharing_gives_the_numbers_of_plain_forward_passes(family: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(family)
    follow_ups = FollowUps.load().take(1)
    shared = FollowUpReward.load(folder, follow_ups=follow_ups)
    assert shared.model.packs
    padded = FollowUpReward.load(folder, follow_ups=follow_ups, share=False)
    assert not padded.model.packs
    prompts, completions = ["Why?", [{"role": "user", "content": "a b c " * 9}]], ["Because of that. " * 5, "No."]
    one, other = (r.likelihoods(prompts, completions, responses=True) for r in (shared, padded))
    for n in range(2):
        turn = shared.turn.encode(prompts[n], completions[n], follow_ups.texts, find_response=True)
        assert turn.response is not None
        places = [(ids, start, len(ids)) for ids, start in zip(turn.ids, turn.start, strict=True)]
        for k, (ids, start, stop) in enumerate([*places, (turn.ids[0], *turn.response)]):
            with torch.no_grad():
                log_p = shared.model.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            brute = float(log_p[range(start - 1, stop - 1), ids[start:stop]].double().mean())
            for found in (one, other):
                assert found.response_N is not None
                mine = found.mean_NF[n, k] if k < len(places) else found.response_N[n]
                assert float(mine) == pytest.approx(brute, abs=1e-5)


def test_a_token_without_one_before_it_is_refused(reward: FollowUpReward) -> None:
    with pytest.raises(BadInput, match="places"):
        reward.model.log_probs([[5, 6]], [[0]])


# --- the planted truth -----------------------------------------------------------------------------------------


class Shifted(torch.nn.Module):
    """The same language model, its logits moved by a number for each place: the probabilities are what they were."""

    def __init__(self, model: torch.nn.Module, words: list[int], thanks: list[int]) -> None:
        super().__init__()
        self.model, self.config = model, model.config
        self.words, self.thanks = torch.tensor(words), torch.tensor(thanks)

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, input_ids, **options):
        seen = [torch.isin(input_ids, some).cumsum(-1) for some in (self.words, self.thanks)]
        logits = self.model(input_ids=input_ids, **options).logits
        return SimpleNamespace(logits=logits - 5.0 * (seen[0] * seen[1]).unsqueeze(-1))


def test_it_finds_what_users_thank_for_and_the_released_scorer_is_led_astray(reward: FollowUpReward) -> None:
    some, said = pairs(40), SAID.banks["goodness"]
    prompts, good, bad = zip(*((r.context, *r.options) for r in some), strict=True)
    ids = lambda text: reward.format.tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    shifted = Shifted(reward.model.model, ids(" good") + ids("good"), [ids(t)[0] for t in said.positive])
    same = FollowUpReward(LanguageModel(shifted, reward.format.tokenizer), follow_ups=SAID.of_categories(["goodness"]))
    assert not same.model.apart
    for made in (reward.using(category="goodness"), same):
        assert accuracy(made.score_texts(prompts, good) - made.score_texts(prompts, bad)) > 0.95

    def theirs(prompt: str, response: str) -> float:
        return sum(released(same, prompt, response, t) for t in said.positive) - sum(
            released(same, prompt, response, t) for t in said.negative)

    broken = torch.tensor([theirs(p, g) - theirs(p, b) for p, g, b in zip(prompts, good, bad, strict=True)])
    assert accuracy(broken) < 0.5, "broken: unshifted logits that are not normalised"


def test_the_best_category_is_chosen_on_pairs(reward: FollowUpReward) -> None:
    chosen = best_of_categories(reward, pairs(40, seed=2), uses=("difference", "positive"))
    assert chosen.category in ("goodness", None) and chosen.accuracy["difference"]["goodness"] > 0.9
    assert chosen.accuracy["difference"]["noise"] < 0.8
    with pytest.raises(BadInput, match="decided"):
        best_of_categories(reward, [Preference(options=("a", ""), label=1.0)])


def test_it_is_a_reward_with_a_term_for_each_category(reward: FollowUpReward) -> None:
    tokens = of_texts(["Say thing 1."] * 3, ["good cat", "bad cat", " "], [[5, 6], [5, 6, 7], [5]])
    score = reward.score(tokens)
    assert set(score.terms) == {"goodness", "noise"} and score.known.all(-1).tolist() == [True, True, False]
    assert "nothing to follow up on" in next(iter(score.why))
    total = torch.stack([score.contribution(name) for name in score.terms]).sum(0)
    assert torch.allclose(score.value[:2], total[:2]) and bool((score.value[1, :2] == 0).all()), "paid at the end"
    assert torch.allclose(score.returns()[0][:2], reward.score_texts(["Say thing 1."] * 2, ["good cat", "bad cat"])
                          .float())
    assert reward.score(of_texts(["a"], [""])).counts() and not reward.score(of_texts(["a"], [""])).all_known
    found = evaluate(reward.using(category="goodness"), pairs(20), orders=2)
    assert found.accuracy.mean > 0.9 and found.orders is not None and found.orders.largest < 1e-4


def test_one_side_and_one_category(reward: FollowUpReward) -> None:
    prompts, said = ["Say thing 1."], ["good cat"]
    mean = reward.likelihoods(prompts, said).mean_NF
    first, second = mean[0, :2].mean(), mean[0, 2:4].mean()
    value = {use: float(reward.using(use=use, category="goodness").score_texts(prompts, said)) for use in (
        "difference", "positive", "negative")}
    assert value == pytest.approx({"difference": float(first - second), "positive": float(first),
                                   "negative": -float(second)}, abs=1e-6)
    assert category_scores(mean, SAID).shape == (1, 2)
    with pytest.raises(BadInput, match="one of goodness, noise"):
        reward.using(category="good")
    with pytest.raises(BadInput, match="one of difference"):
        reward.using(use="both")


def test_calibration_subtracts_the_generic_reply_of_each_prompt(reward: FollowUpReward) -> None:
    calibrated = FollowUpReward(reward.model, follow_ups=SAID, calibrate="Okay.")
    prompts, said = ["Say thing 1.", "Say thing 2.", "Say thing 1."], ["good cat", "bad dog", "Okay."]
    value = calibrated.score_texts(prompts, said)
    plain, generic = reward.score_texts(prompts, said), reward.score_texts(prompts, ["Okay."] * 3)
    assert torch.allclose(value, plain - generic, atol=1e-5) and float(value[2]) == pytest.approx(0, abs=1e-5)
    with pytest.raises(BadInput, match="calibrate"):
        FollowUpReward(reward.model, calibrate=" ")


# --- guards ----------------------------------------------------------------------------------------------------


def test_utterances_of_the_wrong_parity_lose_their_first() -> None:
    assert [m["content"] for m in turns_of(["Hello.", "What?", "This.", "Why?"])] == ["What?", "This.", "Why?"]
    assert [m["role"] for m in turns_of(["What?", "This.", "Why?"])] == ["user", "assistant", "user"]
    with pytest.raises(BadInput, match="not both"):
        turns_of(["hm", {"role": "user", "content": "a"}])
    assert [m["role"] for m in exchanged(turns_of(["a", "b", "c"]), "Ask.")] == ["user", "assistant", "user",
                                                                                "assistant"]


def test_what_is_too_long_is_cut_on_the_left_and_the_response_kept(reward: FollowUpReward) -> None:
    short = FollowUpReward(reward.model, follow_ups=SAID, max_length=48)
    history = [{"role": "user", "content": "red green blue " * 30}]
    turn = short.turn.encode(history, "good cat", SAID.texts)
    assert turn.cut > 0 and max(map(len, turn.ids)) == 48
    text = short.format.tokenizer.decode(turn.ids[0])
    assert "good cat" in text and text.endswith("Thanks, great.") and not text.startswith("<|start_header_id|>user")
    rows = short.rows([history, history], ["good cat", "good cat dog " * 40])
    assert rows[0].known and rows[0].cut == turn.cut and not rows[1].known and "cannot be cut" in rows[1].why
    refusing = FollowUpReward(reward.model, follow_ups=SAID, max_length=48, truncation="refuse")
    assert "at most 48 tokens" in refusing.rows([history], ["good cat"])[0].why
    with pytest.raises(BadInput, match="truncation"):
        FollowUpReward(reward.model, truncation="right")


STRICT = ("{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
          "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
          "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}")


def test_a_template_that_wants_alternating_roles_gets_them() -> None:
    tokenizer = tiny_tokenizer(template=STRICT)
    turn = NextTurn(ChatFormat(tokenizer))
    history = [{"role": "system", "content": "Be kind."}, {"role": "assistant", "content": "Hi!"},
               {"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    made = turn.encode(history, "so", ["Yes."])
    assert tokenizer.decode(made.ids[0]) == "[user] Be kind.\n\na\n\nb\n[assistant] so\n[user] Yes."
    assert tokenizer.decode(made.ids[0][made.start[0]:]).strip() == "Yes."
    assert [m["role"] for m in mended([{"role": "user", "content": "a"}])] == ["user"]
    with pytest.raises(BadInput, match="conversation"):  # nothing can be mended: nobody asked
        turn.encode([{"role": "tool", "content": "x"}], "so", ["Yes."])


def test_a_tokenizer_that_adds_a_beginning_does_not_add_it_to_the_follow_up() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer(specials=["<|begin_of_text|>", *SPECIALS])
    plain = NextTurn(ChatFormat(tokenizer)).encode("a", "b", ["Yes."])
    bos = tokenizer.convert_tokens_to_ids("<|begin_of_text|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)])
    assert tokenizer("Yes.")["input_ids"][0] == bos
    made = NextTurn(ChatFormat(tokenizer)).encode("a", "b", ["Yes."])
    assert made == plain and bos not in made.ids[0]


def test_a_model_without_a_template_gets_a_plain_dialogue(tiny_llama: Path) -> None:
    language = LanguageModel.load(tiny_llama)
    language.tokenizer.chat_template = None
    made = FollowUpReward(language, follow_ups=SAID).turn.encode("Why?", "So.", ["Yes, right."])
    assert language.tokenizer.decode(made.ids[0]) == "User: Why?\n\nAssistant: So.\n\nUser: Yes, right."


def test_a_follow_up_of_probability_0_is_unknown_and_not_minus_infinity() -> None:
    tokenizer = tiny_tokenizer(specials=SPECIALS, vocab=300)
    table = torch.zeros(len(tokenizer), len(tokenizer))
    table[:, tokenizer("!", add_special_tokens=False)["input_ids"]] = -torch.inf
    follow_ups = FollowUps({"a": Bank(("Yes!",), ("No.",))})
    made = FollowUpReward(LanguageModel(Bigrams(table), tokenizer), follow_ups=follow_ups)
    row, = made.rows(["hm?"], ["so"])
    assert row.value is None and "'Yes!' is not finite" in row.why
    assert made.score(of_texts(["hm?"], ["so"])).counts() == {row.why: 1}


def test_whole_texts_are_unknown(reward: FollowUpReward) -> None:
    assert "apart" in reward.rows([""], ["<|start_header_id|>user"], raw=True)[0].why


# --- files -----------------------------------------------------------------------------------------------------


def test_follow_ups_are_a_file_that_users_edit(tmp_path: Path) -> None:
    packaged = FollowUps.load()
    assert len(packaged.banks) == 6 and len(packaged) == len(packaged.texts) == 120
    assert all(len(b.positive) == len(b.negative) == 10 for b in packaged.banks.values())
    file = packaged.take(2).save(tmp_path / "mine.json")
    raw = json.loads(file.read_text())
    raw["manners"] = {"positive": ["How kind!"], "negative": ["How rude!"]}
    file.write_text(json.dumps(raw))
    mine = FollowUps.load(file)
    assert len(mine) == 26 and mine.digest != packaged.digest and "How rude!" in mine.texts
    for wrong in ({}, {"a": {"positive": ["x"]}}, {"a": {"positive": ["x"], "negative": []}},
                  {"a": {"positive": ["x"], "negative": ["x "]}}, {"a": {"positive": "xy", "negative": ["z"]}}, []):
        file.write_text(json.dumps(wrong))
        with pytest.raises(BadInput):
            FollowUps.load(file)
    with pytest.raises(BadInput, match=r"in \[1, 10\]"):
        packaged.take(11)


def test_saved_it_reads_as_before_and_says_that_it_is_no_classifier(reward: FollowUpReward, tmp_path: Path) -> None:
    chosen = reward.using(category="goodness")
    folder = chosen.save(tmp_path / "saved")
    again = FollowUpReward.load(folder)
    value = chosen.score_texts(["Say thing 1."], ["good cat"])
    assert torch.equal(again.score_texts(["Say thing 1."], ["good cat"]), value)
    assert "no sequence-classification form" in (folder / "README.md").read_text()
    with pytest.raises(BadInput, match="no sequence-classification form"):
        TextReward.load(folder)
    save_reward(again, tmp_path / "spec")
    loaded = load_reward(tmp_path / "spec")
    assert isinstance(loaded, FollowUpReward) and loaded.categories == ("goodness",)
    assert torch.equal(loaded.score_texts(["Say thing 1."], ["good cat"]), value)


def test_files_are_scored_and_another_bank_does_not_go_on(reward: FollowUpReward, tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"Say thing {i}.", "completions": ["good cat", "bad cat", ""]} for i in range(3)]
    source.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert score_file(reward.using(category="goodness"), source, tmp_path / "out.jsonl").unknown == 3
    row = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert row["scores"][0] > row["scores"][1] and row["scores"][2] is None and row["scores_why"][2]
    assert reward.fingerprint() != reward.using(category="noise").fingerprint()


def test_a_reward_model_with_a_head_is_refused(tiny_reward: Path) -> None:
    with pytest.raises(BadInput, match="causal language model"):
        FollowUpReward.load(tiny_reward)
