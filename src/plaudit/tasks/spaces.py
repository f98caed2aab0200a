"""Between Gymnasium's spaces and tensors: what an environment gives and takes, for B rows at once.

Floating-point observations become float32, images stay uint8, other integers become int64. Dictionaries stay
dictionaries, tuples become dictionaries with the keys "0", "1", ... Texts are left out (a tensor holds none).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from plaudit.core.errors import BadInput, PlauditError, Unsupported
from plaudit.core.tree import Tree

Space = spaces.Space[Any]
_PLAIN = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def tensor_space(space: Space) -> Space:
    """The part of an observation space that tensors can hold.

    Raises:
        Unsupported: when nothing is left, or a part is of a kind without a fixed shape.

    Example:
        >>> tensor_space(spaces.Dict(x=spaces.Box(0, 1, (2,)), mission=spaces.Text(9)))
        Dict('x': Box(0.0, 1.0, (2,), float32))
    """
    out = _readable(space, "obs")
    if out is None or isinstance(out, spaces.Dict) and not out.spaces:
        raise Unsupported(f"observations of {space} hold nothing but text; wrap the environment to give numbers")
    return out


def stack(space: Space, observations: Sequence[Any] | np.ndarray) -> Tree:
    """B observations as tensors [B, ...]; `space` is what `tensor_space` gave.

    Raises:
        PlauditError: when an observation has another shape than the space says.

    Example:
        >>> stack(spaces.Box(0, 1, (2,)), [np.zeros(2), np.ones(2)]).tolist()
        [[0.0, 0.0], [1.0, 1.0]]
    """
    if isinstance(space, spaces.Dict):
        return {key: stack(sub, [_part(o, key) for o in observations]) for key, sub in space.spaces.items()}
    array = np.array(observations)
    if array.shape[1:] != space.shape:
        shapes = sorted({np.shape(o) for o in observations})
        raise PlauditError(f"an observation has shape {shapes[0]} where the observation space says {space}")
    if array.dtype == np.uint8:
        return torch.from_numpy(array)
    if array.dtype.kind not in "biuf":
        raise PlauditError(f"an observation is of type {array.dtype} where the observation space says {space}")
    return torch.from_numpy(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))


def batch_tensors(space: Space, observations: Any) -> Tree:
    """The same for observations that a vector environment has already put together."""
    if isinstance(space, spaces.Dict):
        return {key: batch_tensors(sub, _part(observations, key)) for key, sub in space.spaces.items()}
    return stack(space, observations)


def outside(space: Space, observations: Tree, name: str = "") -> tuple[int, str] | None:
    """The first row whose choices are none of the space's, and what it has there; numbers of a Box may lie anywhere.

    Example:
        >>> outside(spaces.Discrete(3, start=1), torch.tensor([1, 3, 4]))
        (2, '4 is not in Discrete(3, start=1)')
    """
    if isinstance(space, spaces.Dict):
        assert not isinstance(observations, Tensor)
        return next((found for key, sub in space.spaces.items()
                     if (found := outside(sub, observations[key], f"{name}[{key!r}]"))), None)
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return None
    assert isinstance(observations, Tensor)
    values = observations.cpu().numpy()
    sizes, first = (space.n, space.start) if isinstance(space, spaces.Discrete) else (space.nvec, space.start)
    wrong = ~((values >= first) & (values < first + sizes)).reshape(len(values), -1).all(-1)
    if not wrong.any():
        return None
    row = int(wrong.argmax())
    return row, f"{f'{name} = ' if name else ''}{values[row].tolist()} is not in {space}"


def unstack(space: Space, action: Tensor, rows: int) -> list[Any]:
    """One action for each environment from a tensor [B, ...].

    Raises:
        BadInput: when the tensor is not [B, ...] of the space, or a discrete action is out of range.
        Unsupported: when the space is a dictionary, a tuple, a text, ...

    Example:
        >>> [int(a) for a in unstack(spaces.Discrete(3), torch.tensor([0, 2]), 2)]
        [0, 2]
    """
    if not isinstance(space, _PLAIN):
        raise Unsupported(f"actions of {space}; wrap the environment so that it takes Box, Discrete, MultiDiscrete or "
                          "MultiBinary actions")
    shape = (rows, *(space.shape or ()))
    if tuple(action.shape) != shape:
        raise BadInput("action", expected=f"a tensor {list(shape)} for {space}", received=list(action.shape))
    values = action.detach().cpu().numpy()
    if isinstance(space, spaces.Box):
        return list(values.astype(space.dtype))  # astype copies: an environment may write into its action
    if values.dtype.kind not in "biu":
        raise BadInput("action", expected=f"integers for {space}", received=str(action.dtype))
    if not isinstance(space, spaces.Discrete):
        return list(values.astype(space.dtype))
    low, high = int(space.start), int(space.start) + int(space.n)
    if values.min() < low or values.max() >= high:
        raise BadInput("action", expected=f"integers in [{low}, {high})", received=values.tolist())
    return list(values.astype(np.int64, copy=False))


def _readable(space: Space, path: str) -> Space | None:
    if isinstance(space, _PLAIN):
        return space
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else (
            (str(i), sub) for i, sub in enumerate(space.spaces))
        kept = {key: _readable(sub, f"{path}/{key}") for key, sub in parts}
        return spaces.Dict({key: sub for key, sub in kept.items() if sub is not None})
    if isinstance(space, spaces.Text) or space.dtype is not None and np.dtype(space.dtype).kind in "US":
        return None
    raise Unsupported(f"{path} is {space}, which has no fixed shape; wrap the environment so that it gives Box, "
                      "Discrete, MultiDiscrete, MultiBinary, or dictionaries and tuples of these")


def _part(observation: Any, key: str) -> Any:
    return observation[int(key)] if isinstance(observation, tuple) else observation[key]
