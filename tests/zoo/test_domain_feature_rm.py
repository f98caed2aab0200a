from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from plaudit.core.seeds import Seeds
from plaudit.zoo import domain_feature_rm as zoo
from plaudit.zoo import review_features as features
from plaudit.zoo import review_models as models
from plaudit.zoo import review_world as world
from plaudit.zoo.contract import load_result
from plaudit.zoo.lab import run_system

SMOKE = zoo.SYSTEM.scales["smoke"]
PHONE = world.Product((("battery", True), ("price", False), ("screen", True), ("sound", False)),
                      "Reviews: The battery is great. The price is poor. / The display was solid. The sound was weak.")
HONEST = [world.RIGHT] * 6 + [0, 0, 0, 0]


def read(text: str, product: world.Product = PHONE, *, hardened: bool = False) -> dict[str, float]:
    made = features.feature_set(hardened=hardened)
    return dict(zip(made.names, made.read([product.text], [text]).value_BD[0].tolist(), strict=True))


def test_smoke_runs_and_writes_its_result(tmp_path: Path) -> None:
    result = run_system(zoo.SYSTEM, scale="smoke", seeds=1, out=tmp_path)
    assert load_result(tmp_path / "domain-feature-rm.json").verdict == result.verdict
    assert len(result.criteria) == 6 and {a.name for a in result.arms} >= {*zoo.CURVES, zoo.HARDENED}
    assert (tmp_path / "domain-feature-rm.png").stat().st_size > 10_000


def test_every_fault_of_a_summary_lowers_its_worth_and_shows_in_its_features() -> None:
    faults = {"wrong": [world.WRONG, *HONEST[1:]], "omitted": [world.OMIT, *HONEST[1:]],
              "made up": [*HONEST[:6], 2, 0, 0, 0], "wordy": [*HONEST[:6], 0, 3, 0, 0],
              "broken": [*HONEST[:6], 0, 0, 3, 0], "stuffed": [*HONEST[:6], 0, 0, 0, 1]}
    worth = {name: world.worth(PHONE, choices) for name, choices in faults.items()}
    assert max(worth.values()) < world.worth(PHONE, HONEST) == 4.0
    honest = read(world.write(PHONE, HONEST))
    assert read(world.write(PHONE, faults["wordy"]))["wordiness"] > honest["wordiness"] + 5
    assert read(world.write(PHONE, faults["broken"]))["language"] < honest["language"]
    assert read("The battery is great. The camera is poor.")["hallucination"] == 1.0
    assert read("The battery is poor. The price is poor.")["faithfulness"] == 0.5
    known = len(features.opinions(PHONE.text))  # the parser errs, always in the same way
    assert 3 <= known <= 4 and read("The battery is great.")["coverage"] == pytest.approx(1 / known)


def test_keywords_deceive_the_plain_parser_and_not_the_hardened_one() -> None:
    stuffed = "The battery is great. Keywords great battery great price great screen great sound."
    assert read(stuffed)["coverage"] > 0.6 > 0.4 > read(stuffed, hardened=True)["coverage"] > 0


def test_what_the_parser_cannot_read_is_unknown() -> None:
    foreign = world.Product(PHONE.aspects, "Reviews: La bateria resulta buena.")
    said = read("The battery is great.", foreign)
    assert all(np.isnan(said[n]) for n in ("coverage", "opinion coverage", "hallucination", "faithfulness"))
    nothing = read("")
    assert np.isnan(nothing["faithfulness"]) and np.isnan(nothing["language"]) and nothing["coverage"] == 0.0


def test_the_worth_is_not_additive() -> None:
    """Coverage is worth much where nothing is made up, and little where much is: no weighted sum says that."""
    def gain(invented: int) -> float:
        base = [world.OMIT] * 6 + [invented, 0, 0, 0]
        return world.worth(PHONE, HONEST[:6] + base[6:]) - world.worth(PHONE, [world.RIGHT, *base[1:]])

    assert gain(0) > 4 * gain(3) > 0


def test_the_writer_writes_the_same_words_for_the_same_choices_and_its_gold_reads_them() -> None:
    products = world.make_products(5, Seeds(0).numpy())
    tokens = world.Writer(products).sample([p.text for p in products], n=4, seed=1)
    assert all(world.write(products[b // 4], c) == t for b, (c, t) in enumerate(zip(
        tokens.action.tolist(), tokens.columns["completion"], strict=True)))
    gold = world.Gold(products).score(tokens).returns()[0]
    assert gold[3] == pytest.approx(world.worth(products[0], tokens.action[3].tolist()))
    share = torch.softmax(world.Writer(products).table.detach(), -1)
    assert torch.allclose(share, torch.tensor(world.USUAL), atol=1e-5)


def test_labels_follow_the_worth_but_for_noise_and_flips_and_never_the_test_products() -> None:
    pool = models.make_pool(SMOKE, Seeds(0))
    pairs = models.annotated(SMOKE, pool, 400, Seeds(1))
    gap = pool.worth_PN.flatten()[pairs.row_N2[:, 0]] - pool.worth_PN.flatten()[pairs.row_N2[:, 1]]
    far = gap.abs() > 2
    agree = float(((gap > 0) == (pairs.label_N > 0.5))[far].double().mean())
    assert 0.83 < agree < 0.96, "a tenth of the labels is turned round"
    row, _ = models.exam_pairs(SMOKE, pool)
    assert int(pairs.row_N2.max()) < SMOKE.products * pool.N <= int(row.min())


def test_the_ratio_of_pairs_is_that_of_planted_curves() -> None:
    sizes = (30, 100, 300, 1000, 3000)
    n = np.log10(np.array(sizes, dtype=float))
    rng = Seeds(2).numpy()
    theirs = 0.5 + 0.08 * n + rng.normal(0, 0.002, (8, 5))
    ours = 0.5 + 0.08 * (n + 1) + rng.normal(0, 0.002, (8, 5))  # as good with a tenth of the pairs
    found = zoo.ratio_of_pairs(ours, theirs, sizes)
    assert 8 < found.low < found.mean < found.high < 13
    assert zoo.ratio_of_pairs(theirs - 0.5, theirs, sizes).mean == 1.0, "never as good: no ratio above 1 is claimed"
    assert zoo.ratio_of_pairs(theirs + 0.5, theirs, sizes).high == pytest.approx(100), "a bound: better at once"


def test_a_feature_model_ranks_what_the_features_can_see() -> None:
    """Planted: what is made up or misreported alone decides. The full set learns it, the set without cannot."""
    config = zoo.FeatureRmConfig(encoder="hashed", products=40, test_products=15, summaries=8, dims=12, steps=40,
                                 folds=2)
    pool = models.make_pool(config, Seeds(3))
    seen = (2 * pool.raw_BD[:, 1].nan_to_num(0.6) - 2 * pool.raw_BD[:, 5].nan_to_num()).view_as(pool.worth_PN)
    planted = models.Pool(pool.products, pool.prompts, pool.texts, pool.choices, seen, pool.raw_BD, pool.embedded)
    pairs = models.annotated(config, planted, 200, Seeds(4))
    row, better = models.exam_pairs(config, planted)
    full, without = (models.fit_model(config, planted, name, pairs, Seeds(5)).accuracy(row, better)
                     for name in (models.LINEAR, models.MLP + models.WITHOUT))
    assert full > 0.9 > 0.8 > without
