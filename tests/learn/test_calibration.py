from __future__ import annotations

from pathlib import Path

import pytest
import torch
from numbered_stores import VALUE, gaussian

from plaudit.core.errors import BadInput
from plaudit.core.saving import load_reward, save_reward
from plaudit.core.seeds import Seeds
from plaudit.feedback.fragments import sample_pairs
from plaudit.feedback.oracles import Oracle
from plaudit.feedback.preferences import Preferences
from plaudit.learn.calibration import best_temperature, calibration, measured, probabilities
from plaudit.learn.features import StepFeatures
from plaudit.learn.fitting import FitConfig, fit
from plaudit.learn.losses import pair_loss
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


def three_way(width: float, n: int) -> Preferences:
    """Pairs that are first, second or equal as Rao and Kupper have it, of which the true scores are obs."""
    pairs = sample_pairs(STORE, n, length=1)
    gap = pairs.fragments(0).obs[:, 0, 0] - pairs.fragments(1).obs[:, 0, 0]  # type: ignore[index]
    drawn = torch.rand(n, generator=Seeds(3).torch())
    first, second = torch.sigmoid(gap - width), torch.sigmoid(-gap - width)
    label = torch.where(drawn < first, 1.0, torch.where(drawn < first + second, 0.0, 0.5))
    return pairs.labelled(label, tie=label == 0.5)


def test_probabilities_know_the_width_of_ties() -> None:
    pairs, model = three_way(0.8, 4000), truth(1.0)
    model.tie_width = 0.8
    gap = pairs.fragments(0).obs[:, 0, 0] - pairs.fragments(1).obs[:, 0, 0]  # type: ignore[index]
    assert torch.allclose(probabilities(model, pairs)[0], torch.sigmoid(gap - 0.8), atol=1e-6)
    right, unaware = calibration(model, pairs), calibration(truth(1.0), pairs)
    assert right.error < 0.03
    assert right.log_loss.mean == pytest.approx(float(pair_loss(gap, pairs.label, tie=pairs.tie, ties="rao-kupper",
                                                                tie_width=0.8).mean()), rel=1e-4)
    assert right.accuracy == unaware.accuracy, "which of the two is better does not depend on the width"
    copy = truth(1.0)
    copy.load_state_dict(model.state_dict())
    assert torch.equal(probabilities(copy, pairs), probabilities(model, pairs))


def test_half_of_the_brier_score_of_three_outcomes_is_that_of_two_without_ties() -> None:
    pairs = three_way(0.8, 500)
    p = torch.rand(500, generator=Seeds(4).torch())
    plain = measured(torch.stack([p, 1 - p]), pairs)
    assert plain.brier == pytest.approx(float((p - pairs.label).square().mean()), rel=1e-5)
    equal = pairs[torch.where(pairs.tie)[0][:1]]
    assert measured(torch.tensor([[0.2], [0.3]]), equal, ties=True).brier == pytest.approx((0.04 + 0.09 + 0.25) / 2)


def test_a_fit_with_ties_of_their_own_chooses_its_temperature_by_all_outcomes() -> None:
    pairs = three_way(0.8, 1500)
    config = FitConfig(lr=0.05, epochs=20, ties="rao-kupper", tie_width=0.8, held_out=0.4)
    fitted = fit(pairs, fields=("obs",), hidden=(), config=config)
    assert fitted.reward.tie_width == 0.8 and fitted.calibration is not None
    assert fitted.calibration.error < 0.06
    assert float(fitted.reward.temperature) == pytest.approx(1.0, rel=0.2)
    gap = pairs.fragments(0).obs[:, 0, 0] - pairs.fragments(1).obs[:, 0, 0]  # type: ignore[index]
    everything = torch.ones(len(pairs)).bool()
    assert best_temperature(4 * gap, pairs.label, everything, tie=pairs.tie, tie_width=0.8) == pytest.approx(4.0,
                                                                                                          rel=0.1)


def mean_log_loss(pairs: Preferences, gap: torch.Tensor, temperature: float) -> float:
    return float(pair_loss(gap.double() / temperature, pairs.label.double()).mean())


