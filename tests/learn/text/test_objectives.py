from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.feedback.records import Preference
from plaudit.learn.text import losses
from plaudit.learn.text.evidence import attribute_names, evidence, pairs
from plaudit.learn.text.objectives import OBJECTIVES, Objective, Outputs, objective, register, stages, with_options

RECORDS = [
    Preference(options=("a", "b"), strength=-3), Preference(options=("a", "b"), strength=1),
    Preference(options=("a", "b"), strength=0), Preference(options=("a", "b"), label=0.75, weight=2.0, margin=0.5),
    Preference(options=("a", "b", "c"), correct=(True, False, True)),
    Preference(options=("a",), ratings=({"helpfulness": 3.0, "verbosity": None},)),
]


def outputs(N: int, O: int, H: int = 1, seed: int = 0) -> Outputs:  # noqa: E741
    g = torch.Generator().manual_seed(seed)
    reward = torch.randn(N, O, H, generator=g)
    return Outputs(reward, reward, torch.randn(N, O, 8, generator=g), prototype_ZD=torch.randn(4, 8, generator=g))


def test_records_become_tables():
    said = evidence(RECORDS, attributes=("helpfulness", "verbosity"))
    assert said.label_NOO[0, 0, 1] == 1 and said.strength_NOO[0, 0, 1] == 3
    assert said.label_NOO[1, 0, 1] == 0 and said.strength_NOO[1, 0, 1] == 1
    assert said.label_NOO[2, 0, 1] == 0.5 and said.strength_NOO[2, 0, 1] == 0
    assert said.margin_NOO[3, 0, 1] == 0.5 and said.weight_N[3] == 2
    assert said.known_NOO.sum((1, 2)).tolist() == [1, 1, 1, 1, 2, 0]
    assert said.rating_NOK[5, 0, 0] == 3 and bool(said.rating_NOK[5, 0, 1].isnan())
    assert attribute_names(RECORDS) == ("helpfulness",)


def test_rated_options_are_pairs_where_one_is_rated_higher():
    rated = Preference(options=("a", "b", "c"), ratings=({"overall": 3}, {"overall": 5}, {"overall": 3}))
    assert pairs(rated) == [(0, 1, 0.0, 2.0), (1, 2, 1.0, 2.0)]


def test_the_plain_loss_is_the_weighted_mean_over_records():
    said, out = evidence(RECORDS), outputs(6, 3)
    r = out.reward_NOH[..., 0]
    bt = losses.bradley_terry
    each = [bt(r[0, 0] - r[0, 1], torch.tensor(1.0)), bt(r[1, 0] - r[1, 1], torch.tensor(0.0)),
            bt(r[2, 0] - r[2, 1], torch.tensor(0.5)), 2 * bt(r[3, 0] - r[3, 1], torch.tensor(0.75)),
            (bt(r[4, 0] - r[4, 1], torch.tensor(1.0)) + bt(r[4, 2] - r[4, 1], torch.tensor(1.0))) / 2]
    found, rows = objective("bradley-terry")(out, said)
    assert torch.allclose(found, sum(each) / 6)  # the weights are 1, 1, 1, 2, 1; the rated one is no pair
    assert rows[5] == 0


def test_scaled_pairs_without_strength_count_nothing():
    said, out = evidence(RECORDS[:3]), outputs(3, 2)
    moved = replace(out, reward_NOH=out.reward_NOH + torch.tensor([[[0.0]], [[0.0]], [[5.0]]])
                    * torch.tensor([[[1.0], [-1.0]]]))
    assert torch.allclose(objective("scaled")(out, said)[0], objective("scaled")(moved, said)[0])
    assert not torch.allclose(objective("bradley-terry")(out, said)[0], objective("bradley-terry")(moved, said)[0])


def test_regression_divides_by_what_is_known():
    records = [Preference(options=("a", "b"), ratings=({"x": 1.0, "y": None}, {"x": None, "y": 2.0})),
               Preference(options=("a", "b"), ratings=({"x": 0.0, "y": 0.0}, {"x": None, "y": None}))]
    said = evidence(records, attributes=("x", "y"))
    raw = torch.tensor([[[2.0, 9.0], [9.0, 4.0]], [[1.0, 3.0], [9.0, 9.0]]])
    out = Outputs(raw[..., :1], raw, torch.zeros(2, 2, 4))
    assert torch.allclose(objective("regression")(out, said)[0], torch.tensor((1 + 4 + 1 + 9) / 4))


