from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from numbered_stores import gaussian

from plaudit.core.comparisons import pearson
from plaudit.core.errors import BadInput
from plaudit.core.functions import reward
from plaudit.core.seeds import Seeds
from plaudit.feedback.fragments import sample_pairs
from plaudit.feedback.hierarchy import Factor, Hierarchy
from plaudit.feedback.oracles import Oracle
from plaudit.feedback.preferences import Preferences
from plaudit.learn.bradley_terry import BradleyTerry, BradleyTerryConfig
from plaudit.learn.calibration import calibration
from plaudit.learn.comparing import pair_data
from plaudit.learn.features import StepFeatures
from plaudit.learn.fitting import FitConfig, Fitted, fit
from plaudit.learn.model import LearnedReward
from plaudit.optimize.align.config import AlignConfig
from plaudit.optimize.rl.ppo import PPOConfig

WEIGHTS = torch.tensor([1.0, -2.0, 0.5])
STORE = gaussian(300, 5, 3)
TRUTH = reward(lambda obs: (obs * WEIGHTS).sum(-1), vectorised=True, backend="torch", name="truth")
LINEAR: dict[str, Any] = {"fields": ("obs",), "hidden": ()}
FAST = FitConfig(lr=0.05, epochs=20, batch=64)


def noisy(count: int = 1500, length: int = 3, **faults: Any) -> Preferences:
    return Oracle(TRUTH, **{"rationality": 1.0, **faults})(sample_pairs(STORE, count, length=length))


def slopes(fitted: Fitted) -> torch.Tensor:
    """The raw weights over the features as they are, [K, 3]."""
    model = fitted.reward
    raw = model.net.flat.detach()[:, :3]
    return raw / model.moments.scale.float()


def test_a_linear_truth_is_recovered_from_noisy_answers_with_its_scale() -> None:
    fitted = fit(noisy(), config=FAST, **LINEAR)
    assert pearson(fitted.reward(STORE).flatten(), TRUTH(STORE).flatten()).low > 0.95
    assert fitted.calibration is not None and fitted.calibration.error < 0.1
    fresh = calibration(fitted.reward, noisy(800, seed=7))
    assert fresh.error < 0.06 and fresh.accuracy.low > 0.7
    unlearnt = LearnedReward(StepFeatures.of(STORE, fields=("obs",)), hidden=(), seed=3)
    assert calibration(unlearnt, noisy(800, seed=7)).accuracy.high < fresh.accuracy.low


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("wrong, names", [
    ({"hidden": 4}, r"hidden: expected .* \(256, 256\), received 4"), ({"hidden": (4, 0)}, "hidden"),
    ({"device": "cudda"}, "device: expected a device of torch")])
def test_what_no_network_can_be_made_of_is_refused(wrong: dict[str, Any], names: str) -> None:
    with pytest.raises(BadInput, match=names):
        fit(noisy(40), **{**LINEAR, **wrong})


def test_a_fit_may_read_one_field() -> None:
    fitted = fit(noisy(40), fields="obs", hidden=(), config=FitConfig(epochs=1))
    assert fitted.reward.features.fields == ("obs",)


def test_the_fit_is_the_maximum_of_the_likelihood() -> None:
    pairs = noisy(400)
    x = torch.stack([pairs.fragments(s).obs.sum(1) for s in (0, 1)])  # type: ignore[union-attr]
    gap, w = (x[0] - x[1]).double(), torch.zeros(3, dtype=torch.float64)
    for _ in range(20):  # Newton's method on logistic regression
        p = torch.sigmoid(gap @ w)
        w -= torch.linalg.solve(gap.T @ (gap * (p * (1 - p))[:, None]), gap.T @ (p - pairs.label.double()))
    config = FitConfig(lr=0.1, epochs=200, batch=400, held_out=0.0)
    assert torch.allclose(slopes(fit(pairs, config=config, **LINEAR))[0].double(), w, atol=0.01)
    assert torch.allclose(w.float(), WEIGHTS, atol=0.5), "the noise of the answers fixes the scale"


