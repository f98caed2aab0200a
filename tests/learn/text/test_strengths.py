from __future__ import annotations

import json
import warnings
from dataclasses import replace

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.feedback.records import Preference
from plaudit.learn.text.denoising import Denoise, denoise, treat, write_strengths
from plaudit.learn.text.pair_heads import HeadOptions
from plaudit.learn.text.strengths import (
    CrossFit,
    Strengths,
    clean_rows,
    cross_fit,
    cross_fit_tensors,
    lessons_of_groups,
)

N, D = 240, 24


def world(seed: int = 0, *, flips: float = 0.25, n: int = N) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States, labels and which labels were turned round: what is better is a direction among many."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, D, generator=g)
    truth = (x[:, 0, :4].sum(-1) > x[:, 1, :4].sum(-1)).float()
    wrong = torch.rand(n, generator=g) < flips
    return x, torch.where(wrong, 1 - truth, truth), wrong


def area(mu: torch.Tensor, wrong: torch.Tensor) -> float:
    """Under the ROC curve of finding wrong labels by low strengths, by counting all pairs."""
    low, high = mu[wrong], mu[~wrong]
    return float(((low[:, None] < high[None]).double() + 0.5 * (low[:, None] == high[None])).mean())


def records_of(labels: torch.Tensor) -> list[Preference]:
    return [Preference(options=("a", "b"), context=str(i), label=float(y)) for i, y in enumerate(labels)]


# --- strengths ----------------------------------------------------------------------------------------


def test_flipped_labels_are_found_by_models_that_did_not_see_them_and_hidden_by_those_that_did() -> None:
    x, label, wrong = world()
    linear = cross_fit(list(x), records_of(label), range(N), seed=1)
    assert area(linear.mu, wrong) > 0.85
    how = CrossFit(folds=5, members=1, hidden=(32,), steps=200, lr=1e-2, bootstrap=False)
    unseen, seen = (cross_fit_tensors(x[None], label[None], [Seeds(0)], how=h).mu[0]
                    for h in (how, replace(how, folds=1, members=5)))
    against = {name: float((mu[wrong] < 0).float().mean()) for name, mu in (("unseen", unseen), ("seen", seen))}
    assert area(unseen, wrong) > 0.75 and against["unseen"] > 0.6
    assert against["seen"] < 0.4, "the broken way: models that memorised wrong labels vote for them"
    assert float((seen > 0).double().mean()) > 0.85


def test_records_of_one_prompt_do_not_vouch_for_each_other() -> None:
    x, label, _ = world(3, flips=0.0, n=60)
    again = torch.cat([x[:1]] * 30)  # one prompt thirty times, each with the same wrong label
    states, said = torch.cat([x, again]), torch.cat([label, 1 - label[:1].expand(30)])
    together = cross_fit(list(states), records_of(said), [*range(60), *["same"] * 30], seed=0)
    apart = cross_fit(list(states), records_of(said), range(90), seed=0)
    assert float(together.mu[60:].max()) < 0 < float(apart.mu[60:].min())


def test_data_sets_side_by_side_have_the_strengths_they_have_alone() -> None:
    both = [world(s, n=50) for s in (0, 1)]
    x, label = torch.stack([w[0] for w in both]), torch.stack([w[1] for w in both])
    linear = CrossFit(folds=3, members=3)
    for how, atol in ((linear, 2e-2), (replace(linear, hidden=(8,), steps=20), 1e-5)):
        side = cross_fit_tensors(x, label, [Seeds(0), Seeds(1)], how=how)
        alone = cross_fit_tensors(x[1:], label[1:], [Seeds(1)], how=how)
        assert torch.allclose(side.mu[1], alone.mu[0], atol=atol) and bool((side.sigma > 0).all())


def test_groups_are_equal_and_read_from_the_weakest() -> None:
    found = Strengths(torch.tensor([5.0, -2.0, 0.1, 1.0, 3.0, -1.0]), torch.ones(6))
    assert found.groups(3).tolist() == [2, 0, 1, 1, 2, 0] and found.order[0] == 1
    read = found.reading(3, wrong=torch.tensor([False, True, False, False, False, False]))
    assert [(g.n, g.wrong, g.against) for g in read] == [(2, 0.5, 1.0), (2, 0.0, 0.0), (2, 0.0, 0.0)]
    many = Strengths(torch.randn(203), torch.ones(203)).groups(10)
    assert int(many.max()) == 9 and set(torch.bincount(many).tolist()) <= {20, 21}
    assert clean_rows(found, weakest=0.5).tolist() == [True, False, False, True, True, False]
    with pytest.raises(BadInput, match="groups in"):
        found.groups(7)


def test_the_weakest_group_teaches_what_is_wrong_and_the_middle_what_is_right() -> None:
    x, label, _ = world(5, n=600)
    strengths = cross_fit(list(x), records_of(label), range(600), seed=0)
    test, truth, _ = world(6, flips=0.0)
    test = torch.where((truth > 0.5)[:, None, None], test, test.flip(1))
    steps, accuracy = lessons_of_groups(x, label, strengths, test, options=HeadOptions(hidden=(16,), steps=60),
                                        every=20)
    assert steps == [20, 40, 60] and accuracy.shape == (3, 10)
    assert float(accuracy[-1, 0]) < 0.45 and float(accuracy[-1, 5:9].mean()) > 0.6


