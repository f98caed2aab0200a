"""Where a number comes from: the code that made it, the versions, the class of machine."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("plaudit", "torch", "numpy", "scipy", "gymnasium")
_HOLDS_STATEMENTS = (ast.stmt, ast.ExceptHandler, ast.match_case)


def code_hash(module: str) -> str:
    """SHA-256 (16 hex digits) over the sources of a module and of all plaudit modules that it imports.

    Imports inside functions count, those for type checkers do not; so the hash changes when any code changes
    that the experiment can reach, and does not when anything else does.

    Example:
        >>> len(code_hash("plaudit.core.provenance"))
        16
    """
    digest = hashlib.sha256()
    for name in sorted(reached(module)):
        path = _path(name)
        if path is not None:
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def reached(module: str) -> set[str]:
    """The names of the plaudit modules that a module imports, directly or not, itself included."""
    found: set[str] = set()
    open_ = [module]
    while open_:
        name = open_.pop()
        if name in found or _path(name) is None:
            continue
        found.add(name)
        parents = name.split(".")
        open_ += [".".join(parents[:i]) for i in range(2, len(parents))]
        open_ += [m for m in _imports(name) if m.startswith("plaudit.")]
    return found


@cache
def package_hash() -> str:
    """SHA-256 (16 hex digits) over all sources of the plaudit that runs; two machines with the same hash agree."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root).as_posix()).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    out = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            out[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            out[package] = getattr(sys.modules.get(package), "__version__", "unknown")
    return out


def machine() -> str:
    """The class of machine, such as `x86_64, 2 cores, no GPU`: enough to read a time, not to find a computer."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {cores} core{'s' if cores != 1 else ''}, {gpu}"


@cache
def _path(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _imports(name: str) -> Iterator[str]:
    path = _path(name)
    assert path is not None
    open_: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while open_:
        node = open_.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            open_ += node.orelse
        else:
            open_ += [n for n in ast.iter_child_nodes(node) if isinstance(n, _HOLDS_STATEMENTS)]