def test_decay_gives_the_maximum_of_the_penalised_likelihood_to_each_network_its_own() -> None:
    pairs, decays = noisy(400), (0.0, 0.3)
    model = LearnedReward(StepFeatures.of(STORE, fields=("obs",)), hidden=(), members=2, normalise=False)
    trainer = BradleyTerry(model, BradleyTerryConfig(lr=0.1, batch=400, decay=decays))
    data = pair_data(model, pairs, over="sum")
    for _ in range(300):
        trainer.epoch(data, torch.arange(400).expand(2, -1))
    x = torch.stack([pairs.fragments(s).obs.sum(1) for s in (0, 1)])  # type: ignore[union-attr]
    gap = (x[0] - x[1]).double()
    for k, decay in enumerate(decays):
        w = torch.zeros(3, dtype=torch.float64)
        for _ in range(30):  # Newton's method on logistic regression with the penalty
            p = torch.sigmoid(gap @ w)
            slope = gap.T @ (p - pairs.label.double()) / 400 + decay * w
            w -= torch.linalg.solve(gap.T @ (gap * (p * (1 - p))[:, None]) / 400 + decay * torch.eye(3), slope)
        assert torch.allclose(model.net.flat.detach()[k, :3].double(), w, atol=0.01)
    assert float(model.net.flat.detach()[1].norm()) < 0.5 * float(model.net.flat.detach()[0].norm())


def test_answers_turned_round_teach_the_opposite() -> None:
    pairs = noisy(600, mistakes=1.0)
    assert pearson(fit(pairs, config=FAST, **LINEAR).reward(STORE).flatten(), TRUTH(STORE).flatten()).high < -0.9


def test_weights_are_like_repetitions() -> None:
    pairs = noisy(60)
    config = replace(FAST, held_out=0.0, batch=1000, epochs=15)
    twice = Preferences.cat([pairs, pairs[:30]])
    weighted = pairs.labelled(pairs.label, weight=[2.0] * 30 + [1.0] * 30)
    assert torch.allclose(slopes(fit(twice, config=config, **LINEAR)), slopes(fit(weighted, config=config, **LINEAR)),
                          atol=1e-4)
    assert not torch.allclose(slopes(fit(twice, config=config, **LINEAR)), slopes(fit(pairs, config=config, **LINEAR)),
                              atol=1e-3)


def test_undecided_pairs_count_but_do_not_teach() -> None:
    pairs = noisy(100)
    more = Preferences.cat([pairs, noisy(50).labelled([None] * 50)])
    config = replace(FAST, held_out=0.0, epochs=3)
    a, b = fit(pairs, config=config, **LINEAR), fit(more, config=config, **LINEAR)
    assert torch.equal(a.reward.net.flat, b.reward.net.flat) and b.counts["undecided"] == 50


def test_ties_pull_scores_together() -> None:
    pairs = Oracle(TRUTH, tie_within=4.0)(sample_pairs(STORE, 400, length=1))
    config = FitConfig(lr=0.05, epochs=40, batch=400, held_out=0.0, tie_width=0.5)
    found = {ties: slopes(fit(pairs, config=replace(config, ties=ties), **LINEAR)).norm()
             for ties in ("soft", "rao-kupper", "drop")}
    assert pairs.counts()["equal"] > 100
    assert found["soft"] < found["drop"] and found["rao-kupper"] < found["drop"]


def test_a_larger_alpha_of_a_level_makes_its_gaps_larger() -> None:
    factors = [Factor(name=f"z{i}", of=reward(lambda obs, i=i: obs[..., i].sign(), vectorised=True, backend="torch"),
                      sign=1) for i in (0, 1)]
    pairs = Hierarchy(factors)(sample_pairs(STORE, 400, length=1)).decided()
    turned = torch.rand(len(pairs), generator=Seeds(0).torch()) < 0.2  # so that a gap has a best size
    pairs = pairs.labelled(torch.where(turned, 1 - pairs.label, pairs.label), level=pairs.level)
    config = FitConfig(lr=0.05, epochs=100, batch=400, held_out=0.0)

    def top(alpha: tuple[float, ...]) -> float:
        return float(slopes(fit(pairs, config=replace(config, level_scale=alpha), **LINEAR))[0, 0])

    assert top((4.0, 1.0)) > 1.5 * top((1.0, 1.0))
    assert top((1.0, 4.0)) < 1.5 * top((1.0, 1.0))


