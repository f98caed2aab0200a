"""The one preference record: what was compared, in which context, what was said, how strongly, by whom, and why."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from plaudit.core.checkpoint import write_text
from plaudit.core.errors import BadInput


@dataclass(frozen=True)
class Fragment:
    """Some consecutive steps of one episode of a store.

    Example:
        >>> Fragment(row=3, start=10, length=25).stop
        35
    """

    row: int
    """Which episode."""
    start: int
    """Its first step."""
    length: int
    """How many steps."""

    def __post_init__(self) -> None:
        for name, low in (("row", 0), ("start", 0), ("length", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise BadInput(f"fragment.{name}", expected=f"an integer >= {low}", received=value)

    @property
    def stop(self) -> int:
        """The step after its last."""
        return self.start + self.length


Option = Fragment | str
"""One of the two things that were compared: steps of an episode, or a text."""


@dataclass(frozen=True, kw_only=True)
class Preference:
    """One comparison of two options, for episodes and texts alike.

    Raises:
        BadInput: when a number is out of its range.

    Example:
        >>> said = Preference(options=("4", "5"), context="2 + 2 = ?", label=1.0, annotator="ann", margin=2.0)
        >>> Preference.from_json(said.to_json()) == said
        True
        >>> Preference(options=("4", "5"), label=1.2)
        Traceback (most recent call last):
        plaudit.core.errors.BadInput: label: expected a probability in [0, 1], or None where undecided, received 1.2
    """

    options: tuple[Option, Option]
    label: float | None
    """How sure it is that the first is better: 1 yes, 0 no, 0.5 they are equal; None is undecided, and no evidence."""
    tie: bool = False
    """Whether the annotator said that they are equal (a label of 0.5 alone may also be a doubt)."""
    context: str = ""
    """What the options share: a prompt, an instruction, the name of a task."""
    margin: float = 0.0
    """By how much the better one should win at least, in the units of the reward."""
    weight: float = 1.0
    """How much the comparison counts."""
    annotator: str = ""
    """Who said it: a person, a judge, an oracle."""
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """JSON: why it was said, such as the level of a hierarchy that decided."""

    def __post_init__(self) -> None:
        if len(self.options) != 2 or not all(isinstance(o, Fragment | str) for o in self.options):
            raise BadInput("options", expected="two fragments or two texts", received=self.options)
        if isinstance(self.options[0], str) != isinstance(self.options[1], str):
            raise BadInput("options", expected="two options of one kind", received=self.options)
        if self.label is not None and not 0 <= self.label <= 1:
            raise BadInput("label", expected="a probability in [0, 1], or None where undecided", received=self.label)
        if self.tie and self.label != 0.5:
            raise BadInput("label", expected="0.5 for a tie", received=self.label)
        for name in ("margin", "weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInput(name, expected="a finite number >= 0", received=getattr(self, name),
                               fix="the label says which option is better, the margin only by how much")

    def to_json(self) -> dict[str, Any]:
        """JSON values; what has its default is left out."""
        shown: list[Any] = [o if isinstance(o, str) else {"row": o.row, "start": o.start, "length": o.length}
                            for o in self.options]
        out: dict[str, Any] = {"options": shown, "label": self.label}
        for name, usual in (("tie", False), ("context", ""), ("margin", 0.0), ("weight", 1.0), ("annotator", "")):
            if getattr(self, name) != usual:
                out[name] = getattr(self, name)
        return {**out, "provenance": dict(self.provenance)} if self.provenance else out

    @staticmethod
    def from_json(raw: Any) -> Preference:
        """The inverse of `to_json`.

        Raises:
            BadInput: when it is no preference.
        """
        if not isinstance(raw, Mapping) or "options" not in raw or "label" not in raw:
            raise BadInput("preference", expected="an object with options and label", received=repr(raw)[:80])
        values = dict(cast("Mapping[str, Any]", raw))
        try:
            pair = [o if isinstance(o, str) else Fragment(**o) for o in values.pop("options")]
            return Preference(options=cast(Any, tuple(pair)), **values)
        except TypeError as error:
            raise BadInput("preference", expected="the fields of a Preference", received=f"{raw!r:.80} ({error})") \
                from error


def write_records(path: str | Path, records: Iterable[Preference]) -> Path:
    """Writes one JSON object a line, atomically.

    Example:
        >>> import tempfile
        >>> file = write_records(Path(tempfile.mkdtemp()) / "said.jsonl", [Preference(options=("a", "b"), label=0.0)])
        >>> [p.label for p in read_records(file)]
        [0.0]
    """
    lines = (json.dumps(r.to_json(), allow_nan=False, ensure_ascii=False) for r in records)
    write_text(path, "".join(f"{line}\n" for line in lines))
    return Path(path)


def read_records(path: str | Path) -> Iterator[Preference]:
    """Reads what `write_records` wrote, or what somebody else did in that form.

    Raises:
        BadInput: naming the line, when the file is missing or a line is no preference.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("path", expected="a file with one preference a line", received=f"{path} ({error})") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield Preference.from_json(json.loads(line))
        except ValueError as error:  # JSON's error and BadInput alike
            raise BadInput(f"{path}, line {number}", expected="a preference", received=f"{line[:60]!r} ({error})") \
                from error
