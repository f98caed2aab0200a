"""What a reward model reads of a step: named fields of an episode as one vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.tree import leaves


@dataclass(frozen=True)
class StepFeatures:
    """Fields side by side: [B, T, D]. Integers of one axis become one-hot where it is said how many there are.

    Make one from episodes with `StepFeatures.of`, which looks at the shapes.

    Example:
        >>> store = Episodes.of_transitions(obs=torch.zeros(4, 3), action=torch.tensor([0, 2, 1, 1]),
        ...                                 next_obs=torch.zeros(4, 3))
        >>> read = StepFeatures.of(store, fields=("obs", "action"), choices={"action": 3})
        >>> read.size, read(store)[1, 0].tolist()
        (6, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    """

    fields: tuple[str, ...]
    """`obs`, `action`, `next_obs`, `terminated`, or `info:KEY`."""
    sizes: tuple[int, ...]
    """How many numbers each field gives."""
    choices: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many values an integer field has, by name."""

    @staticmethod
    def of(episodes: Episodes, *, fields: Sequence[str] = ("obs", "action"),
           choices: Mapping[str, int] | None = None) -> StepFeatures:
        """The features of these fields, in this order.

        Args:
            episodes: An example.
            fields: What to read.
            choices: How many values an integer field has; integers that are not named are read as numbers.

        Raises:
            BadInput: when a field is missing.
        """
        if not fields:
            raise BadInput("fields", expected="at least one field", received="none")
        named = dict(choices or {})
        sizes = tuple(_columns(episodes, name, named.get(name)).shape[-1] for name in fields)
        return StepFeatures(tuple(fields), sizes, named)

    @property
    def size(self) -> int:
        """D."""
        return sum(self.sizes)

    def __call__(self, episodes: Episodes) -> Float[Tensor, "B T D"]:
        """The features of every step, float32.

        Raises:
            BadInput: when a field is missing or has another size.
        """
        columns = [_columns(episodes, name, self.choices.get(name)) for name in self.fields]
        for name, column, size in zip(self.fields, columns, self.sizes, strict=True):
            if column.shape[-1] != size:
                raise BadInput(f"features: {name}", expected=f"{size} numbers a step", received=column.shape[-1])
        return columns[0] if len(columns) == 1 else torch.cat(columns, -1)

    def spec(self) -> dict[str, Any]:
        """JSON from which `from_spec` makes the same."""
        return {"fields": list(self.fields), "sizes": list(self.sizes), "choices": dict(self.choices)}

    @staticmethod
    def from_spec(spec: Mapping[str, Any]) -> StepFeatures:
        """The inverse of `spec`."""
        return StepFeatures(tuple(spec["fields"]), tuple(int(n) for n in spec["sizes"]), dict(spec["choices"]))


def _columns(episodes: Episodes, name: str, choices: int | None) -> Float[Tensor, "B T d"]:
    head, _, key = name.partition(":")
    value: Any = getattr(episodes, head, None) if head != "mask" else None
    if key and value is not None:
        value = value.get(key)
    if value is None:
        raise BadInput("features", expected=f"episodes with {name}", received=repr(episodes))
    parts: list[Tensor] = []
    for _, leaf in leaves(value):
        if choices is not None and not leaf.is_floating_point() and leaf.ndim == 2:
            inside = leaf.long().clamp(0, choices - 1)
            parts.append(torch.nn.functional.one_hot(inside, choices).to(torch.float32))
        else:
            parts.append(leaf.reshape(*leaf.shape[:2], -1).to(torch.float32))
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)
