"""What a data set says of a prompt beside its texts: the columns that a reward of texts gets by name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from plaudit.core.errors import BadInput
from plaudit.core.needs import Reads
from plaudit.core.tokens import DERIVED

TEXTS = (*DERIVED, "prompts", "completions", "ids", "prompt_ids", "completion_ids")
"""Columns that are made of the texts themselves, and arguments of `of_texts`."""


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the right answer that verl's data sets keep inside of `reward_model` as a column of its own.

    Example:
        >>> flat({"reward_model": {"style": "rule", "ground_truth": "4"}})["ground_truth"]
        '4'
    """
    inside = row.get("reward_model")
    if isinstance(inside, Mapping) and "ground_truth" in inside and "ground_truth" not in row:
        return {**row, "ground_truth": inside["ground_truth"]}
    return dict(row)


def said_of(row: Mapping[str, Any], reads: Reads) -> dict[str, Any]:
    """What a row says that a reward reads; an `answer` is also the `ground_truth` that verl's functions ask for.

    Example:
        >>> said_of({"prompt": "2 + 2?", "answer": "4", "id": 7}, Reads(required=frozenset({"ground_truth"})))
        {'ground_truth': '4'}
    """
    found = flat(row)
    if "ground_truth" in reads.named and "ground_truth" not in found and "answer" in found:
        found["ground_truth"] = gold_text(found["answer"]) if isinstance(found["answer"], str) else found["answer"]
    return {name: value for name, value in found.items()
            if name not in TEXTS and (reads.anything or name in reads.named)}


def gold_text(answer: Any) -> str:
    """A gold answer as text; of a worked solution as GSM8K has it, what stands behind `####`."""
    text = str(answer)
    return text.rpartition("####")[2].strip() if "####" in text else text


def as_columns(said: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """A list for each name that any row has; None where a row is silent.

    Example:
        >>> as_columns([{"answer": "4"}, {"answer": "5", "hint": "odd"}])
        {'answer': ['4', '5'], 'hint': [None, 'odd']}
    """
    names = dict.fromkeys(name for one in said for name in one)
    return {name: [one.get(name) for one in said] for name in names}


def check_reads(reads: Reads, here: Collection[str], *, place: str = "data", has: Iterable[str] | None = None) -> None:
    """Whether all is there without which a reward knows nothing.

    Args:
        reads: What the reward reads.
        here: The columns that there are.
        place: What lacks them, as the error calls it.
        has: What the error says that there is, where that is more than `here`.

    Raises:
        BadInput: naming the columns that are missing.
    """
    lacking = sorted(reads.required - set(here))
    if lacking:
        raise BadInput(place, expected=f"the columns that the reward reads: {', '.join(lacking)}",
                       received=", ".join(here if has is None else has) or "none",
                       fix="rename the columns of the data, or the arguments of the function")
