"""What a stacked network says and the gradients of it, written out: no graph, and memory that is used again.

A step of learning calls the same networks on batches of one shape, thousands of times. What lies between the layers
is therefore written into the same memory each time (asking the system for fresh pages costs more than the
activations), gradients go to their place in `flat.grad`, and only those are computed that were asked for: of the
parameters, or of some inputs. The tests compare with automatic differentiation.

What a product is made of, and where it goes, is aligned alike for each member, and a product with one column is a sum:
then a member learns the same bits alone, in a population and in a part of one (see `in_sixteens`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.core.stacked import PopulationMLP, first_rows, in_sixteens

_EPS = 1e-5
"""What `torch.nn.functional.layer_norm` adds to a variance."""


class _Layer(NamedTuple):
    """What a layer has seen and said; rows P, N."""

    weight: Tensor
    x: Tensor
    scale: Tensor | None
    """Gain of the layer norm, and what it multiplied, its mean and its reciprocal standard deviation."""
    normed: tuple[Tensor, Tensor, Tensor] | None
    affine: Tensor | None
    """What was normalised."""
    out: Tensor


class Passes:
    """Calls a network, and differentiates the last call that was made.

    Where the network convolves, ends in free outputs or has another activation than tanh or relu, automatic
    differentiation does the same.

    Args:
        net: Its `flat` gets the gradients.

    Example:
        >>> from plaudit.core.seeds import Seeds
        >>> net = PopulationMLP((3, 4, 2), generators=[Seeds(0).torch()], activation="relu")
        >>> passes = Passes(net)
        >>> y = passes(torch.ones(1, 5, 3), inputs=2)
        >>> passes.input_gradient(torch.ones(1, 5, 2)).shape
        torch.Size([1, 5, 2])
        >>> passes.backward(torch.ones(1, 5, 2))
        >>> net.flat.grad.shape == net.flat.shape
        True
    """

    def __init__(self, net: PopulationMLP) -> None:
        self.net = net
        self.written_out = type(net) is PopulationMLP and net.activation in ("relu", "tanh") and not net.free_outputs
        self._rooms: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self._layers: list[_Layer] = []
        self._graph: tuple[Tensor, Tensor, Tensor] | None = None
        self._inputs = self._rows = 0

    def __call__(self, x: Float[Tensor, "P N D"], flat: Float[Tensor, "P W"] | None = None, *,
                 inputs: int = 0) -> Float[Tensor, "P N O"]:
        """The outputs, without a graph; they hold until the next call.

        Args:
            x: What the network reads.
            flat: Replaces the parameters (target networks).
            inputs: Of how many of the last columns of x `input_gradient` will be asked.
        """
        self._inputs, self._layers, self._graph = inputs, [], None
        if not self.written_out:
            return self._by_graph(x, flat)
        with torch.no_grad():
            part = self.net.standing() if flat is None else self.net.named(flat.detach())
            last, self._rows = len(self.net.sizes) - 2, x.shape[1]
            x = in_sixteens(x)
            for i in range(last + 1):
                x = self._layer(i, x, part, hidden=i < last)
        return first_rows(x, self._rows)

    @torch.no_grad()
    def backward(self, grad: Float[Tensor, "P N O"]) -> None:
        """Puts the gradient of the parameters into `net.flat.grad`, from that of the outputs of the last call.

        Raises:
            BadInput: before the first call, or after one that kept no graph.
        """
        flat = self.net.flat
        if self._graph is not None:
            flat.grad = torch.autograd.grad(self._graph[0], self._graph[2], grad, retain_graph=True)[0]
            return
        if not self._layers:
            raise BadInput("backward", expected="a call whose outputs are differentiated", received="none",
                           fix="call the network first, outside torch.no_grad()")
        flat.grad = self._aligned_room("gradient", flat.shape)
        self._down(in_sixteens(grad), self.net.named(flat.grad))

    @torch.no_grad()
    def input_gradient(self, grad: Float[Tensor, "P N O"]) -> Float[Tensor, "P N K"]:
        """The gradient of the last `inputs` columns, from that of the outputs of the last call.

        Raises:
            BadInput: when that call did not announce any.
        """
        if self._inputs < 1:
            raise BadInput("input_gradient", expected="a call that says how many inputs", received=self._inputs,
                           fix="call the network with inputs=")
        if self._graph is not None:
            return torch.autograd.grad(self._graph[0], self._graph[1], grad, retain_graph=True)[0]
        first = self._layers[0].weight[:, -self._inputs:]
        d = self._down(in_sixteens(grad), None)
        if self._inputs == 1:
            of_inputs = torch.mul(d, first, out=self._room("product", d.shape)).sum(-1, keepdim=True)
        else:
            of_inputs = torch.bmm(d, first.transpose(1, 2))
        return first_rows(of_inputs, self._rows)

    def _layer(self, i: int, x: Tensor, part: dict[str, Tensor], *, hidden: bool) -> Tensor:
        weight, bias = part[f"weight_{i}"], part[f"bias_{i}"]
        z = self._room(f"layer {i}", (*x.shape[:2], weight.shape[-1]))
        if weight.shape[-1] == 1:  # a product with one column is several times faster as a sum
            product = torch.mul(x, weight.transpose(1, 2), out=self._room("product", x.shape))
            torch.add(product.sum(-1, keepdim=True), bias, out=z)
        else:
            torch.baddbmm(bias, x, weight, out=z)
        normed, affine, scale = None, None, None
        if hidden and self.net.layer_norm:
            affine, scale = z, part[f"scale_{i}"]
            normed = torch.native_layer_norm(affine, affine.shape[-1:], None, None, _EPS)
            z = torch.addcmul(part[f"shift_{i}"], normed[0], scale, out=self._room(f"normed {i}", affine.shape))
        if hidden:
            z = z.relu_() if self.net.activation == "relu" else z.tanh_()
        self._layers.append(_Layer(weight, x, scale, normed, affine, z))
        return z

    def _down(self, d: Tensor, into: dict[str, Tensor] | None) -> Tensor:
        """Writes the gradients of the parameters; returns that of what the first layer says, before activation."""
        last = len(self._layers) - 1
        for i in range(last, -1, -1):
            layer = self._layers[i]
            if i < last:
                d = self._before_activation(i, d, layer, into)
            if into is not None:
                self._of_weights(layer.x, d, out=into[f"weight_{i}"])
                torch.sum(d, 1, keepdim=True, out=into[f"bias_{i}"])
            if i:
                below = self._room(f"down {i % 2}", layer.x.shape)
                product = torch.mul if d.shape[-1] == 1 else torch.bmm
                d = product(d, layer.weight.transpose(1, 2), out=below)
        return d

    def _of_weights(self, x: Tensor, d: Tensor, *, out: Tensor) -> None:
        """The gradient of a layer's weights, from what it read and from the gradient of what it said."""
        if d.shape[-1] == 1:
            torch.sum(torch.mul(x, d, out=self._room("product", x.shape)), 1, out=out.squeeze(-1))
        else:
            aligned = out.data_ptr() % 64 == 0 and out.stride(0) % 16 == 0
            room = out if aligned else self._aligned_room("weights", (len(out), out[0].numel())).view(out.shape)
            torch.bmm(x.transpose(1, 2), d, out=room)
            if not aligned:
                out.copy_(room)

    def _before_activation(self, i: int, d: Tensor, layer: _Layer, into: dict[str, Tensor] | None) -> Tensor:
        """The gradient of what a layer says before norm and activation, from that behind them."""
        if self.net.activation == "relu":
            torch.ops.aten.threshold_backward.grad_input(d, layer.out, 0, grad_input=d)
        else:
            torch.ops.aten.tanh_backward.grad_input(d, layer.out, grad_input=d)
        if layer.normed is None or layer.affine is None or layer.scale is None:
            return d
        normal, mean, rstd = layer.normed
        if into is not None:
            product = torch.mul(d, normal, out=self._room("product", d.shape))
            torch.sum(product, 1, keepdim=True, out=into[f"scale_{i}"])
            torch.sum(d, 1, keepdim=True, out=into[f"shift_{i}"])
        return torch.ops.aten.native_layer_norm_backward(
            d.mul_(layer.scale), layer.affine, layer.affine.shape[-1:], mean, rstd, None, None, [True, False, False])[0]

    def _by_graph(self, x: Tensor, flat: Tensor | None) -> Tensor:
        if not torch.is_grad_enabled():
            return self.net(x, flat)
        columns = x[..., x.shape[-1] - self._inputs:].detach().requires_grad_(self._inputs > 0)
        x = torch.cat([x[..., :x.shape[-1] - self._inputs], columns], -1) if self._inputs else x
        out = self.net(x, flat)
        self._graph = (out, columns, self.net.flat)
        return out.detach()

    def _aligned_room(self, what: str, shape: Sequence[int]) -> Tensor:
        """A room [P, W] in which the part of each member begins at a multiple of 64 bytes."""
        P, W = shape
        return self._room(what, (P, W + -W % 16))[:, :W]

    def _room(self, what: str, shape: Sequence[int]) -> Tensor:
        """Memory that is written over at the next call."""
        key = (what, tuple(shape))
        room = self._rooms.get(key)
        if room is None:
            if len(self._rooms) > 64:  # few shapes come back; do not hold on to those that do not
                self._rooms.clear()
            room = torch.empty(key[1], dtype=self.net.flat.dtype, device=self.net.flat.device)
            self._rooms[key] = room
        return room
