"""Written-out passes beside automatic differentiation, in float64."""

from __future__ import annotations

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.core.stacked import PopulationMLP
from plaudit.core.stacked_passes import Passes

P, N, K = 3, 7, 2
FORMS = [{}, {"activation": "relu"}, {"layer_norm": True}, {"activation": "relu", "layer_norm": True},
         {"activation": "silu"}, {"free_outputs": 2}, {"activation": "relu", "stack": 2}]


def generators(n=P):
    return [Seeds(0).child(p).torch() for p in range(n)]


def doubled(net):
    """The same network in float64, every parameter away from its initial 0 or 1."""
    noise = torch.rand(net.flat.shape, generator=Seeds(1).torch(), dtype=torch.float64)
    net.flat = (net.flat.detach().double() + 0.2 * noise).requires_grad_()
    return net


def inputs(net, columns):
    return torch.rand(net.P, N, columns, generator=Seeds(2).torch(), dtype=torch.float64) - 0.5


def by_graph(net, x, grad, flat=None):
    """The outputs, and the gradients of the parameters and of the inputs."""
    x = x.clone().requires_grad_()
    out = net(x, flat)
    return out.detach(), *torch.autograd.grad(out, [net.flat if flat is None else flat, x], grad)


@pytest.mark.parametrize("sizes", [(5, 4), (5, 1), (5, 6, 4), (5, 8, 6, 1)])
@pytest.mark.parametrize("form", FORMS)
def test_outputs_and_gradients_are_those_of_automatic_differentiation(sizes, form):
    net = doubled(PopulationMLP(sizes, generators=generators(), **form))
    passes, x = Passes(net), inputs(net, 5)
    for turn in range(2):  # the memory of the first call is written over by the second
        out = passes(x + turn, inputs=K)
        grad = torch.rand(out.shape, generator=Seeds(3).child(turn).torch(), dtype=torch.float64)
        expected, flat, of_x = by_graph(net, x + turn, grad)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(passes.input_gradient(grad), of_x[..., -K:], rtol=0, atol=1e-6)
        out = passes(x + turn, inputs=K)
        passes.backward(grad)
        torch.testing.assert_close(net.flat.grad, flat, rtol=0, atol=1e-6)
        assert float(flat.abs().max()) > 1e-2, "a gradient of zeros would prove nothing"


@pytest.mark.parametrize("sizes", [(3, 64, 64, 1), (17, 33, 6), (5, 7, 2), (4, 64, 1)])
@pytest.mark.parametrize("rows", [1, 2, 50, 64])
def test_a_member_computes_the_same_bits_alone_and_among_others(sizes, rows):
    """Where the memory of a member begins must not matter: linear algebra rounds by it."""
    net, columns = PopulationMLP(sizes, generators=generators(5), activation="relu"), min(K, sizes[0])
    x = torch.rand(5, rows, sizes[0], generator=Seeds(2).torch())
    grad = torch.rand(5, rows, sizes[-1], generator=Seeds(3).torch())
    for k in (1, columns):
        among = differentiated(net, x, grad, k)
        for members in ([0], [3], [1, 4], [2, 3, 4]):
            alone = differentiated(net.select(members), x[members], grad[members], k)
            assert all(torch.equal(a[members], b) for a, b in zip(among, alone, strict=True))


def differentiated(net, x, grad, columns):
    """Outputs with and without the graph's network, and the gradients of the parameters and of the last inputs."""
    passes = Passes(net)
    with torch.no_grad():
        plain = net(x)
    out = passes(x, inputs=columns).clone()
    of_x = passes.input_gradient(grad).clone()
    passes(x, inputs=columns)
    passes.backward(grad)
    return plain, out, of_x, net.flat.grad


def test_other_parameters_may_take_the_place_of_the_networks_own():
    """Also those of a part of the stack, and an output that another call writes over stays right until then."""
    net = doubled(PopulationMLP((5, 8, 1), generators=generators(), activation="relu", stack=2))
    passes, first = Passes(net), net.flat.detach().view(P, 2, -1)[:, 0].requires_grad_()
    passes(inputs(net, 5))
    x = inputs(net, 5)[:P]
    out, grad = passes(x, first, inputs=K), torch.ones(P, N, 1, dtype=torch.float64)
    expected, _, of_x = by_graph(net, x, grad, first)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(passes.input_gradient(grad), of_x[..., -K:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_asking_for_a_gradient_that_no_call_prepared_is_refused(activation):
    passes = Passes(PopulationMLP((3, 4, 1), generators=generators(1), activation=activation))
    with pytest.raises(BadInput, match="call the network first"):
        passes.backward(torch.ones(1, 2, 1))
    passes(torch.ones(1, 2, 3))
    with pytest.raises(BadInput, match="inputs"):
        passes.input_gradient(torch.ones(1, 2, 1))
