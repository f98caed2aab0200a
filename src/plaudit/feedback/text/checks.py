"""What may be wrong with preferences over texts, found before anything is trained on them: the row and the fault.

| fault | what it is |
| --- | --- |
| `empty` | a text without words, a conversation without messages; without a row, nothing to read |
| `identical` | two options that are the same text, although one is said to be better |
| `truncated away` | options of which nothing is left, or no difference, once they are cut to `max_length` |
| `too long` | longer than `max_length`, where cutting is refused |
| `no unicode` | a text with half a surrogate pair, which JSON can hold and no tokenizer reads |
| `no user turn` | a conversation in which no user says anything |
| `template` | messages that the chat template refuses |
| `out of range` | a rating outside its scale |
| `leak` | a prompt (or a tree) that the other set has too |
| `undecided` | nothing is said of the options, so the row is no evidence |
| `all masked` | ratings that are all masked; without a row, those of an attribute in all rows |
| `one class` | options that are all right or all wrong; without a row, a rating or a label of 0.5 in all |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from plaudit.core.chat import ChatFormat, Encoded
from plaudit.core.errors import BadInput
from plaudit.core.tokens import is_unicode, plain_text
from plaudit.feedback.records import Fragment, Preference
from plaudit.feedback.text.splitting import prompt_key

Kind = Literal["empty", "no unicode", "identical", "truncated away", "too long", "no user turn", "template",
               "out of range", "leak", "undecided", "all masked", "one class"]
_SHOWN = 5


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and where."""

    row: int | None
    """The index of the record; None where it is a fault of all of them together."""
    kind: Kind
    said: str

    def __str__(self) -> str:
        return f"{'all rows' if self.row is None else f'row {self.row}'}: {self.kind}: {self.said}"


def check_pairs(records: Iterable[Preference], *, format: ChatFormat | None = None,
                other: Iterable[Preference] | None = None, scale: tuple[float, float] | None = None,
                progress: Callable[[int], None] | None = None) -> list[Fault]:
    """All faults of some records, those of single rows first.

    Args:
        records: What is to be trained or evaluated on.
        format: How texts become tokens; without it nothing is said of templates and lengths.
        other: A set that must have no prompt in common with this one.
        scale: The lowest and the highest rating.
        progress: Called with the number of records that were looked at.

    Example:
        >>> check_pairs([Preference(options=("4", "4"), context="2 + 2?", label=1.0)])
        [Fault(row=0, kind='identical', said="options 0 and 1 are both '4'")]
    """
    theirs = {key: j for j, key in reversed([*enumerate(prompt_key(r) for r in other or ())])}
    faults: list[Fault] = []
    values: dict[str, set[float | None]] = {}
    labels: set[float | None] = set()
    n = 0
    for n, record in enumerate(records, 1):
        faults += (Fault(n - 1, kind, said) for kind, said in _of_record(record, format, theirs, scale))
        for rating in record.ratings or ():
            for name, value in rating.items():
                values.setdefault(name, set()).add(value)
        labels.add(record.label if record.correct is None and record.ratings is None else None)
        if progress is not None:
            progress(n)
    if n == 0:
        return [Fault(None, "empty", "there are no rows")]
    return [*faults, *(_of_all(values, labels) if n > 1 else ())]


