from __future__ import annotations

import math

import pytest
import torch
from numbered_stores import VALUE, gaussian, numbered

from plaudit.core.algebra import Constant
from plaudit.core.errors import BadInput
from plaudit.core.functions import reward
from plaudit.feedback.fragments import sample_pairs
from plaudit.feedback.oracles import Oracle
from plaudit.feedback.preferences import Preferences

STORE = gaussian(40, 6, 1)


def test_a_rational_oracle_never_errs() -> None:
    pairs = Oracle(VALUE)(sample_pairs(STORE, 200, length=3))
    gap = pairs.fragments(0).obs.sum((1, 2)) - pairs.fragments(1).obs.sum((1, 2))  # type: ignore[union-attr]
    assert torch.equal(pairs.first_is_better, gap > 0) and bool(pairs.known.all())


def test_the_noise_is_the_one_that_was_asked_for() -> None:
    pairs = sample_pairs(STORE, 4000, length=1)
    gap = pairs.fragments(0).obs[:, 0, 0] - pairs.fragments(1).obs[:, 0, 0]  # type: ignore[index]
    chance = 0.9 * torch.sigmoid(2 * gap) + 0.1 * torch.sigmoid(-2 * gap)
    oracle = Oracle(VALUE, rationality=2.0, mistakes=0.1)
    drawn = oracle(pairs).label
    assert float((drawn - chance).mean()) == pytest.approx(0.0, abs=3 * 0.5 / math.sqrt(4000))
    sure = gap > 1
    assert float(drawn[sure].mean()) == pytest.approx(float(chance[sure].mean()), abs=0.04)
    assert not torch.equal(drawn, oracle(pairs).label), "asked again, it draws again"
    soft = Oracle(VALUE, rationality=2.0, mistakes=0.1, soft=True)(pairs)
    assert torch.allclose(soft.label, chance, atol=1e-6)


def test_equal_pairs_are_ties_and_low_ones_are_skipped() -> None:
    store = numbered([3, 3])
    pairs = Preferences.of_pairs(store, row=[[0, 0], [0, 0], [0, 1]], start=[[0, 0], [0, 1], [0, 0]], length=1)
    said = Oracle(VALUE, tie_within=1.0, skip_below=1.0)(pairs)
    assert said.counts() == {"first": 0, "second": 1, "equal": 1, "undecided": 1}
    assert said.tie.tolist() == [False, True, False]
    assert said.known.tolist() == [False, True, True], "nothing in the first pair reaches 1"


def test_a_myopic_oracle_forgets_what_came_first() -> None:
    store = numbered([2, 2])
    store.obs[0, :, 0], store.obs[1, :, 0] = torch.tensor([5.0, 0.0]), torch.tensor([0.0, 3.0])  # type: ignore[index]
    pair = Preferences.of_pairs(store, row=[[0, 1]])
    assert Oracle(VALUE)(pair).label.tolist() == [1.0]
    assert Oracle(VALUE, myopia=0.5)(pair).label.tolist() == [0.0], "5 / 2 < 3"


def test_different_lengths_need_a_word_and_the_word_decides() -> None:
    store = numbered([6, 6])
    store.obs[0] = 1.0  # type: ignore[index]
    store.obs[1] = 2.0  # type: ignore[index]
    pair = Preferences.of_pairs(store, row=[[0, 1]], length=[[6, 2]])
    with pytest.raises(BadInput, match="sum or mean"):
        Oracle(VALUE)(pair)
    assert Oracle(VALUE, over="sum")(pair).label.tolist() == [1.0]
    assert Oracle(VALUE, over="mean")(pair).label.tolist() == [0.0]


def test_what_the_truth_does_not_know_stays_undecided() -> None:
    unknown = reward(lambda obs: torch.where(obs[..., 0] > 0, obs[..., 0], torch.nan), vectorised=True,
                     backend="torch")
    pairs = Oracle(unknown)(sample_pairs(STORE, 50, length=1))
    low = torch.minimum(pairs.fragments(0).obs[:, 0, 0], pairs.fragments(1).obs[:, 0, 0])  # type: ignore[index]
    assert torch.equal(pairs.known, low > 0)


def test_an_oracle_goes_on_where_it_stopped() -> None:
    pairs = sample_pairs(STORE, 50, length=1)
    one, two = Oracle(VALUE, rationality=0.5), Oracle(VALUE, rationality=0.5)
    one(pairs)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(pairs).label, two(pairs).label)


@pytest.mark.parametrize("wrong", [{"rationality": -1.0}, {"mistakes": 1.5}, {"myopia": -0.1}])
def test_impossible_faults_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        Oracle(Constant(1.0), **wrong)  # type: ignore[arg-type]


def test_a_plain_function_is_read_as_a_reward() -> None:
    pairs = sample_pairs(STORE, 50, length=3)
    asked = Oracle(lambda obs: obs[..., 0])(pairs)
    assert torch.equal(asked.label, Oracle(reward(lambda obs: obs[..., 0]))(pairs).label)
