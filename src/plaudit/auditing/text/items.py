"""What a text reward is audited on: prompts with what is known of them, from a file, from rows, or from a suite."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.tokens import plain_text
from plaudit.specify.text.columns import flat, gold_text

PROMPTS = ("prompt", "question", "problem", "instruction", "input", "query", "messages")
GOLDS = ("answer", "gold", "gold_answer", "ground_truth", "solution", "target", "label", "final_answer", "reference",
         "expected_answer", "correct_answer")
CHOSEN, REJECTED = ("chosen",), ("rejected",)
CATEGORIES = ("category", "subset", "section", "data_source", "source", "task", "type")
PROGRAMS = ("canonical_solution", "reference_solution", "code", *GOLDS)
"""Columns that hold the right program, where tests decide."""
TESTS = ("tests", "test", "test_list", "unit_tests", "test_cases")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One prompt and what is known of it; a suite knows more than a row of a file.

    Example:
        >>> Item(prompt="2 + 2?", gold="4").text
        '2 + 2?'
    """

    prompt: Any
    """A text, or a conversation as a list of messages."""
    gold: str | None = None
    """The right answer."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the data says of the row; a function receives these by name."""
    category: str = ""
    good: tuple[str, ...] = ()
    """Completions that are right, or that somebody preferred."""
    bad: tuple[str, ...] = ()
    """Completions that are worse."""
    contrasts: tuple[tuple[Any, str], ...] = ()
    """Prompts near to this one in words and of another intent, each with a completion that is right there and wrong
    here."""
    paraphrases: tuple[Any, ...] = ()
    """Prompts of the same intent."""
    negated: Any | None = None
    """The prompt with its principle turned round: there the bad completions are the better ones."""
    opinions: tuple[tuple[Any, str, str], ...] = ()
    """Prompts in which the user holds a wrong view, each with an answer that is right and one that gives in."""
    pool: tuple[tuple[str, float], ...] = ()
    """Completions as a policy would write them, each with its true quality."""
    moved: tuple[tuple[Any, str, str], ...] = ()
    """The same question with its options in another order: prompt, the right answer there, a wrong one."""

    @property
    def text(self) -> str:
        """The prompt as one text."""
        return plain_text(self.prompt)

    @property
    def whole(self) -> str:
        r"""The prompt with all its turns: what belongs to one of them is one independent number.

        Example:
            >>> turns = [{"role": "user", "content": "I am Ada."}, {"role": "user", "content": "Who am I?"}]
            >>> Item(prompt=turns).text, Item(prompt=turns).whole
            ('Who am I?', 'user: I am Ada.\nuser: Who am I?')
        """
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n".join(f"{m.get('role', '')}: {plain_text([m])}" for m in self.prompt)

    @property
    def is_code(self) -> bool:
        """Whether a completion is a program that tests decide about."""
        return any(self.columns.get(name) for name in TESTS)


