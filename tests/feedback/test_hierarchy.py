from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numbered_stores import gaussian, numbered

from plaudit.core.algebra import Constant
from plaudit.core.errors import BadInput
from plaudit.core.functions import reward
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.feedback.fragments import all_pairs, sample_pairs
from plaudit.feedback.hierarchy import Factor, Hierarchy, decide, intransitive_share
from plaudit.feedback.preferences import Preferences

STORE = gaussian(60, 4, 3)


def column(i: int, unit: float = 1.0) -> Reward:
    return reward(lambda obs: obs[..., i].double() * unit, vectorised=True, backend="torch", name=f"z{i}")


def ranked(margins: tuple[float, ...] = (0.0, 0.0, 0.0), units: tuple[float, ...] = (1, 1, 1),
           **options: Any) -> Hierarchy:
    return Hierarchy([Factor(name=f"z{i}", of=column(i, u), sign=(-1) ** i, margin=m)
                      for i, (m, u) in enumerate(zip(margins, units, strict=True))], **options)


def by_hand(z: list[float], other: list[float], margin: list[float]) -> tuple[float | None, int]:
    """The tree as a loop, from the card."""
    for level, (a, b, m) in enumerate(zip(z, other, margin, strict=True)):
        if math.isnan(a - b):
            return None, -1
        if a - b > m:
            return 1.0, level
        if a - b < -m:
            return 0.0, level
    return None, -1


values = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, float("nan")]), min_size=3, max_size=3)


@given(values, values, st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=3, max_size=3))
def test_the_tree_is_the_loop(z: list[float], other: list[float], margin: list[float]) -> None:
    label, level = decide(torch.tensor([z]), torch.tensor([other]), torch.tensor(margin))
    found = None if math.isnan(label.item()) else label.item()
    assert (found, level.item()) == by_hand(z, other, margin)


def test_margins_are_multiples_of_the_spread_of_the_group() -> None:
    pairs = sample_pairs(STORE, 300, length=2, group=torch.arange(60) % 2)
    z = torch.stack([ranked().values(pairs.fragments(s)) for s in (0, 1)], 1)
    found = ranked((0.5, 0.0, 2.0)).margins(z, pairs.group)
    for g in (0, 1):
        own = z[pairs.group == g].flatten(0, 1)
        assert torch.allclose(found[pairs.group == g][0], torch.tensor([0.5, 0.0, 2.0]) * own.std(0, correction=0))


@pytest.mark.parametrize("margins", [(0.0, 0.0, 0.0), (0.5, 1.0, 0.1)])
def test_units_do_not_matter_to_a_ranking_but_to_weights(margins: tuple[float, ...]) -> None:
    pairs = sample_pairs(STORE, 500, length=3)
    plain, other = ranked(margins)(pairs), ranked(margins, (1.0, 1000.0, 0.001))(pairs)
    assert torch.equal(plain.label.nan_to_num(-1), other.label.nan_to_num(-1))
    assert torch.equal(plain.level, other.level)

    def weighted(units: tuple[float, ...]) -> torch.Tensor:
        z = [ranked(margins, units).values(pairs.fragments(s)).sum(1) for s in (0, 1)]
        return z[0] > z[1]

    assert bool((weighted((1, 1, 1)) != weighted((1, 1000, 0.001))).any()), "a sum of factors is not invariant"


def test_the_ranking_is_a_permutation_and_decides() -> None:
    pairs = sample_pairs(STORE, 400, length=1)
    said, reversed_ = ranked()(pairs), ranked(ranking=[2, 1, 0])(pairs)
    z = [column(2)(pairs.fragments(s))[:, 0] for s in (0, 1)]
    assert torch.equal(reversed_.first_is_better, z[0] > z[1]), "z2 rules now"
    assert bool((said.label != reversed_.label).any())
    for wrong in ([0, 1], [0, 0, 1], [1, 2, 3]):
        with pytest.raises(BadInput, match="permutation"):
            ranked(ranking=wrong)