# --- what is done with them -----------------------------------------------------------------------------


def test_what_is_done_is_done_in_order() -> None:
    strengths = Strengths(torch.arange(10.0) - 4, torch.ones(10))
    done = treat(torch.ones(10), strengths, Denoise(drop=0.1, flip=0.25, smooth=0.2, smooth_where="ambiguous",
                                                    margin=2.0, most=5.0))
    assert done.kept.tolist() == [False] + [True] * 9
    assert done.flipped.tolist() == [False, True, True] + [False] * 7, "a quarter of the nine left, rounded down"
    assert done.label.tolist() == pytest.approx([1, 0, 0, 0.8, 0.8, 1, 1, 1, 1, 1])
    assert done.margin.tolist() == [5, 5, 4, 2, 0, 2, 4, 5, 5, 5]
    top = treat(torch.zeros(10), strengths, Denoise(smooth=0.1, smooth_where="strongest")).softened
    assert top.tolist() == pytest.approx([0] * 9 + [0.1])
    both = treat(torch.zeros(10), strengths, Denoise(flip=0.2, smooth=0.1, smooth_where="both", by_strength=True))
    assert both.softened[4] == pytest.approx(0.0) and both.softened[2] == pytest.approx(0.2 / (1 + 2.718281828**2))


def test_a_flip_of_the_weakest_mends_labels_and_one_of_any_does_not() -> None:
    x, label, wrong = world(8)
    truth = torch.where(wrong, 1 - label, label)
    found = cross_fit(list(x), records_of(label), range(N), seed=0)
    chance = Strengths(found.mu[torch.randperm(N, generator=torch.Generator().manual_seed(0))], found.sigma)
    left = [float((treat(label, s, Denoise(flip=0.2)).label != truth).float().mean()) for s in (found, chance)]
    assert left[0] < float(wrong.float().mean()) - 0.08 and left[1] > float(wrong.float().mean()) + 0.02


def test_records_keep_what_was_done_to_them(tmp_path) -> None:
    records = records_of(torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0]))
    strengths = Strengths(torch.tensor([-2.0, -3.0, 1.0, 4.0, 9.0]), torch.full((5,), 0.5))
    how = Denoise(drop=0.2, flip=0.25, smooth=0.1, margin=1.0)
    made = denoise(records, strengths, how)
    assert [r.label for r in made] == pytest.approx([0.1, 0.9, 0.9, 0.1]) and [r.margin for r in made] == [2, 1, 4, 5]
    assert made[0].provenance == {"mu": -2.0, "sigma": 0.5, "flipped": True}
    write_strengths(tmp_path / "s.jsonl", [7, 8, 9, 10, 11], records, strengths, how)
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [(line["row"], line["did"]) for line in lines] == [(8, "dropped"), (7, "flipped"), (9, "kept"), (10, "kept"),
                                                              (11, "kept")]


# --- what can go wrong ----------------------------------------------------------------------------------


def test_labels_that_are_upside_down_and_members_that_are_alike_are_said() -> None:
    records = records_of(torch.ones(4))
    with pytest.warns(UserWarning, match="75% of the strengths are below 0"):
        denoise(records, Strengths(torch.tensor([-1.0, -2.0, -3.0, 1.0]), torch.ones(4)), Denoise(flip=0.25))
    with pytest.warns(UserWarning, match="members of the ensemble are alike"):
        Strengths(torch.tensor([1.0, 2.0]), torch.zeros(2)).check()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        denoise(records, Strengths(torch.tensor([-1.0, 2.0, 3.0, 1.0]), torch.ones(4)), Denoise(flip=0.25))


@pytest.mark.parametrize(("how", "message"), [
    ({"flip": 1.0}, "shares in"), ({"smooth": 0.5}, "smoothing in"), ({"margin": -1.0}, "finite numbers"),
    ({"margin": 1.0, "bound": 4.0}, "margins below 4, the largest gap of the head"),
])
def test_treatments_that_cannot_be_are_refused(how, message) -> None:
    with pytest.raises(BadInput, match=message):
        Denoise(**how)


def test_records_that_cannot_be_judged_are_named() -> None:
    x, label, _ = world(n=12)
    records = records_of(label)
    same = [*records[:3], Preference(options=("a", "a"), label=1.0), *records[4:]]
    with pytest.raises(BadInput, match=r"records\[3\]: expected two different texts"):
        cross_fit(list(x), same, range(12))
    with pytest.raises(BadInput, match="at least 5 prompts"):
        cross_fit(list(x), records, [0] * 12)
    with pytest.raises(BadInput, match=r"records\[2\]: expected a labelled pair"):
        cross_fit(list(x), [*records[:2], Preference(options=("a", "b")), *records[3:]], range(12))
    with pytest.raises(BadInput, match="one for each record"):
        denoise(records, Strengths(torch.ones(3), torch.ones(3)), Denoise())
    with pytest.raises(BadInput, match=r"cross_fit\.folds"):
        CrossFit(folds=0)
