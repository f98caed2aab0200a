"""The one preference record: what was compared, in which context, what was said, how strongly, by whom, and why."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

from plaudit.core.checkpoint import replacing
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


Conversation = Sequence[Mapping[str, Any]]
"""Messages with a `role`, a `content`, and whatever else a chat template reads (`tool_calls`, `reasoning_content`)."""

Option = Fragment | str | Conversation
"""One of the things that were compared: steps of an episode, a text, or the messages that answer a conversation."""

_MISSING = ("label", "strength", "correct", "ratings")
_KEPT_AS_LISTS = ("correct", "ratings", "principles", "tools")


@dataclass(frozen=True, kw_only=True)
class Preference:
    """What was said of two or more options, for episodes and texts alike.

    Evidence comes in four forms, alone or together: a `label` or a `strength` of two options, which options are
    `correct`, and `ratings` by attribute. Only a rated option may stand alone.

    Raises:
        BadInput: when a number is out of its range, or two of them contradict each other.

    Example:
        >>> said = Preference(options=("4", "5"), context="2 + 2 = ?", label=1.0, annotator="ann", margin=2.0)
        >>> Preference.from_json(said.to_json()) == said
        True
        >>> Preference(options=("a", "b"), strength=-2).label
        1.0
        >>> Preference(options=("4", "5"), label=1.2)
        Traceback (most recent call last):
        plaudit.core.errors.BadInput: label: expected a probability in [0, 1], or None where undecided, received 1.2
    """

    options: tuple[Option, ...]
    label: float | None = None
    """How sure it is that the first is better: 1 yes, 0 no, 0.5 they are equal; None is undecided, and no evidence."""
    strength: int | None = None
    """By how much, in -3..3 as HelpSteer2 has it: negative where the FIRST is better; 1 slightly, 2 clearly, 3 much."""
    correct: tuple[bool, ...] | None = None
    """Which options are right, where several may be: a benchmark's one or more right answers among wrong ones."""
    ratings: tuple[Mapping[str, float | None], ...] | None = None
    """Numbers by attribute for each option, such as `{"helpfulness": 4}`; None is masked, and no evidence."""
    tie: bool = False
    """Whether the annotator said that they are equal (a label of 0.5 alone may also be a doubt)."""
    context: str | Conversation = ""
    """What the options share: a prompt or the messages so far, an instruction, the name of a task."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """What the options could call: JSON schemas of functions, which chat templates describe to the model."""
    principles: tuple[str, ...] = ()
    """What they were judged by."""
    tree: Mapping[str, Any] | None = None
    """Where the options stand in a tree of continuations: its `id`, and `depth`, `parent` (the number) and `shared`
    (the tokens) of the last node that they have in common."""
    margin: float = 0.0
    """By how much the better one should win at least, in the units of the reward."""
    weight: float = 1.0
    """How much the comparison counts."""
    annotator: str = ""
    """Who said it: a person, a judge, an oracle."""
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """JSON: why it was said, such as the level of a hierarchy that decided, or the other columns of a data set."""

    def __post_init__(self) -> None:
        if self.strength is not None and self.label is None:
            object.__setattr__(self, "label", 0.5 if self.strength == 0 else float(self.strength < 0))
        self._check_options()
        self._check_evidence()
        for name in ("margin", "weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInput(name, expected="a finite number >= 0", received=getattr(self, name),
                               fix="the label says which option is better, the margin only by how much")

    def _check_options(self) -> None:
        kinds = {_kind(o) for o in self.options}
        fewest = 1 if self.ratings else 2
        if len(self.options) < fewest or None in kinds:
            raise BadInput("options", expected="two or more fragments, texts or lists of messages (a rated one may "
                           "stand alone)", received=_short(self.options))
        if len(kinds) > 1:
            raise BadInput("options", expected="options of one kind", received=_short(self.options))
        if _kind(self.context) not in ("text", "conversation"):
            raise BadInput("context", expected="a text or a list of messages", received=_short(self.context))

    def _check_evidence(self) -> None:
        n = len(self.options)
        if self.label is not None and not 0 <= self.label <= 1:
            raise BadInput("label", expected="a probability in [0, 1], or None where undecided", received=self.label)
        if self.label is not None and n != 2:
            raise BadInput("label", expected="a label of two options", received=f"{n} options",
                           fix="say which are right in `correct`, or rate them in `ratings`")
        if self.tie and self.label != 0.5:
            raise BadInput("label", expected="0.5 for a tie", received=self.label)
        if self.strength is not None:
            self._check_strength(self.strength)
        for name in ("correct", "ratings"):
            given = getattr(self, name)
            if given is not None and len(given) != n:
                raise BadInput(name, expected=f"one entry for each of {n} options", received=len(given))
        if self.correct is not None and not all(isinstance(c, bool) for c in self.correct):
            raise BadInput("correct", expected="true or false for each option", received=self.correct)
        for rating in self.ratings or ():
            for attribute, value in rating.items():
                if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)
                                          or not math.isfinite(value)):
                    raise BadInput(f"ratings[{attribute!r}]", expected="a finite number, or None where masked",
                                   received=value)

    def _check_strength(self, strength: int) -> None:
        if isinstance(strength, bool) or not isinstance(strength, int) or not -3 <= strength <= 3:
            raise BadInput("strength", expected="an integer in -3..3", received=strength)
        said = 0 if self.label is None else int(self.label < 0.5) - int(self.label > 0.5)
        if said * strength < 0 or (said == 0) != (strength == 0):
            raise BadInput("strength", expected=f"the sign that the label {self.label} has", received=strength,
                           fix="a strength below 0 says that the first is better, a label above 0.5 too")

    def swapped(self) -> Preference:
        """The same said of the options in reverse order."""
        label = None if self.label is None else 1 - self.label
        return replace(self, options=self.options[::-1], label=label,
                       strength=None if self.strength is None else -self.strength,
                       correct=self.correct and self.correct[::-1], ratings=self.ratings and self.ratings[::-1])

    def to_json(self) -> dict[str, Any]:
        """JSON values; what has its default is left out."""
        out: dict[str, Any] = {"options": [_option_to_json(o) for o in self.options]}
        if len(self.options) == 2:
            out["label"] = self.label
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name not in out and value != ({} if f.name == "provenance" else f.default):
                out[f.name] = _plain(value)
        return out

    @staticmethod
    def from_json(raw: Any) -> Preference:
        """The inverse of `to_json`.

        Raises:
            BadInput: when it is no preference.
        """
        if not isinstance(raw, Mapping) or "options" not in raw or not any(name in raw for name in _MISSING):
            raise BadInput("preference", expected=f"an object with options and one of {', '.join(_MISSING)}",
                           received=repr(raw)[:80])
        values = dict(cast("Mapping[str, Any]", raw))
        try:
            options = tuple(Fragment(**o) if isinstance(o, Mapping) else o for o in values.pop("options"))
            for name in _KEPT_AS_LISTS:
                if values.get(name) is not None:
                    values[name] = tuple(values[name])
            return Preference(options=cast("tuple[Option, ...]", options), **values)
        except (TypeError, AttributeError) as error:
            raise BadInput("preference", expected="the fields of a Preference", received=f"{raw!r:.80} ({error})") \
                from error


def _kind(option: Any) -> str | None:
    """`fragment`, `text`, `conversation`, or None for what is no option."""
    if isinstance(option, Fragment | str):
        return "fragment" if isinstance(option, Fragment) else "text"
    messages = isinstance(option, Sequence) and all(isinstance(m, Mapping) and isinstance(m.get("role"), str)
                                                    for m in option)
    return "conversation" if messages else None


def _option_to_json(option: Option) -> Any:
    return {"row": option.row, "start": option.start, "length": option.length} if isinstance(option, Fragment) \
        else _plain(option)


def _plain(value: Any) -> Any:
    """Lists for tuples and dictionaries for mappings, at the top and one level below."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [dict(v) if isinstance(v, Mapping) else v for v in value]
    return value


