from __future__ import annotations

import math
from typing import Literal, get_args

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.core.stacked import PopulationMLP
from plaudit.core.stacked_adam import MemberNoise
from plaudit.learn.text import losses
from plaudit.learn.text.pair_heads import HeadOptions, Lessons, MetaStep, fit_heads, gaps, represent


def pairs(n: int = 40, D: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(1, n, 2, D, generator=torch.Generator().manual_seed(seed))
    return x, (x[0, :, 0, 0] > x[0, :, 1, 0]).float()


def sigma(v: float) -> float:
    return 1 / (1 + math.exp(-v))


# --- populations ----------------------------------------------------------------------------------------


def test_a_member_learns_the_same_whoever_else_is_taught() -> None:
    x, label = pairs()
    how = HeadOptions(hidden=(8,), steps=15, batch=8)
    both = fit_heads(Lessons(x_SN2D=x, label_PN=torch.stack([1 - label, label])), how, seeds=[Seeds(3), Seeds(1)])
    alone = fit_heads(Lessons(x_SN2D=x, label_PN=label[None]), how, seeds=[Seeds(1)])
    assert torch.allclose(both.flat[1], alone.flat[0], atol=1e-6)


def test_what_has_no_weight_is_never_seen_and_a_margin_pulls_rewards_apart() -> None:
    x, label = pairs()
    poisoned = label.clone()
    poisoned[20:] = 1 - poisoned[20:]
    weight = (torch.arange(40) < 20).float()[None]
    how = HeadOptions(hidden=(), steps=60, lr=0.05)
    one, two = (gaps(fit_heads(Lessons(x_SN2D=x, label_PN=y[None], weight_PN=weight), how, seeds=[Seeds(0)]), x)
                for y in (label, poisoned))
    assert torch.equal(one, two)
    asked = Lessons(x_SN2D=x, label_PN=label[None], weight_PN=weight, margin_PN=torch.full((1, 40), 4.0))
    wide = gaps(fit_heads(asked, how, seeds=[Seeds(0)]), x)
    assert float(wide[:, :20].abs().mean()) > 1.2 * float(one[:, :20].abs().mean())


def test_data_sets_are_read_by_their_members() -> None:
    x, label = pairs()
    two = torch.cat([x, -x])  # what is better in one is worse in the other
    net = fit_heads(Lessons(x_SN2D=two, label_PN=label.expand(2, -1), set_P=torch.tensor([0, 1])),
                    HeadOptions(hidden=(), steps=80, lr=0.05), seeds=[Seeds(0)] * 2)
    right = (gaps(net, two, torch.tensor([0, 1])) > 0).float() == label
    assert float(right.float().mean()) > 0.9
    crossed = (gaps(net, two, torch.tensor([1, 0])) > 0).float() == label
    assert float(crossed.float().mean()) < 0.1


def test_watching_sees_the_population_on_the_way_and_at_the_end() -> None:
    x, label = pairs()
    seen: list[int] = []
    fit_heads(Lessons(x_SN2D=x, label_PN=label[None]), HeadOptions(steps=10), seeds=[Seeds(0)], every=4,
              watch=lambda step, net: seen.append(step))
    assert seen == [4, 8, 10]


# --- MetaRM ----------------------------------------------------------------------------------------------


def linear(w: list[float]) -> PopulationMLP:
    net = PopulationMLP((len(w), 1), generators=[torch.Generator()])
    with torch.no_grad():
        net.flat.copy_(torch.tensor([[*w, 0.0]]))
    net.flat = net.flat.detach().double().requires_grad_()
    return net


def test_the_first_order_step_is_the_one_computed_by_hand() -> None:
    """r = w x with two weights: J of two samples, the move, and the gradient of the loss there, all by hand."""
    w, d, g, eta = (0.3, -0.7), (1.5, 0.4), (0.8, -0.2), 0.25
    net = linear(list(w))
    samples = torch.tensor([[[[d[0], d[1]], [0.0, 0.0]]]], dtype=torch.float64)  # [S, G, K, D]: they differ by d
    meta = MetaStep(x_SGKD=samples, step_P=torch.tensor([eta], dtype=torch.float64), batch=1)
    moved = meta.moved(net, torch.tensor([0]), torch.tensor([[0]]), MemberNoise([Seeds(0)]))
    u = w[0] * d[0] + w[1] * d[1]
    slope = 0.5 * sigma(abs(u)) * (1 - sigma(abs(u))) * math.copysign(1, u)  # J = 2 / 4 * sigma(|u|)
    hand = [w[i] + eta * slope * d[i] for i in range(2)]
    assert moved.detach()[0, :2].tolist() == pytest.approx(hand, abs=1e-6)
    pair = torch.tensor([[[g[0], g[1]], [0.0, 0.0]]], dtype=torch.float64)
    value = net(pair, moved)[..., 0]
    loss = losses.bradley_terry(value[:, 0] - value[:, 1], torch.ones(1, dtype=torch.float64))
    loss.sum().backward()
    v = hand[0] * g[0] + hand[1] * g[1]
    assert net.flat.grad is not None
    assert net.flat.grad[0, :2].tolist() == pytest.approx([-(1 - sigma(v)) * g[i] for i in range(2)], abs=1e-6)
    wrong = MetaStep(x_SGKD=samples, step_P=torch.tensor([-eta], dtype=torch.float64), batch=1)  # descent
    other = wrong.moved(net, torch.tensor([0]), torch.tensor([[0]]), MemberNoise([Seeds(0)])).detach()
    assert other[0, :2].tolist() != pytest.approx(hand, abs=1e-3)


def test_the_second_order_gradient_is_that_of_finite_differences() -> None:
    g = torch.Generator().manual_seed(0)
    net = PopulationMLP((3, 4, 1), generators=[g])
    net.flat = net.flat.detach().double().requires_grad_()
    x = torch.randn(1, 2, 3, 3, generator=g, dtype=torch.float64)
    pair = torch.randn(1, 2, 3, generator=g, dtype=torch.float64)
    sets, drawn = torch.tensor([0]), torch.tensor([[0, 1]])

    def loss(order: Literal[1, 2]) -> torch.Tensor:
        meta = MetaStep(x_SGKD=x, step_P=torch.tensor([0.9], dtype=torch.float64), order=order, batch=2)
        value = net(pair, meta.moved(net, sets, drawn, MemberNoise([Seeds(0)])))[..., 0]
        return losses.bradley_terry(value[:, 0] - value[:, 1], torch.ones(1, dtype=torch.float64)).sum()

    found = {}
    for order in get_args(Literal[1, 2]):
        net.flat.grad = None
        loss(order).backward()
        assert net.flat.grad is not None
        found[order] = net.flat.grad[0].clone()
    numeric = torch.zeros_like(found[2])
    for i in range(len(numeric)):
        for sign in (1, -1):
            with torch.no_grad():
                net.flat[0, i] += sign * 1e-5
            numeric[i] += sign * loss(2).detach() / 2e-5
            with torch.no_grad():
                net.flat[0, i] -= sign * 1e-5
    assert torch.allclose(found[2], numeric, atol=1e-7)
    assert not torch.allclose(found[1], numeric, atol=1e-4), "the first order leaves the Hessian out"


def test_ascent_tells_samples_further_apart_and_descent_less() -> None:
    x, label = pairs()
    samples = torch.randn(1, 6, 4, 5, generator=torch.Generator().manual_seed(1)) * 0.3
    eta = torch.tensor([2.0, 0.0, -2.0])
    meta = MetaStep(x_SGKD=samples, step_P=eta, batch=6)
    net = PopulationMLP((5, 8, 1), generators=[Seeds(0).torch() for _ in range(3)])
    flat = meta.moved(net, torch.zeros(3, dtype=torch.long), torch.arange(6).expand(3, -1), MemberNoise([Seeds(0)] * 3))
    value = net(samples.view(1, 24, 5).expand(3, -1, -1), flat)[..., 0].view(3, 6, 4)
    J = torch.stack([losses.difference(v).mean() for v in value])
    assert float(J[0].detach()) > float(J[1].detach()) > float(J[2].detach())
    plain, still = (fit_heads(Lessons(x_SN2D=x, label_PN=label[None]), HeadOptions(steps=10), seeds=[Seeds(0)], meta=m)
                    for m in (None, MetaStep(x_SGKD=samples, step_P=torch.zeros(1), batch=2)))
    assert torch.equal(plain.flat, still.flat), "a step of size 0 changes nothing"


def test_a_random_move_is_as_long_as_the_one_it_stands_for() -> None:
    samples = torch.randn(1, 3, 2, 5, generator=torch.Generator().manual_seed(1))
    net = PopulationMLP((5, 8, 1), generators=[Seeds(0).torch() for _ in range(2)])
    meta = MetaStep(x_SGKD=samples, step_P=torch.ones(2), batch=3, random_P=torch.tensor([False, True]))
    flat = meta.moved(net, torch.zeros(2, dtype=torch.long), torch.arange(3).expand(2, -1), MemberNoise([Seeds(0)] * 2))
    moves = (flat - net.flat).detach()
    assert float(moves[0].norm()) == pytest.approx(float(moves[1].norm()), rel=1e-4)
    assert float(torch.cosine_similarity(moves[0], moves[1], dim=0)) < 0.5


# --- contrast --------------------------------------------------------------------------------------------


def test_contrast_of_many_members_is_that_of_each() -> None:
    g = torch.Generator().manual_seed(0)
    h, again, c = (torch.randn(3, n, 4, generator=g) for n in (6, 6, 5))
    one = torch.stack([losses.simcse(a, b) for a, b in zip(h, again, strict=True)])
    assert torch.allclose(losses.simcse(h, again), one, atol=1e-6)
    two = torch.stack([losses.swav(a, b, p) for a, b, p in zip(h, again, c, strict=True)])
    assert torch.allclose(losses.swav(h, again, c), two, atol=1e-6)


@pytest.mark.parametrize("kind", ["simcse", "swav"])
@pytest.mark.parametrize("of", ["texts", "differences"])
def test_contrast_spreads_what_it_reads(kind, of) -> None:
    """With beta the hidden states of different texts point in more directions; a member with beta 0 is left alone."""
    x, label = pairs(32)
    x = x + 3.0  # all alike at first
    how = HeadOptions(hidden=(16,), steps=30, lr=1e-2, contrast=kind, contrast_of=of, contrast_weight=(0.0, 1.0))
    net = fit_heads(Lessons(x_SN2D=x, label_PN=label.expand(2, -1)), how, seeds=[Seeds(0)] * 2)
    h = represent(net, net.flat.detach(), x.reshape(1, 64, 5).expand(2, -1, -1))
    if of == "differences":
        h = (h[:, 0::2] - h[:, 1::2]) * torch.where(label > 0.5, 1.0, -1.0)[:, None]
    spread = torch.linalg.svdvals(torch.nn.functional.normalize(h, dim=-1))
    share = spread.square() / spread.square().sum(-1, keepdim=True)
    rank = (-(share * share.clamp(min=1e-12).log()).sum(-1)).exp()
    assert float(rank[1]) > float(rank[0])
    plain = fit_heads(Lessons(x_SN2D=x, label_PN=label[None]), HeadOptions(hidden=(16,), steps=30, lr=1e-2),
                      seeds=[Seeds(0)])
    assert torch.allclose(plain.flat[0], net.flat[0], atol=1e-5)


# --- what can go wrong -----------------------------------------------------------------------------------


def test_what_cannot_be_taught_is_refused() -> None:
    x, label = pairs()
    with pytest.raises(BadInput, match="labels of 40 pairs"):
        Lessons(x_SN2D=x, label_PN=label[None, :-1])
    with pytest.raises(BadInput, match="none for member 1"):
        Lessons(x_SN2D=x, label_PN=label.expand(2, -1), weight_PN=torch.tensor([[1.0], [0.0]]).expand(-1, 40))
    with pytest.raises(BadInput, match="one for each of 1 members"):
        fit_heads(Lessons(x_SN2D=x, label_PN=label[None]), seeds=[Seeds(0)] * 2)
    with pytest.raises(BadInput, match="at least 2 samples of each prompt"):
        MetaStep(x_SGKD=torch.zeros(1, 3, 1, 5), step_P=torch.ones(1))
    with pytest.raises(BadInput, match="a hidden layer to contrast"):
        HeadOptions(hidden=(), contrast="simcse")
