from __future__ import annotations

import pytest
import torch
from numbered_stores import VALUE, gaussian

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.feedback.fragments import sample_pairs
from plaudit.feedback.oracles import Oracle
from plaudit.learn.calibration import best_temperature, calibration, probabilities
from plaudit.learn.features import StepFeatures
from plaudit.learn.model import LearnedReward

STORE = gaussian(200, 2, 1)


def truth(slope: float) -> LearnedReward:
    """A reward that is slope * obs, exactly."""
    model = LearnedReward(StepFeatures.of(STORE, fields=("obs",)), hidden=(), normalise=False)
    with torch.no_grad():
        model.net.flat.copy_(torch.tensor([[slope, 0.0]]))
    return model


def test_the_true_model_is_calibrated_and_one_that_is_too_sure_is_not() -> None:
    pairs = Oracle(VALUE, rationality=1.0)(sample_pairs(STORE, 3000, length=1))
    good, sure = calibration(truth(1.0), pairs), calibration(truth(5.0), pairs)
    assert good.error < 0.03 < 0.15 < sure.error
    assert good.log_loss.mean < sure.log_loss.mean and good.accuracy.mean == sure.accuracy.mean
    gap = pairs.fragments(0).obs[:, 0, 0] - pairs.fragments(1).obs[:, 0, 0]  # type: ignore[index]
    assert torch.allclose(probabilities(truth(1.0), pairs)[0], torch.sigmoid(gap), atol=1e-6)
    assert good.accuracy.low < float(((gap > 0) == (pairs.label > 0.5)).float().mean()) < good.accuracy.high


def test_the_temperature_undoes_what_was_multiplied() -> None:
    gap = torch.randn(4000, generator=Seeds(0).torch())
    label = (torch.rand(4000, generator=Seeds(1).torch()) < torch.sigmoid(2 * gap)).float()
    assert best_temperature(8 * gap, label, torch.ones(4000).bool()) == pytest.approx(4.0, rel=0.1)
    assert best_temperature(gap, label, torch.zeros(4000).bool()) == 1.0


def test_undecided_pairs_have_no_calibration_but_a_probability() -> None:
    pairs = sample_pairs(STORE, 5, length=2)
    assert probabilities(truth(1.0), pairs).shape == (1, 5)
    with pytest.raises(BadInput, match="decided"):
        calibration(truth(1.0), pairs)
