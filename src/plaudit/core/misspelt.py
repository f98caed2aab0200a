"""Options whose names nobody knows: the error names the nearest right one."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any, TypeVar

from plaudit.core.errors import BadInput

T = TypeVar("T", bound="Options")


def refuse_misspelt(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises `BadInput` for the first given name that is not known.

    Example:
        >>> refuse_misspelt("reward", ["rnge"], ["name", "range"])
        Traceback (most recent call last):
        plaudit.core.errors.BadInput: reward: expected options out of name, range, received rnge; did you mean range?
    """
    known = list(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise BadInput(what, expected=f"options out of {', '.join(known)}", received=name,
                           fix=f"did you mean {near[0]}?" if near else "")


class Options:
    """The base of dataclasses of options, which refuses misspelt ones before Python does.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Speed(Options):
        ...     limit: float = 1.0
        >>> Speed(limt=2.0)
        Traceback (most recent call last):
        plaudit.core.errors.BadInput: Speed: expected options out of limit, received limt; did you mean limit?
    """

    def __new__(cls: type[T], *values: Any, **options: Any) -> T:
        fields: dict[str, dataclasses.Field[Any]] = getattr(cls, "__dataclass_fields__", {})
        refuse_misspelt(cls.__name__, options, [name for name, field in fields.items() if field.init])
        return object.__new__(cls)
