"""The language head's loss beside the reward's: packed and plain, its gradient, and what has no language head."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

from plaudit.core.chat import ChatFormat
from plaudit.core.errors import BadInput
from plaudit.feedback.records import Preference
from plaudit.learn.text import modelling
from plaudit.learn.text.evidence import evidence
from plaudit.learn.text.examples import collate, tokenised
from plaudit.learn.text.forward import prepare
from plaudit.learn.text.heads import HeadSpec
from plaudit.learn.text.language import chosen_of
from plaudit.learn.text.objectives import objective
from plaudit.learn.text.training import fit_text, options_of

LONG = "Tell me, in a sentence or two, what there is to know about the number"
RECORDS = [Preference(context=f"{LONG} {n}", options=(f"It is {n}, I think.", "no"), label=float(n % 2))
           for n in range(4)]
RECORDS += [Preference(context=LONG, options=("right", "wrong", "right too"), correct=(True, False, True)),
            Preference(context=LONG, options=("as good", "as bad"), label=0.5)]


def loaded(folder: Path, *, packing: bool, **options: Any) -> tuple[modelling.RewardModel, Any]:
    """A model in training with its language head, and a batch of all records."""
    model = modelling.make(folder, HeadSpec(), seed=0, language=True, **options)
    form = ChatFormat.load(folder)
    base = model.backbone.get_base_model() if options.get("lora") else model.backbone
    encoder = prepare(base, pad_id=int(form.tokenizer.pad_token_id), packing=packing)
    return model.train(), collate(tokenised(RECORDS, form), encoder)


def by_hand(folder: Path) -> list[float]:
    """Nats a token of the chosen completions of each record, by the whole model on one text after the other."""
    form, model = ChatFormat.load(folder), transformers.AutoModelForCausalLM.from_pretrained(folder)
    out: list[float] = []
    for record, chosen in zip(RECORDS, ([1], [0], [1], [0], [0, 2], []), strict=True):
        found = []
        for i in chosen:
            said = form.encode(record.context, record.options[i])  # type: ignore[arg-type]
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([said.ids])).logits[0]
            at = len(said.prompt_ids)
            found.append(float(cross_entropy(logits[at - 1:-1], torch.tensor(said.ids[at:]))))
        out.append(sum(found) / len(found) if found else 0.0)
    return out


def test_who_was_chosen_won_and_lost_nowhere() -> None:
    said = evidence([*RECORDS, Preference(options=("a", "b", "c"), ratings=({"score": 2}, {"score": 1}, {"score": 3}))])
    assert [torch.nonzero(row).flatten().tolist() for row in chosen_of(said)] == [
        [1], [0], [1], [0], [0, 2], [], [2]]


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_qwen"])
def test_packed_and_plain_rows_say_what_the_whole_model_says(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    lm, truth = objective("lm").terms[0][1], by_hand(folder)
    for packing in (True, False):
        model, batch = loaded(folder, packing=packing)
        assert hasattr(batch.batch, "layout") == packing
        total, count = lm.parts(model(batch), batch.evidence)
        assert total.tolist() == pytest.approx(truth, abs=1e-5) and count.tolist() == [1, 1, 1, 1, 1, 0]
        plain = model.eval()(batch)
        assert plain.nll_NO is None, "nothing is spent on it but in training"
        assert torch.allclose(model.train()(batch).reward_NOH, plain.reward_NOH, atol=1e-5)


def test_its_gradient_is_that_of_the_whole_model(tiny_llama: Path) -> None:
    """Through the embedding that is also the output layer; and the broken variant without that path differs."""
    truth = transformers.AutoModelForCausalLM.from_pretrained(tiny_llama)
    form = ChatFormat.load(tiny_llama)
    losses = []
    for record, i in zip(RECORDS[:4], (1, 0, 1, 0), strict=True):
        said = form.encode(record.context, record.options[i])  # type: ignore[arg-type]
        logits = truth(input_ids=torch.tensor([said.ids])).logits[0]
        losses.append(cross_entropy(logits[len(said.prompt_ids) - 1:-1], torch.tensor(said.ids[len(said.prompt_ids):])))
    torch.stack(losses).mean().backward()
    wanted = {k.removeprefix("model."): p.grad for k, p in truth.named_parameters() if p.grad is not None}

    def found(*, detached: bool, packing: bool) -> dict[str, torch.Tensor]:
        model, _ = loaded(tiny_llama, packing=packing)
        encoder = prepare(model.backbone, packing=packing)
        batch = collate(tokenised(RECORDS[:4], form), encoder)
        if detached:
            table = model.backbone.get_input_embeddings().weight.detach()
            assert model.language is not None
            model.language.forward = lambda states, backbone: states @ table.T  # type: ignore[method-assign]
        loss, each = objective("lm")(model(batch), batch.evidence)
        loss.backward()
        assert bool(torch.isfinite(each).all())
        return {k: p.grad for k, p in model.backbone.named_parameters() if p.grad is not None}

    name = "embed_tokens.weight"
    for packing in (True, False):
        grads = found(detached=False, packing=packing)
        assert grads.keys() == wanted.keys()
        assert all(torch.allclose(grads[k], wanted[k], atol=1e-5) for k in wanted)
    assert not torch.allclose(found(detached=True, packing=False)[name], wanted[name], atol=1e-3), "broken"


def test_a_layer_of_its_own_learns_and_with_adapters_stays(tiny_llama: Path, tmp_path: Path) -> None:
    apart = transformers.AutoModelForCausalLM.from_pretrained(tiny_llama, tie_word_embeddings=False)
    torch.nn.init.normal_(apart.lm_head.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    apart.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(tmp_path)
    for lora in (None, modelling.Lora(rank=2)):
        model, batch = loaded(tmp_path, packing=False, lora=lora)
        objective("bradley-terry + 0.5 * lm")(model(batch), batch.evidence)[0].backward()
        assert model.language is not None and model.language.layer is not None
        assert (model.language.layer.weight.grad is None) == (lora is not None)
    assert modelling.make(tiny_llama, HeadSpec(), seed=0, language=True).language.layer is None  # type: ignore[union-attr]


@pytest.mark.slow(reason="two trainings that are saved: 5 s")
def test_a_training_with_it_keeps_the_language(tiny_llama: Path, tmp_path: Path) -> None:
    """Chosen answers become likelier under the backbone with it than without; the saved form is the same."""
    records = [Preference(context=f"What is {n}?", options=(f"It is {n}.", "no idea"), label=1.0) for n in range(16)]

    def nats(coefficient: float) -> float:
        out = tmp_path / f"{coefficient}"
        fitted = fit_text(records, model=tiny_llama, out=out, lm_coefficient=coefficient, epochs=5, lr=5e-3, batch=8,
                          validation=0.0, evaluations=1)
        loss = [line["loss"] for line in fitted.history if "loss" in line]
        assert loss[-1] < loss[0] and fitted.meta["loss"] == ("bradley-terry + 0.3 * lm" if coefficient
                                                              else "bradley-terry")
        assert ("lm_coefficient" in fitted.meta["training"]["identity"]["options"]) == (coefficient > 0)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(out).model
        form = ChatFormat.load(out, as_chat=True)
        rows = [form.encode(r.context, r.options[0]) for r in records]  # type: ignore[arg-type]
        found = []
        for row in rows:
            with torch.no_grad():
                states = model(input_ids=torch.tensor([row.ids])).last_hidden_state[0, len(row.prompt_ids) - 1:-1]
                logits = states @ model.get_input_embeddings().weight.T
                found.append(float(cross_entropy(logits, torch.tensor(row.completion_ids))))
        return sum(found) / len(found)

    assert nats(0.3) < nats(0.0) - 0.5


def test_what_cannot_be_is_refused_before_any_work(tiny_llama: Path, tiny_reward: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="this model has no language head.*ForSequenceClassification"):
        fit_text(RECORDS[:2], model=tiny_reward, out=tmp_path / "out", lm_coefficient=0.1)
    assert not (tmp_path / "out").exists()
    for wrong, says in (({"lm_coefficient": -1.0}, "a number >= 0"), ({"lm_coefficient": math.inf}, "a number >= 0"),
                        ({"lm_coefficient": 0.1, "frozen": True}, "a backbone that is trained"),
                        ({"loss": "bradley-terry + 0.1 * lm", "frozen": True}, "a backbone that is trained")):
        with pytest.raises(BadInput, match=says):
            options_of(model=tiny_llama, **wrong)
    rated = [Preference(context="a", options=("b", "c"), ratings=({"x": 1.0}, {"x": 2.0})),
             Preference(context="b", options=("b",), ratings=({"x": 3.0},))]
    with pytest.raises(BadInput, match="preferences"):
        fit_text([rated[1], Preference(context="c", options=("d",), ratings=({"x": 2.0},))], model=tiny_llama,
                 out=tmp_path / "out", loss="regression", lm_coefficient=0.1)


def test_the_command_line_has_it(tiny_reward: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    from plaudit.cli.main import main

    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(3)]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["learn", "text", "--model", str(tiny_reward), "--data", "rows.jsonl", "--out", "out"]
    assert main([*words, "--lm-coefficient", "0.1"]) == 2
    assert "no language head" in capsys.readouterr().err
