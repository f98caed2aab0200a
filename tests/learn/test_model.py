from __future__ import annotations

from pathlib import Path

import pytest
import torch
from numbered_stores import gaussian

import plaudit
from plaudit.core.errors import BadInput
from plaudit.learn.features import StepFeatures
from plaudit.learn.model import LearnedReward

STORE = gaussian(6, 4, 2)
READ = StepFeatures.of(STORE)


def test_an_ensemble_enters_the_algebra_with_its_members() -> None:
    model = LearnedReward(READ, hidden=(8,), members=4)
    score = model.score(STORE)
    assert score.members is not None and score.members.shape == (4, 6, 4)
    assert torch.allclose(score.value, score.members.mean(0), atol=1e-6)
    careful = plaudit.mean(model) - plaudit.std(model)
    assert torch.allclose(careful(STORE), score.value - score.std, atol=1e-5)
    assert LearnedReward(READ, hidden=(8,)).score(STORE).members is None


def test_a_network_does_not_depend_on_its_neighbours() -> None:
    together, alone = (LearnedReward(READ, hidden=(8,), members=2, groups=g, learning=True) for g in ((3, 5), (5,)))
    rows = STORE.replace(member=torch.tensor([5] * 6))
    assert torch.equal(together.score(rows).value, alone.score(rows).value)


@pytest.mark.parametrize("member", [[3, 3, 3, 5, 5, 5], [5, 3, 5, 5, 3, 5], [5] * 6])
def test_every_row_is_scored_by_its_own_group(member: list[int]) -> None:
    model = LearnedReward(READ, hidden=(8,), members=2, groups=(3, 5))
    model.shift.copy_(torch.tensor([[0.0], [1.0], [2.0], [3.0]]))
    whole = model.score(STORE.replace(member=torch.tensor(member)))
    for b, m in enumerate(member):
        one = model.score(STORE[b].replace(member=torch.tensor([m])))
        assert one.members is not None and whole.members is not None
        assert torch.allclose(one.members[:, 0], whole.members[:, b], atol=1e-6)


def test_rows_without_a_group_are_unknown_with_the_reason() -> None:
    model = LearnedReward(READ, hidden=(8,), groups=(3, 5))
    assert "whose row it is" in " ".join(model.score(STORE).why)
    assert "received [9]" in " ".join(model.score(STORE[0].replace(member=torch.tensor([9]))).why)


def test_a_saved_reward_is_the_same_reward(tmp_path: Path) -> None:
    model = LearnedReward(READ, hidden=(8, 8), members=3, activation="tanh", seed=4)
    model.moments.update(READ(STORE).reshape(1, -1, READ.size))
    model.scale.fill_(2.5)
    plaudit.save_reward(plaudit.mean(model) - 0.5 * plaudit.std(model), tmp_path / "kept")
    loaded = plaudit.load_reward(tmp_path / "kept")
    assert torch.equal(loaded(STORE), (plaudit.mean(model) - 0.5 * plaudit.std(model))(STORE))


def test_a_reward_that_learns_says_so_and_a_frozen_one_does_not() -> None:
    model = LearnedReward(READ, learning=True)
    assert model.needs.state == "learns" and model.frozen().needs.state == "none"
    assert model.needs.fields == {"obs", "action"}


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(BadInput):
        LearnedReward(READ, members=0)
    with pytest.raises(BadInput):
        LearnedReward(READ, groups=(1, 1))
    with pytest.raises(BadInput, match="shape"):
        LearnedReward(READ, hidden=(8,)).load_state_dict(LearnedReward(READ, hidden=(9,)).state_dict())
