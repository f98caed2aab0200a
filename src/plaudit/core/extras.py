"""Optional packages are imported where they are used, through this one helper."""

from __future__ import annotations

import importlib
from types import ModuleType

from plaudit.core.errors import MissingExtra


def require(module: str, *, extra: str) -> ModuleType:
    """Imports `module`, or raises `MissingExtra` with the line that installs it.

    Example:
        >>> require("json", extra="envs").__name__
        'json'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(f"{module} is not installed ({error}); run: pip install 'plaudit[{extra}]'") from error
