from __future__ import annotations

import pytest
import torch
from numbered_stores import gaussian

from plaudit.core.errors import BadInput
from plaudit.learn.features import StepFeatures


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
