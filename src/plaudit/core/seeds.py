"""Randomness with names: a tree of seeds, and random numbers that are a function of (seed, counter).

A generator that is shared is a generator whose numbers depend on who drew first. Here every consumer asks for
its own by name, so adding one never changes what another draws. Batched code needs more: row b must get the same
numbers whatever other rows are about. `counter_uniform` gives that, with the same bits in NumPy and in torch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from plaudit.core.errors import BadInput

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15  # the odd number nearest 2**64 / golden ratio, splitmix64's increment
_COLUMN = 0xD1342543DE82EF95
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


@dataclass(frozen=True)
class Seeds:
    """A tree of seeds. A child depends on the root and its path alone, never on the order of calls.

    Attributes:
        root: any integer; the one number that a user chooses.
        path: the names that lead here, strings and integers.

    Raises:
        BadInput: when the root is no integer, or a name is neither a string nor an integer.

    Example:
        >>> seeds = Seeds(7)
        >>> seeds.child("member", 3) == seeds.child("member").child(3)
        True
        >>> seeds.child("member", 3)
        Seeds(7).child('member', 3)
        >>> seeds.child("resets").integer() == Seeds(7).child("resets").integer()
        True
    """

    root: int
    path: tuple[str | int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", _integer("root", self.root))
        names = tuple(name if isinstance(name, str) else _integer("path", name) for name in self.path)
        object.__setattr__(self, "path", names)

    def child(self, *names: str | int) -> Seeds:
        """The seeds below this one; `3` and `"3"` are different names."""
        return Seeds(self.root, self.path + names)

    def integer(self) -> int:
        """One seed in [0, 2**63)."""
        return int.from_bytes(self._digest("integer")[:8], "big") >> 1

    def integers(self, n: int) -> list[int]:
        """Gives n seeds in [0, 2**63); the first ones do not depend on n."""
        return [int.from_bytes(self._digest("integers", i)[:8], "big") >> 1 for i in range(n)]

    def numpy(self) -> np.random.Generator:
        """A fresh NumPy generator; each call starts at the beginning."""
        return np.random.Generator(np.random.PCG64(int.from_bytes(self._digest("numpy"), "big")))

    def torch(self, device: str | torch.device = "cpu") -> torch.Generator:
        """A fresh torch generator on `device`; each call starts at the beginning."""
        generator = torch.Generator(device=device)
        generator.manual_seed(int.from_bytes(self._digest("torch")[:8], "big") >> 1)
        return generator

    def _digest(self, *purpose: str | int) -> bytes:
        return hashlib.sha256(json.dumps([purpose, self.root, self.path]).encode()).digest()

    def __repr__(self) -> str:
        names = ", ".join(map(repr, self.path))
        return f"Seeds({self.root})" + (f".child({names})" if names else "")


@overload
def counter_uniform(seed_B: Tensor, counter_B: Tensor | int, k: int, *, xp: ModuleType | None = None,
                    dtype: Literal["float64", "float32"] = "float64") -> Float[Tensor, "B k"]: ...
@overload
def counter_uniform(seed_B: ArrayLike, counter_B: ArrayLike, k: int, *, xp: ModuleType | None = None,
                    dtype: Literal["float64", "float32"] = "float64") -> NDArray[Any]: ...
def counter_uniform(seed_B: Any, counter_B: Any, k: int, *, xp: ModuleType | None = None,
                    dtype: Literal["float64", "float32"] = "float64") -> Any:
    """The n-th vector of k uniform numbers of each row, as a function of (seed_b, n) alone.

    Counter-based (splitmix64's finaliser over seed, counter and column, in 64-bit integers), so a row's numbers do not
    depend on the other rows, on the device or on the library: NumPy and torch give the same bits.
    Not for secrets.

    Args:
        seed_B: integers [B].
        counter_B: integers [B], or one integer for all rows: how many vectors the row has drawn before.
        k: how many numbers each row gets. The first ones do not depend on k.
        xp: `numpy` or `torch`; None follows the type of `seed_B`.
        dtype: `float64` (53 random bits) or `float32` (24).

    Returns:
        [B, k] in [0, 1), on the device of `seed_B`.

    Raises:
        BadInput: when seeds or counters are no integers, have no single axis, or k is negative.

    Source:
        Steele, Lea and Flood (2014), Fast splittable pseudorandom number generators, figure 17.

    Example:
        >>> u = counter_uniform(np.array([5, 6]), np.array([0, 9]), 3)
        >>> t = counter_uniform(torch.tensor([5, 6]), torch.tensor([0, 9]), 3)
        >>> u.shape, bool((u == t.numpy()).all())
        ((2, 3), True)
    """
    if k < 0:
        raise BadInput("k", expected="a number of columns, 0 or more", received=k)
    if dtype not in ("float64", "float32"):
        raise BadInput("dtype", expected="'float64' or 'float32'", received=dtype)
    drop, bits = (11, 53) if dtype == "float64" else (40, 24)
    if isinstance(seed_B, Tensor) if xp is None else xp is torch:
        h = _bits_torch(_as_torch("seed_B", seed_B), _as_torch("counter_B", counter_B, like=seed_B), k)
        real = torch.float64 if dtype == "float64" else torch.float32
        return _shift(h, drop).to(real) * 2.0**-bits
    h = _bits_numpy(_as_numpy("seed_B", seed_B), _as_numpy("counter_B", counter_B), k)
    return (h >> np.uint64(drop)).astype(dtype) * np.dtype(dtype).type(2.0**-bits)


def _bits_numpy(seed_B: NDArray[np.uint64], counter_B: NDArray[np.uint64], k: int) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        key = _mix_numpy(_mix_numpy(seed_B + np.uint64(_STEP)) + counter_B * np.uint64(_STEP))
        column = np.arange(1, k + 1, dtype=np.uint64) * np.uint64(_COLUMN)
        return _mix_numpy(key[:, None] + column)


def _mix_numpy(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    for shift, factor in _MIX:
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))


def _bits_torch(seed_B: Tensor, counter_B: Tensor, k: int) -> Tensor:
    key = _mix_torch(_mix_torch(seed_B + _signed(_STEP)) + counter_B * _signed(_STEP))
    column = torch.arange(1, k + 1, device=seed_B.device) * _signed(_COLUMN)
    return _mix_torch(key[:, None] + column)


def _mix_torch(x: Tensor) -> Tensor:
    for shift, factor in _MIX:
        x = (x ^ _shift(x, shift)) * _signed(factor)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, n: int) -> Tensor:
    """The logical shift to the right of 64 bits that torch keeps as a signed integer."""
    return (x >> n) & ((1 << (64 - n)) - 1)


def _signed(x: int) -> int:
    return x - (1 << 64) if x >> 63 else x


def _as_numpy(name: str, value: Any) -> NDArray[np.uint64]:
    array = np.asarray(value)
    if array.dtype.kind not in "iu" or array.ndim > 1 or (array.ndim == 0 and name == "seed_B"):
        raise BadInput(name, expected="integers of shape [B]", received=f"{array.dtype} of shape {array.shape}")
    return array.astype(np.int64).astype(np.uint64) if array.dtype.kind == "i" else array.astype(np.uint64)


def _as_torch(name: str, value: Any, *, like: Any = None) -> Tensor:
    tensor = torch.as_tensor(value, device=like.device if isinstance(like, Tensor) else None)
    whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
    if not whole or tensor.ndim > 1 or (tensor.ndim == 0 and name == "seed_B"):
        raise BadInput(name, expected="integers of shape [B]", received=f"{tensor.dtype} of shape {list(tensor.shape)}")
    return tensor.to(torch.int64)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise BadInput(name, expected="an integer" if name == "root" else "strings and integers", received=value)
    return int(value)  # pyright: ignore[reportUnknownArgumentType]
