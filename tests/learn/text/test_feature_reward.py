"""Feature models on planted annotators: what they learn, what they say of it, and what they refuse."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.saving import load_reward
from plaudit.core.tokens import of_texts
from plaudit.feedback.records import Preference
from plaudit.learn.text.feature_fitting import FitFeatures, FittedFeatures, fit_features
from plaudit.learn.text.feature_heads import HeadOptions
from plaudit.learn.text.feature_reports import drift
from plaudit.learn.text.feature_reward import Running
from plaudit.learn.text.features import Feature, FeatureSet

FAST = FitFeatures(heads=HeadOptions(steps=60, folds=2, decays=(3e-3,), hidden=(8,), lr=0.1), validation=0.0,
                   running=Running(time_limit_s=None))
FILE = '''
from plaudit.learn.text.features import Feature, FeatureSet

def count(completion_text, letter):
    return completion_text.count(letter)

def good(completion_text):
    return completion_text.count("good")

def bad(completion_text):
    return completion_text.count("bad")

FEATURES = FeatureSet([Feature("good", good, better="more"), Feature("bad", bad, better="more")])
'''


def counted(word: str, **options: Any) -> Feature:
    return Feature(word, lambda completion_text: completion_text.split().count(word), **options)


def text(rng: random.Random, words: dict[str, int], fillers: int = 4) -> str:
    said = [w for w, most in words.items() for _ in range(rng.randint(0, most))] + ["um"] * rng.randint(1, fillers)
    return " ".join(rng.sample(said, len(said)))


def preferences(utility: Any, n: int = 150, *, seed: int = 0, words: dict[str, int] | None = None,
                noise: float = 0.3) -> list[Preference]:
    rng, out = random.Random(seed), list[Preference]()
    while len(out) < n:
        a, b = (text(rng, words or {"good": 3, "bad": 3, "so": 3}) for _ in range(2))
        gap = utility(a) - utility(b) + rng.gauss(0, noise)
        if a != b:
            out.append(Preference(context=f"prompt {len(out)}", options=(a, b), label=float(gap > 0)))
    return out


def worth(said: str) -> float:
    return 2.0 * said.split().count("good") - said.split().count("bad")


@pytest.fixture(scope="module")
def fitted() -> FittedFeatures:
    features = [counted("good", better="more"), counted("bad", better="more"), counted("so"), counted("never")]
    return fit_features(preferences(worth), features, config=FAST)


def test_the_planted_weights_come_out_as_importance_terms_and_curves(fitted: FittedFeatures) -> None:
    report = fitted.report
    assert list(report["importance"])[:2] == ["good", "bad"] and report["importance"]["bad"][1] > 0
    assert report["importance"]["so"][0] < 0.02
    moves = {c.name: (c.moves, c.agrees) for c in fitted.curves}
    assert moves["good"] == ("up", True) and moves["bad"] == ("down", False), "what was declared wrongly is said"
    assert report["dropped"] == {"never": "it is 0 everywhere"}
    held = fitted.held_out
    assert held["linear"].accuracy > 0.85 > held["mean"].accuracy  # type: ignore[operator]
    assert set(held) == {"mean", "linear", "mlp"}, "the plain models are always reported"


def test_terms_add_up_to_the_reward_and_members_to_their_mean(fitted: FittedFeatures) -> None:
    said = ["good good um", "bad um um", "um so"]
    score = fitted.reward.score(of_texts(["p"] * 3, said))
    assert torch.allclose(sum(score.contribution(n) for n in score.terms), score.value, atol=1e-4)  # type: ignore[arg-type]
    assert set(score.terms) == {"good", "bad", "so", "base", "imputed", "clipped"}
    assert score.members is not None and torch.allclose(score.members.mean(0), score.value, atol=1e-5)
    assert score.value[0, 0] > score.value[2, 0] > score.value[1, 0]
    tokens = of_texts(["p"] * 2, said[:2], [[1, 2, 3], [4]])
    assert fitted.reward(tokens)[0].tolist()[:2] == [0.0, 0.0], "paid at the last token"


def test_beyond_the_training_range_nothing_more_is_paid_and_drift_says_so(fitted: FittedFeatures) -> None:
    reward = fitted.reward
    paid = reward(of_texts(["p"] * 2, ["good good good um", "good " * 50 + "um"])).flatten()
    assert torch.allclose(paid[0], paid[1], atol=1e-5)
    moved = drift(reward, ["p"] * 2, ["good " * 50 + "um", "um"])
    assert moved["good"].outside == 0.5 and moved["good"].shift > 10 and moved["bad"].outside == 0.0
    open_ended = replace(reward.scaling, high_K=torch.full_like(reward.scaling.high_K, 1e9))
    broken = reward.using("linear")
    broken.scaling = open_ended
    assert float(broken(of_texts(["p"], ["good " * 50 + "um"]))) > 10 * float(paid[0]), "without clipping it pays"


def test_what_is_missing_is_flagged_and_its_worth_is_learnt() -> None:
    """Texts with `so` cannot be parsed, and people dislike them: the flag has to learn it."""
    def good(completion_text: str) -> int | None:
        return None if "so" in completion_text.split() else completion_text.split().count("good")

    records = preferences(lambda t: worth(t) - 8.0 * ("so" in t.split()), 200, words={"good": 3, "so": 1})
    fitted = fit_features(records, [Feature("good", good), counted("um")], config=FAST)
    reward, said = fitted.reward, of_texts(["p"] * 2, ["so um", "um"])
    assert reward.scaling.flagged == ("good",) and 0.3 < fitted.report["missing"]["good"] < 0.7
    score = reward.score(said)
    assert score.value[0, 0] < score.value[1, 0] and score.terms["imputed"].flatten().tolist() == [1.0, 0.0]
    blind = fit_features(records, [
        Feature("good", lambda completion_text: good(completion_text) or 0), counted("um")], config=FAST)
    assert blind.held_out["mlp"].accuracy < fitted.held_out["mlp"].accuracy  # type: ignore[operator]
    strict = fit_features(records[:60], [Feature("good", good), counted("um")], config=replace(
        FAST, on_missing="unknown"))
    assert strict.reward.score(said).known.flatten().tolist() == [False, True]


def test_unknown_is_not_the_mean_where_that_was_never_learnt(fitted: FittedFeatures) -> None:
    reward = fit_features(preferences(worth, 60), [
        Feature("good", lambda completion_text: None if "?" in completion_text else completion_text.count("good")),
        counted("bad")], config=FAST).reward
    score = reward.score(of_texts(["p"] * 3, ["? bad", "good", " "]))
    assert score.known.flatten().tolist() == [False, True, True]
    assert any("never was in training: good" in reason for reason in score.why)
    nothing = FeatureSet([Feature("good", lambda completion_text: 1 / 0), Feature("bad", lambda completion_text: None)])
    broken = fitted.reward.using("mlp")
    broken.features = FeatureSet([*nothing, counted("so"), counted("never")])
    assert not broken.score(of_texts(["p"], ["good"])).known.any()


def test_an_empty_text_is_never_imputed() -> None:
    def share(completion_text: str) -> float:
        return completion_text.count("good") / len(completion_text.split())  # fails where there are no words

    records = preferences(worth, 80) + [Preference(
        context="q", options=("good um", "?"), label=1.0)]
    odd = Feature("share", lambda completion_text: share(completion_text) if "?" not in completion_text else None)
    score = fit_features(records, [odd, counted("bad")], config=FAST).reward.score(of_texts(["p"] * 2, ["", "? um"]))
    assert score.known.flatten().tolist() == [False, True] and "empty" in next(iter(score.why))


def test_length_control_takes_from_a_feature_what_the_length_has_earned() -> None:
    """People like long texts; `so` only goes with length. Without the control the reward pays `so`."""
    records = preferences(lambda t: 1.5 * len(t.split()), 200, words={"good": 1, "so": 6}, noise=1.0)
    plain, controlled = (fit_features(records, [counted("so"), counted("good")], kind="linear", config=replace(
        FAST, length_control=on)).reward for on in (False, True))
    said = of_texts(["p"] * 2, ["um so so so so so", "um"])
    gap = [float(r(said)[0, 0] - r(said)[1, 0]) for r in (plain, controlled)]
    assert gap[0] > 1.5 and abs(gap[1]) < 0.5 * gap[0]
    score = controlled.score(said)
    assert "length" not in score.terms
    assert torch.allclose(sum(score.contribution(n) for n in score.terms), score.value, atol=1e-4)  # type: ignore[arg-type]


def test_ties_weights_ratings_and_right_options_all_teach() -> None:
    features = [counted("good", better="more"), counted("bad", better="less")]
    base = preferences(worth, 60)
    rated = [Preference(context=r.context, options=r.options, ratings=tuple({"score": worth(str(o))}
             for o in r.options)) for r in base]
    several = [Preference(context=f"q{i}", options=("good um", "bad um", "bad bad"), correct=(True, False, False))
               for i in range(10)]
    tied = [Preference(context=f"t{i}", options=("good um", "um good um"), label=0.5, tie=True, weight=2.0)
            for i in range(5)]
    fitted = fit_features([*rated, *several, *tied], features, config=FAST)
    assert fitted.report["ties"] == 5 and fitted.report["pairs"] > 70
    reward = fitted.reward
    assert float(reward(of_texts(["p"], ["good"]))) > float(reward(of_texts(["p"], ["bad"])))


def test_a_model_is_saved_and_loaded_with_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    fitted = fit_features(preferences(worth, 60), FeatureSet.load("mine.py:FEATURES"), config=FAST, out="rm")
    assert {f.suffix for f in (tmp_path / "rm").iterdir()} == {".json", ".md", ".safetensors"}
    said = of_texts(["p"] * 3, ["good", "bad bad", "um"])
    again = load_reward("rm")
    before, after = fitted.reward.score(said), again.score(said)
    assert torch.equal(before.value, after.value) and torch.equal(before.members, after.members)  # type: ignore[arg-type]
    assert all(torch.equal(before.terms[n], after.terms[n]) for n in before.terms)
    assert again.fingerprint() == fitted.reward.fingerprint()  # type: ignore[attr-defined]
    page = (tmp_path / "rm" / "README.md").read_text()
    assert "no sequence classifier" in page and "not as declared" in page and "mine.py:FEATURES" in page
    (tmp_path / "mine.py").write_text(FILE + "\n\ndef more():\n    return 1\n")
    with pytest.raises(BadInput, match="has changed"):
        load_reward("rm")
    assert torch.equal(load_reward("rm", trust=True).score(said).value, before.value)
    other = fit_features(preferences(worth, 60, seed=5), FeatureSet.load("mine.py:FEATURES"), config=FAST, out="rm")
    assert torch.equal(load_reward("rm").score(said).value, other.reward.score(said).value), "the newer one"


def test_columns_of_the_data_reach_the_functions() -> None:
    def asked(completion_text: str, wanted: str) -> int:
        return completion_text.count(wanted)

    records = [replace(r, provenance={"wanted": "good"}) for r in preferences(worth, 60)]
    fitted = fit_features(records, [Feature("asked", asked)], config=FAST)
    assert fitted.held_out["mlp"].accuracy > 0.7  # type: ignore[operator]
    assert fitted.reward.score(of_texts(["p"], ["good"], wanted=["good"])).known.all()
    lost = fitted.reward.score(of_texts(["p"], ["good"]))
    assert not lost.known.any() and "wanted" in next(iter(lost.why))


@pytest.mark.parametrize(("records", "said"), [
    ([], "no rows"), ([Preference(options=("a", "a"), context="x", label=1.0)] * 3, "identical"),
    ([Preference(options=("a", ""), context="x", label=1.0)] * 3, "empty"),
    ([Preference(options=("a", "b"), context=str(i)) for i in range(9)], "which option is better"),
    ([Preference(options=("good", "b"), context="one", label=1.0)] * 9, "prompt"),
    ([Preference(options=("good", f"b{i}"), context=str(i), label=0.5, tie=True) for i in range(9)], "equal")])
def test_records_that_teach_nothing_are_refused(records: list[Preference], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        fit_features(records, [counted("good")], config=FAST)


def test_what_cannot_be_saved_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="lambda"):
        fit_features(preferences(worth, 10), [counted("good")], config=FAST, out=tmp_path / "rm")
    with pytest.raises(BadInput, match="it is 0 everywhere"):
        fit_features(preferences(worth, 30), [counted("never")], config=FAST)
