from __future__ import annotations

import pytest
import torch

from plaudit.core.seeds import Seeds
from plaudit.core.stacked import Activation, PopulationMLP
from plaudit.learn.gradients import FragmentScorer


def network(sizes: tuple[int, ...], activation: Activation, P: int = 3) -> PopulationMLP:
    return PopulationMLP(sizes, generators=[Seeds(0).child(p).torch() for p in range(P)], activation=activation)


@pytest.mark.parametrize("sizes", [(4, 1), (4, 8, 1), (4, 8, 6, 1), (4, 8, 6, 5, 1)])
@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
def test_the_gradient_written_out_is_that_of_autograd(sizes: tuple[int, ...], activation: Activation) -> None:
    net, generator = network(sizes, activation), Seeds(1).torch()
    scorer = FragmentScorer(net)
    for F, L in ((5, 7), (2, 1), (5, 7)):  # the same memory is used again
        x = torch.randn(3, F * L, 4, generator=generator)
        weight = torch.rand(3, F, L, generator=generator) * (torch.rand(3, F, L, generator=generator) > 0.2)
        grad = torch.randn(3, F, generator=generator)
        expected = (net(x)[..., 0].view(3, F, L) * weight).sum(-1)
        (wanted,) = torch.autograd.grad((expected * grad).sum(), net.flat)
        score = scorer(x, weight)
        scorer.backward(grad)
        assert torch.allclose(score, expected.detach(), atol=1e-5)
        assert net.flat.grad is not None and torch.allclose(net.flat.grad, wanted, atol=1e-4)


def test_steps_that_only_pad_teach_nothing() -> None:
    net = network((4, 8, 1), "relu")
    scorer, weight = FragmentScorer(net), torch.tensor([1.0, 1.0, 0.0]).expand(3, 2, 3)
    found = []
    for pad in (0.0, 1e3):
        x = torch.ones(3, 6, 4)
        x[:, 2::3] = pad
        score = scorer(x, weight)
        scorer.backward(torch.ones(3, 2))
        assert net.flat.grad is not None
        found.append((score.clone(), net.flat.grad.clone()))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
