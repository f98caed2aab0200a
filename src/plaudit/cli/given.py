"""Options that come as text and have to be read before a command begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.core.errors import BadInput

if TYPE_CHECKING:
    from plaudit.feedback.records import Preference
    from plaudit.feedback.text.formats import Format


def records_of(data: Path, format: Format) -> list[Preference]:
    """The preferences of a file.

    Raises:
        BadInput: naming the file, when nothing is in it.
    """
    from plaudit.feedback.text.formats import read_pairs

    records = read_pairs(data, format=format)
    if not records:
        raise BadInput("--data", expected="at least one row", received=f"{data}, which has none")
    return records


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


def check_resume(out: Path | None, found: bool) -> None:
    """Whether --resume has a run to go on with, before any work.

    Raises:
        BadInput: naming the folder, where nothing was `found` in it.
    """
    if not found:
        received = "none" if out is None else f"{out}, which {'holds none' if out.exists() else 'does not exist'}"
        raise BadInput("--out", expected="the folder of the run to go on with", received=received,
                       fix="leave out --resume to begin one")
