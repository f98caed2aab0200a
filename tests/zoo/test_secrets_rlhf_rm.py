from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.learn.text.denoising import Denoise
from plaudit.learn.text.strengths import Strengths
from plaudit.zoo import secrets_rlhf_meta as meta
from plaudit.zoo import secrets_rlhf_noise as noise
from plaudit.zoo import secrets_rlhf_rm as zoo
from plaudit.zoo.contract import load_result
from plaudit.zoo.lab import run_system
from plaudit.zoo.secrets_rlhf_world import Pairs, World, labels, people, pool

SMOKE = zoo.SYSTEM.scales["smoke"]


@pytest.fixture(scope="module")
def world() -> World:
    return World.make(SMOKE, Seeds(0))


@pytest.mark.slow  # both parts, all arms: 5 s
def test_smoke_runs_and_writes_its_result(tmp_path: Path) -> None:
    result = run_system(zoo.SYSTEM, scale="smoke", seeds=1, out=tmp_path)
    assert load_result(tmp_path / "secrets-rlhf-rm.json").verdict == result.verdict
    assert len(result.criteria) == 16
    assert {a.name for a in result.arms} >= {*noise.settings(SMOKE), "MetaRM", "MetaRM: descent"}
    assert (tmp_path / "secrets-rlhf-rm.png").stat().st_size > 10_000


# --- the noise audit ------------------------------------------------------------------------------------


def test_all_arms_have_six_settings() -> None:
    assert {len(some) for some in noise.settings(SMOKE).values()} == {6}
    assert {len(some) for some in meta.ways(SMOKE).values()} == {6} and tuple(meta.ways(SMOKE)) == meta.ARMS
    with pytest.raises(BadInput, match="six and three numbers"):
        replace(SMOKE, etas=(1.0,))
    with pytest.raises(BadInput, match=r"0\.3 among them"):
        replace(SMOKE, flips=0.3)


def test_labels_are_turned_round_as_often_as_asked_and_the_same_ones_first() -> None:
    gap = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    few, many = (labels(gap, Seeds(1), temperature=1e-6, flips=f) for f in (0.1, 0.25))
    for (said, flipped), share in ((few, 0.1), (many, 0.25)):
        assert float(flipped.float().mean()) == pytest.approx(share, abs=0.02)
        assert torch.equal((said > 0.5) != (gap > 0), flipped), "with sharp judges all that is wrong was turned round"
    assert bool((~few[1] | many[1]).all())


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    g = torch.Generator().manual_seed(0)
    mu, wrong = torch.randn(40, generator=g).round(decimals=1), torch.rand(40, generator=g) < 0.3
    counted = [float(a < b) + 0.5 * float(a == b) for a, b in itertools.product(mu[wrong], mu[~wrong])]
    assert noise.area(mu, wrong) == pytest.approx(sum(counted) / len(counted))


def test_flips_are_found_and_treated_labels_teach_better_than_noisy_ones(world: World) -> None:
    """Planted: a clean direction among many numbers, a quarter of the labels wrong."""
    config = replace(SMOKE, pairs=300, test=300, members=6, folds=3, short=30, steps=150, every=15, batch=32,
                     width=32)
    g = torch.Generator().manual_seed(0)

    def pairs(n: int) -> Pairs:
        x = torch.randn(n, 2, 30, generator=g) * torch.tensor([1.0] * 3 + [0.5] * 27)
        return Pairs(x, x[..., :3].sum(-1))

    train, test = pairs(300), pairs(600)
    said = [labels(train.gap_N, Seeds(2), temperature=1e-3, flips=f) for f in config.noises]
    label, flipped = (torch.stack([s[k] for s in said]) for k in (0, 1))
    found = noise.strengths(config, train, label, Seeds(3), noise.audit(config)["unseen"])
    assert noise.area(found.mu[1], flipped[1]) > 0.75
    turned = Strengths(-found.mu, found.sigma)  # the broken variant: the strongest pairs are turned round
    data = noise.Noisy(train, label, flipped, {"ordinary": test, "better writers": test}, found, turned)
    treated = noise.Setting(denoise=Denoise(flip=0.2))
    wrong = replace(treated, by="seen")
    cases = [noise.Case(world=0, noise=1, setting=s) for s in (
        noise.Setting(), treated, wrong, noise.Setting(by="known"))]
    plain, mended, broken, known = (f["ordinary"] for f in noise.train(config, [data], cases, Seeds(4)))
    assert known > mended > plain > broken + 0.1


# --- MetaRM -----------------------------------------------------------------------------------------------


def test_the_best_of_n_is_that_of_all_draws() -> None:
    weight, score = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.0, 2.0, 1.0]).double()
    brute = torch.zeros(3).double()
    for drawn in itertools.product(range(3), repeat=3):
        brute[max(drawn, key=lambda i: float(score[i]))] += weight[list(drawn)].prod()
    assert torch.allclose(meta.best_of(weight, score, 3), brute)
    assert torch.allclose(meta.best_of(weight, score, 1), weight)


def test_agreement_counts_all_pairs_with_their_probabilities() -> None:
    g = torch.Generator().manual_seed(0)
    weight = torch.rand(2, 1, 5, generator=g).double()
    weight = weight / weight.sum(-1, keepdim=True)
    score, gold = torch.randn(2, 1, 5, generator=g), torch.randn(1, 5, generator=g)
    for p in range(2):
        right = whole = 0.0
        for i, j in itertools.permutations(range(5), 2):
            if gold[0, i] > gold[0, j]:
                w = float(weight[p, 0, i] * weight[p, 0, j])
                whole, right = whole + w, right + w * float(score[p, 0, i] > score[p, 0, j])
        assert float(meta.agreement(weight, score, gold)[p]) == pytest.approx(right / whole)
    assert meta.agreement(weight, gold.expand(2, 1, 5), gold).tolist() == pytest.approx([1, 1])


def test_policies_move_by_their_own_rewards_and_equal_ways_go_together() -> None:
    some = [meta.Way(arm=meta.PLAIN, decay=0.0), meta.Way(arm=meta.META, decay=0.0, eta=0.0),
            meta.Way(arm=meta.META, decay=0.0, eta=4.0), meta.Way(arm=meta.DESCENT, decay=0.0, eta=-4.0)]
    config = replace(SMOKE, steps=60, pool=8)
    plain, still, moved, fallen = meta.Rounds(config, Seeds(0), some).run()
    assert plain["own"] == still["own"] and len(plain["own"]) == 3 and len(plain["gold"]) == 4
    assert moved["own"][0] == plain["own"][0] and moved["scale"][1] != plain["scale"][1]
    assert len({row["scale"][1] for row in (plain, moved, fallen)}) == 3
    assert plain["gold"][-1] > plain["gold"][0], "the policy is optimised"


def test_the_pool_and_people_are_what_gold_says(world: World) -> None:
    some = pool(world, 6, Seeds(1))
    assert some.x_GND.shape[:2] == some.gold_GN.shape == (30, 6)
    pairs = people(world, 50, Seeds(2))
    assert pairs.x_N2D.shape == (50, 2, 2 * SMOKE.hidden + 8)
    assert torch.equal(pairs.truth_N, pairs.gap_N > 0) and bool(torch.isfinite(pairs.x_N2D).all())
