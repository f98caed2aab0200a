"""A population of multilayer perceptrons as one network: stacked weights, one batched product for all members."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from plaudit.core.errors import BadInput

Activation = Literal["tanh", "relu", "silu"]
Initialisation = Literal["orthogonal", "uniform"]
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": F.relu, "silu": F.silu}


class PopulationMLP:
    """P perceptrons of one form. Member p sees the rows `x[p]` alone and is initialised from its own generator.

    The parameters of a member lie side by side in one row of `flat` [P, W], which keeps optimisers, clipping,
    target networks and checkpoints to one tensor; `named()` shows them as `weight_0` [P, in, out], `bias_0`, ...

    Args:
        sizes: The widths, from the input to the output.
        generators: One for each member (on the CPU); their number is P. Each is advanced.
        activation: What lies between the layers.
        layer_norm: Normalises each hidden layer before its activation (Ba et al. 2016), with gain and bias.
        output_gain: The scale of the orthogonal initialisation of the last layer (Saxe et al. 2014).
        free_outputs: How many further outputs are parameters that do not depend on the input, such as a
            state-independent log standard deviation; they are appended to the output.
        free_value: Their initial value.
        initialisation: `orthogonal` (gain sqrt(2), biases 0; Saxe et al. 2014), or `uniform` within one by the root of
            the inputs, which is what torch does: hidden weights some 2.4 times smaller, no `output_gain`.
        stack: How many networks each member has, folded into P as [P * stack] (critics of an ensemble).

    Raises:
        BadInput: when a size is not positive, or the activation is unknown.

    Example:
        >>> from plaudit.core.seeds import Seeds
        >>> net = PopulationMLP((4, 8, 2), generators=[Seeds(0).child(p).torch() for p in range(3)])
        >>> net(torch.zeros(3, 5, 4)).shape
        torch.Size([3, 5, 2])
    """

    def __init__(self, sizes: Sequence[int], *, generators: Sequence[torch.Generator], activation: Activation = "tanh",
                 layer_norm: bool = False, output_gain: float = 1.0, free_outputs: int = 0, free_value: float = 0.0,
                 initialisation: Initialisation = "orthogonal", stack: int = 1,
                 device: str | torch.device = "cpu") -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise BadInput("sizes", expected="two or more positive widths", received=tuple(sizes))
        if activation not in _ACTIVATIONS:
            raise BadInput("activation", expected=f"one of {', '.join(_ACTIVATIONS)}", received=activation)
        if initialisation not in get_args(Initialisation):
            raise BadInput("initialisation", expected=f"one of {', '.join(get_args(Initialisation))}",
                           received=initialisation)
        self.sizes, self.layer_norm, self.free_outputs = tuple(sizes), layer_norm, free_outputs
        self.activation, self._act = activation, _ACTIVATIONS[activation]
        self.layout = _layout(self.sizes, layer_norm, free_outputs)
        self._lengths = [math.prod(shape) for shape in self.layout.values()]
        gains = None if initialisation == "uniform" else [math.sqrt(2)] * (len(sizes) - 2) + [output_gain]
        rows = [_initial(self.layout, gains, free_value, g) for g in generators for _ in range(stack)]
        self._views: dict[str, Tensor] | None = None
        self.flat: Float[Tensor, "P W"] = torch.stack(rows).to(device).requires_grad_()

    @property
    def P(self) -> int:
        """The number of members (times `stack`)."""
        return self.flat.shape[0]

    def select(self, members: Sequence[int]) -> PopulationMLP:
        """The networks of some members alone, as a copy."""
        out = copy.copy(self)
        out._views = None
        out.flat = self.flat.detach()[list(members)].clone()
        return out

    def named(self, flat: Float[Tensor, "P W"] | None = None) -> dict[str, Tensor]:
        """The parameters by name, as views: `weight_i` [P, in, out], `bias_i` [P, 1, out], ..."""
        flat = self.flat if flat is None else flat
        pieces = torch.split(flat, self._lengths, -1)
        return {name: piece.view(flat.shape[0], *shape)
                for (name, shape), piece in zip(self.layout.items(), pieces, strict=True)}

    def __call__(self, x: Float[Tensor, "P N D"], flat: Float[Tensor, "P W"] | None = None) -> Float[Tensor, "P N O"]:
        """The outputs of all members; `flat` replaces their parameters (target networks)."""
        part = self.standing() if flat is None and not torch.is_grad_enabled() else self.named(flat)
        rows, depth = x.shape[1], len(self.sizes) - 1
        x = in_sixteens(self.inputs(x, part))
        for i in range(depth):
            weight, bias = part[f"weight_{i}"], part[f"bias_{i}"]
            if self.sizes[i + 1] == 1:  # a product with one column is several times faster as a sum, both ways
                x = (x * weight.transpose(1, 2)).sum(-1, keepdim=True) + bias
            else:
                x = torch.baddbmm(bias, x, weight)
            if i < depth - 1:
                if self.layer_norm:
                    x = torch.addcmul(part[f"shift_{i}"], F.layer_norm(x, x.shape[-1:]), part[f"scale_{i}"])
                x = self._act(x)
        x = first_rows(x, rows)
        if self.free_outputs:
            x = torch.cat([x, part["free"].expand(-1, x.shape[1], -1)], -1)
        return x

    def inputs(self, x: Float[Tensor, "P N D"], part: dict[str, Tensor]) -> Float[Tensor, "P N F"]:
        """What the first layer reads of x; a subclass may look at parts of it first."""
        return x

    def standing(self) -> dict[str, Tensor]:
        """`named` without gradients, made once: `flat` is only ever changed in place."""
        if self._views is None:
            self._views = self.named(self.flat.detach())
        return self._views


def in_sixteens(x: Float[Tensor, "P N D"]) -> Float[Tensor, "P M D"]:
    """Rows of zeros behind it, up to a multiple of 16.

    Then what each member reads and says begins at a multiple of 64 bytes. Libraries of linear algebra round a product
    differently where it does not, and a member has to learn the same bits alone, in a population and in a part of one.

    Example:
        >>> in_sixteens(torch.ones(2, 3, 4)).shape
        torch.Size([2, 16, 4])
    """
    missing = -x.shape[1] % 16
    return F.pad(x, (0, 0, 0, missing)) if missing else x


def first_rows(x: Float[Tensor, "P M D"], rows: int) -> Float[Tensor, "P N D"]:
    """Without the rows that `in_sixteens` put behind it."""
    return x if x.shape[1] == rows else x[:, :rows].contiguous()


def _layout(sizes: tuple[int, ...], layer_norm: bool, free_outputs: int) -> dict[str, tuple[int, ...]]:
    layout: dict[str, tuple[int, ...]] = {}
    for i, (inner, outer) in enumerate(zip(sizes, sizes[1:], strict=False)):
        layout[f"weight_{i}"], layout[f"bias_{i}"] = (inner, outer), (1, outer)
        if layer_norm and i < len(sizes) - 2:
            layout[f"scale_{i}"], layout[f"shift_{i}"] = (1, outer), (1, outer)
    if free_outputs:
        layout["free"] = (1, free_outputs)
    return layout


def _initial(layout: Mapping[str, tuple[int, ...]], gains: Sequence[float] | None, free_value: float,
             generator: torch.Generator) -> Float[Tensor, "D"]:
    """Orthogonal weights with the gain of each layer; without gains uniform weights and biases."""
    parts: list[Tensor] = []
    for name, shape in layout.items():
        kind, _, index = name.partition("_")
        part = torch.zeros(shape)
        if kind in ("weight", "bias") and gains is None:
            bound = layout[f"weight_{index}"][0] ** -0.5
            part.uniform_(-bound, bound, generator=generator)
        elif kind == "weight" and gains is not None:
            torch.nn.init.orthogonal_(part, gains[int(index)], generator=generator)
        elif kind == "scale":
            part.fill_(1.0)
        elif kind == "free":
            part.fill_(free_value)
        parts.append(part.flatten())
    return torch.cat(parts)
