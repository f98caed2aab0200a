"""The numeric entries of environments' info dictionaries as tensors [B, ...] with stable names."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LARGEST = 1024
_SKIP = frozenset({"final_obs", "final_info", "final_observation", "terminal_observation"})
_NUMBERS = frozenset({float, bool, int, np.float64, np.float32, np.bool_})
log = logging.getLogger(__name__)


class InfoColumns:
    """Remembers which numeric entries have ever been seen, so that each step has them all.

    Numbers become float32 (NaN in rows that lack them), booleans stay booleans (False in such rows); a
    column that was seen as boolean and then as a number becomes a number. Entries of nested dictionaries are
    named `outer.inner`. Texts, objects, and arrays of more than 1024 numbers or of changing shape are left out.

    Example:
        >>> columns = InfoColumns()
        >>> columns.gather([{"reward_ctrl": -0.5}, {"is_success": True}])["reward_ctrl"].tolist()
        [-0.5, nan]
        >>> sorted(columns.gather([{}, {}]))
        ['is_success', 'reward_ctrl']
    """

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[bool, tuple[int, ...]]] = {}
        self._dropped: set[str] = set()

    def gather(self, infos: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Columns from one dictionary for each row."""
        flat = [dict(numbers(info)) for info in infos]
        for row in flat:
            self._learn(row)
        out = {}
        for name, (is_bool, shape) in self._kinds.items():
            column = np.zeros((len(flat), *shape), dtype=bool) if is_bool else np.full(
                (len(flat), *shape), np.nan, dtype=np.float32)
            for b, row in enumerate(flat):
                if name in row:
                    column[b] = row[name]
            out[name] = torch.from_numpy(column)
        return out

    def _learn(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            known = self._kinds.get(name)
            if known == (False, ()) and type(value) in _NUMBERS:
                continue
            is_bool, shape = _is_bool(value), np.shape(value)
            if known is None and name not in self._dropped:
                self._kinds[name] = (is_bool, shape)
            elif known is not None and known[1] != shape:
                log.warning("info[%r] had shape %s and now has %s; it is left out", name, known[1], shape)
                self._dropped.add(name)
                del self._kinds[name]
            elif known is not None and known[0] and not is_bool:
                self._kinds[name] = (False, shape)


def numbers(info: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The numeric entries of an info dictionary, those of nested dictionaries as `outer.inner`."""
    for key, value in info.items():
        if key in _SKIP:
            continue
        if type(value) in _NUMBERS or isinstance(value, np.number):
            yield f"{prefix}{key}", value
        elif isinstance(value, np.ndarray | Tensor):
            array = np.asarray(value)
            if array.dtype.kind in "biuf" and array.size <= _LARGEST:
                yield f"{prefix}{key}", array
        elif isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{key}.")


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_) or isinstance(value, np.ndarray) and value.dtype == np.bool_