def test_a_member_of_an_ensemble_is_what_it_would_be_with_fewer_beside_it() -> None:
    pairs, config = noisy(200), replace(FAST, epochs=3)
    three, two = (fit(pairs, config=config, members=m, hidden=(8,), fields=("obs",)) for m in (3, 2))
    assert torch.equal(three.reward.net.flat[:2], two.reward.net.flat)
    assert not torch.allclose(three.reward.net.flat[0], three.reward.net.flat[1])
    members = three.reward.score(STORE).members
    assert members is not None and float(members.std(0).mean()) > 0.01


def test_a_killed_fit_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    pairs = noisy(200)
    options: dict[str, Any] = {"config": replace(FAST, epochs=6), "members": 2, "hidden": (8,), "fields": ("obs",)}
    whole = fit(pairs, **options)
    fit(pairs, **{**options, "config": replace(FAST, epochs=2)}, out=tmp_path)
    resumed = fit(pairs, **options, out=tmp_path, resume=True)
    assert torch.equal(whole.reward.net.flat, resumed.reward.net.flat)
    assert torch.equal(whole.reward(STORE), resumed.reward(STORE)) and whole.loss == resumed.loss
    assert whole.calibration == resumed.calibration
    with pytest.raises(BadInput, match="out"):
        fit(pairs[:150], **options, out=tmp_path, resume=True)


def test_a_fit_does_not_go_on_with_other_evidence(tmp_path: Path) -> None:
    pairs = noisy(100)
    options: dict[str, Any] = {"config": replace(FAST, epochs=2), "out": tmp_path, **LINEAR}
    fit(pairs, **options)
    moved = replace(STORE, obs=STORE.obs + 1.0)  # type: ignore[operator]
    swapped = pairs.label.clone()
    a, b = int((swapped == 1).nonzero()[0]), int((swapped == 0).nonzero()[0])
    swapped[[a, b]] = swapped[[b, a]]
    for other in (pairs.labelled(swapped), replace(pairs, row=pairs.row.roll(1, 0)), replace(pairs, episodes=moved)):
        assert other.counts() == pairs.counts()
        with pytest.raises(BadInput, match="same preferences"):
            fit(other, **options, resume=True)
    fit(replace(pairs, episodes=replace(STORE)), **options, resume=True)


def of_groups(sizes: list[int], label: torch.Tensor | None = None, seed: int = 0) -> Preferences:
    """Answers about single steps, for groups of some sizes."""
    group = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    pairs = replace(sample_pairs(STORE, len(group), length=1, seed=seed), group=group)
    return Oracle(TRUTH)(pairs) if label is None else pairs.labelled(label)


def of_model(groups: int, hidden: tuple[int, ...] = ()) -> LearnedReward:
    return LearnedReward(StepFeatures(("obs",), (3,)), hidden=hidden, groups=range(groups), normalise=False)


def test_a_group_too_small_to_hold_a_pair_out_trains_to_the_end(tmp_path: Path) -> None:
    said, config = of_groups([200, 4]), FitConfig(lr=0.05, epochs=30, held_out=0.1, patience=2)
    fit(said, model=of_model(2), config=replace(config, epochs=10), out=tmp_path)
    fitted = fit(said, model=of_model(2), config=config, out=tmp_path, resume=True)
    assert fitted.best_epoch[1] == len(fitted.loss) == 30
    assert all(math.isnan(small) and big > 0 for big, small in fitted.held_out_loss)
    assert fitted.loss[-1][1] < 0.6 * fitted.loss[0][1], "it has gone on learning"
    assert fitted.calibration is not None and fitted.calibration.accuracy.n == 20
    whole = fit(said, model=of_model(2), config=config)
    assert torch.equal(whole.reward.net.flat, fitted.reward.net.flat)


