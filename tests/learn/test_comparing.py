from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from numbered_stores import VALUE, gaussian, numbered

from plaudit.core.errors import BadInput
from plaudit.feedback.fragments import sample_pairs
from plaudit.feedback.oracles import Oracle
from plaudit.feedback.preferences import Preferences
from plaudit.learn.comparing import check_trainable, pair_data
from plaudit.learn.features import StepFeatures
from plaudit.learn.model import LearnedReward

STORE = gaussian(30, 4, 1)


def said(label: list[float | None], **options: Any) -> Preferences:
    return Preferences.of_pairs(STORE, row=[[0, 1]] * len(label), length=1, label=label, **options)


@pytest.mark.parametrize("pairs, names", [
    (said([None] * 5), "5 pairs, all undecided"), (said([]), "0 pairs, all undecided"),
    (said([0.5] * 3, tie=True), "all called equal"), (said([1.0] * 8), "all prefer the first"),
    (said([0.0, 0.1] * 8), "all prefer the second"), (said([1.0, 0.0], weight=0.0), "weight"),
    (Preferences.of_pairs(STORE, row=[[0, 1], [0, 1]], length=[[1, 2], [2, 1]], label=[1.0, 0.0]), "sum or mean")])
def test_what_can_teach_nothing_is_refused_before_any_work(pairs: Preferences, names: str) -> None:
    with pytest.raises(BadInput, match=names):
        check_trainable(pairs, over=None)


def test_what_is_stored_as_chosen_and_rejected_may_say_so() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_trainable(said([1.0] * 8), over=None, one_sided=True)
        check_trainable(said([1.0] * 7), over=None, one_sided=True)
        check_trainable(said([1.0, 0.0, None]), over=None)


@pytest.mark.parametrize("pairs, names", [
    (said([1.0]), "all 1 strict answers prefer the first"), (said([0.2] * 3), "1 time in 4"),
    (said([1.0] * 7), "1 time in 64"),
    (said([1.0] * 7 + [0.5] * 33, tie=[False] * 7 + [True] * 33), "all 7 strict answers prefer the first")])
def test_a_few_answers_that_agree_may_be_chance_and_say_so(pairs: Preferences, names: str) -> None:
    with pytest.warns(UserWarning, match=names):
        check_trainable(pairs, over=None)


def test_what_has_no_weight_is_no_evidence() -> None:
    only_ties = said([1.0, 0.0] + [0.5] * 3, tie=[False, False, True, True, True], weight=[0.0, 0.0, 1.0, 1.0, 1.0])
    with pytest.raises(BadInput, match="3 pairs, all called equal, and 2 of weight 0"):
        check_trainable(only_ties, over=None)
    with pytest.raises(BadInput, match="all prefer the first"):
        check_trainable(said([1.0] * 8 + [0.0], weight=[1.0] * 8 + [0.0]), over=None)


def test_ties_that_are_dropped_leave_nothing_of_them() -> None:
    tie = [False, True, False, True]
    pairs = said([1.0, 0.5, 0.0, 1.0], tie=tie)
    model = LearnedReward(StepFeatures.of(STORE, fields=("obs",)), hidden=())
    assert pair_data(model, pairs, over=None, ties="drop").label.tolist() == [1.0, 0.0]
    assert len(pair_data(model, pairs, over=None)) == 4
    with pytest.raises(BadInput, match="none that is no tie"):
        pair_data(model, pairs[[1, 3]], over=None, ties="drop")


def test_weights_of_steps_are_those_of_a_sum_a_mean_and_a_discount() -> None:
    store = numbered([4, 4])
    pairs = Preferences.of_pairs(store, row=[[0, 1], [0, 1]], length=[[2, 3], [1, 1]], label=[1.0, None])
    model = LearnedReward(StepFeatures.of(store, fields=("obs",)), hidden=())
    weights = [pair_data(model, pairs, over=over, discount=d).weight_N2L for over, d in (  # type: ignore[arg-type]
        ("sum", 1.0), ("mean", 1.0), ("sum", 0.5))]
    assert [w.tolist() for w in weights] == [
        [[[1, 1, 0], [1, 1, 1]]], [[[0.5, 0.5, 0], pytest.approx([1 / 3] * 3)]], [[[1, 0.5, 0], [1, 0.5, 0.25]]]]


def test_an_action_that_is_none_of_the_choices_is_named() -> None:
    store = gaussian(3, 2, 1).replace(action=torch.tensor([[0, 1], [1, 0], [0, 0]]))
    model = LearnedReward(StepFeatures.of(store, choices={"action": 2}), hidden=())
    other = store.replace(action=store.action + 1)
    pairs = Preferences.of_pairs(other, row=[[0, 1]], label=[1.0])
    with pytest.raises(BadInput, match="action is no integer from 0 to 1 at 2 steps, first in row 0 at step 1"):
        pair_data(model, pairs, over=None)


def test_an_observation_that_is_not_finite_is_named() -> None:
    store = gaussian(5, 3, 1)
    store.obs[2, 1] = torch.nan  # type: ignore[index]
    pairs = Preferences.of_pairs(store, row=[[0, 1]], length=1, label=[1.0])
    with pytest.raises(BadInput, match="row 2"):
        pair_data(LearnedReward(StepFeatures.of(store), hidden=()), pairs, over=None)


@pytest.mark.parametrize("group", [[0] * 15 + [1] * 15, [0, 1] * 15])
def test_each_group_has_moments_of_its_own(group: list[int]) -> None:
    owner = torch.tensor(group)
    store = gaussian(30, 4, 1)
    store = store.replace(obs=store.obs + 50.0 * owner[:, None, None])  # type: ignore[operator]
    pairs = Oracle(VALUE)(sample_pairs(store, 60, length=2, group=owner))
    model = LearnedReward(StepFeatures.of(store, fields=("obs",)), hidden=(), groups=(0, 1))
    data = pair_data(model, pairs, over="sum")
    for g in (0, 1):
        steps = data.steps(data.rows[g].unsqueeze(0))
        assert abs(float(steps.mean())) < 0.5 and float(steps.std()) == pytest.approx(1.0, abs=0.3)
        here = pairs[pairs.group == g]
        wanted = model.moments.member(g).normalise(here.fragments(0).obs.reshape(1, -1, 1))  # type: ignore[union-attr]
        assert torch.allclose(steps.view(-1, 2, 2)[:, 0].reshape(-1), wanted.reshape(-1), atol=1e-5)
