"""Observations may be nested: a tensor, or a dictionary of such. Functions over these trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, overload

from torch import Tensor

Tree: TypeAlias = "Tensor | Mapping[str, Tree]"


@overload
def tree_map(fn: Callable[[Tensor], Tensor], tree: Tree, /) -> Tree: ...
@overload
def tree_map(fn: Callable[..., Tensor], tree: Tree, /, *rest: Tree) -> Tree: ...


def tree_map(fn: Callable[..., Tensor], tree: Tree, /, *rest: Tree) -> Tree:
    """Applies `fn` to the leaves of trees of one form.

    Example:
        >>> import torch
        >>> tree_map(lambda x: x + 1, {"a": torch.zeros(2)})["a"].tolist()
        [1.0, 1.0]
    """
    if isinstance(tree, Tensor):
        return fn(tree, *rest)
    return {key: tree_map(fn, value, *(other[key] for other in rest)) for key, value in tree.items()}  # type: ignore[index]


def leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The leaves with their paths, `"a/b"` for a leaf below `a`; a bare tensor has the path `""`.

    A key that holds "/" or "~" is written as in a JSON pointer (RFC 6901): "~1" and "~0".
    """
    if isinstance(tree, Tensor):
        yield prefix, tree
        return
    for key, value in tree.items():
        part = str(key).replace("~", "~0").replace("/", "~1")
        yield from leaves(value, f"{prefix}/{part}" if prefix else part)


def from_leaves(pairs: Mapping[str, Tensor]) -> Tree:
    """The inverse of `leaves`."""
    if set(pairs) == {""}:
        return pairs[""]
    out: dict[str, Any] = {}
    for path, leaf in pairs.items():
        *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in path.split("/"))
        here: dict[str, Any] = out
        for key in parents:
            here = here.setdefault(key, {})
        here[last] = leaf
    return out
