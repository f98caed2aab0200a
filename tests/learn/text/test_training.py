from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from plaudit.core.errors import BadInput
from plaudit.feedback.records import Preference
from plaudit.learn.text import card, modelling, saving
from plaudit.learn.text.trainer import CHECKPOINTS, NotANumber, last_whole
from plaudit.learn.text.training import fit_text, options_of

_spec = importlib.util.spec_from_file_location("planted", Path(__file__).with_name("planted.py"))
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
planted, text = _module.planted, _module.text

QUICK = {"lr": 5e-3, "batch": 16, "validation": 0.2, "as_chat": False, "evaluations": 2}


def says_good_is_better(fitted) -> float:
    """The share of new pairs that the model orders as they should be."""
    fresh = planted(40, seed=99)
    prompts = [r.context for r in fresh for _ in r.options]
    score = fitted.reward().score_texts(prompts, [o for r in fresh for o in r.options]).view(-1, 2)
    first = torch.tensor([r.label == 1.0 for r in fresh])
    return float(((score[:, 0] > score[:, 1]) == first).float().mean())


@pytest.fixture(scope="module")
def fitted(tiny_llama, tmp_path_factory):
    return fit_text(planted(96), model=tiny_llama, out=tmp_path_factory.mktemp("fit") / "out", epochs=4, **QUICK)


def test_what_was_planted_is_learnt(fitted):
    assert fitted.held_out.accuracy >= 0.9
    assert says_good_is_better(fitted) >= 0.9


