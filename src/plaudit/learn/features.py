"""What a reward model reads of a step: named fields of an episode as one vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
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
    def of(episodes: Episodes, *, fields: str | Sequence[str] = ("obs", "action"),
           choices: Mapping[str, int] | None = None) -> StepFeatures:
        """The features of these fields, in this order.

        Args:
            episodes: An example.
            fields: What to read; a string is one field.
            choices: How many values an integer field has; integers that are not named are read as numbers.

        Raises:
            BadInput: when a field is missing, or choices are of no integer field, or fewer than its values.
        """
        if not fields:
            raise BadInput("fields", expected="at least one field", received="none")
        read = (fields,) if isinstance(fields, str) else tuple(fields)
        named = dict(choices or {})
        for name, count in named.items():
            if name not in read:
                raise BadInput("choices", expected=f"counts of the fields that are read: {', '.join(read)}",
                               received=name)
            if count < 1 or not any(_one_hot(leaf) for leaf in _leaves(episodes, name)):
                raise BadInput(f"choices: {name}", expected="a count >= 1, of a field that holds one integer a step",
                               received=count)
        sizes = tuple(_columns(episodes, name, named.get(name)).shape[-1] for name in read)
        found = StepFeatures(read, sizes, named)
        found.check(episodes)
        return found

    @property
    def size(self) -> int:
        """D."""
        return sum(self.sizes)

    def __call__(self, episodes: Episodes) -> Float[Tensor, "B T D"]:
        """The features of every step, float32; NaN where an integer is none of its choices.

        Raises:
            BadInput: when a field is missing or has another size.
        """
        columns = [_columns(episodes, name, self.choices.get(name)) for name in self.fields]
        for name, column, size in zip(self.fields, columns, self.sizes, strict=True):
            if column.shape[-1] != size:
                raise BadInput(f"features: {name}", expected=f"{size} numbers a step", received=column.shape[-1])
        return columns[0] if len(columns) == 1 else torch.cat(columns, -1)

    def outside(self, episodes: Episodes) -> dict[str, Bool[Tensor, "B T"]]:
        """The steps at which a field is none of its choices, by a sentence that says so."""
        found = dict[str, Bool[Tensor, "B T"]]()
        for name, count in self.choices.items():
            for leaf in _leaves(episodes, name):
                if _one_hot(leaf):
                    reason = f"{name} is no integer from 0 to {count - 1}"
                    away = _outside(leaf, count) & episodes.mask.to(leaf.device)
                    found[reason] = found[reason] | away if reason in found else away
        return found

    def check(self, episodes: Episodes) -> None:
        """Refuses episodes in which a field is none of its choices.

        Raises:
            BadInput: when there is such a step.
        """
        for reason, steps in self.outside(episodes).items():
            if bool(steps.any()):
                row, step = (int(i) for i in steps.nonzero()[0])
                raise BadInput("choices", expected="as many as the field has values, which count from 0",
                               received=f"{reason} at {int(steps.sum())} steps, first in row {row} at step {step}")

    def spec(self) -> dict[str, Any]:
        """JSON from which `from_spec` makes the same."""
        return {"fields": list(self.fields), "sizes": list(self.sizes), "choices": dict(self.choices)}

    @staticmethod
    def from_spec(spec: Mapping[str, Any]) -> StepFeatures:
        """The inverse of `spec`."""
        return StepFeatures(tuple(spec["fields"]), tuple(int(n) for n in spec["sizes"]), dict(spec["choices"]))


def _leaves(episodes: Episodes, name: str) -> Iterator[Tensor]:
    """The tensors of a field."""
    head, _, key = name.partition(":")
    value: Any = getattr(episodes, head, None) if head != "mask" else None
    if key and value is not None:
        value = value.get(key)
    if value is None:
        raise BadInput("features", expected=f"episodes with {name}", received=repr(episodes))
    for _, leaf in leaves(value):
        yield leaf


def _one_hot(leaf: Tensor) -> bool:
    """Whether it can be one of some choices: one integer a step."""
    return not leaf.is_floating_point() and leaf.ndim == 2


def _outside(leaf: Tensor, choices: int) -> Bool[Tensor, "B T"]:
    return (leaf < 0) | (leaf >= choices)


def _columns(episodes: Episodes, name: str, choices: int | None) -> Float[Tensor, "B T d"]:
    parts: list[Tensor] = []
    for leaf in _leaves(episodes, name):
        if choices is not None and _one_hot(leaf):
            inside = torch.nn.functional.one_hot(leaf.long().clamp(0, choices - 1), choices).to(torch.float32)
            away = _outside(leaf, choices) & episodes.mask.to(leaf.device)
            parts.append(inside.masked_fill(away.unsqueeze(-1), torch.nan))
        else:
            parts.append(leaf.reshape(*leaf.shape[:2], -1).to(torch.float32))
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)