def test_bootstrap_members_learn_from_their_own_samples():
    records = RECORDS[:2]
    boot = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    out = outputs(2, 2, H=2)
    reward = out.reward_NOH.clone().requires_grad_()
    objective("bradley-terry")(replace(out, reward_NOH=reward), evidence(records, boot_NH=boot))[0].backward()
    assert reward.grad is not None
    assert (reward.grad[0, :, 1] == 0).all() and (reward.grad[1, :, 0] == 0).all() and (reward.grad[0, :, 0] != 0).all()


def test_flipping_follows_models_that_did_not_see_the_pair():
    records = [Preference(options=("a", "b"), label=1.0)] * 2
    out = outputs(2, 2)
    found = objective("flip")(out, evidence(records, mu=[-1.0, 1.0]))[0]
    gap = out.reward_NOH[:, 0, 0] - out.reward_NOH[:, 1, 0]
    assert torch.allclose(found, losses.bradley_terry(gap, torch.tensor([0.0, 1.0])).mean())


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"gaussian-nll", "gaussian-square"}))
def test_each_loss_is_finite_and_has_gradients(name):
    torch.manual_seed(0)
    records = [replace(r, ratings=({"x": 1.0}, {"x": 2.0})) for r in RECORDS[:4]]
    said = evidence(records, attributes=("x",), mu=[1.0, -0.5, 0.1, 2.0])
    out = outputs(4, 2)
    reward, hidden = out.reward_NOH.clone().requires_grad_(), out.hidden_NOD.clone().requires_grad_()
    loss, rows = objective(name)(replace(out, reward_NOH=reward, raw_NOC=reward, hidden_NOD=hidden,
                                         nll_NO=hidden.square().mean(-1)), said)
    loss.backward()
    assert math.isfinite(float(loss)) and bool(torch.isfinite(rows).all())
    assert any(x.grad is not None and bool((x.grad != 0).any()) for x in (reward, hidden))


def test_a_loss_that_is_no_number_is_traced_to_its_row():
    out = outputs(6, 3)
    out.reward_NOH[4, 1] = math.nan
    _, rows = objective("bradley-terry + 0.1 * center")(out, evidence(RECORDS))
    assert torch.nonzero(~torch.isfinite(rows))[:, 0].tolist() == [4]


def test_sums_and_stages():
    out, said = outputs(4, 2), evidence(RECORDS[:4])
    whole = objective("bradley-terry + 0.5 * center")(out, said)[0]
    apart = objective("bradley-terry")(out, said)[0] + 0.5 * objective("center")(out, said)[0]
    assert torch.allclose(whole, apart)
    assert [s.name for s in stages("regression > margin + 0.1 * center")] == ["regression", "margin + 0.1 * center"]


def test_constants_can_be_chosen():
    out, said = outputs(4, 2), evidence(RECORDS[:4])
    none = objective(with_options("smooth", epsilon=0.0))(out, said)[0]
    assert torch.allclose(none, objective("bradley-terry")(out, said)[0])
    with pytest.raises(BadInput, match="options"):
        with_options("scaled", epsilon=0.2)


@pytest.mark.parametrize("text", ["bradley-tery", "2 * ", "scaled - margin", "", "x * scaled", "> scaled"])
def test_losses_that_do_not_exist_are_refused_with_the_list(text):
    with pytest.raises(BadInput, match="loss: expected one of adaptive-margin"):
        stages(text)


def test_an_own_loss_gets_a_name_once():
    def parts(out: Outputs, said) -> tuple[torch.Tensor, torch.Tensor]:
        return out.reward_NOH.square().sum((1, 2)), torch.ones(len(said))

    try:
        assert isinstance(register("small", parts), Objective)
        assert float(objective("small")(outputs(4, 2), evidence(RECORDS[:4]))[0]) > 0
        with pytest.raises(BadInput, match="name"):
            register("small", parts)
    finally:
        OBJECTIVES.pop("small", None)