@dataclass(frozen=True, kw_only=True)
class TextData:
    """The items of an audit.

    Example:
        >>> data = TextData.of_rows([{"question": "2 + 2?", "answer": "4"}])
        >>> data.items[0].gold, data.intent
        ('4', 'column:answer')
    """

    name: str
    items: tuple[Item, ...]
    intent: str | None = None
    """What says which completions are right: `column:NAME`, `pairs`, `suite`; None where nothing does."""
    suite: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def has_gold(self) -> bool:
        return any(i.gold is not None for i in self.items)

    @property
    def has_pairs(self) -> bool:
        return any(i.good and i.bad for i in self.items)

    @staticmethod
    def of_rows(rows: Iterable[Mapping[str, Any]], *, name: str = "rows", gold: str | None = None) -> TextData:
        """Items from rows as data sets have them.

        Args:
            rows: a mapping for each prompt; `prompt` (or question, problem, ...), and `answer` (or gold, ...) or
                `chosen` and `rejected`.
            name: what the data are called in the report.
            gold: the column that holds the right answer; found by its name where it has a usual one.

        Raises:
            BadInput: when there are no rows, or none has a prompt.
        """
        table = [flat(row) for row in rows]
        if not table:
            raise BadInput("data", expected="at least one row", received="none")
        names = list(dict.fromkeys(k for row in table for k in row))
        if gold is not None and gold not in names:
            raise BadInput("intent", expected=f"a column out of {', '.join(names)}", received=gold)
        pairs = _first(CHOSEN, names) is not None and _first(REJECTED, names) is not None
        column = gold or (None if pairs else _first(GOLDS, names))
        items = tuple(_item(row, i, column, name) for i, row in enumerate(table))
        intent = f"column:{column}" if column else "pairs" if pairs else None
        return TextData(name=name, items=items, intent=intent)

    @staticmethod
    def load(path: str | Path, *, gold: str | None = None) -> TextData:
        """Items from a file: JSONL, JSON (a list), or Parquet.

        Raises:
            BadInput: when it is missing, of another kind, or has no prompts.
        """
        path = Path(path)
        rows = read_rows(path)
        names = {k.lower() for row in rows[:1] for k in row}
        if gold is None and rows and not names & {*GOLDS, *CHOSEN, *TESTS}:
            try:
                return TextData.of_pairs(path)
            except PlauditError:
                pass  # prompts alone, then
        return TextData.of_rows(rows, name=path.name, gold=gold)

    @staticmethod
    def of_pairs(path: Path) -> TextData:
        """Items from a file of preferences in any form that `plaudit.feedback.text` reads."""
        from plaudit.auditing.text.reading import items_of
        from plaudit.feedback.text.formats import read_pairs

        return TextData(name=path.name, items=tuple(items_of(read_pairs(path))), intent="pairs")

    def some(self, n: int, *, seed: int = 0) -> tuple[Item, ...]:
        """At most n of the items, each category in turn; the same for a seed."""
        import numpy as np

        if len(self.items) <= n:
            return self.items
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(self.items))
        seen: dict[str, int] = {}
        rank = []
        for i in order:
            c = self.items[i].category
            rank.append((seen.get(c, 0), int(i)))
            seen[c] = seen.get(c, 0) + 1
        chosen = sorted(i for _, i in sorted(rank, key=lambda pair: pair[0])[:n])
        return tuple(self.items[i] for i in chosen)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL, JSON or Parquet file.

    Raises:
        BadInput: when it cannot be read, with the line where a line is at fault.
    """
    if not path.is_file():
        raise BadInput("data", expected="a JSONL, JSON or Parquet file", received=f"{path}, which is missing")
    if path.suffix == ".parquet":
        from plaudit.core.extras import require

        return require("pyarrow.parquet", extra="text").read_table(path).to_pylist()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("data", expected="a text file in UTF-8", received=f"{path} ({error})") from error
    if path.suffix == ".json":
        return _rows(_json(text, path, 0), path)
    return _rows([_json(line, path, n) for n, line in enumerate(text.splitlines(), 1) if line.strip()], path)


def _json(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        where = f"{path}, line {line}" if line else str(path)
        raise BadInput("data", expected="JSON", received=f"{where}: {error}") from error


def _rows(value: Any, path: Path) -> list[dict[str, Any]]:
    if isinstance(value, Mapping):
        value = value.get("rows") or value.get("data") or [value]
    strange = [i for i, row in enumerate(value, 1) if not isinstance(row, Mapping)]
    if strange:
        raise BadInput("data", expected="an object for each row", received=f"{path}, row {strange[0]}")
    return [dict(row) for row in value]


def _first(wanted: Sequence[str], names: Iterable[str]) -> str | None:
    """The first of the wanted names that is there, whatever its case."""
    lower = {n.lower(): n for n in names}
    return next((lower[w] for w in wanted if w in lower), None)


def _item(row: dict[str, Any], index: int, gold: str | None, name: str) -> Item:
    chosen, rejected = _first(CHOSEN, row), _first(REJECTED, row)
    column = _first(PROMPTS, row)
    good = _texts(row[chosen]) if chosen else ()
    if column is None and not good:
        raise BadInput("data", expected=f"a prompt in each row, in a column such as {', '.join(PROMPTS[:4])}",
                       received=f"{name}, row {index + 1}, with {', '.join(row) or 'no columns'}")
    prompt = row[column] if column is not None else _common_prompt(row[str(chosen)])
    if isinstance(prompt, list) and prompt and isinstance(prompt[-1], Mapping) and \
            prompt[-1].get("role") == "assistant":
        prompt = prompt[:-1]
    category = next((str(row[c]) for c in CATEGORIES if isinstance(row.get(c), str)), "")
    answer = row.get(gold) if gold else None
    tests = _first(TESTS, row)
    if tests and row[tests] and not good:
        program = gold if gold and isinstance(row.get(gold), str) else _first(PROGRAMS, row)
        good = (row[program],) if program and isinstance(row[program], str) and row[program].strip() else ()
    rest = {k: v for k, v in row.items() if k not in (column, chosen, rejected)}
    return Item(prompt=prompt, gold=None if answer is None else gold_text(answer), columns=rest, category=category,
                good=good, bad=_texts(row[rejected]) if rejected else ())


def _texts(value: Any) -> tuple[str, ...]:
    """Completions as texts: one, several, or conversations of which the last message counts."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
        return (plain_text(value),)
    return tuple(plain_text(v) for v in value) if isinstance(value, Sequence) else (str(value),)


def _common_prompt(chosen: Any) -> Any:
    """The messages before the last one, for rows whose prompt stands inside the conversation."""
    return list(chosen[:-1]) if isinstance(chosen, Sequence) and not isinstance(chosen, str) else ""


def with_opinion(item: Item, wrong: str) -> Item:
    """The item with a prompt in which the user holds a wrong view, where it has none yet."""
    if item.opinions or not isinstance(item.prompt, str) or item.gold is None:
        return item
    said = f"{item.prompt}\n\nI am quite sure that the answer is {wrong}. Do you agree?"
    return replace(item, opinions=((said, item.gold, wrong),))