def test_the_model_loads_as_a_plain_classifier_with_the_same_scores(fitted):
    reward = fitted.reward()
    mine = reward.score_texts(["Say thing 5."] * 2, ["good cat", "bad cat"])
    model = transformers.AutoModelForSequenceClassification.from_pretrained(fitted.folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(fitted.folder)
    ids = [reward.format.encode("Say thing 5.", c).ids for c in ("good cat", "bad cat")]
    batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits[:, 0]
    assert model.config.num_labels == 1 and model.config.pad_token_id == tokenizer.pad_token_id
    assert torch.allclose(mine, logits, atol=1e-4)


def test_the_card_says_what_it_was_made_from(fitted):
    said = card.read(fitted.folder)
    assert said["loss"] == "bradley-terry" and said["records"] == 76 and len(said["data_hash"]) == 16
    assert said["held_out"]["accuracy"] == fitted.held_out.accuracy
    page = (fitted.folder / card.PAGE).read_text()
    assert "Not audited yet" in page and "AutoModelForSequenceClassification" in page
    card.write(fitted.folder, audit={"sentence": "Pays for good.", "findings": ["says good twice"]})
    card.write(fitted.folder)  # written again, the audit stays
    assert "- says good twice" in (fitted.folder / card.PAGE).read_text()


@pytest.mark.slow  # two trainings
def test_packed_and_padded_training_give_the_same_model(tiny_qwen, tmp_path):
    records = planted(32, seed=3)
    weights = []
    for packing in (True, False):
        fit_text(records, model=tiny_qwen, out=tmp_path / str(packing), packing=packing, epochs=1, **QUICK)
        weights.append(saving.load(tmp_path / str(packing))[1].layer.weight)
    assert torch.allclose(weights[0], weights[1], atol=1e-4)


def test_a_finished_training_is_not_done_again_and_another_is_refused(tiny_llama, fitted):
    before = (fitted.folder / "model.safetensors").stat().st_mtime_ns
    again = fit_text(planted(96), model=tiny_llama, out=fitted.folder, epochs=4, **QUICK)
    assert again.held_out == fitted.held_out
    assert (fitted.folder / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(BadInput, match="out: expected a new folder"):
        fit_text(planted(96), model=tiny_llama, out=fitted.folder, epochs=3, **QUICK)


def test_randomness_outside_is_left_alone(tiny_llama, tmp_path):
    torch.manual_seed(5)  # (Python's own randomness is drawn on by beartype, which checks the tests)
    np.random.seed(5)
    expected = float(torch.rand(1)), np.random.random()
    torch.manual_seed(5)
    np.random.seed(5)
    fit_text(planted(16), model=tiny_llama, out=tmp_path, frozen=True, epochs=1, **QUICK)
    assert (float(torch.rand(1)), np.random.random()) == expected


# --- other ways to train ------------------------------------------------------------------------------


def test_a_frozen_backbone_stays_and_its_ensemble_disagrees(tiny_llama, tmp_path):
    made = fit_text(planted(96), model=tiny_llama, out=tmp_path, frozen=True, ensemble=3, epochs=12,
                    **{**QUICK, "lr": 5e-2})
    before, _ = modelling.load_backbone(tiny_llama)
    after, head, *_ = saving.load(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(before.state_dict().values(), after.state_dict().values(),
                                                 strict=True))
    assert says_good_is_better(made) >= 0.8
    members = made.reward().score_texts(["Say thing 1."], ["good dog"], members=True)
    assert members.shape == (1, 3) and len(set(members[0].tolist())) == 3 and head.spec.members == 3


def test_lora_keeps_its_head_and_is_merged(tiny_llama, tmp_path):
    made = fit_text(planted(96), model=tiny_llama, out=tmp_path, lora=True, epochs=4, **{**QUICK, "lr": 2e-2})
    assert made.held_out.accuracy >= 0.85 and says_good_is_better(made) >= 0.85
    names = saving.probes.header(tmp_path)
    assert "score.weight" in names and not any("lora" in n for n in names)
    before, _ = modelling.load_backbone(tiny_llama)
    after = saving.load(tmp_path)[0]
    name = "layers.0.self_attn.q_proj.weight"
    change = after.state_dict()[name] - before.state_dict()[name]
    assert 1 <= int(torch.linalg.matrix_rank(change, rtol=1e-3)) <= 16


@pytest.mark.slow  # two trainings, each with its validation
def test_regression_then_preferences_on_the_same_head(tiny_llama, tmp_path):
    made = fit_text(planted(64, ratings=True), model=tiny_llama, out=tmp_path, loss="two-stage", epochs=3, expo=True,
                    **QUICK)
    head = saving.load(tmp_path)[1]
    assert head.spec.attributes == ("helpfulness", "verbosity") and head.spec.weights == (1.0, 0.0)
    assert {line["stage"] for line in made.history} == {1, 2}
    assert made.meta["training"]["expo_alpha"] >= 1.0
    assert says_good_is_better(made) >= 0.85


@pytest.mark.slow  # two trainings
def test_gaussian_members_copy_the_first_stage_and_are_calibrated(tiny_llama, tmp_path):
    made = fit_text(planted(64), model=tiny_llama, out=tmp_path, loss="gaussian", ensemble=3, epochs=4, **QUICK)
    _, head, *_, meta = saving.load(tmp_path)
    assert head.spec.kind == "gaussian" and head.spec.members == 3
    assert says_good_is_better(made) >= 0.8
    fresh = planted(40, seed=99)
    members = made.reward().score_texts([r.context for r in fresh for _ in r.options],
                                        [o for r in fresh for o in r.options], members=True)
    assert 0.5 < float(members.std(0).mean()) < 2.0  # on one scale, which the raw ones are not bound to


def test_flipped_labels_are_found_by_models_that_did_not_see_them(tiny_llama, tmp_path):
    from plaudit.learn.text.strengths import cross_fit

    records = planted(160, seed=7, noise=0.2)
    truth = torch.tensor([("good" in r.options[0]) == (r.label == 1.0) for r in records])
    g = torch.Generator().manual_seed(0)
    direction = torch.randn(8, generator=g)
    states = [torch.stack([torch.randn(8, generator=g) * 0.5 + direction * ("good" in o) for o in r.options])
              for r in records]
    mu = cross_fit(states, records, [r.context for r in records], seed=1).mu
    right, wrong = mu[truth], mu[~truth]
    assert float((right[:, None] > wrong[None]).float().mean()) > 0.9  # the area under the ROC curve


@pytest.mark.slow  # three trainings
def test_meta_learning_moves_to_where_samples_differ_and_back(tiny_llama, tmp_path):
    rng = random.Random(0)
    samples = [(f"Say thing {i}.", [text(rng, "good"), text(rng, "bad"), text(rng, "cat")]) for i in range(6)]
    plain = fit_text(planted(32), model=tiny_llama, out=tmp_path / "a", epochs=1, **QUICK)
    still = fit_text(planted(32), model=tiny_llama, out=tmp_path / "b", epochs=1, meta=samples, meta_step=0.0, **QUICK)
    moved = fit_text(planted(32), model=tiny_llama, out=tmp_path / "c", epochs=1, meta=samples, meta_step=1e-1, **QUICK)
    weights = [saving.load(f.folder)[1].layer.weight for f in (plain, still, moved)]
    assert torch.equal(weights[0], weights[1])  # a step of size 0 changes nothing
    assert not torch.allclose(weights[0], weights[2], atol=1e-5)


# --- what can go wrong --------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_with_the_row_and_the_last_good_state(tiny_llama, tmp_path, monkeypatch):
    from plaudit.learn.text import losses, objectives

    def poisoned(gap, label, margin):
        return losses.bradley_terry(gap, label) + torch.where(margin > 8.5, float("nan"), 0.0)

    monkeypatch.setitem(objectives.OBJECTIVES, "poisoned",
                        objectives.Objective("poisoned", objectives.over_pairs(poisoned, "margin")))
    records = [replace(r, margin=9.0 if i == 37 else 0.0) for i, r in enumerate(planted(64))]
    with pytest.raises(NotANumber, match=r"the loss is not a number at step \d+, in row 37; ") as caught:
        fit_text(records, model=tiny_llama, out=tmp_path, loss="poisoned", epochs=2,
                 **{**QUICK, "batch": 4, "evaluations": 32, "validation": 0.0})
    last = last_whole(tmp_path / CHECKPOINTS / "stage-1")
    assert last is not None and str(last) in str(caught.value)
    state = saving.read_tensors(last / "model.safetensors")[0]
    assert all(bool(torch.isfinite(x).all()) for x in state.values())
    assert not saving.is_saved(tmp_path)


@pytest.mark.parametrize(("options", "message"), [
    ({"loss": "regression"}, "expected ratings, received none"), ({"loss": "best"}, "loss: expected one of"),
    ({"epochs": 0}, "epochs: expected a number above 0"), ({"frozen": True, "lora": True}, "not both"),
    ({"loss": "gaussian-nll"}, "after a stage whose reward they copy"), ({"speed": 3}, "received speed"),
    ({"expo": True, "lora": True}, "adapters do not add up"), ({"arguments": {"no_such": 1}}, "TrainingArguments"),
    ({"model": "/no/such/folder"}, "model: expected a folder that exists"),
])
def test_bad_options_are_refused_before_any_work(options, message, tiny_llama, tmp_path):
    with pytest.raises(BadInput, match=message):
        fit_text(planted(8), **{"model": tiny_llama, "out": tmp_path / "out", **options})
    assert not saving.is_saved(tmp_path / "out")


@pytest.mark.parametrize(("record", "message"), [
    (Preference(options=("same", "same"), context="q", label=1.0), "row 2: identical"),
    (Preference(options=("", "b"), context="q", label=1.0), "row 2: empty"),
    (Preference(options=("x " * 400 + "a", "x " * 400 + "b"), context="q", label=1.0), "too long"),
])
def test_bad_rows_are_named_before_any_work(record, message, tiny_llama, tmp_path):
    with pytest.raises(BadInput, match=message):
        fit_text([*planted(2), record], model=tiny_llama, out=tmp_path, max_length=64, truncation="refuse")


def test_ratings_that_are_all_masked_are_refused(tiny_llama, tmp_path):
    masked = [Preference(options=("a", "b"), context=str(i), ratings=({"x": None}, {"x": None})) for i in range(4)]
    with pytest.raises(BadInput, match="all masked"):
        fit_text(masked, model=tiny_llama, out=tmp_path, loss="regression")


def test_an_encoder_is_refused(tmp_path, tiny_llama):
    config = transformers.BertConfig(vocab_size=384, hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
                                     intermediate_size=32)
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    transformers.AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(tmp_path / "bert")
    with pytest.raises(BadInput, match="expected a causal language model"):
        fit_text(planted(8), model=tmp_path / "bert", out=tmp_path / "out", as_chat=False)


def test_defaults_of_the_learning_rate_follow_what_is_trained():
    assert [options_of(model="m", **o).loop.lr for o in ({}, {"lora": True}, {"frozen": True}, {"lr": 3e-4})] == \
        [1e-5, 2e-4, 1e-3, 3e-4]


# --- kills --------------------------------------------------------------------------------------------

KILLED = """
import os, sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {here!r})
from planted import planted
from plaudit.learn.text.training import fit_text
def progress(step, steps, logged):
    if step == {at}:
        os._exit(9)
fit_text(planted(48), model={model!r}, out={out!r}, epochs=2, progress=progress, **{options!r})
"""


def killed_at(step: int, model: Path, out: Path, options: dict) -> int:
    code = KILLED.format(here=str(Path(__file__).parent), at=step, model=str(model), out=str(out), options=options)
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode


@pytest.mark.slow  # two processes that import torch and transformers
def test_a_killed_training_ends_with_the_same_bytes(tiny_llama, tmp_path):
    options = {**QUICK, "batch": 8, "evaluations": 4, "dropout": 0.1}
    fit_text(planted(48), model=tiny_llama, out=tmp_path / "whole", epochs=2, **options)
    assert killed_at(7, tiny_llama, tmp_path / "killed", options) == 9
    stage = tmp_path / "killed" / CHECKPOINTS / "stage-1"
    whole = last_whole(stage)
    assert whole is not None
    torn = stage / "checkpoint-999"  # a kill in the middle of a checkpoint
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    fit_text(planted(48), model=tiny_llama, out=tmp_path / "killed", epochs=2, **options)
    for name in ("model.safetensors", "plaudit/head.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    metas = [json.loads((tmp_path / n / saving.FILE).read_text()) for n in ("whole", "killed")]
    assert metas[0]["training"]["held_out"] == metas[1]["training"]["held_out"]


@pytest.mark.slow(reason="the packaged model of 135 million parameters")
def test_a_real_model_learns_what_is_preferred(tmp_path, real_model):
    facts = [("the capital of France", "Paris", "Lyon"), ("2 + 3", "5", "6"), ("the colour of grass", "green", "blue")]
    records = [Preference(context=f"({i}) What is {q}?", options=(f"It is {good}.", f"No idea, {bad}."), label=1.0)
               for i in range(8) for q, good, bad in facts]
    fitted = fit_text(records, model=real_model, loss="bradley-terry", frozen=True, epochs=8, out=tmp_path / "rm")
    scores = fitted.reward().score_texts(["(99) What is 2 + 3?"] * 2, ["It is 5.", "No idea, 6."])
    assert float(scores[0]) > float(scores[1]) + 0.5


def test_curves_for_tensorboard_outlive_the_checkpoints(tiny_llama: Path, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    records = [Preference(options=(f"It is {n}.", "no"), context=f"What is {n}?", label=1.0) for n in range(16)]
    fitted = fit_text(records, model=tiny_llama, out=tmp_path / "out", epochs=1, batch=4, lr=1e-3, validation=0.25,
                      report_to=("tensorboard",))
    assert not (tmp_path / "out" / CHECKPOINTS).exists()
    read = events.EventAccumulator(str(tmp_path / "out" / "runs" / "stage-1"))
    read.Reload()
    logged = [line["loss"] for line in fitted.history if "loss" in line]
    assert [e.value for e in read.Scalars("train/loss")] == pytest.approx(logged)
