"""Early stopping: a planted set that is first learnt and then over-fitted, measured on clean held-out pairs."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

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