def test_a_binary_top_factor_leaves_the_rest_to_the_next_until_it_is_seen() -> None:
    store = numbered([4, 4])
    top = Factor(name="goal", of=reward(lambda obs: (obs[..., 0] >= 103).float(), vectorised=True,
                                       backend="torch"), sign=1)
    low = Factor(name="steps", of=column(0), sign=-1)
    pairs = Preferences.of_pairs(store, row=[[0, 0], [0, 1]], start=[[0, 1], [0, 3]], length=1)
    said = Hierarchy([top, low])(pairs)
    assert said.level.tolist() == [1, 0] and said.label.tolist() == [1.0, 0.0]


def test_a_constant_factor_never_decides_and_an_unknown_one_hides_what_lies_below() -> None:
    pairs = sample_pairs(STORE, 50, length=1)
    constant = Factor(name="c", of=Constant(3.0), sign=1, margin=1.0)
    assert Hierarchy([constant, Factor(name="z", of=column(0), sign=1)])(pairs).levels() == {1: 50}
    missing = reward(lambda obs: torch.where(obs[..., 1] > 0, 1.0, torch.nan), vectorised=True, backend="torch")
    said = Hierarchy([Factor(name="m", of=missing, sign=1), Factor(name="z", of=column(0), sign=1)])(pairs)
    seen = torch.minimum(*(pairs.fragments(s).obs[:, 0, 1] for s in (0, 1))) > 0  # type: ignore[index]
    assert torch.equal(said.known, seen)


def test_gaps_become_the_margins_of_the_loss() -> None:
    factors = [Factor(name="a", of=column(0), sign=1, margin=1.0, gap=3.0),
               Factor(name="b", of=column(1), sign=1, gap=1.0)]
    said = Hierarchy(factors)(sample_pairs(STORE, 50, length=1))
    assert torch.equal(said.margin, torch.where(said.level == 0, 3.0, 1.0))


def test_margins_make_cycles_and_a_strict_tree_makes_none() -> None:
    rows = list(range(30))

    def share(margins: tuple[float, ...]) -> float:
        pairs = all_pairs(STORE, row=rows, length=1)
        said, over = ranked(margins)(pairs), torch.zeros(30, 30, dtype=torch.bool)
        for (i, j), known, first in zip(pairs.row.tolist(), said.known.tolist(), said.first_is_better.tolist(),
                                        strict=True):
            over[i, j], over[j, i] = known and first, known and not first
        return intransitive_share(over)

    assert share((0.0, 0.0, 0.0)) == 0.0
    assert 0.0 < share((1.0, 0.0, 0.0)) < 0.25


def test_cycles_are_counted_as_by_hand() -> None:
    over = torch.rand(7, 7, generator=Seeds(0).torch()) < 0.5
    over = torch.triu(over, 1) | torch.tril(~over.T, -1)
    cycles = sum(bool((over[i, j] and over[j, k] and over[k, i]) or (over[j, i] and over[k, j] and over[i, k]))
                 for i, j, k in itertools.combinations(range(7), 3))
    assert intransitive_share(over) == pytest.approx(cycles / 35)


@pytest.mark.parametrize("wrong", [{"sign": 0}, {"sign": 1, "margin": -1.0}, {"sign": 1, "gap": -1.0}])
def test_a_factor_that_does_not_say_what_it_means_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="factor x"):
        Factor(name="x", of=Constant(1.0), **wrong)
    with pytest.raises(TypeError, match="sign"):
        Factor(name="x", of=Constant(1.0))  # type: ignore[call-arg]


def test_a_hierarchy_needs_factors_with_different_names() -> None:
    with pytest.raises(BadInput, match="factors"):
        Hierarchy([])
    with pytest.raises(BadInput, match="different names"):
        Hierarchy([Factor(name="x", of=Constant(1.0), sign=1)] * 2)