def _short(value: Any) -> str:
    return repr(value)[:120]


def write_records(path: str | Path, records: Iterable[Preference]) -> Path:
    """Writes one JSON object a line, atomically.

    Example:
        >>> import tempfile
        >>> file = write_records(Path(tempfile.mkdtemp()) / "said.jsonl", [Preference(options=("a", "b"), label=0.0)])
        >>> [p.label for p in read_records(file)]
        [0.0]
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for i, record in enumerate(records):
            file.write(json_line(record.to_json(), f"record {i}"))
    return Path(path)


def json_line(value: Any, place: str) -> str:
    """A value as one line of JSON.

    Raises:
        BadInput: naming the place, when JSON has no form for it (NaN, infinity, an object).
    """
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BadInput(place, expected="values that JSON can hold", received=str(error)) from error


def read_records(path: str | Path) -> Iterator[Preference]:
    """Reads what `write_records` wrote, or what somebody else did in that form, line by line.

    Raises:
        BadInput: naming the line, when the file is missing or a line is no preference.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _record(line, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("path", expected="a file with one preference a line", received=f"{path} ({error})") from error


def _record(line: str, place: str) -> Preference:
    try:
        return Preference.from_json(json.loads(line))
    except (ValueError, RecursionError) as error:  # JSON's error and BadInput alike
        raise BadInput(place, expected="a preference", received=f"{line[:60]!r} ({error})") from error
