from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.feedback.text.spoken import SpokenFeedback, read_feedback
from plaudit.learn.text import trainer
from plaudit.learn.text.feedback_training import FeedbackBatch, Speaker, TokenLoss, encoded, fit_follow_up
from plaudit.learn.text.followup import FollowUpReward
from plaudit.learn.text.modelling import Lora

_spec = importlib.util.spec_from_file_location("thankful", Path(__file__).with_name("thankful.py"))
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
SAID, accuracy, base_model, pairs, spoken = (
    _module.SAID, _module.accuracy, _module.base_model, _module.pairs, _module.spoken)


def test_feedback_is_read_under_its_usual_names(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"instruction": "2 + 2?", "output": "4", "critique": "Right."},
            {"prompt": [{"role": "user", "content": "hm"}], "response": "so", "feedback": "No."}]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert [r.feedback for r in read_feedback(file)] == ["Right.", "No."]
    file.write_text(json.dumps({"prompt": "a", "response": "b"}) + "\n")
    with pytest.raises(BadInput, match="line 1.*feedback is missing"):
        read_feedback(file)
    file.write_text(json.dumps({"prompt": "a", "response": " ", "feedback": "No."}) + "\n")
    with pytest.raises(BadInput, match="line 1.*response"):
        read_feedback(file)
    with pytest.raises(BadInput, match="at least one row"):
        read_feedback([])


def test_the_loss_is_that_of_the_feedback_alone(tiny_llama: Path) -> None:
    reward = FollowUpReward.load(tiny_llama, swapped=True, share=False)
    rows = [encoded(reward.turn, SpokenFeedback("Why?", "Because.", text), n)
            for n, text in enumerate(("Thanks, that is clear.", "No."))]
    batch = FeedbackBatch.of(rows, int(reward.format.tokenizer.pad_token_id))
    loss, each = TokenLoss()(Speaker(reward.model, None)(batch), batch.evidence)
    means = []
    for row in rows:
        ids = row.ids[0]
        with torch.no_grad():
            log_p = reward.model.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        means.append(log_p[range(row.start - 1, len(ids) - 1), ids[row.start:]])
        assert ids[-1] == reward.format.tokenizer.eos_token_id
    assert torch.allclose(each, -torch.stack([m.mean() for m in means]), atol=1e-5)
    assert float(loss.detach()) == pytest.approx(-float(torch.cat(means).mean()), abs=1e-5)
    text = reward.format.tokenizer.decode(rows[0].ids[0])
    assert text.index("Please ask me") < text.index("Why?") < text.index("Because.") < text.index("Thanks")
    assert "assistant<|end_header_id|>\n\nThanks" in text and "user<|end_header_id|>\n\nBecause." in text


def test_adapters_are_merged_and_the_output_layer_is_not_saved_twice(tiny_llama: Path, tmp_path: Path) -> None:
    before = FollowUpReward.load(tiny_llama, follow_ups=SAID)
    fitted = fit_follow_up(spoken(24), model=tiny_llama, out=tmp_path / "tuned", lora=Lora(rank=2), follow_ups=SAID,
                           lr=1e-2, batch=8, validation=0.2, evaluations=1)
    after = fitted.reward()
    names = dict(after.model.model.named_parameters())
    assert not any("lora" in name for name in names) and after.turn.swapped and fitted.held_out_nats is not None
    moved = [n for n, p in before.model.model.named_parameters() if not torch.equal(p, names[n])]
    assert moved and not any("norm" in n or "embed" in n for n in moved)
    assert not (tmp_path / "tuned" / "checkpoints").exists()
    again = fit_follow_up(spoken(24), model=tiny_llama, out=tmp_path / "tuned", lora=Lora(rank=2), follow_ups=SAID,
                          lr=1e-2, batch=8, validation=0.2, evaluations=1)
    assert again == fitted, "it is there already"
    with pytest.raises(BadInput, match="same training"):
        fit_follow_up(spoken(24), model=tiny_llama, out=tmp_path / "tuned", follow_ups=SAID)


def test_a_killed_training_goes_on_to_the_same_weights(tiny_llama: Path, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(out: str, progress=None):
        return fit_follow_up(spoken(32), model=tiny_llama, out=tmp_path / out, follow_ups=SAID, lr=5e-3, batch=8,
                             validation=0.0, evaluations=4, epochs=2, progress=progress)

    class Killed(Exception):
        pass

    def kill(step: int, steps: int, logged) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        fit("a", kill)
    assert trainer.last_whole(tmp_path / "a" / "checkpoints") is not None
    first, second = fit("a").reward(), fit("b").reward()
    assert all(torch.equal(p, q) for p, q in zip(first.model.model.parameters(), second.model.model.parameters(),
                                                 strict=True))


def test_options_are_checked_before_any_work(tmp_path: Path) -> None:
    wrong: Any
    for wrong, match in (({"validation": 1.0}, "share"), ({"epoch": 1}, "options"), ({"batch": 0}, "batch")):
        with pytest.raises(BadInput, match=match):
            fit_follow_up(spoken(2), model="missing", out=tmp_path / "x", **wrong)
    with pytest.raises(BadInput, match="exists"):
        fit_follow_up(spoken(2), model="missing", out=tmp_path / "x")


@pytest.mark.slow  # 125 updates of a longer conversation: 5 s, and more under the run-time check of shapes
def test_roles_exchanged_it_learns_the_planted_truth_too(tmp_path: Path) -> None:
    base = base_model(tmp_path / "base")
    fitted = fit_follow_up(spoken(400), model=base, out=tmp_path / "tuned", follow_ups=SAID, epochs=5, lr=1e-2,
                           batch=16, validation=0.0, opening="Say.")
    some = pairs(40)
    for reward, low, high in ((fitted.reward(category="goodness"), 0.95, 1.01),
                              (FollowUpReward.load(base, follow_ups=SAID, category="goodness"), 0.0, 0.85)):
        good, bad = (reward.score_texts([r.context for r in some], [str(r.options[k]) for r in some]) for k in (0, 1))
        assert low < accuracy(good - bad) < high, "the base model is the broken variant"
