"""Networks that attend: the agent looks at the things about it, in any order, for a population at once.

Source: the cross-attention of Perceiver (Jaegle et al. 2021), in the form that Lucy-SKG (Moschopoulos et al. 2023,
arXiv 2305.15801) and Necto use it: one query from the own car and its last actions; ball, cars and pads as keys and
values. Widths and the number of heads are not in the paper's text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.errors import BadInput
from plaudit.optimize.rl.networks import PopulationMLP
from plaudit.tasks.base import Task
from plaudit.tasks.entities import Entities

HEADS = 4
"""How many things the agent can attend to at a time."""


class PopulationAttention(PopulationMLP):
    """P networks that embed the query and every thing, attend from the one to the others, and go on as perceptrons.

    Inputs are rows of numbers [P, N, D], as for `PopulationMLP`. All things of a kind share an embedding, so their
    order changes nothing. The perceptron reads the embedded query beside what it attended to; all are as wide as its
    first hidden layer. The further parameters follow the perceptron's in `flat`, initialised orthogonally.

    Args:
        sizes: The widths, from the input to the output, with at least one hidden layer.
        entities: What the columns of the input belong to.
        generators: One for each member.
        stack: How many networks each member has.
        device: Where the parameters live.
        **options: Those of `PopulationMLP`.

    Raises:
        BadInput: without a hidden layer of a width that the heads divide, or for columns that the input lacks.

    Example:
        >>> from plaudit.core.seeds import Seeds
        >>> from plaudit.tasks.car_soccer import CarSoccer
        >>> net = PopulationAttention((28, 16, 2), entities=CarSoccer().entities,
        ...                           generators=[Seeds(p).torch() for p in range(3)])
        >>> net(torch.zeros(3, 5, 28)).shape
        torch.Size([3, 5, 2])
    """

    def __init__(self, sizes: Sequence[int], *, entities: Entities, generators: Sequence[torch.Generator],
                 stack: int = 1, device: str | torch.device = "cpu", **options: Any) -> None:
        if len(sizes) < 3 or sizes[1] % HEADS:
            raise BadInput("sizes", expected=f"a first hidden layer of a multiple of {HEADS} units",
                           received=tuple(sizes))
        used = [*entities.query, *(c for kind in entities.kinds.values() for thing in kind.columns for c in thing)]
        if not entities.query or not entities.kinds or min(used) < 0 or max(used) >= sizes[0]:
            raise BadInput("entities", expected=f"a query and things in the columns 0 ... {sizes[0] - 1}",
                           received=entities)
        width = sizes[1]
        super().__init__((2 * width, *sizes[1:]), generators=generators, stack=stack, device=device, **options)
        self._query = torch.tensor(entities.query, device=device)
        self._things = [torch.tensor(kind.columns, device=device) for kind in entities.kinds.values()]
        self._constants = [torch.tensor(kind.constants, device=device) if kind.constants else None
                           for kind in entities.kinds.values()]
        widths = {"query": len(entities.query), **{f"kind_{i}": k.width for i, k in enumerate(entities.kinds.values())}}
        further: dict[str, tuple[int, ...]] = {}
        for name, inner in widths.items():
            further[f"embed_{name}"], further[f"offset_{name}"] = (inner, width), (1, width)
        further |= {f"attend_{name}": (width, width) for name in ("query", "key", "value")}
        self.layout = {**self.layout, **further}
        self._lengths = [math.prod(shape) for shape in self.layout.values()]
        rows = torch.stack([_initial(further, g) for g in generators for _ in range(stack)]).to(device)
        self.flat = torch.cat([self.flat.detach(), rows], -1).requires_grad_()

    def inputs(self, x: Float[Tensor, "P N D"], part: dict[str, Tensor]) -> Float[Tensor, "P N F"]:
        P, N = x.shape[:2]
        query = self._embed(x.index_select(-1, self._query), "query", part)
        things = torch.cat([self._embed(seen, f"kind_{i}", part).view(P, N, -1, query.shape[-1])
                            for i, seen in enumerate(self._seen(x))], 2)
        heads = {name: part[f"attend_{name}"].unflatten(-1, (HEADS, -1)).transpose(1, 2)
                 for name in ("query", "key", "value")}  # [P, H, W, C]
        # q . (e K) = (q K^T) . e, and the sum of shares times e V is that of shares times e, times V: with one query
        # the products with K and V are of the query and of the sum, not of every thing
        asked = torch.matmul(torch.matmul(query.unsqueeze(1), heads["query"]), heads["key"].mT).transpose(1, 2)
        share = torch.softmax(torch.matmul(asked, things.mT) / math.sqrt(heads["key"].shape[-1]), -1)
        found = torch.matmul(torch.matmul(share, things).transpose(1, 2), heads["value"])
        return torch.cat([query, found.transpose(1, 2).flatten(-2)], -1)

    def _seen(self, x: Float[Tensor, "P N D"]) -> list[Float[Tensor, "P M F"]]:
        """The numbers of the things of each kind, M = N * things."""
        P, N = x.shape[:2]
        out: list[Tensor] = []
        for columns, constants in zip(self._things, self._constants, strict=True):
            seen = x[..., columns]
            if constants is not None:
                seen = torch.cat([seen, constants.to(x.dtype).expand(P, N, -1, -1)], -1)
            out.append(seen.flatten(1, 2))
        return out

    def _embed(self, x: Float[Tensor, "P M F"], name: str, part: dict[str, Tensor]) -> Float[Tensor, "P M W"]:
        return self._act(torch.baddbmm(part[f"offset_{name}"], x, part[f"embed_{name}"]))


def entities_of(task: Task) -> Entities:
    """What a task says of its observations.

    Raises:
        BadInput: when it says nothing.
    """
    found = getattr(task, "entities", None)
    if not isinstance(found, Entities):
        raise BadInput("config.network", expected=f"perceptron: {task.name} does not say what its numbers belong to",
                       received="attention", fix="give the task an attribute `entities` (plaudit.tasks.entities)")
    return found


def _initial(further: dict[str, tuple[int, ...]], generator: torch.Generator) -> Float[Tensor, "W"]:
    parts: list[Tensor] = []
    for name, shape in further.items():
        part = torch.zeros(shape)
        if not name.startswith("offset"):
            gain = math.sqrt(2) if name.startswith("embed") else 1.0
            torch.nn.init.orthogonal_(part, gain, generator=generator)
        parts.append(part.flatten())
    return torch.cat(parts)
