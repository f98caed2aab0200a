"""What the data say of each prompt beside its text, for rewards that read an answer or the like."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from plaudit.core.errors import BadInput
from plaudit.core.reward import Reward
from plaudit.core.tokens import Tokens
from plaudit.specify.text.columns import TEXTS, check_reads

Columns = Mapping[str, Sequence[Any]]


def checked(columns: Columns | None, prompts: int, rewards: Sequence[Reward] = ()) -> Columns:
    """Columns with an entry for each prompt, and all that the rewards need.

    Raises:
        BadInput: naming the column that has another length or the name of a text, or those that are missing.
    """
    columns = columns or {}
    for name, values in columns.items():
        if name in TEXTS:
            raise BadInput(f"columns[{name!r}]", expected="a name that no text of the policy has", received=name)
        if len(values) != prompts:
            raise BadInput(f"columns[{name!r}]", expected=f"one entry for each of {prompts} prompts",
                           received=len(values))
    _check_reads(rewards, columns)
    return dict(columns)


def told(tokens: Tokens, columns: Columns, places: Sequence[int], rewards: Sequence[Reward] = ()) -> Tokens:
    """Samples with what the data say of their prompts: n rows for each of `places` in turn.

    Raises:
        BadInput: naming columns that the rewards need, and neither the samples nor the data have.
    """
    n = tokens.B // max(1, len(places))
    full = tokens.replace(columns={**tokens.columns, **{
        name: [values[i] for i in places for _ in range(n)] for name, values in columns.items()}})
    _check_reads(rewards, full.columns)
    return full


def _check_reads(rewards: Sequence[Reward], here: Collection[str]) -> None:
    for reward in rewards:
        check_reads(reward.reads, here, place=f"columns, for {reward.name}", has=[n for n in here if n not in TEXTS])
