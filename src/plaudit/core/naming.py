"""Where a function or class is defined, in words that `plaudit.core.consent` can load it by."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from plaudit.core.errors import Unsupported
from plaudit.core.targets import file_hash


def source_of(thing: Any, *, what: str) -> dict[str, str | None]:
    """`{"target", "path", "sha256"}` of a function or class at the top of a module.

    Raises:
        Unsupported: when it has no name there (a lambda, a closure, an object), with what to do.

    Example:
        >>> from fractions import Fraction
        >>> source_of(Fraction, what="a fraction")["target"]
        'fractions:Fraction'
    """
    name, module = getattr(thing, "__qualname__", ""), sys.modules.get(getattr(thing, "__module__", None) or "")
    if "<lambda>" in name:
        raise Unsupported(f"{what} is a lambda, which has no name to be found by; write it as a def at the top "
                          "of a file")
    if "<locals>" in name:
        raise Unsupported(f"{what} is defined inside {name.split('.<locals>')[0]}, where it cannot be found again; "
                          "move it to the top of a file, and give what it closes over as keywords (functools.partial)")
    if not name or module is None or not _is(module, name, thing):
        raise Unsupported(f"{what} is {type(thing).__name__} {name or 'without a name'}, which cannot be found in a "
                          "file by its name; use a def or class at the top of one")
    try:
        file = inspect.getsourcefile(module)
    except TypeError:
        file = None
    path = Path(file).resolve() if file else None
    if module.__name__ == "__main__" or module.__name__.startswith("plaudit_target_"):
        if path is None or not path.is_file():
            raise Unsupported(f"{what} is defined in no file; write it into one")
        return {"target": f"{_from_here(path)}:{name}", "path": str(path), "sha256": file_hash(path)}
    is_file = path is not None and path.is_file()
    return {"target": f"{module.__name__}:{name}", "path": str(path) if is_file else None,
            "sha256": file_hash(path) if path is not None and is_file else None}


def _is(module: Any, name: str, thing: Any) -> bool:
    """Whether the module knows the thing by that name, perhaps decorated (`@plaudit.reward` keeps it as `fn`)."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is thing or getattr(found, "fn", None) is thing


def _from_here(path: Path) -> Path:
    here = Path.cwd().resolve()
    return path.relative_to(here) if path.is_relative_to(here) else path
