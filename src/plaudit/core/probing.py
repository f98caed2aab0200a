"""Finds out how a function wants to be called: one call for all transitions or one for each, torch or numpy."""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plaudit.core.border import Answer, Backend, as_rows, read_answer
from plaudit.core.errors import RAISED, BadInput
from plaudit.core.tree import leaves, tree_map


@dataclass(frozen=True)
class Mode:
    """How to call a reward function."""

    backend: Backend
    vectorised: bool
    note: str = ""

    @property
    def text(self) -> str:
        if self.vectorised:
            return f"vectorised ({self.backend})"
        hint = "slower; to vectorise, index features as obs[..., i], reduce with .sum(-1), " \
               "and replace `if` by where(condition, a, b)"
        return f"called once a transition ({self.backend}) {self.note}: {hint}".replace(" :", ":")


def find_mode(fn: Callable[..., Any], inputs: Mapping[str, Any], N: int) -> Mode:
    """Probes `fn` on a few of the N transitions.

    The probe has a length that differs from every size of a field, so that a result per feature is
    not mistaken for a result per transition. A batched result counts only if it equals row by row calls.

    Raises:
        BadInput: when neither way works; carries both errors.
    """
    few, n = _probe_rows(inputs, N)
    device = next(leaf for v in inputs.values() for _, leaf in leaves(v)).device if inputs else torch.device("cpu")
    complaints: dict[str, str] = {}
    for backend in _backends(fn, device):
        batch, error_batch = _attempt(lambda b=backend: read_answer(fn(**as_rows(few, b)), (n,), like=device))
        rows, error_rows = _attempt(lambda b=backend: _row_by_row(fn, few, b, n, device))
        if batch is not None and rows is not None:
            if _same(batch, rows):
                return Mode(backend, True)
            again, _ = _attempt(lambda b=backend: _row_by_row(fn, few, b, n, device))
            if again is None or not _same(rows, again):
                return Mode(backend, True, "not deterministic")
            return Mode(backend, False, "because a batched call mixes rows")
        if batch is not None:
            return Mode(backend, True)
        if rows is not None:
            return Mode(backend, False, f"because a batched call fails: {error_batch}"[:160])
        for error, where in ((error_batch, f"{n} transitions"), (error_rows, "one")):
            complaints.setdefault(error, f"{error} (called with {where}, {backend})")
    said = "; ".join(complaints.values()) if len(complaints) > 1 else next(iter(complaints))
    raise BadInput(getattr(fn, "__name__", "the reward"), expected="one number for each transition",
                   received=said[:500])


def _probe_rows(inputs: Mapping[str, Any], N: int) -> tuple[dict[str, Any], int]:
    sizes = {s for value in inputs.values() for _, leaf in leaves(value) for s in leaf.shape[1:]}
    n = next(n for n in range(5, 5 + len(sizes) + 1) if n not in sizes)
    rows = torch.linspace(0, N - 1, n).round().long()
    return {name: tree_map(lambda x: x[rows.to(x.device)], value) for name, value in inputs.items()}, n


def _backends(fn: Callable[..., Any], device: torch.device) -> Iterator[Backend]:
    names: set[str] = set(getattr(getattr(inspect.unwrap(fn), "__code__", None), "co_names", ()))
    torch_first = "torch" in names or (device.type != "cpu" and not names & {"np", "numpy"})
    yield from ("torch", "numpy") if torch_first else ("numpy", "torch")


def _attempt(call: Callable[[], Answer]) -> tuple[Answer | None, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call(), ""
        except RAISED as error:  # a probe may fail in any way; the reason is kept
            return None, str(error) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}{_line(error)}"


def _line(error: BaseException) -> str:
    """Where the function's own code failed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith(".py")]
    if not frames or Path(__file__).parents[1] in Path(frames[-1].filename).parents:
        return ""
    return f" ({Path(frames[-1].filename).name} line {frames[-1].lineno})"


def _row_by_row(fn: Callable[..., Any], few: Mapping[str, Any], backend: Backend, n: int,
                device: torch.device) -> Answer:
    return Answer.stack([read_answer(fn(**as_rows(few, backend, row=i)), (), like=device) for i in range(n)])


def _same(a: Answer, b: Answer) -> bool:
    def close(x: Tensor, y: Tensor) -> bool:
        scale = float(torch.nan_to_num(x, 0.0, 0.0, 0.0).abs().max()) or 1.0
        return torch.allclose(x.double(), y.double(), rtol=1e-4, atol=1e-5 * scale, equal_nan=True)

    return close(a.value, b.value) and all(n in b.terms and close(t, b.terms[n]) for n, t in a.terms.items())