def test_the_training_loss_of_a_small_group_is_that_of_its_pairs() -> None:
    config = FitConfig(lr=0.0, epochs=1, held_out=0.0, batch=32)
    beside = fit(of_groups([200, 4]), model=of_model(2), config=config)
    alone = of_groups([200, 4])[200:]
    loss = beside.reward.net.flat.detach()[1, :3] @ (alone.fragments(0).obs - alone.fragments(1).obs)[:, 0].T  # type: ignore[operator]
    at_once = torch.nn.functional.softplus(torch.where(alone.label > 0.5, -loss, loss))
    assert at_once.min() - 1e-5 <= beside.loss[0][1] <= at_once.max() + 1e-5
    nobody = fit(of_groups([20]), model=of_model(2), config=config)
    assert math.isnan(nobody.loss[0][1]), "a network without pairs has no loss"


def test_coins_cannot_be_foreseen() -> None:
    fits, each = 100, 200  # in one stack; 20 pairs of each choose its epoch and its temperature
    coins = (torch.rand(fits * each, generator=Seeds(2).torch()) < 0.5).float()
    model = of_model(fits, hidden=(16,))
    config = FitConfig(lr=3e-3, epochs=8, patience=3)
    fitted = fit(of_groups([each] * fits, coins), model=model, config=config)
    others = (torch.rand(fits * each, generator=Seeds(3).torch()) < 0.5).float()
    fresh = calibration(model, of_groups([each] * fits, others, seed=1))
    assert fitted.calibration is not None and fitted.calibration.accuracy.n == fits * 20
    reported = fitted.calibration.log_loss.mean
    assert reported > math.log(2) and reported == pytest.approx(fresh.log_loss.mean, abs=0.02)
    assert fitted.calibration.accuracy.low < 0.5 < fitted.calibration.accuracy.high


def test_held_out_pairs_that_choose_nothing_are_judged_by_the_reward_as_it_is() -> None:
    pairs = noisy(300)
    config = replace(FAST, epochs=5, patience=None, calibrate=False, over="mean")
    fitted = fit(pairs, config=config, **LINEAR)
    held = torch.randperm(300, generator=Seeds(0).child("held out", 0).torch())[:30].sort().values
    expected = calibration(fitted.reward, pairs[held], over="mean")
    assert fitted.calibration is not None
    assert fitted.calibration.log_loss.mean == pytest.approx(expected.log_loss.mean, abs=1e-5)
    assert fitted.calibration.accuracy == expected.accuracy
    lonely = fit(pairs[:10], config=replace(FAST, epochs=2), **LINEAR)
    assert lonely.calibration is None, "one held-out pair has no others to choose for it"
    assert len(lonely.held_out_loss) == 2


def test_dropped_ties_are_as_if_nobody_had_asked() -> None:
    alone = noisy(200)
    ties = noisy(150, seed=5).labelled(torch.full((150,), 0.5), tie=True)
    config = replace(FAST, ties="drop", held_out=0.2, decay=0.05)
    with_ties, without = (fit(p, config=config, **LINEAR) for p in (Preferences.cat([alone, ties]), alone))
    assert torch.equal(with_ties.reward.net.flat, without.reward.net.flat)
    assert with_ties.loss == without.loss and with_ties.held_out_loss == without.held_out_loss
    assert with_ties.calibration == without.calibration
    both = Preferences.cat([alone, ties])
    assert calibration(without.reward, both) == calibration(without.reward, alone), "as in the fit"
    assert calibration(without.reward, both, ties="soft").log_loss != calibration(without.reward, alone).log_loss


def test_a_fit_stops_early_and_keeps_its_best() -> None:
    pairs = Oracle(TRUTH, mistakes=0.3)(sample_pairs(STORE, 120, length=1))
    config = FitConfig(lr=0.03, epochs=60, held_out=0.3, patience=3)
    fitted = fit(pairs, config=config, fields=("obs",), hidden=(32,))
    losses = [line[0] for line in fitted.held_out_loss]
    assert len(losses) < 60 and fitted.best_epoch == [losses.index(min(losses)) + 1]
    assert len(losses) == fitted.best_epoch[0] + 3


