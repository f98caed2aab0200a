"""Scores of whole fragments and their gradient, written out for stacked perceptrons.

The score of a fragment is a weighted sum over its steps of what a network says of each. So the last layer can be
applied after the sum, and all steps of a fragment share one output gradient: two of the large passes of automatic
differentiation fall away, and no graph is kept. What lies between the layers is written into the same memory again
and again, since asking the system for fresh pages costs twice the arithmetic. The tests compare with automatic
differentiation.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.stacked import PopulationMLP


class FragmentScorer:
    """Scores of F fragments of L steps for K networks, N = F * L, and the gradient of the last scores.

    Args:
        net: Its output has one column.

    Example:
        >>> from plaudit.core.seeds import Seeds
        >>> net = PopulationMLP((2, 4, 1), generators=[Seeds(0).torch()], activation="relu")
        >>> scorer = FragmentScorer(net)
        >>> score = scorer(torch.ones(1, 6, 2), torch.ones(1, 3, 2))
        >>> scorer.backward(torch.ones(1, 3))
        >>> score.shape, net.flat.grad.shape == net.flat.shape
        (torch.Size([1, 3]), True)
    """

    def __init__(self, net: PopulationMLP) -> None:
        self.net = net
        self.written_out = net.activation in ("relu", "tanh") and not net.layer_norm and not net.free_outputs
        self._rooms: dict[tuple[int, ...], Tensor] = {}
        self._last: tuple[Tensor, ...] = ()

    def __call__(self, x: Float[Tensor, "K N D"], weight: Float[Tensor, "K F L"]) -> Float[Tensor, "K F"]:
        """The scores.

        Args:
            x: The steps, fragment by fragment.
            weight: What each step counts in the sum; 0 for steps that only pad.
        """
        if not self.written_out:
            with torch.enable_grad():
                score = (self.net(x)[..., 0].view(weight.shape) * weight).sum(-1)
            self._last = (score,)
            return score.detach()
        with torch.no_grad():
            return self._forward(x, weight)

    def backward(self, grad_KF: Float[Tensor, "K F"]) -> None:
        """Puts the gradient of the parameters into `net.flat.grad`, from that of the last scores."""
        if not self.written_out:
            self.net.flat.grad = None
            self._last[0].backward(grad_KF)
            return
        with torch.no_grad():
            self._backward(grad_KF, *self._last)

    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        part, last = self.net.named(self.net.flat.detach()), len(self.net.sizes) - 2
        K, F, L = weight.shape
        hidden = [x]
        for i in range(last):
            z = torch.baddbmm(part[f"bias_{i}"], hidden[-1], part[f"weight_{i}"],
                              out=self._room(i, K, F * L, self.net.sizes[i + 1]))
            hidden.append(z.relu_() if self.net.activation == "relu" else z.tanh_())
        pooled = torch.bmm(weight.reshape(K * F, 1, L), hidden[-1].view(K * F, L, -1)).view(K, F, -1)
        total = weight.sum(-1)
        self._last = (weight, pooled, total, *hidden)
        return torch.bmm(pooled, part[f"weight_{last}"])[..., 0] + part[f"bias_{last}"][..., 0] * total

    def _backward(self, grad_KF: Tensor, weight: Tensor, pooled: Tensor, total: Tensor, *hidden: Tensor) -> None:
        net, last = self.net, len(self.net.sizes) - 2
        part, grad = net.named(net.flat.detach()), torch.empty_like(net.flat)
        into = net.named(grad)
        into[f"weight_{last}"].copy_(torch.bmm(pooled.transpose(1, 2), grad_KF.unsqueeze(-1)))
        into[f"bias_{last}"].copy_((grad_KF * total).sum(-1)[:, None, None])
        net.flat.grad = grad
        if not last:
            return
        K, F, L = weight.shape
        step = (grad_KF.unsqueeze(-1) * weight).view(K, F * L, 1)
        d = self._room(-1, K, F * L, net.sizes[last])
        self._through(torch.mul(step, part[f"weight_{last}"].transpose(1, 2), out=d), hidden[last])
        for i in range(last - 1, -1, -1):
            into[f"weight_{i}"].copy_(torch.bmm(hidden[i].transpose(1, 2), d))
            into[f"bias_{i}"].copy_(d.sum(1, keepdim=True))
            if i:
                below = self._room(-1 - (last - i) % 2, K, F * L, net.sizes[i])
                d = self._through(torch.bmm(d, part[f"weight_{i}"].transpose(1, 2), out=below), hidden[i])

    def _through(self, d: Tensor, out: Tensor) -> Tensor:
        """The gradient before an activation, in place of that behind it."""
        if self.net.activation == "relu":
            return torch.ops.aten.threshold_backward.grad_input(d, out, 0, grad_input=d)
        return torch.ops.aten.tanh_backward.grad_input(d, out, grad_input=d)

    def _room(self, *key: int) -> Tensor:
        """Memory that is written over at the next call: (what for, *shape)."""
        room = self._rooms.get(key)
        if room is None:
            if len(self._rooms) > 24:  # few shapes come back; do not hold on to those that do not
                self._rooms.clear()
            room = self._rooms[key] = torch.empty(key[1:], device=self.net.flat.device)
        return room
