"""Early stopping: a planted set that is first learnt and then over-fitted, measured on clean held-out pairs."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plaudit.cli.learn import _measures
from plaudit.core.checkpoint import read_tensors
from plaudit.core.errors import BadInput
from plaudit.learn.text.trainer import CHECKPOINTS, NotANumber, last_whole
from plaudit.learn.text.training import Fitted, fit_text

_spec = importlib.util.spec_from_file_location("planted", Path(__file__).with_name("planted.py"))
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

EVERY = 4
"""Steps between two evaluations: 30 epochs of 2 steps, 15 evaluations."""


def fitted(model: Path, out: Path, patience: int | None, *, epochs: int = 30) -> Fitted:
    """Three of ten labels of the training pairs are wrong, those of the held-out ones are right."""
    clean = [replace(r, context=f"Then {i}.") for i, r in enumerate(_module.planted(48, seed=7))]
    return fit_text(_module.planted(32, seed=1, noise=0.3), validation_records=clean, model=model, out=out, lr=5e-3,
                    epochs=epochs, batch=16, as_chat=False, evaluations=15 * epochs // 30, patience=patience)


def qualities(one: Fitted) -> dict[int, float]:
    """Held-out accuracy less calibration error, by step."""
    return {line["step"]: line["eval_quality"] for line in one.history if "eval_quality" in line}


def test_it_stops_when_its_patience_is_over_and_keeps_the_best(tiny_llama: Path, tmp_path: Path) -> None:
    one = fitted(tiny_llama, tmp_path / "patient", 3)
    found = qualities(one)
    best = max(found, key=lambda step: found[step])
    assert EVERY < best and max(found) == best + 3 * EVERY < 60  # three evaluations without a better one, no more
    assert one.held_out is not None and one.held_out.quality == pytest.approx(found[best])
    assert found[max(found)] < found[best] - 0.02  # the last state is worse than the one that was kept


@pytest.mark.slow(reason="trains to the end, once more")
def test_without_patience_it_goes_on_and_keeps_the_best_all_the_same(tiny_llama: Path, tmp_path: Path) -> None:
    long, short = fitted(tiny_llama, tmp_path / "long", None), fitted(tiny_llama, tmp_path / "short", 3)
    found: dict[str, Any] = {"long": qualities(long), "short": qualities(short)}
    assert len(found["long"]) == 15 and min(found["long"].values()) < 0.5  # it did over-fit
    assert found["short"] == {k: v for k, v in found["long"].items() if k in found["short"]}
    assert long.held_out is not None and long.held_out.quality == pytest.approx(max(found["long"].values()))


def test_weights_that_run_away_stop_with_the_rows_and_the_last_good_state(tiny_llama: Path, tmp_path: Path) -> None:
    said = r"(gradient|reward|loss) is not a number at step \d+, (in|after) rows \d+, .*last good checkpoint is"
    with pytest.raises(NotANumber, match=said):
        fit_text(_module.planted(24), model=tiny_llama, out=tmp_path, lr=1e18, epochs=6, batch=4, as_chat=False,
                 evaluations=36, validation=0.0, arguments={"max_grad_norm": 0.0, "warmup_steps": 8})
    last = last_whole(tmp_path / CHECKPOINTS / "stage-1")
    assert last is not None
    assert all(bool(x.isfinite().all()) for x in read_tensors(last / "model.safetensors")[0].values())
    assert not (tmp_path / "plaudit.json").exists()


def test_what_was_cut_is_counted_and_said(tiny_llama: Path, tmp_path: Path) -> None:
    rows = _module.planted(12)
    rows[3] = replace(rows[3], context="red " * 60)
    one = fit_text(rows, model=tiny_llama, out=tmp_path, frozen=True, as_chat=False, max_length=40, validation=0.0)
    assert one.meta["training"]["cut"]["texts"] == 2 and one.meta["training"]["cut"]["tokens"] > 40
    assert any("2 texts were longer than 40 tokens and were cut on the left" in line for line in _measures(one.meta))
    with pytest.raises(BadInput, match=r"too long: row 3: too long: \d+ tokens where there may be at most 40 tokens"):
        fit_text(rows, model=tiny_llama, out=tmp_path / "no", frozen=True, as_chat=False, max_length=40,
                 truncation="refuse", validation=0.0)
