"""Loops compiled by Numba (extra `fast`), kept on disk between runs."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plaudit.core.extras import require

Function = Callable[..., Any]


def compiled(function: Function | None = None, *, exact: bool = False, inner: bool = False) -> Any:
    """`numba.njit`, its machine code kept beside the source or in the user's cache folder, where one can be written.

    NaN stays NaN also where the order of sums is free: what diverges must show it.

    Args:
        function: What to compile, when it is first called.
        exact: Every operation as written, as NumPy does it; otherwise sums may be taken in any order.
        inner: Called from compiled functions only, which compiles faster.

    Raises:
        MissingExtra: when Numba is not installed.
    """
    if function is None:
        return functools.partial(compiled, exact=exact, inner=inner)
    numba = require("numba", extra="fast")
    options: dict[str, Any] = {"fastmath": False if exact else {"contract", "reassoc", "nsz"}, "error_model": "numpy",
                               "nogil": True, "no_cpython_wrapper": inner, "no_cfunc_wrapper": inner}
    function = inspect.unwrap(function)  # a checker of types may have wrapped it
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder for the cache
        return numba.njit(**options)(function)


def sources(*files: str | None) -> int:
    """A number that changes with the files.

    The cache of a function knows the date of its own file alone. One that calls into other files must therefore be
    made by a function that takes this number and uses it (Numba looks at the values that a function closes over).

    Example:
        >>> sources(__file__) == sources(__file__)
        True
    """
    digest = hashlib.sha256(b"".join(Path(file).read_bytes() for file in files if file))
    return int.from_bytes(digest.digest()[:7], "big")
