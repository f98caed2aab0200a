"""Heads on planted utilities: linear ones, interactions, noise; and the broken variant that is not regularised."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.learn.text.feature_heads import FeatureHead, HeadOptions, PairTable, fit_head, fixed_head

LINEAR = HeadOptions(hidden=(), decays=(0.0,), steps=120, lr=0.1, folds=2, early=False)
FAST = HeadOptions(steps=150, folds=3, decays=(1e-3, 1e-2))
WEIGHT = torch.tensor([1.5, -1.0, 0.0])


def utility(x: torch.Tensor, interaction: float = 0.0) -> torch.Tensor:
    return x[..., :3] @ WEIGHT + interaction * x[..., 0] * x[..., 1]


def pairs(n: int, seed: int, *, noise: float = 1.0, columns: int = 3, interaction: float = 0.0) -> PairTable:
    """Options of standard normal columns; a logistic annotator."""
    rng = Seeds(seed).child("pairs").torch()
    x = torch.randn(n, 2, columns, generator=rng)
    gap = utility(x, interaction)[:, 0] - utility(x, interaction)[:, 1]
    u = torch.rand(n, generator=rng).clamp(1e-6, 1 - 1e-6)
    return PairTable.of(x, (gap + noise * (u / (1 - u)).log() > 0).float(), range(n))


def accuracy(head: FeatureHead, *, interaction: float = 0.0, columns: int = 3) -> float:
    x = torch.randn(4000, 2, columns, generator=Seeds(99).torch())
    value, true = head(x.flatten(0, 1)).view(-1, 2), utility(x, interaction)
    return float(((value[:, 0] > value[:, 1]) == (true[:, 0] > true[:, 1])).float().mean())


def weights(head: FeatureHead) -> torch.Tensor:
    return head.net.flat.detach()[:, :-1].mean(0)


def test_a_linear_head_recovers_the_planted_weights_with_their_scale() -> None:
    assert torch.allclose(weights(fit_head(pairs(3000, 0), options=LINEAR)), WEIGHT, atol=0.15)


def test_a_perceptron_finds_the_interaction_that_a_linear_head_cannot() -> None:
    table = pairs(1500, 1, interaction=3.0)
    deep, flat = fit_head(table, options=FAST), fit_head(table, options=replace(FAST, hidden=()))
    assert accuracy(deep, interaction=3.0) > accuracy(flat, interaction=3.0) + 0.1


def test_with_few_pairs_the_default_keeps_what_an_unregularised_perceptron_throws_away() -> None:
    broken = replace(FAST, decays=(0.0,), early=False, steps=300, start=1.0)
    table = pairs(250, 0, columns=8, noise=2.0)
    kept, thrown = (accuracy(fit_head(table, options=how), columns=8) for how in (FAST, broken))
    assert kept > thrown + 0.04


def test_more_noise_gets_more_decay() -> None:
    how = replace(FAST, hidden=(), decays=(1e-4, 3.0), early=False)
    assert fit_head(pairs(200, 2, columns=12), options=how).decay == 1e-4
    assert fit_head(pairs(60, 2, columns=12, noise=60.0), options=how).decay == 3.0


def test_weights_count_like_repetitions_and_labels_turned_round_teach_the_opposite() -> None:
    table = pairs(300, 3)
    noisy = replace(table, label_N=torch.where(torch.arange(300) < 150, 1 - table.label_N, table.label_N),
                    weight_N=(torch.arange(300) >= 150).float())
    found, alone = fit_head(noisy, options=LINEAR), fit_head(table[slice(150, None)], options=LINEAR)
    assert torch.allclose(weights(found), weights(alone), atol=0.35) and accuracy(found) > 0.85
    turned = replace(table, label_N=1 - table.label_N)
    assert accuracy(fit_head(turned, options=LINEAR)) < 0.2


def test_ties_pull_scores_together_or_are_left_out() -> None:
    table = pairs(400, 4)
    tie = torch.arange(400) % 2 == 0
    tied = replace(table, tie_N=tie, label_N=torch.where(tie, 0.5, table.label_N))
    soft, dropped = (float(weights(fit_head(tied, options=replace(LINEAR, ties=t))).norm()) for t in ("soft", "drop"))
    assert soft < 0.7 * dropped
    rao = weights(fit_head(tied, options=replace(LINEAR, ties="rao-kupper")))
    assert float(torch.cosine_similarity(rao, WEIGHT, 0)) > 0.95


def test_dropped_ties_weigh_nothing_beside_the_decay() -> None:
    table, tie = pairs(400, 4), torch.arange(400) % 2 == 0
    tied = replace(table, tie_N=tie, label_N=torch.where(tie, 0.5, table.label_N))
    how = replace(LINEAR, decays=(0.1,), steps=40)
    dropped = fit_head(tied, options=replace(how, ties="drop"))
    without = fit_head(replace(tied, weight_N=(~tie).float()), options=how)
    assert torch.equal(weights(dropped), weights(without))
    only_ties = replace(tied, weight_N=tie.float())
    with pytest.raises(BadInput, match="all called equal or of weight 0"):
        fit_head(only_ties, options=how)


def test_margins_push_further_apart() -> None:
    table = pairs(400, 5)
    wide = fit_head(replace(table, margin_N=torch.full((400,), 2.0)), options=LINEAR)
    assert float(weights(wide).norm()) > 1.2 * float(weights(fit_head(table, options=LINEAR)).norm())


def test_attributions_add_up_to_the_value_above_the_mean() -> None:
    x = torch.randn(50, 3, generator=Seeds(6).torch())
    head = fit_head(pairs(300, 6, interaction=1.0), options=FAST).standardise(x)
    assert torch.allclose(head.attributions(x).sum(1), head(x) - head(torch.zeros(1, 3)), atol=1e-4)
    fixed = fixed_head(WEIGHT)
    assert torch.allclose(fixed.attributions(x), x * WEIGHT, atol=1e-6), "of a linear head, weight times column"
    assert torch.allclose(head(x).std(correction=0), torch.ones(()), atol=1e-4)


def test_interactions_are_shared_by_those_who_interact() -> None:
    """x0 x1 alone: by symmetry each of the two gets half, and the third nothing."""
    table = pairs(3000, 7, noise=0.3, interaction=4.0)
    x = torch.tensor([[1.2, 1.2, 1.2], [-1.2, 1.2, 0.0]])
    part = fit_head(replace(table, x_N2C=table.x_N2C), options=replace(FAST, hidden=(24,))).attributions(x)
    assert float(part[:, 2].abs().max()) < 0.25 * float(part[:, :2].sum(1).abs().max())


def test_a_member_says_something_of_the_prompts_that_it_did_not_see() -> None:
    table = pairs(200, 8)
    table = replace(table, family=tuple(i // 4 for i in range(200)))
    head = fit_head(table, options=replace(FAST, repeats=2))
    assert head.H == 6 and head.seen_gap_N is not None and not head.seen_gap_N.isnan().any()
    right = ((head.seen_gap_N > 0) == (table.label_N > 0.5)).float().mean()
    assert 0.6 < float(right) < 0.95


def test_the_same_seed_gives_the_same_bits() -> None:
    one, two, other = (fit_head(pairs(40, 9), options=replace(FAST, steps=20), seed=s).net.flat for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)


@pytest.mark.parametrize(("change", "said"), [
    ({"weight_N": torch.zeros(20)}, "only weights of 0"), ({"label_N": torch.full((20,), 0.5)}, "all called equal"),
    ({"family": (0,) * 20}, "at least 2 prompts"), ({"x_N2C": torch.full((20, 2, 3), torch.nan)}, "finite")])
def test_pairs_that_teach_nothing_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        fit_head(replace(pairs(20, 0), **change), options=FAST)


@pytest.mark.parametrize("wrong", [{"folds": 1}, {"decays": ()}, {"decays": (-1.0,)}, {"hidden": (0,)}, {"lr": 0.0},
                                   {"steps": 0}])
def test_options_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        fit_head(pairs(20, 0), options=HeadOptions(**wrong))
