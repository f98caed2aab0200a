"""What is known of a program that tests decide about: its function's name, and a program that surely fails."""

from __future__ import annotations

import re

from plaudit.auditing.text.items import TESTS, Item

_CALL = re.compile(r"\bassert\s+(?:not\s+)?([A-Za-z_]\w*)\(|>>>\s*([A-Za-z_]\w*)\(|\b([A-Za-z_]\w*)\(")
_KEYWORDS = frozenset({"assert", "isinstance", "len", "sorted", "abs", "round", "list", "set", "str", "int", "print",
                       "check", "range", "tuple", "def", "not"})


def function_of(item: Item) -> str | None:
    """The name of the function that the tests call.

    Example:
        >>> function_of(Item(prompt="Add.", columns={"tests": ["assert add(1, 2) == 3"]}))
        'add'
    """
    tests = next((item.columns[n] for n in TESTS if item.columns.get(n)), "")
    text = "\n".join(map(str, tests)) if isinstance(tests, list | tuple) else str(tests)
    found = [next(n for n in groups if n) for groups in _CALL.findall(text)]
    return next((n for n in found if n not in _KEYWORDS), None)


def failing(item: Item) -> str | None:
    """A program with the right function in it that does nothing but fail."""
    name = function_of(item)
    return None if name is None else f"def {name}(*args, **kwargs):\n    raise NotImplementedError\n"