def test_a_soft_tie_is_the_label_one_half_when_the_temperature_is_chosen() -> None:
    pairs = Oracle(VALUE, tie_within=0.8)(sample_pairs(STORE, 1200, length=1))
    assert 0.2 < float(pairs.tie.float().mean()) < 0.5
    fitted = fit(pairs, fields=("obs",), hidden=(), config=FitConfig(lr=0.05, epochs=20, held_out=0.4))
    value = fitted.reward(STORE)[pairs.row, pairs.start] * float(fitted.reward.scale)
    gap = value[:, 0] - value[:, 1]
    best = min(mean_log_loss(pairs, gap, 2.0 ** (i / 10)) for i in range(-60, 61))
    assert mean_log_loss(pairs, gap, float(fitted.reward.temperature)) < best + 0.01
    assert fitted.calibration is not None and fitted.calibration.log_loss.mean < best + 0.05
    dropped = fit(pairs, fields=("obs",), hidden=(), config=FitConfig(lr=0.05, epochs=20, held_out=0.4, ties="drop"))
    assert float(dropped.reward.temperature) < float(fitted.reward.temperature), "without ties the truth never errs"
    assert dropped.calibration is not None and dropped.calibration.log_loss.n == round(0.4 * int((~pairs.tie).sum()))


def test_all_figures_count_soft_ties_alike() -> None:
    pairs = Oracle(VALUE, tie_within=0.8)(sample_pairs(STORE, 200, length=1))
    sure = torch.full((200,), 0.9)
    found = measured(torch.stack([sure, 1 - sure]), pairs)
    share = float(pairs.label.double().mean())
    assert sum(b.n for b in found.bins) == 200 and found.accuracy.n == int((~pairs.tie).sum())
    assert found.error == pytest.approx(0.9 - share) and found.bins[0].share == pytest.approx(share)
    assert found.log_loss.mean == pytest.approx(mean_log_loss(pairs, torch.logit(sure), 1.0))
    assert found.brier == pytest.approx(float((sure - pairs.label).square().mean()))
    strict = calibration(truth(1.0), pairs, ties="drop")
    assert sum(b.n for b in strict.bins) == strict.log_loss.n == int((~pairs.tie).sum())


def uneven(n: int = 300) -> Preferences:
    """Fragments of one step or two."""
    pairs = sample_pairs(STORE, n, length=1)
    longer = torch.randint(1, 3, (n, 2), generator=Seeds(5).torch())
    unlike = Preferences.of_pairs(STORE, row=pairs.row, length=longer)
    return Oracle(VALUE, over="mean")(unlike)


def test_fragments_are_compared_as_in_the_fit(tmp_path: Path) -> None:
    pairs = uneven()
    fitted = fit(pairs, fields=("obs",), hidden=(), config=FitConfig(epochs=3, over="mean", discount=0.5, ties="drop"))
    model = fitted.reward
    said = probabilities(model, pairs, over="mean", discount=0.5)
    assert torch.equal(probabilities(model, pairs), said)
    assert calibration(model, pairs) == calibration(model, pairs, over="mean", discount=0.5, ties="drop")
    assert not torch.allclose(probabilities(model, pairs, over="sum"), said)
    assert not torch.allclose(probabilities(model, pairs, discount=1.0), said)
    loaded = load_reward(save_reward(model, tmp_path / "reward"))
    assert isinstance(loaded, LearnedReward) and torch.equal(probabilities(loaded, pairs), said)
    assert (loaded.over, loaded.discount, loaded.ties) == ("mean", 0.5, "drop")
    older = {k: v for k, v in model.state_dict().items() if k not in ("over", "discount", "ties", "tie_width")}
    fresh = truth(1.0)
    fresh.normalise = True
    fresh.load_state_dict(older)
    assert torch.equal(probabilities(fresh, pairs, over="mean", discount=0.5), said)


@pytest.mark.usefixtures("unchecked")
def test_uneven_fragments_need_to_be_told_how_they_compare() -> None:
    with pytest.raises(BadInput, match="sum or mean, since"):
        calibration(truth(1.0), uneven())
    with pytest.raises(BadInput, match="sum or mean, since"):
        probabilities(truth(1.0), uneven())
    with pytest.raises(BadInput, match="received avg"):
        calibration(truth(1.0), uneven(), over="avg")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="received avg"):
        probabilities(truth(1.0), uneven(), over="avg")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="received dropped"):
        calibration(truth(1.0), uneven(), over="mean", ties="dropped")  # type: ignore[arg-type]
