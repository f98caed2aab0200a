from __future__ import annotations

import pytest
import torch
from numbered_stores import gaussian

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.learn.features import StepFeatures
from plaudit.learn.model import LearnedReward


def test_fields_stand_side_by_side_in_their_order() -> None:
    store = gaussian(2, 3, 2)
    store = store.replace(obs={"a": store.obs, "b": torch.ones(2, 3)}, next_obs={"a": store.obs, "b": torch.ones(2, 3)},
                          action=torch.tensor([[0, 1, 2], [2, 1, 0]]), info={"z": torch.full((2, 3), 7)})
    read = StepFeatures.of(store, fields=("info:z", "action", "obs"), choices={"action": 3})
    assert read.sizes == (1, 3, 3)
    assert read(store)[1, 0].tolist() == pytest.approx([7, 0, 0, 1, *store.obs["a"][1, 0].tolist(), 1.0])
    assert StepFeatures.from_spec(read.spec()) == read


def test_what_is_not_there_or_has_another_size_is_refused() -> None:
    store = gaussian(2, 3, 2)
    with pytest.raises(BadInput, match="info:z"):
        StepFeatures.of(store, fields=("obs", "info:z"))
    with pytest.raises(BadInput, match="env_reward"):
        StepFeatures.of(store, fields=("env_reward",))
    with pytest.raises(BadInput, match="2 numbers"):
        StepFeatures.of(store)(gaussian(2, 3, 5))
    with pytest.raises(BadInput, match="fields"):
        StepFeatures.of(store, fields=())


def of_actions(*actions: int) -> Episodes:
    """One episode with these actions; its last step is padding."""
    store = gaussian(1, len(actions), 2)
    mask = torch.arange(len(actions)).unsqueeze(0) < len(actions) - 1
    return store.replace(action=torch.tensor([actions]), mask=mask)


@pytest.mark.parametrize("choices, names", [
    ({"acton": 3}, "received acton"), ({"action": 2}, "no integer from 0 to 1 at 1 steps, first in row 0 at step 2"),
    ({"action": 0}, "count >= 1"), ({"obs": 3}, "one integer a step")])
def test_choices_that_do_not_fit_are_refused(choices: dict[str, int], names: str) -> None:
    with pytest.raises(BadInput, match=names):
        StepFeatures.of(of_actions(0, 1, 2, 0), choices=choices)


def test_choices_count_from_zero_and_padding_is_none() -> None:
    read = StepFeatures.of(of_actions(0, 1, 2, 7), choices={"action": 3})
    assert bool(torch.isfinite(read(of_actions(0, 1, 2, -1))).all())
    with pytest.raises(BadInput, match="no integer from 0 to 2 at 1 steps, first in row 0 at step 0"):
        StepFeatures.of(of_actions(-1, 1, 2, 0), choices={"action": 3})


def test_an_action_that_is_none_of_the_choices_is_unknown_when_it_is_scored() -> None:
    model = LearnedReward(StepFeatures.of(of_actions(0, 1, 2, 0), choices={"action": 3}), hidden=(4,), members=2)
    score = model.score(of_actions(3, 1, -1, 0))
    assert score.known.tolist() == [[False, True, False, True]]
    assert score.counts() == {"action is no integer from 0 to 2": 2}


def test_a_string_is_one_field() -> None:
    assert StepFeatures.of(gaussian(2, 3, 2), fields="next_obs").fields == ("next_obs",)
