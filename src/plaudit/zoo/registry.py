"""Finds the systems: every module of this package that has a `SYSTEM`."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from pathlib import Path

from plaudit.core.errors import BadInput
from plaudit.zoo.contract import System, ZooResult, load_result

RESULTS = Path("results")


def systems() -> list[System]:
    """All systems, by number.

    Example:
        >>> [s.name for s in systems() if s.number == 8]
        ['starc']
    """
    import plaudit.zoo as package

    modules = (importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__))
    found = [module.SYSTEM for module in modules if isinstance(getattr(module, "SYSTEM", None), System)]
    return sorted(found, key=lambda s: s.number)


def find(name: str) -> System:
    """The system of a name (or a number).

    Raises:
        BadInput: where there is none, with the nearest name.
    """
    known = {s.name: s for s in systems()}
    by_number = {str(s.number): s for s in known.values()} | {f"{s.number:02d}": s for s in known.values()}
    if name in known or name in by_number:
        return known.get(name) or by_number[name]
    near = difflib.get_close_matches(name, known, 1)
    raise BadInput("name", expected=f"one of {', '.join(known)}", received=name,
                   fix=f"did you mean {near[0]}?" if near else "plaudit zoo --names lists them")


def results(folder: str | Path = RESULTS) -> dict[str, ZooResult]:
    """The kept result of each system by name: of several scales the largest."""
    out: dict[str, ZooResult] = {}
    for system in systems():
        for stem in (f"{system.name}-paper", system.name):
            path = Path(folder) / f"{stem}.json"
            if path.exists():
                out[system.name] = load_result(path)
                break
    return out
