"""The checked border between plaudit and a function that somebody wrote: what goes in, what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from plaudit.core.errors import BadInput

Backend = Literal["auto", "torch", "numpy"]
_RESULT = "the result"


@dataclass(frozen=True)
class Answer:
    """What a function returned, as tensors of one shape."""

    value: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    why: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    @staticmethod
    def stack(rows: Sequence[Answer]) -> Answer:
        """N answers for one transition each, as one answer for N."""
        names = list(rows[0].terms)
        for row in rows:
            if list(row.terms) != names:
                raise BadInput("terms", expected=f"the same names at each transition: {names}",
                               received=list(row.terms))
        no = torch.zeros((), dtype=torch.bool, device=rows[0].value.device)
        return Answer(torch.stack([r.value for r in rows]), {n: torch.stack([r.terms[n] for r in rows]) for n in names},
                      {w: torch.stack([r.why.get(w, no) for r in rows]) for w in {w for r in rows for w in r.why}})

    @staticmethod
    def join(parts: Sequence[Answer]) -> Answer:
        """Answers for parts of the transitions, as one; a part that failed has no terms, so theirs are NaN there."""
        names = next((list(p.terms) for p in parts if p.terms), list[str]())
        for part in parts:
            if part.terms and set(part.terms) != set(names):
                raise BadInput("terms", expected=f"the same names at each transition: {names}",
                               received=list(part.terms))

        def mark(part: Answer, reason: str) -> Tensor:
            return part.why.get(reason, torch.zeros_like(part.value, dtype=torch.bool))

        return Answer(torch.cat([p.value for p in parts]),
                      {n: torch.cat([p.terms.get(n, torch.full_like(p.value, torch.nan)) for p in parts])
                       for n in names}, {w: torch.cat([mark(p, w) for p in parts]) for w in {w for p in parts
                                                                                           for w in p.why}})


def as_rows(inputs: Mapping[str, Any], backend: Backend, *, row: int | None = None) -> dict[str, Any]:
    """Copies of the fields (so that a function cannot change ours), of all transitions or of one."""

    def leaf(x: Tensor) -> Any:
        part = x if row is None else x[row]
        if backend == "torch":
            return part.clone()
        array = part.detach().cpu().numpy()
        return array.copy() if array.ndim else array[()]

    def walk(x: Any) -> Any:
        if isinstance(x, Mapping):
            return {k: walk(v) for k, v in cast(Mapping[str, Any], x).items()}
        return leaf(x)

    return {name: walk(value) for name, value in inputs.items()}


def read_answer(out: Any, shape: tuple[int, ...], *, like: torch.device, last: bool = False) -> Answer:
    """Reads numbers, a dictionary of terms, or `(numbers, terms)`; `None` is unknown.

    Args:
        out: What the function returned.
        shape: The shape that it has to have: `(N,)`, or `()` for one transition.
        like: The device of the result.
        last: Whether a single number may stand for an episode `(T,)` (then its last step gets it).

    Raises:
        BadInput: on a wrong length or a type that is no number.
    """
    if isinstance(out, tuple) and len(cast(tuple[Any, ...], out)) == 2 and isinstance(out[1], Mapping):
        value, why = _numbers(out[0], shape, like, _RESULT, last)
        named = cast(Mapping[object, Any], out[1])
        return Answer(value, {str(n): _numbers(t, shape, like, f"term {n!r}", last)[0] for n, t in named.items()}, why)
    if isinstance(out, Mapping):
        if not out:
            raise BadInput(_RESULT, expected="at least one named term", received="an empty dictionary")
        named = cast(Mapping[object, Any], out)
        pairs = {str(n): _numbers(t, shape, like, f"term {n!r}", last) for n, t in named.items()}
        value = torch.stack([v for v, _ in pairs.values()]).sum(0)
        return Answer(value, {n: v for n, (v, _) in pairs.items()},
                      {r: m for _, w in pairs.values() for r, m in w.items()})
    value, why = _numbers(out, shape, like, _RESULT, last)
    return Answer(value, {}, why)


def _numbers(x: Any, shape: tuple[int, ...], device: torch.device, name: str,
             last: bool) -> tuple[Tensor, dict[str, Tensor]]:
    why: dict[str, Tensor] = {}
    none = "the function returned None" + (f" for {name}" if name != _RESULT else "")
    if x is None:
        return (torch.full(shape, torch.nan, device=device),
                {none: torch.ones(shape, dtype=torch.bool, device=device)})
    numbers: Any = x
    if isinstance(x, list | tuple):
        many = cast(Sequence[Any], x)
        if any(v is None for v in many):
            why[none] = torch.tensor([v is None for v in many], device=device)
            numbers = [float("nan") if v is None else v for v in many]
    try:
        value = numbers.detach() if isinstance(numbers, Tensor) else torch.as_tensor(np.asarray(numbers))
    except (TypeError, ValueError) as error:
        raise BadInput(name, expected="numbers", received=f"{type(numbers).__name__} ({error})") from error
    if value.is_complex():
        raise BadInput(name, expected="real numbers", received=str(value.dtype))
    value = value.to(device)
    if not value.is_floating_point():
        value = value.float()
    if last and value.ndim == 0 and shape:
        spread = value.new_zeros(shape)
        spread[-1] = value
        return spread, why
    if tuple(value.shape) == (*shape, 1) or (shape == () and value.numel() == 1):
        value = value.reshape(shape)
    if tuple(value.shape) != shape:
        raise BadInput(name, expected=f"shape {list(shape)} (one number a transition)" if shape else "one number",
                       received=f"shape {list(value.shape)}",
                       fix="reduce over the last axis with .sum(-1), and index features as obs[..., i]")
    return value, why
