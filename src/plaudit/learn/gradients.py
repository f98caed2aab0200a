"""Scores of whole fragments and their gradient, written out for stacked perceptrons.

The score of a fragment is a weighted sum over its steps of what a network says of each. So the last layer can be
applied after the sum, and all steps of a fragment share one output gradient: two of the large passes of automatic
differentiation fall away, and no graph is kept. The tests compare with automatic differentiation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.stacked import PopulationMLP

Backward = Callable[[Tensor], None]
"""Takes the gradient of the scores [K, F] and puts that of the parameters into `net.flat.grad`."""


def fragment_scores(net: PopulationMLP, x: Float[Tensor, "K N D"],
                    weight: Float[Tensor, "K F L"]) -> tuple[Float[Tensor, "K F"], Backward]:
    """Scores of F fragments of L steps each for K networks, N = F * L.

    Args:
        net: Its output has one column.
        x: The steps, fragment by fragment.
        weight: What each step counts in the sum; 0 for steps that only pad.

    Returns:
        The scores, and what turns their gradient into that of the parameters.
    """
    if net.activation not in ("relu", "tanh") or net.layer_norm or net.free_outputs:
        return _by_autograd(net, x, weight)
    with torch.no_grad():
        return _written_out(net, x, weight)


def _by_autograd(net: PopulationMLP, x: Tensor, weight: Tensor) -> tuple[Tensor, Backward]:
    with torch.enable_grad():
        score = (net(x)[..., 0].view(weight.shape) * weight).sum(-1)
    return score.detach(), lambda grad_KF: score.backward(grad_KF)


def _written_out(net: PopulationMLP, x: Tensor, weight: Tensor) -> tuple[Tensor, Backward]:
    part, depth = net.named(net.flat.detach()), len(net.sizes) - 1
    K, F, L = weight.shape
    hidden = [x]
    for i in range(depth - 1):
        z = torch.baddbmm(part[f"bias_{i}"], hidden[-1], part[f"weight_{i}"])
        hidden.append(z.relu_() if net.activation == "relu" else z.tanh_())
    top = hidden[-1].view(K * F, L, -1)
    pooled = torch.bmm(weight.reshape(K * F, 1, L), top).view(K, F, -1)
    total = weight.sum(-1)
    last = depth - 1
    score = torch.bmm(pooled, part[f"weight_{last}"])[..., 0] + part[f"bias_{last}"][..., 0] * total

    @torch.no_grad()
    def backward(grad_KF: Tensor) -> None:
        grad = torch.empty_like(net.flat)
        into = net.named(grad)
        into[f"weight_{last}"].copy_(torch.bmm(pooled.transpose(1, 2), grad_KF.unsqueeze(-1)))
        into[f"bias_{last}"].copy_((grad_KF * total).sum(-1)[:, None, None])
        if last:
            step = (grad_KF.unsqueeze(-1) * weight).view(K, F * L, 1)
            d = _through(net.activation, step * part[f"weight_{last}"].transpose(1, 2), hidden[last])
            for i in range(last - 1, -1, -1):
                into[f"weight_{i}"].copy_(torch.bmm(hidden[i].transpose(1, 2), d))
                into[f"bias_{i}"].copy_(d.sum(1, keepdim=True))
                if i:
                    d = _through(net.activation, torch.bmm(d, part[f"weight_{i}"].transpose(1, 2)), hidden[i])
        net.flat.grad = grad

    return score, backward


def _through(activation: str, d: Tensor, out: Tensor) -> Tensor:
    """The gradient before an activation from that behind it and its output."""
    if activation == "relu":
        return torch.ops.aten.threshold_backward(d, out, 0)
    return torch.ops.aten.tanh_backward(d, out)
