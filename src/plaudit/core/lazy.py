"""Packages whose names load when they are first used, so that importing a package costs next to nothing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def attribute_of(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package. What it has loaded it leaves in the package, and is not asked again.

    The package names the same things under `if TYPE_CHECKING`, for type checkers:

        if TYPE_CHECKING:
            from package.module import Name as Name

        _HOME = {"Name": "module"}
        __all__ = list(_HOME)
        __getattr__ = attribute_of(__name__, _HOME)

    Args:
        package: `__name__` of the package.
        home: the module of each name, from the package on.

    Example:
        >>> find = attribute_of("plaudit.core", {"Interval": "intervals"})
        >>> find("Interval").__module__
        'plaudit.core.intervals'
        >>> find("Interwall")
        Traceback (most recent call last):
            ...
        AttributeError: module 'plaudit.core' has no attribute 'Interwall'; it has Interval
    """

    def __getattr__(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(home)}")
        value = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__