def raise_faults(faults: Sequence[Fault], *, allow: Collection[Kind] = ()) -> None:
    """Stops with the first faults, and how many there are of each kind.

    Args:
        faults: What `check_pairs` found.
        allow: Kinds that are no reason to stop.

    Raises:
        BadInput: when there is a fault of another kind.

    Example:
        >>> raise_faults([Fault(3, "empty", "option 1 has no words")])
        Traceback (most recent call last):
        plaudit.core.errors.BadInput: records: expected rows without faults, received 1 empty:
            row 3: empty: option 1 has no words; mend these rows, or leave them out (`without_faults`, --skip-faulty)
    """
    bad = [f for f in faults if f.kind not in allow]
    if not bad:
        return
    counted = ", ".join(f"{n} {kind}" for kind, n in Counter(f.kind for f in bad).items())
    more = [f"and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
    raise BadInput("records", expected="rows without faults",
                   received=f"{counted}: " + "; ".join([*map(str, bad[:_SHOWN]), *more]),
                   fix="mend these rows, or leave them out (`without_faults`, --skip-faulty)")


def without_faults(records: Iterable[Preference], faults: Iterable[Fault]) -> list[Preference]:
    """The records of whose own row nothing is wrong."""
    bad = {f.row for f in faults}
    return [r for i, r in enumerate(records) if i not in bad]


def _of_record(record: Preference, format: ChatFormat | None, theirs: dict[str, int],
               scale: tuple[float, float] | None) -> Iterator[tuple[Kind, str]]:
    yield from _of_options(record)
    yield from _of_evidence(record, scale)
    if (key := prompt_key(record)) in theirs:
        what = "tree" if record.tree else "prompt" if record.context else "text"
        yield "leak", f"the {what} {_short(key)} is also in row {theirs[key]} of the other set"
    texts = [(name, text) for name, text in (("the prompt", record.context), *(
        (f"option {i}", o) for i, o in enumerate(record.options))) if not isinstance(text, Fragment)]
    broken = [name for name, text in texts if not is_unicode(text)]
    for name in broken:
        yield "no unicode", f"{name} has half a surrogate pair"
    if format is not None and not broken and not any(isinstance(o, Fragment) for o in record.options):
        yield from _as_tokens(record, format)


def _of_options(record: Preference) -> Iterator[tuple[Kind, str]]:
    for i, option in enumerate(record.options):
        if not isinstance(option, Fragment) and not _says_something(option):
            yield "empty", f"option {i} has no words"
    for i, j in combinations(range(len(record.options)), 2):
        a, b = record.options[i], record.options[j]
        if a == b and _says_something(a) and _differ(record, i, j):
            yield "identical", f"options {i} and {j} are both {_short(a)}"
    messages = [m for part in (record.context, *record.options) if isinstance(part, Sequence)
                and not isinstance(part, str) for m in part]
    asked_in_words = isinstance(record.context, str) and bool(record.context.strip())
    if messages and not asked_in_words and not any(m.get("role") == "user" for m in messages):
        yield "no user turn", f"the roles are {', '.join(str(m.get('role')) for m in messages)}"


def _of_evidence(record: Preference, scale: tuple[float, float] | None) -> Iterator[tuple[Kind, str]]:
    said = [v for rating in record.ratings or () for v in rating.values()]
    if record.ratings is not None and all(v is None for v in said):
        yield "all masked", "no rating is known"
    elif record.label is None and record.correct is None and record.ratings is None:
        yield "undecided", "no label, strength, rating or right option"
    if record.correct is not None and len(set(record.correct)) < 2:
        yield "one class", f"all options are {'right' if record.correct[0] else 'wrong'}"
    if scale is not None:
        beyond = [v for v in said if v is not None and not scale[0] <= v <= scale[1]]
        if beyond:
            yield "out of range", f"a rating is {beyond[0]}, the scale is {scale[0]} to {scale[1]}"


def _as_tokens(record: Preference, format: ChatFormat) -> Iterator[tuple[Kind, str]]:
    texts: Any = record.options
    try:
        rows = format.encode_options(record.context, texts, tools=list(record.tools) or None)
    except BadInput as error:
        if error.name == "tokenizer":  # no row is to blame
            raise
        if error.name == "completion":
            yield "too long", f"{error.received} tokens where there may be {error.expected}"
        else:
            yield "template", f"{error.received}"
        return
    cut = max((r.cut for r in rows), default=0)
    for i, row in enumerate(rows):
        if not row.completion_ids and _says_something(record.options[i]):
            yield "truncated away", f"of option {i} no token is left ({row.cut} were cut)"
    for i, j in combinations(range(len(rows)), 2):
        if record.options[i] != record.options[j] and _differ(record, i, j) and _both_left(rows[i], rows[j]):
            why = f"after {cut} tokens were cut" if cut else "as the chat template writes them"
            yield "truncated away", f"options {i} and {j} are the same {why}"


def _both_left(a: Encoded, b: Encoded) -> bool:
    """Whether both still have tokens, and the same ones."""
    return bool(a.completion_ids) and a.ids == b.ids


def _differ(record: Preference, i: int, j: int) -> bool:
    """Whether something is said of two options that cannot be true of one text."""
    if record.label is not None:
        return record.label != 0.5
    if record.correct is not None:
        return record.correct[i] != record.correct[j]
    return record.ratings is not None and record.ratings[i] != record.ratings[j]


def _of_all(values: dict[str, set[float | None]], labels: set[float | None]) -> Iterator[Fault]:
    if labels == {0.5}:
        yield Fault(None, "one class", "every label is 0.5")
    for name, seen in values.items():
        if seen == {None}:
            yield Fault(None, "all masked", f"no row has a rating of {name}")
        elif len(seen - {None}) == 1:
            yield Fault(None, "one class", f"every rating of {name} is {next(iter(seen - {None}))}")


def _says_something(option: Any) -> bool:
    if isinstance(option, str):
        return bool(option.strip())
    if isinstance(option, Fragment):
        return True
    return any(plain_text([m]).strip() or m.get("tool_calls") or m.get("reasoning_content") for m in option)


def _short(value: Any) -> str:
    shown = repr(plain_text(value) if not isinstance(value, str) else value)
    return shown if len(shown) < 60 else shown[:56] + "...'"