@pytest.mark.parametrize("standard", ["mean", "top", "scale", "none"])
def test_the_standard_of_the_outputs_is_what_it_says(standard: str) -> None:
    pairs = noisy(200, rationality=float("inf"))
    config = FitConfig(lr=0.05, epochs=10, held_out=0.0, standardise=standard)  # type: ignore[arg-type]
    fitted = fit(pairs, config=config, **LINEAR)
    data = pair_data(fitted.reward, pairs, over=None, learn_moments=False)
    seen = fitted.reward.net(data.steps(torch.arange(200).unsqueeze(0)))[0, :, 0].detach()
    out = (seen - fitted.reward.shift[0]) / fitted.reward.scale[0]
    if standard != "none":
        assert float(out.std()) == pytest.approx(1.0, abs=0.01)
    if standard in ("mean", "top"):
        assert float(out.mean() if standard == "mean" else out.max()) == pytest.approx(0.0, abs=1e-4)
    assert standard in ("mean", "top") or float(fitted.reward.shift) == 0.0


def test_a_population_learns_each_from_its_own_answers() -> None:
    group = torch.arange(300) % 2
    pairs = sample_pairs(STORE, 300, length=2, group=group)
    right, wrong = Oracle(TRUTH)(pairs), Oracle(TRUTH, mistakes=1.0)(pairs)
    said = pairs.labelled(torch.where(pairs.group == 0, right.label, wrong.label))
    model = LearnedReward(StepFeatures.of(STORE, fields=("obs",)), hidden=(), groups=(0, 1), learning=True)
    trainer = BradleyTerry(model, BradleyTerryConfig(lr=0.05, batch=64))
    data = pair_data(model, said, over="sum")
    trainer.updates(data, 100)
    trainer.standardise(data)
    for g, sign in ((0, 1), (1, -1)):
        value = model(STORE.replace(member=torch.full((300,), g)))
        assert sign * pearson(value.flatten(), TRUTH(STORE).flatten()).mean > 0.9


def test_weights_that_leave_the_numbers_are_seen_in_the_mean_loss() -> None:
    model = LearnedReward(StepFeatures.of(STORE, fields=("obs",)), hidden=(), groups=(0, 1))
    trainer, data = BradleyTerry(model, BradleyTerryConfig(lr=0.05)), pair_data(model, noisy(100), over="sum")
    stepped, steps = trainer._stepped, []

    def breaks(*args: Any, **kwargs: Any) -> Any:
        steps.append(1)
        if len(steps) == 3:
            model.net.flat.data[0] = torch.nan
        return stepped(*args, **kwargs)

    assert trainer.updates(data, 5).isnan().tolist() == [False, True]
    trainer._stepped = breaks  # pyright: ignore[reportAttributeAccessIssue]
    assert trainer.updates(data, 5).isnan().all() and len(steps) == 5


def test_a_trainer_changes_no_probabilities_before_it_fits() -> None:
    model = LearnedReward(StepFeatures.of(STORE, fields=("obs",)), hidden=())
    once = BradleyTerry(model, BradleyTerryConfig(ties="rao-kupper", tie_width=0.8))
    once.updates(pair_data(model, noisy(100), over="sum"), 1)
    BradleyTerry(model)
    assert model.tie_width == 0.8


def test_a_group_without_pairs_stands_still() -> None:
    pairs = noisy(100)
    model = LearnedReward(StepFeatures.of(STORE, fields=("obs",)), hidden=(), groups=(0, 1))
    before = model.net.flat.detach().clone()
    loss = BradleyTerry(model, BradleyTerryConfig(lr=0.05)).updates(pair_data(model, pairs, over="sum"), 3)
    assert loss.isnan().tolist() == [False, True], "no pairs give no loss, not one of 0"
    assert torch.equal(model.net.flat[1], before[1]) and not torch.equal(model.net.flat[0], before[0])


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"held_out": 1.0}, {"patience": 0}, {"batch": 0}, {"discount": 1.1},
                                   {"level_scale": (0.0,)}, {"noise": 1.0}, {"lr": -1.0},
                                   {"decay": -0.1}])
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        fit(noisy(20), config=FitConfig(**wrong), **LINEAR)


def test_a_misspelt_option_is_named_with_the_nearest_right_one() -> None:
    for kind in (FitConfig, PPOConfig, AlignConfig):
        with pytest.raises(BadInput, match=f"{kind.__name__}: expected options out of .*received epoch; did you mean"):
            kind(epoch=3)  # type: ignore[call-arg]
    assert replace(FitConfig(epochs=3), lr=0.1).epochs == copy.deepcopy(FitConfig(epochs=3)).epochs == 3
