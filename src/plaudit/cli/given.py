"""Options that come as text and have to be read before a command begins."""

from __future__ import annotations

import json
from typing import Any

from plaudit.core.errors import BadInput


def json_object(option: str, text: str) -> dict[str, Any]:
    """The value of an option that takes a JSON object.

    Raises:
        BadInput: for anything else, naming the option.

    Example:
        >>> json_object("--config", '{"lr": 0.1}')
        {'lr': 0.1}
    """
    example = "such as '{\"name\": 1.5}'"
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadInput(option, expected=f"JSON {example}", received=f"{text} ({error})") from None
    if not isinstance(value, dict):
        raise BadInput(option, expected=f"a JSON object {example}", received=text)
    return value
